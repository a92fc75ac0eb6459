package replica

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A small model, checked exhaustively: every order in which the events of a bounded run can happen, on the real State.
// What surrounds a replica (journal, streams, topology) is as abstract as it can be: the topology may open a term at any
// moment, elect as soon as it may, change the replicas; streams are queues that may break; journals write when they like;
// processes are killed and lose power. Bounds are on what adds to a run (terms, writes, faults), not on its length: the
// search ends when every reachable state was visited. docs/replication-model.md has results of larger bounds.

var (
	modelFlag  = flag.String("model", "", "TestSmallModel: bounds instead of the default ones, like terms=3,writes=2,kills=1,powers=0,breaks=0,ticks=1,changes=0,snapshots=0")
	modelLimit = flag.Int("model-limit", 400_000, "TestSmallModel: states after which the search gives up and says so")
)

// bounds limit a run of the model.
type bounds struct {
	Terms, Writes, Kills, Powers, Breaks, Ticks, Changes int
	Nodes, Spares                                        int
}

const maxModelNodes = 4

// modelEntry is a record: whoever orders the same (term, id) has ordered the same thing.
type modelEntry struct{ term, id uint8 }

// modelMessage is what is under way in a stream.
type modelMessage struct {
	ev       Event
	snapshot []modelEntry // of SnapshotOffered
}

// modelNode is a replica with its journal and what is under way to it.
type modelNode struct {
	s          *State
	alive      bool
	log        []modelEntry // in memory; what the State's head counts
	journal    int          // entries of log that the journal has
	due        bool         // Stored has to be told
	promised   uint64
	voter      bool // durable
	damaged    bool // a snapshot was begun and not ended
	installing []modelEntry
	installAt  Position
	from       int // who sends the snapshot
	in         [maxModelNodes][]modelMessage
	epoch      uint64 // newest configuration that it was told
	fenced     uint64 // term of the fence that is under way to it, 0 if none
	lives      uint64
}

// modelWorld is one state of the whole.
type modelWorld struct {
	b         bounds
	rules     Rules
	minority  bool // knock-out: the topology elects after one answer
	nodes     []modelNode
	cfg       Config
	had       bool
	votes     [maxModelNodes]*Position // answers of voters in cfg.Term
	committed []modelEntry
	acked     int // length of the log up to which a client was told
	ids       uint8
	wrong     string
}

func (w *modelWorld) name(i int) string { return string(rune('a' + i)) }

func (w *modelWorld) index(name string) int { return int(name[0] - 'a') }

func newModelWorld(b bounds, rules Rules) *modelWorld {
	w := &modelWorld{b: b, rules: rules}
	for i := range b.Nodes + b.Spares {
		w.nodes = append(w.nodes, modelNode{alive: true, voter: false, lives: 1})
		if i < b.Nodes {
			w.cfg.Replicas = append(w.cfg.Replicas, w.name(i))
		}
		w.boot(i)
	}
	w.cfg.Epoch = 1
	return w
}

// boot makes the State of a node from what survived.
func (w *modelWorld) boot(i int) {
	n := &w.nodes[i]
	r := Restored{Promised: n.promised, Voter: n.voter && !n.damaged, Incarnation: n.lives*16 + uint64(i)}
	if n.damaged {
		n.log, n.journal, n.damaged, n.voter = nil, 0, false, false
	}
	n.log = n.log[:n.journal:n.journal]
	for at, e := range n.log {
		if uint64(e.term) != r.Head.Term {
			r.Starts = append(r.Starts, TermStart{uint64(e.term), uint64(at + 1)})
		}
		r.Head = Position{uint64(e.term), uint64(at + 1)}
	}
	n.s = New(w.name(i), r)
	n.s.Break(w.rules)
	for j := range w.nodes {
		if j != i && w.nodes[j].alive {
			n.s.up = append(n.s.up, w.name(j))
		}
	}
	n.alive, n.installing, n.due, n.epoch, n.fenced = true, nil, false, 0, 0
}

// clone copies everything that a step may change.
func (w *modelWorld) clone() *modelWorld {
	c := *w
	c.nodes = slices.Clone(w.nodes)
	for i := range c.nodes {
		n := &c.nodes[i]
		if n.s != nil {
			s := *n.s
			s.starts = append(make([]TermStart, 0, MaxStarts+1), s.starts...)
			s.up, s.peers, s.scratch = slices.Clone(s.up), slices.Clone(s.peers), nil
			n.s = &s
		}
		n.log = n.log[:len(n.log):len(n.log)]
		for j := range n.in {
			n.in[j] = n.in[j][:len(n.in[j]):len(n.in[j])]
		}
	}
	c.committed = c.committed[:len(c.committed):len(c.committed)]
	return &c
}

