package cache

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// A transaction's commands queue at the node that its client is connected to. EXEC sends them as one op to the primary of
// their slot, which runs them under the group's lock and orders their effects as one record. Commands that concern the
// connection are run here when EXEC comes, before the others are sent, and their replies put in their places; messages are sent once
// the primary has answered.

const (
	maxTxBytes    = 64 << 20 // of the arguments of one transaction
	maxTxCommands = 1 << 17
	maxWatches    = 1 << 12 // keys that one connection watches
)

const (
	errExecAbort = "EXECABORT Transaction discarded because of previous errors."
	errWholeInTx = "ERR This command speaks of the keys of all slots and is not possible inside a transaction"
	errTxSize    = "ERR The transaction is too large"
)

// transaction is what a connection has said since MULTI or WATCH.
type transaction struct {
	open   bool // after MULTI
	broken bool // a command was refused: EXEC will be
	queue  []queuedCommand
	bytes  int
	watch  *watchSet
}

type queuedCommand struct {
	spec  *command.Spec
	args  [][]byte
	slot  int // -1 without keys
	local bool
	// problem is its reply, if it is known to fail.
	problem string
}

// watchToken is a key with the token that its primary gave.
type watchToken struct {
	key   []byte
	token uint64
}

// watchSet collects the tokens of a connection's WATCHes. UNWATCH leaves it to those that are still under way.
type watchSet struct {
	slot uint16

	mu      sync.Mutex
	keys    int
	list    []watchToken
	pending int
	failed  bool   // what it was to watch is not known: nothing may rest on it
	then    func() // waits for the last one that is pending
}

// txBody is what EXEC takes to the primary.
type txBody struct {
	watches  []watchToken
	commands []txCommand
}

type txCommand struct {
	spec *command.Spec
	args [][]byte
}

// txSpecs describe an EXEC by whether it writes, whether that takes memory, and whether it runs scripts.
var txSpecs = func() map[[3]bool]*command.Spec {
	all := map[[3]bool]*command.Spec{}
	for i := range 8 {
		write, memory, script := i&1 != 0, i&2 != 0, i&4 != 0
		all[[3]bool{write, memory, script}] = &command.Spec{
			Name: "exec", Scope: command.ScopeNode, Write: write, DenyOOM: memory, Script: script,
		}
	}
	return all
}()

var watchSpec = &command.Spec{Name: "watch", Scope: command.ScopeNode}

// transact runs MULTI, EXEC, DISCARD, WATCH and UNWATCH, and what is said of scripts.
func (c *Cache) transact(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	k.client.Note(spec, k.now)
	if strings.HasPrefix(spec.Name, "function") {
		c.function(k, w, spec, args)
		return
	}
	if strings.HasPrefix(spec.Name, "script") {
		c.script(k, w, spec, args)
		return
	}
	if strings.HasPrefix(spec.Name, "acl") {
		c.acl(k, w, spec, args)
		return
	}
	if k.tx == nil {
		k.tx = &transaction{}
	}
	switch spec.Name {
	case "multi":
		if k.tx.open {
			w.Error("ERR MULTI calls can not be nested")
			return
		}
		k.tx.open = true
		w.OK()
	case "discard":
		if !k.tx.open {
			w.Error("ERR DISCARD without MULTI")
			return
		}
		k.tx = nil
		w.OK()
	case "unwatch":
		k.tx.watch = nil
		w.OK()
	case "watch":
		c.watch(k, w, args)
	case "exec":
		c.execTx(k, w)
	}
}

// refusedExec ends the transaction if it is EXEC that can't be run for the problem, as Redis does, open or not.
func (k *conn) refusedExec(args [][]byte, problem string) string {
	if !strings.EqualFold(string(args[0]), "exec") {
		return problem
	}
	k.tx = nil
	return "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(problem, "ERR ")
}

// queued takes a command into the open transaction. It returns false for what runs at once.
func (c *Cache) queued(k *conn, w *resp.Writer, spec *command.Spec, problem string, args [][]byte) bool {
	t := k.tx
	if problem == "" && spec.Name == "reset" {
		k.tx = nil
		return false
	}
	if !t.open {
		return false
	}
	if problem != "" && spec != nil {
		t.queue = append(t.queue, queuedCommand{spec: spec, slot: -1, local: true, problem: problem})
		w.SimpleString("QUEUED")
		return true
	}
	if problem == "" {
		switch spec.Name {
		case "multi", "exec", "discard", "watch", "quit":
			return false
		}
		problem = t.add(c, k, spec, args)
	}
	if problem != "" {
		t.broken = true
		w.Error(problem)
		return true
	}
	w.SimpleString("QUEUED")
	return true
}

