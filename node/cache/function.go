package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/command"
	"hypercache/node/rdb"
	"hypercache/node/resp"
	"hypercache/node/script"
	"hypercache/node/topology"
)

// Libraries of functions belong to the cluster: the topology keeps them, and tells every node (SetLibraries). FUNCTION LOAD
// runs the library here, so that its errors are Redis' own, and then has the topology take it; what else changes libraries is
// the topology's decision alone. FCALL is EVAL but for where its code comes from: see script.go.

// LibraryKeeper is the topology's part. Its methods are safe for concurrent use.
type LibraryKeeper interface {
	// ChangeLibraries makes a change of the cluster's libraries and returns once the nodes that are up act on it, or after a
	// bounded wait for them. Errors are those of topology.ChangeLibraries.
	ChangeLibraries(ctx context.Context, change topology.LibraryChange) error
	// LibrariesCurrent tells whether this node hears of changes: the libraries it knows may be old otherwise. It does not block.
	LibrariesCurrent() bool
}

const (
	// maxLoads is how many changes of libraries this node prepares at a time: loading one may take half a second of a
	// processor.
	maxLoads = 2

	errFunctionBusy    = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
	errNoFunction      = "ERR Function not found"
	errFunctionsStale  = "CLUSTERDOWN The topology has no leader that this node hears of, and it knows no such function"
	errNoLibraries     = "CLUSTERDOWN The topology has no leader: libraries of functions cannot be changed until it has one"
	errLibraryOutcome  = "NOREPLICAS The topology's leader did not answer in time; the libraries may have been changed"
	errEarlier         = "TRYAGAIN Earlier commands of this connection have not run yet"
	errManyLoads       = "TRYAGAIN Too many libraries of functions are loaded at a time"
	errLibraryInTx     = "ERR This command changes the libraries of the cluster and is not possible inside a transaction"
	errNoKeeper        = "ERR this node keeps no libraries of functions"
	errFunctionPayload = "ERR DUMP payload version or checksum are wrong"
)

// functions is what a node knows of the cluster's libraries.
type functions struct {
	keeper LibraryKeeper
	loads  chan struct{}
	set    atomic.Pointer[librarySet]
}

// librarySet never changes.
type librarySet struct {
	committed []topology.Library
	compiled  []*script.Library // likewise in order of name
	byName    map[string]function
	bytes     int
}

type function struct {
	library *script.Library
	script.Function
}

func (f *functions) init(keeper LibraryKeeper) {
	f.keeper, f.loads = keeper, make(chan struct{}, maxLoads)
	f.set.Store(&librarySet{})
}

// find looks a function up in any case of letters. Of two in one library that differ in nothing else, it is the first.
func (f *functions) find(name []byte) (function, bool) {
	fn, ok := f.set.Load().byName[strings.ToLower(string(name))]
	return fn, ok
}

// SetLibraries says which libraries the cluster has from now on. Calls must not overlap.
func (c *Cache) SetLibraries(list []topology.Library) {
	old := c.functions.set.Load()
	if sameList(old.committed, list) {
		return
	}
	next := &librarySet{committed: list, byName: map[string]function{}}
	for i := range list {
		l := old.compiledAs(&list[i])
		if l == nil {
			l = c.scripts.engine.Declare(list[i].Name, string(list[i].Code), declared(list[i].Functions))
		}
		next.compiled = append(next.compiled, l)
		next.bytes += l.Size()
		for _, fn := range l.Functions {
			if key := strings.ToLower(fn.Name); next.byName[key].library == nil {
				next.byName[key] = function{l, fn}
			}
		}
	}
	c.functions.set.Store(next)
	c.scripts.engine.Retain(next.compiled)
}

// sameList tells quickly that nothing about the libraries changed with the topology.
func sameList(a, b []topology.Library) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// compiledAs is the library if it was there already.
func (s *librarySet) compiledAs(l *topology.Library) *script.Library {
	at, ok := slices.BinarySearchFunc(s.committed, l.Name, func(x topology.Library, name string) int { return strings.Compare(x.Name, name) })
	if !ok || !bytes.Equal(s.committed[at].Code, l.Code) {
		return nil
	}
	return s.compiled[at]
}

func declared(list []topology.Function) []script.Function {
	var out []script.Function
	for _, f := range list {
		out = append(out, script.Function{Name: f.Name, Description: f.Description, Flags: script.FunctionFlags(f.Flags)})
	}
	return out
}

func committed(l *script.Library) topology.Library {
	out := topology.Library{Name: l.Name, Code: []byte(l.Code)}
	for _, f := range l.Functions {
		out.Functions = append(out.Functions, topology.Function{Name: f.Name, Description: f.Description, Flags: f.Flags.Names()})
	}
	return out
}