func (w *modelWorld) fail(format string, args ...any) {
	if w.wrong == "" {
		w.wrong = fmt.Sprintf(format, args...)
	}
}

// step gives a node one event and carries out what it answers.
func (w *modelWorld) step(i int, ev *Event, m *modelMessage) {
	n := &w.nodes[i]
	for _, a := range n.s.Step(ev, nil) {
		w.do(i, &a, m)
	}
	if n.s.Serving() {
		if uint64(len(w.committed)) < n.s.noop {
			w.fail("%s serves term %d and record %d, its first, is not committed", w.name(i), n.s.Term(), n.s.noop)
		}
		// A deposed primary may believe that it serves: it can commit nothing, and reads ask a majority first. But it must
		// have what was committed in terms before its own.
		for at, e := range w.committed {
			if uint64(e.term) < n.s.Term() && (at >= len(n.log) || n.log[at] != e) {
				w.fail("%s serves term %d without the committed record %d", w.name(i), n.s.Term(), at+1)
			}
		}
		for j := range w.nodes {
			if o := w.nodes[j].s; j != i && w.nodes[j].alive && o.Serving() && o.Term() == n.s.Term() {
				w.fail("%s and %s serve in term %d", w.name(i), w.name(j), o.Term())
			}
		}
	}
}

func (w *modelWorld) do(i int, a *Action, m *modelMessage) {
	n := &w.nodes[i]
	switch a.Kind {
	case PersistPromise:
		n.promised = max(n.promised, a.Term)
	case FenceReply:
		if a.OK && a.Voter && a.Term == w.cfg.Term && w.cfg.Primary == "" {
			head := a.Head
			w.votes[i] = &head
		}
	case AppendLocal:
		w.appendLocal(i, a, m)
	case Send:
		w.send(i, a)
	case SendSnapshot:
		j := w.index(a.To)
		w.post(i, j, modelMessage{Event{Kind: SnapshotOffered, From: w.name(i), Term: a.Term, At: n.s.Head(), Starts: n.s.Starts(n.s.Head().Seq, nil)}, slices.Clone(n.log)})
		w.step(i, &Event{Kind: SnapshotSent, Peer: a.To, At: n.s.Head()}, nil)
	case Ack:
		if a.To == "" {
			return
		}
		w.post(i, w.index(a.To), modelMessage{ev: Event{
			Kind: AppendAck, From: w.name(i), Term: a.Term, Head: a.Head, Stored: a.Stored, Rejected: a.Rejected,
			Installing: a.Installing, Voter: a.Voter, Round: a.Round, Incarnation: a.Incarnation,
		}})
	case Committed:
		w.commit(i, int(a.Seq))
	case InstallSnapshot:
		n.log, n.journal, n.due = nil, 0, false
		n.installing, n.installAt, n.from, n.damaged = append([]modelEntry{}, m.snapshot...), a.Head, w.index(m.ev.From), true
	case VoterChanged:
		n.voter = a.Voter
	}
}

// appendLocal puts records in the log: a primary's new ones, or those of the message.
func (w *modelWorld) appendLocal(i int, a *Action, m *modelMessage) {
	n := &w.nodes[i]
	for seq := a.First; seq <= a.Last; seq++ {
		e := modelEntry{term: uint8(a.Term)}
		switch {
		case m != nil && m.ev.Kind == Append:
			e = m.snapshot[seq-m.ev.Prev.Seq-1] // the records of an Append ride in the same field
		case !a.Noop:
			w.ids++
			e.id = w.ids
		}
		for uint64(len(n.log)) < seq-1 { // only with a rule knocked out
			n.log = append(n.log, modelEntry{})
		}
		n.log = append(n.log, e)
	}
	n.due = true
}