// add queues a command, or says why it can't be.
func (t *transaction) add(c *Cache, k *conn, spec *command.Spec, args [][]byte) (problem string) {
	if spec.Script {
		spec, args = c.scripts.withBody(spec, args)
	}
	q := queuedCommand{spec: spec, slot: -1, local: spec.Scope == command.ScopeConn || spec.Scope == command.ScopeNode}
	switch {
	case spec.Flags&command.FlagNoMulti != 0:
		return "ERR Command not allowed inside a transaction"
	case spec.Scope == command.ScopeCluster:
		return errWholeInTx
	case spec.Scope == command.ScopeNode && spec.Write:
		return errLibraryInTx
	case spec.Name == "acl|setuser", spec.Name == "acl|deluser":
		return errUsersInTx
	case !q.local:
		k.keys = command.Keys(spec, args, k.keys[:0])
		for _, at := range k.keys {
			slot := int(ring.Slot(args[at]))
			if q.slot >= 0 && slot != q.slot {
				return crossSlot
			}
			q.slot = slot
		}
	}
	if problem := c.refusesHere(spec, q.slot, k.home); problem != "" {
		return problem
	}
	for _, a := range args {
		t.bytes += len(a) + 16
		q.args = append(q.args, slices.Clone(a))
	}
	if t.bytes > maxTxBytes || len(t.queue) >= maxTxCommands {
		t.queue = nil
		return errTxSize
	}
	t.queue = append(t.queue, q)
	return ""
}

// refusesHere says why a write would be refused now, if it is this node that would run it. Another node says so at EXEC.
func (c *Cache) refusesHere(spec *command.Spec, slot int, r *round) string {
	if slot < 0 || !spec.Write {
		return ""
	}
	p := &c.parts[ring.GroupOf(uint16(slot))]
	full, over := c.driver.DiskFull(), spec.DenyOOM && c.db.OverLimit()
	switch {
	case !full && !over || !p.serving():
	case full:
		return errDiskFull
	case c.evict(0, r) == roomNone:
		return errOOM
	}
	return ""
}

// refusal is how an error that keeps the op from running is told.
func (o *op) refusal(problem string) string {
	if o.tx != nil {
		return "EXECABORT Transaction discarded because of: " + problem
	}
	return problem
}

// watch asks the keys' primary for their tokens.
func (c *Cache) watch(k *conn, w *resp.Writer, args [][]byte) {
	if k.tx.open {
		w.Error("ERR WATCH inside MULTI is not allowed")
		return
	}
	slot := ring.Slot(args[1])
	set := k.tx.watch
	for _, key := range args[2:] {
		if ring.Slot(key) != slot {
			w.Error(crossSlot)
			return
		}
	}
	if set != nil && set.slot != slot {
		w.Error(crossSlot) // one EXEC asks one primary
		return
	}
	if to := c.movedTo(k, slot); to != "" {
		w.Error(to)
		return
	}
	if set == nil {
		set = &watchSet{slot: slot}
	}
	if !set.begin(len(args) - 1) {
		w.Error("ERR Too many watched keys")
		return
	}
	k.tx.watch = set
	keys := make([][]byte, 0, len(args)-1)
	for _, key := range args[1:] {
		keys = append(keys, slices.Clone(key))
	}
	g := &gather{left: 1, parts: make([][]byte, 1)}
	g.then = func(parts [][]byte, to origin) { to.reply(set.took(keys, parts[0])) }
	o := op{spec: watchSpec, args: append([][]byte{watchName}, keys...), group: ring.GroupOf(slot), slot: slot, proto: 2, watch: true}
	c.dispatch(g, []op{o}, k, k.now, k.home)
	if g.complete(func() origin { return origin{t: k.s.Hold()} }) {
		w.Raw(set.took(keys, g.parts[0]))
	}
}

// movedTo is the redirection for a connection that asked for such, or whose client has an old map; "" if the command may run.
func (c *Cache) movedTo(k *conn, slot uint16) string {
	v := c.view.Load()
	group := ring.GroupOf(slot)
	primary := v.primary[group]
	if stale := k.stale(c, v, group); !stale && !k.redirected(c) || primary == c.opt.Self || v.addr[primary] == "" {
		return ""
	}
	c.Stats.Moved.Add(1)
	return moved(slot, v.addr[primary])
}

