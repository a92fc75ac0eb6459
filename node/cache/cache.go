package cache

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/acl"
	"hypercache/node/clock"
	"hypercache/node/command"
	"hypercache/node/peer"
	"hypercache/node/pubsub"
	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/spare"
	"hypercache/node/store"
	"hypercache/node/topology"
)

type (
	stream = *peer.Stream
	batch  = replica.Batch[stream]
)

// Options configure a Cache. Self, DB and Server are required.
type Options struct {
	Self   string
	DB     *store.DB
	Server command.Server
	// Wait is how long a command waits for a primary, for its replicas or for another node's answer (5 s).
	Wait time.Duration
	// ScriptLimit is when a script is ended whatever it does (1 min). What it wrote stays, as with a runtime error.
	ScriptLimit time.Duration
	// Samples is how many keys compete for each eviction (5).
	Samples int
	Loops   int // event loops of the RESP server; each has a batch of its own
	// Down tells that a node has been silent for so long that it counts as failed. nil: none ever is.
	Down func(node string) bool
	// Isolated, if not nil, tells that the node has no contact with most of the cluster, so that another primary may have been
	// chosen: no writes are executed then. It is for acknowledgements that no replica is asked for (write_acks one), and is
	// asked ten times a second.
	Isolated func() bool
	Logger   *slog.Logger
	// Clock is what keys live by, and deadlines. nil: one that goes on by the monotonic clock.
	Clock *clock.Clock
	// Libraries keeps the cluster's libraries of functions. nil: there are none, and never will be.
	Libraries LibraryKeeper
	// Users keep the cluster's users.
	Users UserOptions
	// Promised is how many replicas have a write when its reply is sent, for WAIT.
	Promised int
	// Quorum has a majority confirm each read, after its value was captured, in place of a lease.
	Quorum bool
}

// UserOptions are those about users.
type UserOptions struct {
	// Passwords are those of the user default, from the node's configuration. Without any it needs none until the cluster says
	// otherwise.
	Passwords []string
	// Keeper changes the cluster's users. nil: there is nobody but the user default.
	Keeper UserKeeper
}

// Cache routes commands. Its methods are safe for concurrent use, but for those of resp.Handler, which follow that
// interface's rules.
type Cache struct {
	opt     Options
	log     *slog.Logger
	db      *store.DB
	driver  *replica.Driver[stream]
	parts   [ring.Groups]part
	view    atomic.Pointer[view]
	routing sync.Mutex // orders changes of view
	loops   []round
	park    parking
	alarms  alarms
	// blocked are the connections whose clients wait for keys.
	blocked blockedClients

	remotesMu sync.Mutex
	remotes   atomic.Pointer[map[string]*remote]

	dirtyMu sync.Mutex
	dirty   []stream // inbound streams with replies that nobody has flushed yet

	// turns counts the refusals that opened a new generation: what is sent after one could overtake what was sent before.
	turns atomic.Uint64

	scripts   scripts
	functions functions
	users     *acl.Users
	refusals  acl.Log
	// knownUsers are the last that SetUsers was told, which alone uses both.
	knownUsers []topology.User
	usersKnown bool
	batches    sync.Pool
	work       steps
	errands    chan struct{}
	// readsApart holds one for each read that runs apart.
	readsApart chan struct{}
	isolated   atomic.Bool // Options.Isolated, as of the last tick
	sweeping   sweeping
	wide       *spare.Buffers // for effects that are larger than what a group keeps: those of FLUSHALL
	lazily     atomic.Bool    // expired keys stay until somebody asks for them: SetActiveExpire
	short      atomic.Bool    // the data is over its limit by more than one command should wait for
	// copiesRead says that somebody reads this node's replicas, so that it pays to know what touched each slot.
	copiesRead atomic.Bool
	leaving    atomic.Bool  // Leave was called
	clock      atomic.Int64 // guarded unix ms of the last sweep, for what replicas apply
	Stats      Stats
	obs        observing
	waitsMu    sync.Mutex
	waits      []*replicaWait
}