func (w *modelWorld) send(i int, a *Action) {
	n := &w.nodes[i]
	m := modelMessage{ev: Event{
		Kind: Append, From: w.name(i), Term: a.Term, Prev: a.Prev, Last: a.Prev.Seq, Commit: a.Commit, Head: a.Head, Echo: a.Echo, Round: a.Round,
	}}
	if a.First <= a.Last {
		m.ev.Last = a.Last
		m.ev.Runs = n.s.Runs(a.First, a.Last, nil)
		m.snapshot = slices.Clone(n.log[a.First-1 : a.Last])
	}
	w.post(i, w.index(a.To), m)
}

// maxUnderWay bounds a stream. What does not fit is not sent; Ticks ask again.
const maxUnderWay = 4

func (w *modelWorld) post(from, to int, m modelMessage) {
	n := &w.nodes[to]
	if !n.alive || len(n.in[from]) >= maxUnderWay {
		return
	}
	n.in[from] = append(n.in[from], m)
}

// commit checks what a node says is committed against what others said.
func (w *modelWorld) commit(i, seq int) {
	n := &w.nodes[i]
	for at := range seq {
		if at >= len(n.log) {
			w.fail("%s commits %d and has %d records", w.name(i), seq, len(n.log))
			return
		}
		if at < len(w.committed) {
			if w.committed[at] != n.log[at] {
				w.fail("%s commits %+v as record %d, which is %+v elsewhere", w.name(i), n.log[at], at+1, w.committed[at])
			}
			continue
		}
		w.committed = append(w.committed, n.log[at])
	}
	if n.s.role == Primary {
		w.acked = max(w.acked, seq)
	}
}

// choice is one thing that may happen next.
type choice struct {
	what string
	do   func(w *modelWorld)
	rare bool // a fault, an election, a change: there are few of them, and walks should not begin with all of them
}

// choices lists everything that may happen next.
func (w *modelWorld) choices() (all []choice) {
	add := func(do func(w *modelWorld), what string, args ...any) {
		all = append(all, choice{what: fmt.Sprintf(what, args...), do: do})
	}
	for i := range w.nodes {
		w.nodeChoices(i, func(do func(w *modelWorld), what string, rare bool) {
			all = append(all, choice{w.name(i) + " " + what, do, rare})
		})
	}
	if int(w.cfg.Term) < w.b.Terms {
		add(func(w *modelWorld) { w.open() }, "open term %d", w.cfg.Term+1)
		all[len(all)-1].rare = w.cfg.Term > 0
	}
	if w.cfg.Primary == "" && w.electable() {
		for _, i := range w.longest() {
			add(func(w *modelWorld) { w.elect(i) }, "elect %s", w.name(i))
		}
	}
	w.changeChoices(add)
	return all
}

func (w *modelWorld) nodeChoices(i int, add func(do func(w *modelWorld), what string, rare bool)) {
	n := &w.nodes[i]
	if !n.alive {
		add(func(w *modelWorld) { w.restart(i) }, "starts", false)
		return
	}
	if n.epoch < w.cfg.Epoch {
		add(func(w *modelWorld) {
			w.nodes[i].epoch = w.cfg.Epoch
			w.step(i, &Event{Kind: Configure, Config: w.cfg}, nil)
		}, "hears of the configuration", false)
	}
	if n.fenced != 0 {
		add(func(w *modelWorld) {
			term := w.nodes[i].fenced
			w.nodes[i].fenced = 0
			w.step(i, &Event{Kind: Fence, From: "t", Term: term, First: !w.had}, nil)
		}, "is fenced", false)
	}
	for from := range n.in {
		if len(n.in[from]) > 0 && !(n.installing != nil && n.from == from) {
			add(func(w *modelWorld) { w.deliver(i, from) }, "hears "+w.name(from), false)
		}
	}
	if n.due && n.installing == nil {
		add(func(w *modelWorld) { w.store(i) }, "has written its journal", false)
	}
	if n.installing != nil {
		add(func(w *modelWorld) { w.install(i) }, "has installed the snapshot", false)
	}
	if n.s.Serving() && w.b.Writes > 0 {
		add(func(w *modelWorld) { w.b.Writes--; w.step(i, &Event{Kind: Propose}, nil) }, "writes", false)
	}
	if n.s.Role() == Primary && w.b.Ticks > 0 {
		add(func(w *modelWorld) { w.b.Ticks--; w.step(i, &Event{Kind: Tick}, nil) }, "ticks", true)
	}
	if w.b.Kills > 0 {
		add(func(w *modelWorld) { w.b.Kills--; w.crash(i, false) }, "is killed", true)
	}
	if w.b.Powers > 0 {
		add(func(w *modelWorld) { w.b.Powers--; w.crash(i, true) }, "loses power", true)
	}
	for j := range i {
		if w.b.Breaks > 0 && w.nodes[j].alive {
			add(func(w *modelWorld) { w.b.Breaks--; w.parted(i, j); w.joined(i, j) }, "loses the streams with "+w.name(j), true)
		}
	}
}