func (s *watchSet) begin(keys int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys+keys > maxWatches {
		return false
	}
	s.keys += keys
	s.pending++
	return true
}

// took takes the primary's answer to a WATCH and returns the client's.
func (s *watchSet) took(keys [][]byte, raw []byte) []byte {
	tokens := elements(raw)
	s.mu.Lock()
	reply := okReply
	if len(tokens) != len(keys) {
		s.failed = true
		reply = raw
	}
	for i := range tokens {
		if _, b, ok := header(tokens[i]); ok && len(b) == 10 && !s.failed {
			s.list = append(s.list, watchToken{keys[i], binary.LittleEndian.Uint64(b)})
			continue
		}
		s.failed = true
	}
	s.pending--
	then := s.then
	if s.pending > 0 {
		then = nil
	}
	s.mu.Unlock()
	if then != nil {
		then()
	}
	return reply
}

// settled returns false if WATCHes are under way: then, if not nil, is called when they no longer are, maybe with a lock
// held.
func (s *watchSet) settled(then func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending > 0 {
		s.then = then
		return false
	}
	return true
}

// execTx ends the transaction.
func (c *Cache) execTx(k *conn, w *resp.Writer) {
	t := k.tx
	if !t.open {
		w.Error("ERR EXEC without MULTI")
		return
	}
	k.tx = nil
	if c.obs.every.Load() != 0 {
		defer c.show(k, command.Lookup(execName), [][]byte{execName})
	}
	if t.broken {
		w.Error(errExecAbort)
		return
	}
	c.recheck(k, t)
	slot, remote, ok := t.place()
	if !ok {
		w.Error(crossSlot)
		return
	}
	if slot < 0 {
		slot = int(c.anySlot())
	}
	if remote {
		if to := c.movedTo(k, uint16(slot)); to != "" {
			w.Error(to)
			return
		}
	}
	if client := k.client.Tracking(); client != nil {
		for _, q := range t.queue {
			c.track(k, client, q.spec, q.args)
		}
	}
	if c.obs.every.Load() != 0 {
		for i := range t.queue {
			if q := &t.queue[i]; q.problem == "" {
				c.show(k, q.spec, q.args)
			}
		}
	}
	proto := w.Proto
	replies, local := c.runLocal(k, t, proto, remote)
	if !remote {
		w.Array(len(replies.list))
		for _, raw := range replies.list {
			w.Raw(raw)
		}
		return
	}
	if t.watch != nil && !c.afterWatches(k, t, uint16(slot), proto, replies) {
		return
	}
	o := t.op(uint16(slot), proto)
	o.user = k.userOfScripts(o)
	if !local {
		c.run(k, w, o)
		return
	}
	g := &gather{left: 1, parts: make([][]byte, 1)}
	g.then = func(parts [][]byte, to origin) { to.reply(replies.merge(parts[0])) }
	c.dispatch(g, []op{*o}, k, k.now, k.home)
	if g.complete(func() origin { return origin{t: k.s.Hold()} }) {
		w.Raw(replies.merge(g.parts[0]))
	}
}

// afterWatches puts EXEC off until the connection's WATCHes are answered, if some are not: it returns false then.
func (c *Cache) afterWatches(k *conn, t *transaction, slot uint16, proto int, replies *localReplies) bool {
	if t.watch.settled(nil) {
		return true
	}
	to := origin{t: k.s.Hold()}
	k.order++
	n := k.order
	k.detach(n)
	user := k.userOfScripts(t.op(slot, proto))
	run := func() {
		g := &gather{left: 1, parts: make([][]byte, 1)}
		g.then = func(parts [][]byte, to origin) { to.reply(replies.merge(parts[0])) }
		o := t.op(slot, proto)
		o.user = user
		c.inPlace(o, origin{sink: g, conn: k, n: n})
		if g.complete(func() origin { return to }) {
			to.reply(replies.merge(g.parts[0]))
		}
		k.attach(n)
	}
	start := func() {
		if !c.work.start(run) {
			to.reply(errStopping)
			k.attach(n)
		}
	}
	if t.watch.settled(start) {
		start()
	}
	return false
}