// Stats counts since the start. Fields are read with Load.
type Stats struct {
	Commands, Forwarded, Received, Parked      atomic.Uint64
	Hits, Misses, Expired, Evicted, Unanswered atomic.Uint64
	ReadsLease, ReadsQuorum, ReadsStale        atomic.Uint64
	Moved                                      atomic.Uint64 // commands that were answered with MOVED
}

// part is what the cache keeps of one group, under the group's lock.
type part struct {
	group *replica.Group[stream]
	shard *store.Shard
	time  *clock.Clock
	wide  *spare.Buffers // the cache's
	fx    command.Effects
	ctx   command.Ctx
	// slotSeq is the newest record that touched each slot: a reply that shows its effects must wait for it.
	slotSeq    [ring.Slots / ring.Groups]uint64
	blur       uint64 // as slotSeq, of all slots, while nobody reads this copy
	waiting    waiters
	confirming waiters  // reads that wait for a round, in its order
	sleepers   sleepers // commands that wait for keys
	watched    watchTable
	script     *scriptRun                // the one that has the lock
	busy       atomic.Pointer[scriptRun] // one that takes its time: the group is its alone, whoever has the lock
	happenings
	hot hotKeys
}

// view is the topology as routing needs it.
type view struct {
	epoch   uint64
	primary [ring.Groups]string
	addr    map[string]string      // node -> RESP address, for MOVED
	left    [ring.Groups]time.Time // when this node stopped being the primary, if it ever was
	turn    uint64                 // counts changes of what this node is the primary of
	enough  int                    // see enough
}

// elsewhere tells that a group has a primary, and that it is not this node.
func (v *view) elsewhere(group uint16, node string) bool {
	return v.primary[group] != "" && v.primary[group] != node
}

// round is one event loop's batch, used by that loop alone.
type round struct {
	batch    batch
	remotes  []stream // forward streams written to in this round
	used     []*resp.Session
	commands uint64
	reads    readCounts
	meter    meter
	// early says that a reply could leave before the round's end, so that those which must not are kept in kept.
	early bool
	kept  []keptReply
	now   int64 // a tick, of the last command
	rng   *rand.Rand
	_     [64]byte // loops don't share a cache line
}