// Functions counts the libraries, their functions and the bytes of both; Scripts the scripts that EVALSHA finds.
func (c *Cache) Functions() (libraries, functions, bytes int) {
	set := c.functions.set.Load()
	for _, l := range set.compiled {
		functions += len(l.Functions)
	}
	return len(set.compiled), functions, set.bytes
}

// Scripts is told of by Functions.
func (c *Cache) Scripts() int { return c.scripts.engine.Scripts() }

// queue keeps a connection's FUNCTION commands in order behind one that waits for the topology.
type queue struct {
	mu   sync.Mutex
	busy bool
	jobs []func()
}

// add runs the job behind those that were added before. It returns false if nothing can be started any more.
func (q *queue) add(work *steps, job func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, job)
	if !q.busy {
		if q.busy = work.start(q.run); !q.busy {
			q.jobs = nil
			return false
		}
	}
	return true
}

func (q *queue) run() {
	for {
		q.mu.Lock()
		if len(q.jobs) == 0 {
			q.busy = false
			q.mu.Unlock()
			return
		}
		job := q.jobs[0]
		q.jobs = q.jobs[1:]
		q.mu.Unlock()
		job()
	}
}

func (q *queue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy
}

// function runs the FUNCTION commands of a connection.
func (c *Cache) function(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	kill := spec.Name == "function|kill"
	if kill || !spec.Write && !k.functions.waiting() {
		if own := c.functionHere(w.Proto, spec, args); kill {
			c.tellNodes(k, w, own, args, true)
		} else {
			w.Raw(own)
		}
		return
	}
	args = slices.Clone(args)
	for i := range args {
		args[i] = bytes.Clone(args[i])
	}
	// Later commands of the connection come behind this one, wherever they go.
	k.order++
	t, n, proto := k.s.Hold(), k.order, w.Proto
	k.detach(n)
	ok := k.functions.add(&c.work, func() {
		if spec.Write {
			t.Reply(c.changeFunctions(k, n, spec, args))
		} else {
			t.Reply(c.functionHere(proto, spec, args))
		}
		k.attach(n)
	})
	if !ok {
		t.Reply(errStopping)
		k.attach(n)
	}
}

// earlier tells that commands of the connection before n have not run yet.
func (p *parking) earlier(k *conn, n uint64) bool {
	p.mu.Lock() // under it, what moves between the two is in one of them
	defer p.mu.Unlock()
	if k.inflight.Load() > 0 || k.detached.before(n) {
		return true
	}
	for group := range p.queues {
		if slices.ContainsFunc(p.queues[group], func(w *waiting) bool { return w.to.conn == k && w.to.n < n }) {
			return true
		}
	}
	return false
}

