package cache

import (
	"context"
	"encoding/binary"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/script"
)

// A script runs at the primary of its slot, on a goroutine that takes over the group's lock from the one that brought it.
// That one waits a moment, so that most scripts are over before it goes on, and commands behind them are in order by
// themselves; a script that takes longer is on its own from then on.
//
// While it has written nothing, a script that takes longer gives the lock up between its commands. The group is marked busy
// instead: commands for it wait, or are answered BUSY, but the node goes on serving other groups and its replicas' streams.
// From its first write on it keeps the lock, since what it has written is in no record yet and nobody may see it.
const (
	scriptPatience = 2 * time.Millisecond // how long an event loop waits for one
	scriptHold     = time.Millisecond     // how long one has the lock before it looks whether it may give it up
	// maxScriptEffects bounds the record that a script writes.
	maxScriptEffects = 256 << 20
)

const (
	errScriptBusy  = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	errKilled      = "ERR Script killed by user with SCRIPT KILL..."
	errLimit       = "ERR Error running script: it ran longer than a script may, and was ended"
	errScriptStop  = "LOADING The node is stopping"
	errNoScript    = "NOSCRIPT No matching script. Please use EVAL."
	errNotBusy     = "NOTBUSY No scripts in execution right now."
	errUnkillable  = "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
	errReadOnly    = "ERR Write commands are not allowed from read-only scripts."
	errNonLocal    = "ERR Script attempted to access a non local key in a cluster node"
	errSlots       = "ERR Script attempted to access keys that do not hash to the same slot"
	errScriptLarge = "ERR The effects of the script are too large"
)

// scripts is a node's engine and what it is running.
type scripts struct {
	engine  *script.Engine
	workers chan struct{}

	mu      *sync.Mutex
	running map[*scriptRun]bool
}

func newScripts() scripts {
	return scripts{
		engine: script.New(), workers: make(chan struct{}, 4*runtime.GOMAXPROCS(0)), mu: &sync.Mutex{},
		running: map[*scriptRun]bool{},
	}
}

// withBody makes EVAL of an EVALSHA whose script this node knows, so that the primary need not know it, and remembers that
// of an EVAL.
func (s *scripts) withBody(spec *command.Spec, args [][]byte) (*command.Spec, [][]byte) {
	name, sha := strings.CutPrefix(spec.Name, "evalsha")
	if strings.HasPrefix(spec.Name, "fcall") {
		return spec, args
	}
	if !sha {
		s.engine.Load(args[1]) // what does not compile, the primary answers
		return spec, args
	}
	found := s.engine.Find(strings.ToLower(string(args[1])))
	if found == nil {
		return spec, args
	}
	eval := "eval" + name
	return command.Lookup([]byte(eval)), append([][]byte{[]byte(eval), []byte(found.Body)}, args[2:]...)
}

// scripted says that the op runs a script.
func (o *op) scripted() bool { return o.spec.Script }

// writes says that the op may change something.
func (o *op) writes() bool {
	return o.spec.Write || o.spec.Script && o.spec.Flags&command.FlagReadonly == 0
}

// scriptRun is one op with scripts under way.
type scriptRun struct {
	c       *Cache
	p       *part
	o       op
	to      origin
	now     int64
	began   time.Time
	term    uint64
	full    bool // there was no memory left when it began
	round   *round
	ordered chan struct{} // closed when the op has its place in the group's order
	state   atomic.Int32  // of the one that waits for ordered: 1 when done, 2 when that one has gone

	// Of its own goroutine.
	locked   bool
	readonly bool
	flags    script.Flags
	slot     int // of its keys, -1 until one is known
	moved    int // the slot of the first key of a script that belongs elsewhere, -1
	ctx      command.Ctx
	keys     []int

	wrote    atomic.Bool
	kill     atomic.Pointer[string]
	function atomic.Pointer[running] // the one that runs, nil while none does
}