func (w *modelWorld) deliver(i, from int) {
	n := &w.nodes[i]
	m := n.in[from][0]
	n.in[from] = n.in[from][1:]
	w.step(i, &m.ev, &m)
}

func (w *modelWorld) store(i int) {
	n := &w.nodes[i]
	n.journal, n.due = len(n.log), false
	w.step(i, &Event{Kind: Stored, At: n.s.Head()}, nil)
}

func (w *modelWorld) install(i int) {
	n := &w.nodes[i]
	n.log, n.installing, n.damaged = n.installing, nil, false
	n.journal = len(n.log)
	var starts []TermStart
	for at, e := range n.log {
		if len(starts) == 0 || starts[len(starts)-1].Term != uint64(e.term) {
			starts = append(starts, TermStart{uint64(e.term), uint64(at + 1)})
		}
	}
	w.step(i, &Event{Kind: SnapshotInstalled, At: n.installAt, Starts: starts}, nil)
}

// crash ends a process. A kill leaves what the journal was given; of what a power loss leaves, the worst is modelled:
// nothing but promises.
func (w *modelWorld) crash(i int, power bool) {
	n := &w.nodes[i]
	n.alive = false
	if power {
		n.log, n.journal, n.voter, n.damaged = nil, 0, false, false
	}
	n.lives++
	n.installing = nil
	for j := range w.nodes {
		if j != i {
			w.parted(i, j)
		}
	}
}

func (w *modelWorld) restart(i int) {
	w.boot(i)
	if w.cfg.Primary == "" && w.cfg.Term > 0 && w.member(i) {
		w.nodes[i].fenced = w.cfg.Term // the topology asks again and again
	}
	for j := range w.nodes {
		if j != i && w.nodes[j].alive {
			w.step(j, &Event{Kind: PeerUp, Peer: w.name(i)}, nil)
		}
	}
}

// parted breaks the streams between two nodes: what is under way is lost.
func (w *modelWorld) parted(i, j int) {
	for _, p := range [][2]int{{i, j}, {j, i}} {
		n := &w.nodes[p[0]]
		n.in[p[1]] = nil
		if !n.alive {
			continue
		}
		if n.installing != nil && n.from == p[1] {
			n.installing = nil
			n.log, n.journal = nil, 0
			w.step(p[0], &Event{Kind: SnapshotAborted}, nil)
		}
		w.step(p[0], &Event{Kind: PeerDown, Peer: w.name(p[1])}, nil)
	}
}

func (w *modelWorld) joined(i, j int) {
	w.step(i, &Event{Kind: PeerUp, Peer: w.name(j)}, nil)
	w.step(j, &Event{Kind: PeerUp, Peer: w.name(i)}, nil)
}

func (w *modelWorld) member(i int) bool {
	return slices.Contains(w.cfg.Replicas, w.name(i)) || slices.Contains(w.cfg.Next, w.name(i))
}

// open commits a term without a primary and fences the replicas.
func (w *modelWorld) open() {
	w.cfg.Epoch++
	w.cfg.Term++
	w.cfg.Primary, w.cfg.Learner = "", ""
	w.votes = [maxModelNodes]*Position{}
	for i := range w.nodes {
		if w.nodes[i].alive && w.member(i) {
			w.nodes[i].fenced = w.cfg.Term
		}
	}
}

func (w *modelWorld) votesOf(set []string) (n int) {
	for _, name := range set {
		if w.votes[w.index(name)] != nil {
			n++
		}
	}
	return n
}

func (w *modelWorld) electable() bool {
	if w.minority {
		return w.votesOf(w.cfg.Replicas) > 0
	}
	return w.votesOf(w.cfg.Replicas) > len(w.cfg.Replicas)/2 && (len(w.cfg.Next) == 0 || w.votesOf(w.cfg.Next) > len(w.cfg.Next)/2)
}

// longest are the voters with the longest head.
func (w *modelWorld) longest() (best []int) {
	for i, head := range w.votes {
		switch {
		case head == nil:
		case len(best) == 0 || w.votes[best[0]].Less(*head):
			best = []int{i}
		case *w.votes[best[0]] == *head:
			best = append(best, i)
		}
	}
	return best
}