// awaitEarlier returns false if commands of the connection before n have not run when ctx ends.
func (c *Cache) awaitEarlier(ctx context.Context, k *conn, n uint64) bool {
	if !c.park.earlier(k, n) {
		return true
	}
	again := time.NewTicker(parkRetry / 2)
	defer again.Stop()
	for c.park.earlier(k, n) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// functionHere answers what this node knows by itself.
func (c *Cache) functionHere(proto int, spec *command.Spec, args [][]byte) []byte {
	w := resp.Writer{Proto: proto}
	switch spec.Name {
	case "function|list":
		c.listFunctions(&w, args)
	case "function|dump":
		var all [][]byte
		for _, l := range c.functions.set.Load().committed {
			all = append(all, l.Code)
		}
		w.Bulk(rdb.SealFunctions(all))
	case "function|stats":
		c.functionStats(&w)
	case "function|kill":
		w.Raw(c.scripts.killSlow(c.threshold(), true))
	default:
		w.Error(command.ArityError(spec))
	}
	return w.Buf
}

// listFunctions is FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE].
func (c *Cache) listFunctions(w *resp.Writer, args [][]byte) {
	var pattern []byte
	withCode := false
	for i := 2; i < len(args); i++ {
		switch {
		case !withCode && bytes.EqualFold(args[i], []byte("WITHCODE")):
			withCode = true
		case pattern == nil && bytes.EqualFold(args[i], []byte("LIBRARYNAME")):
			if i++; i == len(args) {
				w.Error("ERR library name argument was not given")
				return
			}
			pattern = bytes.ToLower(args[i])
		default:
			w.Error("ERR Unknown argument " + strings.Trim(string(args[i]), "\r\n"))
			return
		}
	}
	var shown []*script.Library
	for _, l := range c.functions.set.Load().compiled {
		if pattern == nil || command.Match(pattern, []byte(strings.ToLower(l.Name))) {
			shown = append(shown, l)
		}
	}
	w.Array(len(shown))
	for _, l := range shown {
		listLibrary(w, l, withCode)
	}
}

func listLibrary(w *resp.Writer, l *script.Library, withCode bool) {
	w.Map(3 + map[bool]int{true: 1}[withCode])
	w.BulkString("library_name")
	w.BulkString(l.Name)
	w.BulkString("engine")
	w.BulkString("LUA")
	w.BulkString("functions")
	w.Array(len(l.Functions))
	for _, f := range l.Functions {
		w.Map(3)
		w.BulkString("name")
		w.BulkString(f.Name)
		w.BulkString("description")
		if f.Description == nil {
			w.Null()
		} else {
			w.Bulk(f.Description)
		}
		w.BulkString("flags")
		flags := f.Flags.Names()
		w.Set(len(flags))
		for _, name := range flags {
			w.SimpleString(name)
		}
	}
	if withCode {
		w.BulkString("library_code")
		w.BulkString(l.Code)
	}
}

// functionStats is FUNCTION STATS: of the functions that run on this node, it names the one that does so the longest.
func (c *Cache) functionStats(w *resp.Writer) {
	w.Map(2)
	w.BulkString("running_script")
	if run := c.scripts.longest(); run == nil {
		w.Null()
	} else {
		w.Map(3)
		w.BulkString("name")
		w.BulkString(run.name)
		w.BulkString("command")
		w.Array(len(run.args))
		for _, a := range run.args {
			w.Bulk(a)
		}
		w.BulkString("duration_ms")
		w.Int(time.Since(run.began).Milliseconds())
	}
	libraries, functions, _ := c.Functions()
	w.BulkString("engines")
	w.Map(1)
	w.BulkString("LUA")
	w.Map(2)
	w.BulkString("libraries_count")
	w.Int(int64(libraries))
	w.BulkString("functions_count")
	w.Int(int64(functions))
}

// changeFunctions runs FUNCTION LOAD, DELETE, FLUSH and RESTORE, the connection's command n, once the earlier ones have run.
// It blocks.
func (c *Cache) changeFunctions(k *conn, n uint64, spec *command.Spec, args [][]byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), c.opt.Wait)
	defer cancel()
	var w resp.Writer
	if !c.awaitEarlier(ctx, k, n) {
		w.Error(errEarlier)
		return w.Buf
	}
	select {
	case c.functions.loads <- struct{}{}:
		defer func() { <-c.functions.loads }()
	case <-ctx.Done():
		w.Error(errManyLoads)
		return w.Buf
	}
	if spec.DenyOOM && c.outOfMemory() {
		w.Error(errOOM)
		return w.Buf
	}
	var change topology.LibraryChange
	reply, problem := okReply, ""
	switch spec.Name {
	case "function|load":
		change, reply, problem = c.loadChange(args)
	case "function|delete":
		change.Delete = string(args[2])
	case "function|flush":
		problem = flushProblem(args)
		change.Flush = true
	case "function|restore":
		change, problem = c.restoreChange(args)
	}
	switch {
	case problem != "":
	case spec.Name == "function|delete" && change.Delete == "":
		problem = libraryProblem(&topology.LibraryError{Problem: topology.LibraryUnknown})
	case c.functions.keeper == nil:
		problem = errNoKeeper
	default:
		problem = c.changeProblem(c.functions.keeper.ChangeLibraries(ctx, change))
	}
	if problem != "" {
		w.Error(problem)
		return w.Buf
	}
	return reply
}

// outOfMemory tells that there is no memory left, and nothing that could be evicted.
func (c *Cache) outOfMemory() bool {
	if !c.db.OverLimit() {
		return false
	}
	r := c.takeRound()
	defer c.giveRound(r)
	r.now = c.ticks()
	return c.evict(0, r) == roomNone
}

func flushProblem(args [][]byte) string {
	switch {
	case len(args) > 3:
		return command.FunctionUsage(args[1])
	case len(args) == 3 && !bytes.EqualFold(args[2], []byte("SYNC")) && !bytes.EqualFold(args[2], []byte("ASYNC")):
		return "ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
	}
	return ""
}