// runScript is called with the group's lock held, and hands it over.
func (c *Cache) runScript(p *part, o *op, now int64, to origin, full bool) outcome {
	select {
	case c.scripts.workers <- struct{}{}:
	default:
		p.group.Unlock()
		return later
	}
	x := &scriptRun{
		c: c, p: p, to: to, now: now, began: time.Now(), full: full, ordered: make(chan struct{}), locked: true, slot: -1, moved: -1,
		term: p.group.Head().Term,
	}
	if _, _, err := readRequest(appendRequest(nil, o, 0, o.gen, now), &x.o, now); err != nil {
		<-c.scripts.workers
		p.group.Unlock()
		to.fail("ERR " + err.Error())
		return done
	}
	x.o.gen, x.o.deadline = o.gen, o.deadline
	if to.s != nil {
		k := to.s.User.(*conn)
		k.order++
		x.to = origin{t: to.s.Hold(), conn: k, n: k.order}
	}
	if !c.work.start(x.work) {
		<-c.scripts.workers
		p.group.Unlock()
		x.to.fail(errScriptStop)
		return done
	}
	patience := time.NewTimer(scriptPatience)
	defer patience.Stop()
	select {
	case <-x.ordered:
	case <-patience.C:
		x.source(1)
		if !x.state.CompareAndSwap(0, 2) {
			x.source(-1)
		}
	}
	return done
}

// order is part.order, but that it waits until this is known to be the primary still: a script is not run again for that.
// The lock is held, and given up meanwhile.
func (x *scriptRun) order(fx *command.Effects, w *resp.Writer) (seq uint64) {
	limit := time.Now().Add(x.c.opt.Wait)
	for {
		seq, ok := x.p.order(&x.o, fx, x.round)
		if ok {
			return seq
		}
		if x.kill.Load() != nil {
			return 0 // it says nothing of any key
		}
		x.p.group.Unlock()
		_ = x.c.driver.EndBatch(&x.round.batch)
		time.Sleep(parkRetry / 2)
		x.p.group.Lock()
		if !x.alone() || time.Now().After(limit) {
			x.unanswered(w)
			return 0
		}
	}
}

func (x *scriptRun) unanswered(w *resp.Writer) {
	w.Buf = w.Buf[:0]
	w.Error(errNoAnswer)
}

// alone says that no other primary can have changed the group since the script began. The lock is held.
func (x *scriptRun) alone() bool { return x.p.group.Serving() && x.p.group.Head().Term == x.term }

// source keeps later commands of the same origin behind the script.
func (x *scriptRun) source(n int32) {
	if k := x.to.conn; k != nil && n > 0 {
		k.detach(x.to.n)
	} else if k != nil {
		k.attach(x.to.n)
	}
	if in, ok := x.to.sink.(*Inbound); ok {
		in.waiting[x.o.group].Add(n)
	}
}

// move has a script that found no keys of its own begin anew where the slot is. The node that asked sends it there itself: it
// counts its requests by the group for which it sent them.
func (x *scriptRun) move(slot uint16) {
	if in, ok := x.to.sink.(*Inbound); ok {
		in.send(x.to.id, statusSlot, binary.LittleEndian.AppendUint16(nil, slot))
		return
	}
	o := x.o
	o.slot, o.group = slot, ring.GroupOf(slot)
	x.c.wait(&o, x.to)
}

// work runs the op. The group's lock is held.
func (x *scriptRun) work() {
	c, p := x.c, x.p
	c.scripts.add(x)
	x.round = c.takeRound()
	x.round.now = x.now
	w := resp.Writer{Proto: x.o.proto}
	p.script = x
	fx := p.run(&x.o, &w, x.now, x.round, c.db.Policy())
	p.script = nil
	p.busy.Store(nil)
	if x.alone() {
		c.after(p, &x.o, fx)
	}
	held, moves := false, false
	switch {
	case !x.alone(): // it gave the lock up, and so has written nothing
		x.unanswered(&w)
	case x.moved >= 0:
		moves = true
	default:
		if seq := x.order(fx, &w); p.held(&x.o, seq) {
			held = true
			p.hold(seq, &x.o, x.to, w.Buf, c.ticks()+c.opt.Wait.Milliseconds())
		}
		c.wake(p, &p.events, x.now, x.round)
	}
	p.group.Unlock()
	switch {
	case moves:
		x.move(uint16(x.moved))
	case !held:
		x.round.keep(&x.to, w.Buf, x.o.writes())
	}
	left := !x.state.CompareAndSwap(0, 1)
	close(x.ordered)
	if left {
		x.source(-1)
	}
	c.giveRound(x.round)
	c.scripts.remove(x)
	<-c.scripts.workers
	c.park.kick()
}