func (w *modelWorld) elect(i int) {
	w.cfg.Epoch++
	w.cfg.Primary, w.had = w.name(i), true
	w.votes = [maxModelNodes]*Position{}
}

// changeChoices are the steps by which the last replica gives its place to the first spare.
func (w *modelWorld) changeChoices(add func(do func(w *modelWorld), what string, args ...any)) {
	if w.b.Spares == 0 || w.cfg.Primary == "" {
		return
	}
	spare := w.name(w.b.Nodes)
	next := append(slices.Clone(w.cfg.Replicas[:len(w.cfg.Replicas)-1]), spare)
	commit := func(what string, change func(c *Config)) {
		add(func(w *modelWorld) { w.cfg.Epoch++; change(&w.cfg) }, "%s", what)
	}
	switch {
	case w.cfg.Next == nil && w.cfg.Learner == "" && w.b.Changes > 0:
		add(func(w *modelWorld) { w.b.Changes--; w.cfg.Epoch++; w.cfg.Learner = spare }, "learner")
	case w.cfg.Learner != "":
		commit("joint", func(c *Config) { c.Learner, c.Next = "", next })
	case w.cfg.Next != nil:
		commit("change called off", func(c *Config) { c.Next = nil })
		p := &w.nodes[w.index(w.cfg.Primary)]
		st := p.s.Status(nil)
		if p.alive && st.JointReady && st.Epoch == w.cfg.Epoch && st.Term == w.cfg.Term {
			add(func(w *modelWorld) {
				w.cfg.Replicas, w.cfg.Next = w.cfg.Next, nil
				w.cfg.Epoch++
				if !slices.Contains(w.cfg.Replicas, w.cfg.Primary) {
					w.open()
				}
			}, "the change is done")
		}
	}
}

