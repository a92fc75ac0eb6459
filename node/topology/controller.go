package topology

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"hypercache/node/ring"
)

// Controller is what the Raft leader has seen of the nodes, and what it decides from that. It has no goroutine and no
// clock and does no I/O: a leadership runs one on Raft and the network, a simulation on models of them. Its memory is
// volatile: a new leadership starts with a new one. It is not safe for concurrent use.
type Controller struct {
	self   string
	expect int
	timing Timing
	log    *slog.Logger

	busy      bool // something is moving, or waits for its time
	groups    [ring.Groups]groupView
	epoch     uint64 // the state's epoch that groups[].changed reflects
	down      map[string]bool
	since     map[string]time.Time
	status    map[string]nodeStatus
	acted     map[string]deed // of members, down or not
	target    []ring.Placement
	targetKey string    // what target was computed for
	wantKey   string    // what it should be computed for
	wantSince time.Time // since when
	mark      epochMark // renewed each second
	moved     time.Time // when something was last moved
	settled   uint64    // the epoch of the mark before: everybody should have it
}

// newController returns the controller of a new leadership; o is complete.
func newController(o *Options) *Controller {
	return &Controller{
		self: o.NodeID, expect: o.BootstrapExpect, timing: o.Timing, log: o.Logger,
		down: map[string]bool{}, since: map[string]time.Time{}, status: map[string]nodeStatus{},
		acted: map[string]deed{},
	}
}

// deed is the newest epoch that a process was heard to act on.
type deed struct {
	run   string
	epoch uint64
}

// plan decides what to do next. Moves are taken on a tick at most: many with one commit, since every node looks through all
// groups for each.
func (c *Controller) plan(st *State, servers map[string]server, now time.Time) actions {
	a := plan(st, &view{
		self: c.self, now: now, expect: c.expect, timing: c.timing, down: c.down, since: c.since, status: c.status,
		hold: now.Sub(c.moved) < c.timing.Tick, settled: c.settled, groups: &c.groups, target: c.target, servers: servers,
	})
	if len(a.changes) > 0 || slices.ContainsFunc(a.elect, func(e election) bool { return e.reason == moves || e.reason == balance }) {
		c.moved = now
	}
	return a
}

// welcomed is how a node that said hello is kept as a member.
func welcomed(st *State, m Member) Member {
	m.Status, m.Leaving = Up, ""
	if old, ok := st.Members[m.ID]; ok && old.Status != Removed {
		m.Status, m.Leaving = old.Status, old.Leaving
	}
	return m
}

// drained is the change that begins the drain of a member; last: nobody else could hold the data.
func drained(st *State, id string) (change []Member, last bool) {
	m, others := st.Members[id], 0
	for _, o := range st.Members {
		others += boolInt(o.ID != id && o.Status == Up)
	}
	if last = others == 0; last || m.Status != Up {
		return nil, last
	}
	m.Status = Draining
	return []Member{m}, false
}

// leaving is the change that notes that a member's process is about to stop.
func leaving(st *State, id string) []Member {
	m := st.Members[id]
	if m.Leaves() {
		return nil
	}
	m.Leaving = m.Run
	return []Member{m}
}

// retired is the change that takes drained members out.
func retired(st *State, ids []string) (out []Member) {
	for _, id := range ids {
		if m := st.Members[id]; m.Status == Draining && holdings(st, id) == 0 {
			m.Status = Removed
			out = append(out, m)
		}
	}
	return out
}

// What follows lets a simulation run controllers and the state machine as they are, on a log of its own.

// Command is one entry of the topology's log. The zero value changes nothing.
type Command struct{ c command }

// Empty tells that the command has nothing to say.
func (c Command) Empty() bool {
	return c.c.Found == nil && len(c.c.Members) == 0 && len(c.c.Groups) == 0
}

// Outcome is what became of a command.
type Outcome struct{ a applied }

// Apply returns the state after the command: the same one if nothing has changed.
func (s *State) Apply(c Command) (*State, Outcome) {
	c.c.Version = commandVersion
	res := s.apply(&c.c)
	return res.state, Outcome{res}
}

// Found is the command that gives a cluster its identity and its first member.
func Found(cluster string, rf int, first Member) Command {
	return Command{command{Found: &founding{cluster, rf}, Members: []Member{first}}}
}

// Welcome is the command that takes a node in, or notes its new process or address.
func (s *State) Welcome(m Member) Command {
	return Command{command{Members: []Member{welcomed(s, m)}}}
}

// Drain is the command that begins the drain of a member, empty if that cannot be or is under way.
func (s *State) Drain(id string) Command {
	change, _ := drained(s, id)
	return Command{command{Members: change}}
}

// Leave is the command that says that the present process of a member is about to stop.
func (s *State) Leave(id string) Command { return Command{command{Members: leaving(s, id)}} }