func (s *scripts) add(x *scriptRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[x] = true
}

func (s *scripts) remove(x *scriptRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, x)
}

// stop ends all scripts: the node is stopping.
func (s *scripts) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.running {
		x.end(errScriptStop)
	}
}

func (x *scriptRun) end(msg string) { x.kill.CompareAndSwap(nil, &msg) }

// threshold is how long a script may run before others are told.
func (c *Cache) threshold() time.Duration {
	const usual = 5000
	if ms, err := strconv.ParseInt(c.opt.Server.Config().Get("busy-reply-threshold"), 10, 64); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return usual * time.Millisecond
}

// whileBusy answers for a group that a script has for itself.
func (c *Cache) whileBusy(p *part, o *op, w *resp.Writer, now int64, to *origin) (where outcome, busy bool) {
	x := p.busy.Load()
	if x == nil {
		return 0, false
	}
	// What waits must hear of it before its time is up.
	if time.Since(x.began) < min(c.threshold(), c.opt.Wait*3/4) {
		return later, true
	}
	busyWith := errScriptBusy
	if x.function.Load() != nil {
		busyWith = errFunctionBusy
	}
	c.answer(w, to, o.refusal(busyWith))
	return done, true
}

// eval is command.Ctx.Eval.
func (p *part) eval(e *command.Ctx) { p.script.eval(e) }

func (x *scriptRun) eval(e *command.Ctx) {
	if strings.HasPrefix(e.Spec.Name, "fcall") {
		x.fcall(e)
		return
	}
	engine := x.c.scripts.engine
	var s *script.Script
	if strings.HasPrefix(e.Spec.Name, "evalsha") {
		if s = engine.Find(strings.ToLower(string(e.Args[1]))); s == nil {
			e.W.Error(errNoScript)
			return
		}
	} else {
		var problem string
		if s, problem = engine.Load(e.Args[1]); problem != "" {
			e.W.Error(problem)
			return
		}
	}
	n, _ := strconv.Atoi(string(e.Args[2]))
	x.start(e, script.Run{Script: s, Host: x}, s.Flags, n)
}

// start runs a script or a function with n keys, if its flags allow that.
func (x *scriptRun) start(e *command.Ctx, run script.Run, flags script.Flags, n int) {
	x.flags = flags
	x.readonly = e.Spec.Flags&command.FlagReadonly != 0 || flags.NoWrites
	if problem := x.refused(flags); problem != "" {
		e.W.Error(problem)
		return
	}
	x.ctx = command.Ctx{
		Shard: e.Shard, Now: e.Now, FX: e.FX, Events: e.Events, RNG: e.RNG, Policy: e.Policy, NoBlock: true, InScript: true,
	}
	if n > 0 {
		x.slot = int(x.o.slot)
	}
	run.Keys, run.Args, run.Version = e.Args[3:3+n], e.Args[3+n:], command.ServerVersion
	run.Do(e.W)
	x.lock()
}

// refused says why a script may not begin.
func (x *scriptRun) refused(f script.Flags) string {
	switch {
	case !f.Declared:
	case f.NoCluster:
		return "ERR Can not run script on cluster, 'no-cluster' flag is set."
	case x.full && !f.AllowOOM && !f.NoWrites:
		return "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
	case !f.NoWrites && x.c.driver.DiskFull():
		return errDiskFull
	case !f.NoWrites && x.readonly:
		return "ERR Can not execute a script with write flag using *_ro command."
	}
	return ""
}

func (x *scriptRun) lock() {
	if !x.locked {
		x.p.group.Lock()
		x.locked = true
	}
}

// Tick implements script.Host.
func (x *scriptRun) Tick() string {
	took := time.Since(x.began)
	if took > x.c.opt.ScriptLimit {
		x.end(errLimit)
	}
	if stop := x.kill.Load(); stop != nil {
		return *stop
	}
	if took < scriptHold {
		return ""
	}
	x.giveUp()
	return ""
}