// New returns a cache without a driver: Attach gives it one before any command arrives.
func New(opt Options) *Cache {
	if opt.Wait == 0 {
		opt.Wait = 5 * time.Second
	}
	if opt.Down == nil {
		opt.Down = func(string) bool { return false }
	}
	if opt.Clock == nil {
		opt.Clock = clock.New(clock.Options{})
	}
	if opt.ScriptLimit <= 0 {
		opt.ScriptLimit = time.Minute
	}
	if opt.Samples <= 0 {
		opt.Samples = 5 // Redis' maxmemory-samples
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cache{scripts: newScripts(), opt: opt, log: opt.Logger, db: opt.DB, loops: make([]round, max(opt.Loops, 1))}
	c.work.ctx, c.work.cancel = context.WithCancel(context.Background())
	c.wide = spare.New(wideEffects, maxWide)
	c.errands = make(chan struct{}, maxErrands)
	c.readsApart = make(chan struct{}, maxReadsApart)
	c.functions.init(opt.Libraries)
	c.users = acl.NewUsers(opt.Users.Passwords)
	c.remotes.Store(&map[string]*remote{})
	c.view.Store(&view{})
	c.batches.New = func() any { return earlyRound() }
	for i := range c.loops {
		c.loops[i].rng = newRNG()
	}
	for i := range c.parts {
		c.parts[i].shard = opt.DB.Shard(i)
		c.parts[i].time, c.parts[i].wide = opt.Clock, c.wide
		c.parts[i].ctx.Eval = c.parts[i].eval
		c.parts[i].ctx.Hot = c.parts[i].hot.report
	}
	c.park.init()
	c.alarms.kick = make(chan struct{}, 1)
	c.openObserving()
	return c
}

func newRound() *round { return &round{rng: newRNG()} }

// earlyRound is for goroutines whose replies go to sessions and streams that others send from.
func earlyRound() *round { return &round{rng: newRNG(), early: true} }

// keptReply is a reply that waits until the journal has what it tells of.
type keptReply struct {
	to    origin
	raw   []byte
	write bool
}

// release gives the kept replies, or says that nobody knows what became of them.
func (r *round) release(written bool) {
	for i := range r.kept {
		k := &r.kept[i]
		switch {
		case written:
			k.to.reply(k.raw)
		case k.write:
			k.to.fail(errUnknown)
		default:
			k.to.fail(errNoAnswer)
		}
		*k = keptReply{raw: k.raw[:0]}
		if cap(k.raw) > 4<<10 {
			k.raw = nil
		}
	}
	r.kept = r.kept[:0]
}

// keep puts a reply off to the end of the round.
func (r *round) keep(to *origin, raw []byte, write bool) {
	if len(r.kept) < cap(r.kept) {
		r.kept = r.kept[:len(r.kept)+1]
	} else {
		r.kept = append(r.kept, keptReply{})
	}
	k := &r.kept[len(r.kept)-1]
	k.to, k.write, k.raw = *to, write, append(k.raw[:0], raw...)
}

func newRNG() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// Attach gives the cache the driver that it is the Machine of.
func (c *Cache) Attach(d *replica.Driver[stream]) {
	c.driver = d
	for i := range c.parts {
		c.parts[i].group = d.Group(uint16(i))
	}
}

// Route says who is primary of which group from now on ("" where nobody is), and the nodes' RESP addresses.
func (c *Cache) Route(epoch uint64, primary [ring.Groups]string, addr map[string]string) {
	c.routing.Lock()
	defer c.routing.Unlock()
	old, now := c.view.Load(), time.Now()
	v := &view{epoch: epoch, primary: primary, addr: addr, left: old.left, turn: old.turn}
	for g := range primary {
		was, is := old.primary[g] == c.opt.Self, primary[g] == c.opt.Self
		if was != is {
			v.turn = old.turn + 1
		}
		if was && !is {
			v.left[g] = now
		}
	}
	v.enough = enough(v.share(c.opt.Self, now))
	c.view.Store(v)
	c.park.kick()
}

// conn is the state of one client's connection.
type conn struct {
	cache  *Cache
	s      *resp.Session
	client *command.Client
	user   *acl.User // nil until it has said who it is
	home   *round    // where its goroutine batches
	own    *round    // its own, if no event loop feeds it
	now    int64     // a tick, of the present batch, 0 between batches
	keys   []int

	// A command must not overtake an earlier one of its connection to the same group when routes change. parked
	// counts commands that wait for a route, inflight those that another node has, epoch is the view they were sent by.
	parked    atomic.Int32
	inflight  atomic.Int32
	epoch     atomic.Uint64
	turn      atomic.Uint64 // of Cache.turns, likewise
	order     uint64        // counts its commands
	detached  detached      // commands under way that no later one of the connection may overtake, wherever it goes
	tx        *transaction  // nil for those that never asked for one
	functions queue         // FUNCTION commands that wait for the topology
	watch     watch
	last      lastWrite
	aim       aim
}

// Client implements command.Conn.
func (k *conn) Client() *command.Client { return k.client }

// SetProto implements command.Conn.
func (k *conn) SetProto(v int) {
	k.s.SetProto(v)
	k.watch.sub.SetProto(v)
}

// CloseAfterReply implements command.Conn.
func (k *conn) CloseAfterReply() { k.s.CloseAfterReply() }

// Open implements resp.Handler.
func (c *Cache) Open(s *resp.Session) {
	k := &conn{cache: c, s: s, client: command.NewClient(s.ID(), s.RemoteAddr(), s.LocalAddr(), -1, c.ticks())}
	k.watch.sub = pubsub.NewSubscriber(s.Push)
	if l := s.Loop(); l >= 0 && l < len(c.loops) {
		k.home = &c.loops[l]
	} else {
		k.own = newRound()
		k.own.meter.set = c.obs.others
		k.home = k.own
	}
	s.User = k
	k.anew()
}

// ClientOf returns the connection's state as CLIENT commands see it.
func ClientOf(s *resp.Session) *command.Client {
	if k, ok := s.User.(*conn); ok {
		return k.client
	}
	return nil
}

// Closed implements resp.Handler.
func (c *Cache) Closed(s *resp.Session) { c.unwatch(s.User.(*conn)) }

// Command implements resp.Handler.
func (c *Cache) Command(s *resp.Session, w *resp.Writer, args [][]byte) {
	k := s.User.(*conn)
	spec, problem := command.Resolve(args)
	if !k.free() && spec != nil {
		if refusal := c.refusedTo(k, spec, args); refusal != "" {
			spec, problem = nil, refusal
		}
	}
	if problem != "" {
		problem = k.refusedExec(args, problem)
	}
	if k.tx != nil && c.queued(k, w, spec, problem, args) {
		c.quiet(k)
		return
	}
	if problem != "" {
		c.obs.record.Error([]byte("-" + problem))
		w.Error(problem)
		c.quiet(k)
		return
	}
	if k.now == 0 {
		k.now = c.ticks()
		k.client.Note(spec, k.now)
		k.home.used = append(k.home.used, s)
	}
	k.home.commands++
	k.home.meter.begin(spec, c.obs.record)
	mark := len(w.Buf)
	if k.watch.on || c.obs.every.Load() != 0 {
		c.closely(k, w, spec, args)
	} else {
		c.start(k, w, spec, args)
	}
	c.ran(k, w, spec, args, mark)
}

// start runs a command, or sends it on its way.
func (c *Cache) start(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	switch spec.Scope {
	case command.ScopeKey:
		if spec.Script {
			spec, args = c.scripts.withBody(spec, args)
		}
		c.keyed(k, w, spec, args)
	case command.ScopeConn:
		k.client.Note(spec, k.now)
		ctx := command.ConnCtx{Spec: spec, Args: args, W: w, Conn: k, Server: c.opt.Server, Now: k.now}
		ctx.Run()
	case command.ScopeScatter:
		c.scatter(k, w, spec, args)
	case command.ScopeCluster:
		c.cluster(k, w, spec, args)
	case command.ScopeNode:
		c.transact(k, w, spec, args)
	}
}

const crossSlot = "CROSSSLOT Keys in request don't hash to the same slot"

// keyed runs a command whose keys share a slot.
func (c *Cache) keyed(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	var slot uint16
	if spec.OneKey {
		slot = ring.Slot(args[spec.FirstKey])
	} else {
		var one bool
		k.keys = command.Keys(spec, args, k.keys[:0])
		if slot, one = c.oneSlot(args, k.keys); !one {
			w.Error(crossSlot)
			return
		}
	}
	o := op{spec: spec, args: args, group: ring.GroupOf(slot), slot: slot, proto: w.Proto}
	if k.acceptsStale(c) && c.fromCopy(&o, w, k.now, k.home) {
		return
	}
	if to := c.movedTo(k, slot); to != "" {
		w.Error(to)
		return
	}
	c.run(k, w, &o)
}

// oneSlot is the slot of the arguments at the places keys, false if there are several.
func (c *Cache) oneSlot(args [][]byte, keys []int) (slot uint16, one bool) {
	if len(keys) == 0 {
		return c.anySlot(), true
	}
	slot = ring.Slot(args[keys[0]])
	for _, at := range keys[1:] {
		if ring.Slot(args[at]) != slot {
			return 0, false
		}
	}
	return slot, true
}

// anySlot is where a command without keys runs: a script, or what is refused anyway. Here, if this node is primary of
// anything.
func (c *Cache) anySlot() uint16 {
	v := c.view.Load()
	for group, primary := range v.primary {
		if primary == c.opt.Self {
			first, _ := ring.GroupSlots(group)
			return first
		}
	}
	return 0
}

// run executes an op of a connection here, or sends it where it belongs.
func (c *Cache) run(k *conn, w *resp.Writer, o *op) {
	where := later
	v := c.view.Load()
	ordered := k.inOrder(v)
	var b *blocking
	if blocks(o.spec) {
		b = &blocking{c: c, conn: k}
	}
	o.observedBy(k)
	o.user = k.userOfScripts(o)
	if o.writes() {
		k.last = lastWrite{o.slot, true}
	}
	switch {
	case !ordered, c.obs.pause.paused(o.writes(), k.now):
	case k.inflight.Load() > 0 && v.primary[o.group] != c.opt.Self:
		// This node may be primary already, before the view says so; what the old one has must not be overtaken.
		where = elsewhere
	default:
		if where = c.exec(o, w, k.now, k.home, origin{s: k.s, b: b}); where == done {
			return
		}
	}
	k.order++
	to := origin{t: k.s.Hold(), conn: k, n: k.order, b: b}
	if b != nil {
		k.s.Suspend(b.gone)
	}
	if where == elsewhere && c.forward(v, o, to, k.home) {
		return
	}
	c.wait(o, to)
}

// inOrder tells that a command may run now without overtaking an earlier one.
func (k *conn) inOrder(v *view) bool {
	if k.parked.Load() > 0 {
		return false
	}
	return k.settled(v)
}

// settled tells that what other nodes have of the connection was sent by view v and not refused since, so that nothing
// sent now overtakes it.
func (k *conn) settled(v *view) bool {
	turn := k.cache.turns.Load()
	if k.epoch.Load() != v.epoch || k.turn.Load() != turn {
		if k.inflight.Load() > 0 {
			return false
		}
		k.epoch.Store(v.epoch)
		k.turn.Store(turn)
	}
	return true
}

// BatchEnd implements resp.Handler.
func (c *Cache) BatchEnd(s *resp.Session) {
	k := s.User.(*conn)
	k.now = 0
	k.home.meter.end(monotonic(), c.obs.record)
	if k.own != nil {
		c.endRound(k.own)
	}
}

// RoundEnd implements resp.RoundHandler.
func (c *Cache) RoundEnd(loop int) {
	if loop >= 0 && loop < len(c.loops) {
		c.endRound(&c.loops[loop])
	}
}

// endRound lets what the round wrote go out and makes it durable. Where that fails, the connections of the round are
// closed without an answer: what became of their writes is unknown, and saying anything else would be a lie.
func (c *Cache) endRound(r *round) {
	for _, s := range r.remotes {
		s.Flush()
	}
	r.remotes = r.remotes[:0]
	err := c.driver.EndBatch(&r.batch)
	if err != nil {
		for _, s := range r.used {
			s.Kill()
		}
	}
	r.release(err == nil)
	clear(r.used)
	r.used = r.used[:0]
	if r.commands > 0 {
		c.Stats.Commands.Add(r.commands)
		r.commands = 0
	}
	c.countReads(&r.reads)
	c.flushDirty()
}

// FlushReplies sends the answers to other nodes that the caller's work has let go.
func (c *Cache) FlushReplies() { c.flushDirty() }

func (c *Cache) flushDirty() {
	c.obs.tracker.FlushDue()
	c.obs.bus.Flush()
	c.dirtyMu.Lock()
	list := c.dirty
	c.dirty = nil
	c.dirtyMu.Unlock()
	for _, s := range list {
		s.Flush()
	}
}

func (c *Cache) markDirty(s stream) {
	c.dirtyMu.Lock()
	defer c.dirtyMu.Unlock()
	for _, have := range c.dirty {
		if have == s {
			return
		}
	}
	c.dirty = append(c.dirty, s)
}

func (r *round) sent(s stream) {
	for _, have := range r.remotes {
		if have == s {
			return
		}
	}
	r.remotes = append(r.remotes, s)
}