// Servers is Raft's configuration: id to whether it votes.
type Servers map[string]bool

// ServerChange is one change of it.
type ServerChange struct {
	ID            string
	Voter, Remove bool
}

// Plan is what a controller wants done, all of it at the same time.
type Plan struct {
	Elections *Elections // nil: none
	Changes   Command    // of groups; tell Changed what became of it
	Retire    Command    // of members
	Server    *ServerChange
	Transfer  bool // give up the leadership
}

// NewController returns the controller of a new leadership. With only, other groups than those are left alone.
func NewController(o Options, only []uint16) *Controller {
	o.Timing.complete()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := newController(&o)
	for i := range c.groups {
		c.groups[i].busy = only != nil && !slices.Contains(only, uint16(i))
	}
	return c
}

// Step looks around and plans, as a leadership does on every tick, and marks what it plans as under way.
func (c *Controller) Step(st *State, servers Servers, now time.Time, down func(id string) bool) Plan {
	in := map[string]server{}
	for id, voter := range servers {
		in[id] = server{voter: voter, addr: id}
	}
	c.observe(st, now, down)
	c.retarget(st, in, now)
	a := c.plan(st, in, now)
	p := Plan{Changes: Command{command{Groups: a.changes}}, Retire: Command{command{Members: retired(st, a.retire)}}, Transfer: a.transfer}
	for _, e := range a.elect {
		c.groups[e.group].busy = true
	}
	for _, ch := range a.changes {
		c.groups[ch.Group].busy = true
	}
	if len(a.elect) > 0 {
		p.Elections = &Elections{c: c, list: a.elect}
	}
	if s := a.server; s != nil {
		p.Server = &ServerChange{ID: s.id, Voter: s.op == addVoter, Remove: s.op == remove}
	}
	return p
}

// Changed says that the changes of a plan are no longer under way.
func (c *Controller) Changed(cmd Command) {
	for _, ch := range cmd.c.Groups {
		c.groups[ch.Group].busy = false
	}
}

// Questions lists what each primary is to be asked with MethodStatus, and tells whether to ask often.
func (c *Controller) Questions(st *State) (lists map[string][]uint16, often bool) {
	lists, _ = c.questions(st)
	return lists, c.busy
}

// Seen is the digest of the node's last answer.
func (c *Controller) Seen(node string) uint64 { return c.status[node].digest }

// Learn takes over a node's answer, which was asked for at the given time.
func (c *Controller) Learn(st *State, node string, asked time.Time, ans *StatusAnswer) {
	c.learn(st, node, asked, ans)
}

// Runs tells the incarnation that a node last answered with, "" if it has not.
func (c *Controller) Runs(node string) string { return c.status[node].run }

// Targets is where everything belongs, nil while that is not settled.
func (c *Controller) Targets() []ring.Placement { return c.target }

// Elections are those that are held together: Open, Opened, First, Others, Close, Held.
type Elections struct {
	c       *Controller
	list    []election
	ballots []*ballot
}

// Open returns the command that opens the terms; it may be empty.
func (e *Elections) Open(st *State) Command {
	var changes []groupChange
	e.ballots, changes = openings(st, e.list)
	return Command{command{Groups: changes}}
}

// Opened says that the command was committed. It tells whether any election goes on.
func (e *Elections) Opened(o Outcome) bool {
	e.ballots = opened(e.ballots, o.a)
	return len(e.ballots) > 0
}

// First lists the primaries that are to be fenced before everybody else.
func (e *Elections) First() map[string]*FenceCall { return firstCalls(e.ballots) }

// Others lists everybody who has not answered.
func (e *Elections) Others() map[string]*FenceCall { return otherCalls(e.ballots) }

// Answer notes what a node answered.
func (e *Elections) Answer(node string, ans *FenceAnswer) { take(e.ballots, node, ans) }

// Decided tells that every group has enough answers.
func (e *Elections) Decided() bool { return decided(e.ballots) }

// Close returns the command that elects, which may be empty, and in how many groups records may be lost by it.
func (e *Elections) Close(st *State) (Command, int) {
	changes, losses := closings(maps.Clone(st.Members), e.ballots)
	return Command{command{Groups: changes}}, losses
}

// Held says that the elections are over, however they went.
func (e *Elections) Held(st *State, now time.Time) { e.c.held(st, e.list, now) }

// Forge notes an answer unless the node has given one: what a simulation does that tries out minorities.
func (e *Elections) Forge(node string, ans *FenceAnswer) {
	for _, g := range ans.Groups {
		for _, b := range e.ballots {
			if _, given := b.answers[node]; b.group == g.Group && !given {
				b.answers[node] = answer{g, ans.Run}
			}
		}
	}
}