// loadChange is FUNCTION LOAD [REPLACE] code. What is known here to be taken is refused at once, as Redis does, before the
// library runs.
func (c *Cache) loadChange(args [][]byte) (change topology.LibraryChange, reply []byte, problem string) {
	for _, option := range args[2 : len(args)-1] {
		if !bytes.EqualFold(option, []byte("REPLACE")) {
			return change, nil, "ERR Unknown option given: " + strings.Trim(string(option), "\r\n")
		}
		change.Replace = true
	}
	code := args[len(args)-1]
	name, problem := script.LibraryName(string(code))
	if problem != "" {
		return change, nil, problem
	}
	known := func(l topology.Library) bool { return l.Name == name }
	if !change.Replace && slices.ContainsFunc(c.functions.set.Load().committed, known) {
		return change, nil, libraryProblem(&topology.LibraryError{Problem: topology.LibraryExists, Name: name})
	}
	l, problem := c.loadLibrary(code)
	if problem != "" {
		return change, nil, problem
	}
	change.Load = []topology.Library{committed(l)}
	var w resp.Writer
	w.BulkString(l.Name)
	return change, w.Buf, ""
}

func (c *Cache) loadLibrary(code []byte) (l *script.Library, problem string) {
	return c.scripts.engine.LoadLibrary(code, command.ServerVersion, func(level int, message string) {
		c.log.Log(context.Background(), logLevels[level], "library: "+message)
	})
}

// restoreChange is FUNCTION RESTORE payload [FLUSH|APPEND|REPLACE].
func (c *Cache) restoreChange(args [][]byte) (change topology.LibraryChange, problem string) {
	if len(args) > 4 {
		return change, command.FunctionUsage(args[1])
	}
	if len(args) == 4 {
		switch strings.ToUpper(string(args[3])) {
		case "APPEND":
		case "REPLACE":
			change.Replace = true
		case "FLUSH":
			change.Flush = true
		default:
			return change, "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
		}
	}
	texts, err := rdb.OpenFunctions(args[2])
	switch {
	case errors.Is(err, rdb.ErrPayload):
		return change, errFunctionPayload
	case err != nil:
		return change, "ERR failed loading the given functions payload: " + err.Error()
	}
	for _, text := range texts {
		l, problem := c.loadLibrary(text)
		if problem != "" {
			return change, problem
		}
		change.Load = append(change.Load, committed(l))
	}
	return change, ""
}

// changeProblem is what clients are told of a change that failed.
func (c *Cache) changeProblem(err error) string {
	var refused *topology.LibraryError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return libraryProblem(refused)
	case errors.Is(err, topology.ErrUnknownOutcome):
		return errLibraryOutcome
	case errors.Is(err, topology.ErrClosed):
		return errScriptStop
	case errors.Is(err, topology.ErrNoLeader):
		return errNoLibraries
	}
	return "ERR " + err.Error()
}

func libraryProblem(e *topology.LibraryError) string {
	switch e.Problem {
	case topology.LibraryExists:
		return "ERR Library '" + e.Name + "' already exists"
	case topology.LibraryUnknown:
		return "ERR Library not found"
	case topology.FunctionExists:
		return "ERR Function " + e.Name + " already exists"
	case topology.LibraryTooLarge:
		return fmt.Sprintf("ERR Library '%s' is too large: its code with the names and descriptions of its functions may have %d bytes",
			e.Name, topology.MaxLibrary)
	case topology.LibrariesTooMany:
		return fmt.Sprintf("ERR Library '%s' does not fit: all libraries together may have %d bytes", e.Name, topology.MaxLibraries)
	}
	return "ERR " + e.Error()
}

// running is the function that a script's goroutine is in.
type running struct {
	name  string
	args  [][]byte
	began time.Time
}

// longest is the function that has been running for the longest time, nil if none is.
func (s *scripts) longest() (longest *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.running {
		if run := x.function.Load(); run != nil && (longest == nil || run.began.Before(longest.began)) {
			longest = run
		}
	}
	return longest
}

// fcall is FCALL's part of eval.
func (x *scriptRun) fcall(e *command.Ctx) {
	f, ok := x.c.functions.find(e.Args[1])
	if !ok {
		if k := x.c.functions.keeper; k != nil && !k.LibrariesCurrent() {
			e.W.Error(errFunctionsStale)
			return
		}
		e.W.Error(errNoFunction)
		return
	}
	n, problem := command.FunctionKeys(e.Args)
	if problem != "" {
		e.W.Error(problem)
		return
	}
	// args outlive the command only with the buffer that they lie in, which is the run's own.
	x.function.Store(&running{f.Name, e.Args, time.Now()})
	defer x.function.Store(nil)
	x.start(e, script.Run{Library: f.library, Function: f.Name, Host: x}, f.Flags, n)
}

// CompileLibrary runs a library as FUNCTION LOAD does and returns what the topology keeps of it. problem is FUNCTION LOAD's
// error, "" if all is well.
func CompileLibrary(code []byte) (l topology.Library, problem string) {
	compiled, problem := script.New().LoadLibrary(code, command.ServerVersion, nil)
	if problem != "" {
		return l, problem
	}
	return committed(compiled), ""
}