// giveUp gives up the lock unless something was written, and marks the group busy either way.
func (x *scriptRun) giveUp() {
	if !x.locked {
		return
	}
	x.p.busy.Store(x)
	if !x.wrote.Load() && x.p.ctx.FX.Len() == 0 {
		x.locked = false
		x.p.group.Unlock()
	}
}

// Call implements script.Host.
func (x *scriptRun) Call(args [][]byte, w *resp.Writer) {
	spec, problem := x.check(args)
	if problem != "" {
		w.Error(problem)
		return
	}
	if spec.Scope == command.ScopeConn {
		x.local(spec, args, w)
		return
	}
	if x.moved >= 0 {
		x.end(errNonLocal)
	}
	unlocked := !x.locked
	if unlocked {
		x.lock()
		if !x.alone() {
			x.end(errNoAnswer)
		}
	}
	if stop := x.kill.Load(); stop != nil {
		w.Error(*stop)
	} else {
		x.ctx.Spec, x.ctx.Args, x.ctx.W = spec, args, w
		if spec.Scope == command.ScopeScatter {
			x.ctx.RunPart()
		} else {
			x.ctx.Run()
		}
	}
	if x.ctx.FX.Len() > 0 || spec.Write && x.ctx.FX == nil {
		x.wrote.Store(true)
	}
	if unlocked && !x.wrote.Load() {
		x.locked = false
		x.p.group.Unlock()
	}
}

// check says why a script may not run a command, in Redis' order.
func (x *scriptRun) check(args [][]byte) (spec *command.Spec, problem string) {
	spec, problem = command.Resolve(args)
	switch {
	case problem != "" && spec != nil && x.readonly && mayReplicate(spec):
		return nil, errReadOnly
	case problem != "" && spec != nil:
		return nil, problem
	case strings.HasPrefix(problem, "ERR wrong number"):
		return nil, "ERR Wrong number of args calling Redis command from script"
	case problem != "":
		return nil, "ERR Unknown Redis command called from script"
	case spec.Flags&command.FlagNoScript != 0 || spec.Scope == command.ScopeNode || spec.Script:
		return nil, "ERR This Redis command is not allowed from script"
	case spec.Scope == command.ScopeCluster:
		return nil, "ERR This command speaks of the keys of all slots and is not possible in a script"
	}
	if problem := x.denied(spec, args); problem != "" {
		return nil, problem
	}
	switch {
	case x.readonly && mayReplicate(spec):
		return nil, errReadOnly
	case spec.Write && x.c.driver.DiskFull():
		return nil, errDiskFull
	case spec.DenyOOM && x.full && !x.wrote.Load() && !x.flags.AllowOOM:
		return nil, errOOM
	case spec.Write && x.ctx.FX.Len() > maxScriptEffects:
		return nil, errScriptLarge
	case spec.Scope == command.ScopeConn:
		return spec, ""
	}
	return spec, x.place(spec, args)
}

// mayReplicate says that a read-only script may not run the command: it writes, or does in Redis (PFCOUNT keeps its count in the
// value, PUBLISH goes to replicas).
func mayReplicate(spec *command.Spec) bool {
	switch spec.Name {
	case "pfcount", "publish", "spublish":
		return true
	}
	return spec.Write
}

// place refuses keys of other slots. A script that declared no keys has the slot of the first that it touches, if that is
// where it runs.
func (x *scriptRun) place(spec *command.Spec, args [][]byte) string {
	x.keys = command.Keys(spec, args, x.keys[:0])
	if len(x.keys) == 0 {
		return ""
	}
	slot, one := x.c.oneSlot(args, x.keys)
	switch {
	case !one: // as Redis says it of one command, whatever slot the script has
		return errNonLocal
	case int(slot) == x.slot:
	case x.slot < 0 && ring.GroupOf(slot) == x.o.group:
		x.slot, x.o.slot = int(slot), slot
	case x.slot < 0 && x.o.tx == nil:
		x.moved = int(slot) // it has done nothing yet, and starts anew there
	case x.flags.Declared && x.c.view.Load().primary[ring.GroupOf(slot)] == x.c.opt.Self:
		return errSlots
	default:
		return errNonLocal
	}
	return ""
}