// digest identifies a state.
func (w *modelWorld) digest(seeds [2]maphash.Seed) [2]uint64 {
	var b []byte
	num := func(v ...uint64) {
		for _, x := range v {
			b = binary.AppendUvarint(b, x)
		}
	}
	str := func(v ...string) {
		for _, x := range v {
			b = append(append(b, x...), 0)
		}
		b = append(b, 1)
	}
	flag := func(v ...bool) {
		for _, x := range v {
			if x {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	entries := func(v []modelEntry) {
		num(uint64(len(v)))
		for _, e := range v {
			b = append(b, e.term, e.id)
		}
	}
	pos := func(v ...Position) {
		for _, p := range v {
			num(p.Term, p.Seq)
		}
	}
	config := func(c *Config) {
		num(c.Epoch, c.Term)
		str(c.Primary, c.Learner)
		str(c.Replicas...)
		str(c.Next...)
	}
	config(&w.cfg)
	flag(w.had)
	for _, v := range w.votes {
		flag(v != nil)
		if v != nil {
			pos(*v)
		}
	}
	entries(w.committed)
	num(uint64(w.ids), uint64(w.b.Writes), uint64(w.b.Kills), uint64(w.b.Powers), uint64(w.b.Breaks), uint64(w.b.Ticks), uint64(w.b.Changes))
	for i := range w.nodes {
		n := &w.nodes[i]
		flag(n.alive, n.due, n.voter, n.damaged, n.installing != nil)
		entries(n.log)
		entries(n.installing)
		num(uint64(n.journal), n.promised, n.epoch, n.fenced, n.lives, uint64(n.from))
		pos(n.installAt)
		for _, queue := range n.in {
			num(uint64(len(queue)))
			for k := range queue {
				ev := &queue[k].ev
				num(uint64(ev.Kind), ev.Term, ev.Last, ev.Stored, ev.Commit, ev.Round, ev.Echo, ev.Incarnation)
				flag(ev.Rejected, ev.Installing, ev.Voter)
				pos(ev.Prev, ev.Head, ev.At)
				entries(queue[k].snapshot)
			}
		}
		if n.alive {
			s := n.s
			num(s.promised, s.fenced, s.nonce, s.term, s.roundSeen, s.commit, s.stored, s.floor, uint64(s.role), s.diverged, s.noop, s.joint, s.round, s.confirmed)
			flag(s.serving, s.configured, s.voter, s.installing, s.wasVoter)
			pos(s.head, s.target)
			str(s.leader)
			config(&s.cfg)
			up := slices.Sorted(slices.Values(s.up))
			str(up...)
			for k := range s.peers {
				p := &s.peers[k]
				str(p.name)
				num(p.match, p.next, p.base, p.resent, p.sentCommit, p.round, p.incarnation, p.seen, uint64(p.idle), uint64(p.mode))
				flag(p.up, p.voter)
			}
		}
	}
	return [2]uint64{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

// explored is what a search found.
type explored struct {
	states, transitions, depth int
	complete                   bool
	commits                    int // the longest committed log
	wrong                      string
	trace                      []string
}

// explore visits every state that can be reached, depth first, until one is wrong or the limit is reached. seed decides
// which comes first.
func explore(start *modelWorld, limit int, seed uint64) (r explored) {
	rng := rand.New(rand.NewPCG(seed, 0))
	choices := func(w *modelWorld) []choice {
		all := w.choices()
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all
	}
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	seen := map[[2]uint64]struct{}{start.digest(seeds): {}}
	type frame struct {
		w       *modelWorld
		choices []choice
	}
	var path []string
	stack := []frame{{start, choices(start)}}
	r.states, r.complete = 1, true
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.choices) == 0 {
			stack = stack[:len(stack)-1]
			if len(path) > 0 {
				path = path[:len(path)-1]
			}
			continue
		}
		next := top.choices[0]
		top.choices = top.choices[1:]
		w := top.w.clone()
		next.do(w)
		r.transitions++
		if w.wrong != "" {
			r.wrong, r.trace, r.complete = w.wrong, append(slices.Clone(path), next.what), false
			return r
		}
		id := w.digest(seeds)
		if _, old := seen[id]; old {
			continue
		}
		if len(seen) >= limit {
			r.complete = false
			return r
		}
		seen[id] = struct{}{}
		r.states++
		r.commits = max(r.commits, len(w.committed))
		path = append(path, next.what)
		stack = append(stack, frame{w, choices(w)})
		r.depth = max(r.depth, len(stack))
	}
	return r
}

// smallBounds are the runs of every test; each is searched to its end.
var smallBounds = []bounds{
	{Nodes: 3, Terms: 1},
	{Nodes: 2, Terms: 2, Writes: 1, Kills: 1},
	{Nodes: 2, Terms: 2, Powers: 1},
}

func (b bounds) String() string {
	return fmt.Sprintf("nodes=%d,spares=%d,terms=%d,writes=%d,kills=%d,powers=%d,breaks=%d,ticks=%d,changes=%d", b.Nodes, b.Spares, b.Terms, b.Writes, b.Kills, b.Powers, b.Breaks, b.Ticks, b.Changes)
}

func parseBounds(t *testing.T, text string) bounds {
	b := bounds{Nodes: 3}
	into := map[string]*int{
		"nodes": &b.Nodes, "spares": &b.Spares, "terms": &b.Terms, "writes": &b.Writes, "kills": &b.Kills, "powers": &b.Powers,
		"breaks": &b.Breaks, "ticks": &b.Ticks, "changes": &b.Changes,
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		if _, err := fmt.Sscan(value, into[name]); into[name] == nil || err != nil {
			t.Fatalf("-model: %q: want name=number with a name of %s", part, b)
		}
	}
	if b.Nodes+b.Spares > maxModelNodes {
		t.Fatalf("-model: at most %d nodes", maxModelNodes)
	}
	return b
}

func TestSmallModel(t *testing.T) {
	all := smallBounds
	if *modelFlag != "" {
		all = []bounds{parseBounds(t, *modelFlag)}
	}
	for _, b := range all {
		t.Run(b.String(), func(t *testing.T) {
			began := time.Now()
			r := explore(newModelWorld(b, Rules{}), *modelLimit, 1)
			t.Logf("%d states, %d transitions, depth %d, %d committed records, complete %v, %v", r.states, r.transitions, r.depth, r.commits, r.complete, time.Since(began).Round(time.Millisecond))
			if r.wrong != "" {
				t.Fatalf("%s\nafter\n%s", r.wrong, strings.Join(r.trace, "\n"))
			}
			if !r.complete && *modelFlag == "" {
				t.Error("the search was cut off: the bounds are too wide for a test")
			}
			if r.commits == 0 {
				t.Error("nothing was ever committed: the model shows nothing")
			}
		})
	}
}