// inPlace parks an op behind what its connection sent earlier and before what it sent later.
func (c *Cache) inPlace(o *op, to origin) {
	now := c.ticks()
	w := waiting{
		body: appendRequest(nil, o, 0, 0, now), to: to, write: o.writes(), group: o.group,
		deadline: c.latest(now),
	}
	w.entered()
	if !c.park.putBack(w) {
		w.abandon(errBusy)
	}
	c.park.kick()
}

// detached are the places, in a connection's order, of commands that are neither in flight nor parked but under way.
type detached struct {
	mu   sync.Mutex
	list []uint64
}

func (d *detached) before(n uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.list, func(x uint64) bool { return x < n })
}

// detach keeps the connection's later commands behind one that is under way.
func (k *conn) detach(n uint64) {
	k.parked.Add(1)
	k.detached.mu.Lock()
	defer k.detached.mu.Unlock()
	k.detached.list = append(k.detached.list, n)
}

func (k *conn) attach(n uint64) {
	k.detached.mu.Lock()
	if at := slices.Index(k.detached.list, n); at >= 0 {
		k.detached.list = slices.Delete(k.detached.list, at, at+1)
	}
	k.detached.mu.Unlock()
	k.parked.Add(-1)
	k.cache.park.kick()
}

// place finds the one slot of everything that the transaction touches, -1 if it has no keys. remote says that a primary
// has to take part.
func (t *transaction) place() (slot int, remote, ok bool) {
	slot = -1
	if t.watch != nil {
		slot, remote = int(t.watch.slot), true
	}
	for i := range t.queue {
		q := &t.queue[i]
		remote = remote || !q.local
		if q.slot < 0 {
			continue
		}
		if slot >= 0 && q.slot != slot {
			return 0, false, false
		}
		slot = q.slot
	}
	return slot, remote, true
}

// runLocal runs what concerns the connection. replies has nil where another node's belong.
func (c *Cache) runLocal(k *conn, t *transaction, proto int, remote bool) (replies *localReplies, any bool) {
	replies = &localReplies{list: make([][]byte, len(t.queue))}
	for i := range t.queue {
		q := &t.queue[i]
		if !q.local {
			continue
		}
		any = true
		w := resp.Writer{Proto: proto}
		switch {
		case q.problem != "":
			w.Error(q.problem)
		case q.spec.Name == "unwatch": // EXEC has done it
			w.OK()
		case q.spec.Name == "ssubscribe":
			w.Error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
		case q.spec.Name == "monitor":
			w.Error("ERR MONITOR isn't allowed for DENY BLOCKING client")
		case strings.HasPrefix(q.spec.Name, "acl"):
			c.aclHere(&w, q.spec, q.args)
		case q.spec.Scope == command.ScopeNode:
			c.script(nil, &w, q.spec, q.args)
		case remote && (q.spec.Name == "publish" || q.spec.Name == "spublish"):
			// Others must not hear of it before the writes are committed, nor if the watches fail.
			replies.messages = append(replies.messages, message{i, q.spec.Name == "spublish", q.args[1], q.args[2]})
			replies.bus = c.opt.Server.Bus()
		default:
			ctx := command.ConnCtx{Spec: q.spec, Args: q.args, W: &w, Conn: txConn{k}, Server: c.opt.Server, Now: k.now}
			ctx.Run()
		}
		if replies.list[i] = w.Buf; w.Buf == nil {
			replies.list[i] = []byte{} // of a message
		}
	}
	return replies, any
}

// localReplies are those of a transaction that no primary gives, nil elsewhere, and what has to wait for the primary's.
type localReplies struct {
	list     [][]byte
	bus      *pubsub.Bus
	messages []message
}

type message struct {
	at               int // its place in the transaction
	shard            bool
	channel, payload []byte
}

// txConn is a connection inside EXEC: nothing waits there, and there is one reply for everything.
type txConn struct{ *conn }

// WaitReplicas implements command.Conn.
func (k txConn) WaitReplicas(int, time.Duration) (have int, now bool) {
	return max(k.cache.replicasOf(k.last), 0), true
}

// Announce implements command.Conn.
func (k txConn) Announce() { k.cache.obs.bus.Changed(func() {}) }