// local runs a command that concerns the connection: a script has one of its own, as in Redis.
func (x *scriptRun) local(spec *command.Spec, args [][]byte, w *resp.Writer) {
	if spec.Name == "info" || strings.HasPrefix(spec.Name, "cluster|") { // they look at every group
		if x.giveUp(); x.locked {
			w.Error("ERR This Redis command is not allowed from a script that has written")
			return
		}
	}
	k := &scriptConn{client: command.NewClient(0, "", "", -1, x.now), w: w}
	ctx := command.ConnCtx{Spec: spec, Args: args, W: w, Conn: k, Server: x.c.opt.Server, Now: x.now}
	ctx.Run()
}

type scriptConn struct {
	client *command.Client
	w      *resp.Writer
}

func (k *scriptConn) Client() *command.Client { return k.client }
func (k *scriptConn) SetProto(proto int)      { k.w.Proto = proto }
func (k *scriptConn) CloseAfterReply()        {}

// What follows belongs to commands that scripts may not run.

func (k *scriptConn) Subscriber() *pubsub.Subscriber              { return nil }
func (k *scriptConn) TakePushes()                                 {}
func (k *scriptConn) Announce()                                   {}
func (k *scriptConn) Monitor()                                    {}
func (k *scriptConn) SetReply(command.ReplyMode)                  {}
func (k *scriptConn) WaitReplicas(int, time.Duration) (int, bool) { return 0, true }
func (k *scriptConn) Reset()                                      {}
func (k *scriptConn) Login(_, _, _ []byte) bool                   { return false }
func (k *scriptConn) LoggedIn() bool                              { return true }
func (k *scriptConn) PasswordLess() bool                          { return false }
func (k *scriptConn) UserExists([]byte) bool                      { return false }

var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn}

// Log implements script.Host.
func (x *scriptRun) Log(level int, message string) {
	x.c.log.Log(context.Background(), logLevels[level], "script: "+message)
}

// script runs the SCRIPT commands, and those of FUNCTION where there is no connection. k is nil in a transaction and for
// another node, which do not wait for other nodes.
func (c *Cache) script(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	if strings.HasPrefix(spec.Name, "function") {
		w.Raw(c.functionHere(w.Proto, spec, args))
		return
	}
	own := resp.Writer{Proto: w.Proto}
	everywhere := c.scriptHere(&own, spec, args)
	if k == nil || !everywhere {
		w.Raw(own.Buf)
		return
	}
	c.tellNodes(k, w, own.Buf, args, spec.Name == "script|kill")
}

// scriptHere does this node's part of a SCRIPT command. It returns true if the other nodes have one too.
func (c *Cache) scriptHere(w *resp.Writer, spec *command.Spec, args [][]byte) bool {
	engine := c.scripts.engine
	switch spec.Name {
	case "script|load":
		s, problem := engine.Load(args[2])
		if problem != "" {
			w.Error(problem)
			return false
		}
		w.BulkString(s.SHA)
		return true
	case "script|exists":
		w.Array(len(args) - 2)
		for _, sha := range args[2:] {
			known := engine.Find(strings.ToLower(string(sha))) != nil
			w.Int(map[bool]int64{true: 1}[known])
		}
	case "script|flush":
		if len(args) > 3 || len(args) == 3 && !strings.EqualFold(string(args[2]), "sync") && !strings.EqualFold(string(args[2]), "async") {
			w.Error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
			return false
		}
		engine.Flush()
		w.OK()
		return true
	case "script|kill":
		w.Raw(c.scripts.killSlow(c.threshold(), false))
		return true
	case "script|debug":
		w.Error("ERR there is no debugger for scripts here")
	default:
		w.Error(command.ArityError(spec))
	}
	return false
}

// killSlow ends the scripts, or else the functions, that run for longer than others wait, and answers SCRIPT or FUNCTION KILL.
func (s *scripts) killSlow(threshold time.Duration, functions bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := resp.Writer{}
	killed, unkillable, others := false, false, false
	for x := range s.running {
		switch {
		case time.Since(x.began) < threshold:
		case x.wrote.Load():
			unkillable = true
		case (x.function.Load() != nil) != functions:
			others = true
		default:
			x.end(errKilled)
			killed = true
		}
	}
	switch {
	case killed:
		w.OK()
	case unkillable:
		w.Error(errUnkillable)
	case others && functions:
		w.Error(errScriptBusy)
	case others:
		w.Error(errFunctionBusy)
	default:
		w.Error(errNotBusy)
	}
	return w.Buf
}

// tellNodes has the other nodes do the same. The reply waits for those that are connected: then the script is known
// wherever EVALSHA goes. merge picks among their replies to SCRIPT KILL; otherwise this node's counts.
func (c *Cache) tellNodes(k *conn, w *resp.Writer, own []byte, args [][]byte, merge bool) {
	g := &gather{left: 1}
	answer := func(parts [][]byte) []byte {
		if merge {
			return bestKill(append(parts[1:], own))
		}
		return own
	}
	g.then = func(parts [][]byte, to origin) { to.reply(answer(parts)) }
	g.parts = make([][]byte, 1, 8)
	for _, r := range *c.remotes.Load() {
		g.mu.Lock()
		g.parts = append(g.parts, nil)
		g.left++
		id := uint64(len(g.parts) - 1)
		g.mu.Unlock()
		if !r.tell(args, origin{sink: g, id: id}, k.home) {
			g.settle(id, nil)
		}
	}
	g.settle(0, nil)
	if g.complete(func() origin { return origin{t: k.s.Hold()} }) {
		w.Raw(answer(g.parts))
	}
}

func bestKill(parts [][]byte) []byte {
	best := []byte("-" + errNotBusy + "\r\n")
	for _, p := range parts {
		if len(p) > 0 && p[0] == '+' {
			return p
		}
		if strings.HasPrefix(string(p), "-UNKILLABLE") || strings.HasPrefix(string(p), "-BUSY") && strings.HasPrefix(string(best), "-NOTBUSY") {
			best = p
		}
	}
	return best
}

// tell sends a SCRIPT command, or FUNCTION KILL, to the node, false if it is not connected.
func (r *remote) tell(args [][]byte, to origin, home *round) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream == nil || r.bytes >= maxPendingBytes {
		return false
	}
	at, p := r.take()
	p.to, p.node, p.deadline = to, true, home.now+r.cache.opt.Wait.Milliseconds()
	if home.now == 0 {
		p.deadline = r.cache.ticks() + r.cache.opt.Wait.Milliseconds()
	}
	buf, ok := r.stream.Begin(frameScript)
	if !ok {
		r.give(at)
		return false
	}
	buf = binary.LittleEndian.AppendUint64(buf, uint64(p.serial)<<32|uint64(at))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(args)))
	for _, a := range args {
		buf = append(binary.LittleEndian.AppendUint32(buf, uint32(len(a))), a...)
	}
	r.stream.End(buf)
	home.sent(r.stream)
	return true
}

// scriptFrame does what another node was told.
func (in *Inbound) scriptFrame(b []byte) error {
	if len(b) < 12 {
		return errRequest
	}
	id := binary.LittleEndian.Uint64(b)
	args := readArgs(b[8:])
	if len(args) == 0 {
		return errRequest
	}
	spec, problem := command.Resolve(args)
	if problem != "" || !strings.HasPrefix(spec.Name, "script|") && spec.Name != "function|kill" || spec.Scope != command.ScopeNode {
		return errRequest
	}
	w := resp.Writer{Proto: 2}
	in.c.script(nil, &w, spec, args)
	in.send(id, statusDone, w.Buf)
	return nil
}

// readArgs reads a number of arguments and these, nil if that is not what b is.
func readArgs(b []byte) (args [][]byte) {
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	for range n {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint32(b)) {
			return nil
		}
		end := 4 + int(binary.LittleEndian.Uint32(b))
		args = append(args, b[4:end])
		b = b[end:]
	}
	return args
}