// merge puts the replies of a primary between those that are here, and sends the messages. What is no array of them is the whole
// reply: an error, or null.
func (l *localReplies) merge(raw []byte) []byte {
	n, rest, ok := header(raw)
	missing := 0
	for _, r := range l.list {
		if r == nil {
			missing++
		}
	}
	if !ok || raw[0] != '*' || n != missing {
		return raw
	}
	for _, m := range l.messages {
		publish := l.bus.Publish
		if m.shard {
			publish = l.bus.PublishShard
		}
		var w resp.Writer
		w.Int(int64(publish(m.channel, m.payload)))
		l.list[m.at] = w.Buf
	}
	w := resp.Writer{Buf: make([]byte, 0, len(raw)+64*len(l.list))}
	w.Array(len(l.list))
	for _, r := range l.list {
		if r == nil {
			size := resp.Size(rest)
			if size > 0 && rest[0] == '>' { // DEBUG PROTOCOL push has a reply behind it
				size += resp.Size(rest[size:])
			}
			if size == 0 {
				return raw
			}
			r, rest = rest[:size], rest[size:]
		}
		w.Raw(r)
	}
	return w.Buf
}

var execName, watchName = []byte("EXEC"), []byte("WATCH")

// op makes the op of EXEC. On the wire its arguments are EXEC, the number of watched keys, each key and its token, then for
// each command the number of its arguments and these.
func (t *transaction) op(slot uint16, proto int) *op {
	o := &op{group: ring.GroupOf(slot), slot: slot, proto: proto, tx: &txBody{}}
	if t.watch != nil {
		t.watch.mu.Lock()
		o.tx.watches = t.watch.list
		if t.watch.failed {
			o.tx.watches = []watchToken{{}} // that is no key's token: EXEC aborts
		}
		t.watch.mu.Unlock()
	}
	number := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	o.args = [][]byte{execName, number(len(o.tx.watches))}
	for _, w := range o.tx.watches {
		o.args = append(o.args, w.key, binary.LittleEndian.AppendUint64(nil, w.token))
	}
	for i := range t.queue {
		q := &t.queue[i]
		if q.local {
			continue
		}
		o.tx.commands = append(o.tx.commands, txCommand{q.spec, q.args})
		o.args = append(append(o.args, number(len(q.args))), q.args...)
	}
	o.describe()
	return o
}

// describe finds the spec of an EXEC.
func (o *op) describe() {
	var is [3]bool
	for i := range o.tx.commands {
		s := o.tx.commands[i].spec
		is[0], is[1], is[2] = is[0] || s.Write, is[1] || s.DenyOOM, is[2] || s.Script
	}
	o.spec = txSpecs[is]
}

// readTx parses the arguments of an EXEC or a WATCH of another node.
func (o *op) readTx() error {
	if string(o.args[0]) == string(watchName) && len(o.args) > 1 {
		o.spec, o.watch = watchSpec, true
		return nil
	}
	rest := o.args[1:]
	number := func() (int, bool) {
		if len(rest) == 0 {
			return 0, false
		}
		n, size := binary.Uvarint(rest[0])
		rest = rest[1:]
		return int(n), size > 0 && n <= uint64(len(rest))
	}
	tx := &txBody{}
	n, ok := number()
	if !ok || 2*n > len(rest) {
		return errRequest
	}
	for range n {
		if len(rest[1]) != 8 {
			return errRequest
		}
		tx.watches = append(tx.watches, watchToken{rest[0], binary.LittleEndian.Uint64(rest[1])})
		rest = rest[2:]
	}
	for len(rest) > 0 {
		if n, ok = number(); !ok || n == 0 {
			return errRequest
		}
		spec, problem := command.Resolve(rest[:n])
		if problem != "" || spec.Scope != command.ScopeKey && spec.Scope != command.ScopeScatter {
			return errRequest
		}
		tx.commands = append(tx.commands, txCommand{spec, rest[:n:n]})
		rest = rest[n:]
	}
	o.tx = tx
	o.describe()
	return nil
}

// runTx runs a transaction, under the group's lock. A command's error does not keep the others from running.
func (p *part) runTx(o *op, w *resp.Writer) {
	x := &p.ctx
	if !p.holds(o.tx, x.Now) {
		w.NullArray()
		return
	}
	x.NoBlock = true
	w.Array(len(o.tx.commands))
	for i := range o.tx.commands {
		x.Spec, x.Args = o.tx.commands[i].spec, o.tx.commands[i].args
		if x.Spec.Scope == command.ScopeScatter {
			x.RunPart()
		} else {
			x.Run()
		}
		if p.script != nil && !p.script.alone() {
			break // nothing was written, and it will be said so
		}
	}
	x.NoBlock = false
	x.FX.Bracket()
}
