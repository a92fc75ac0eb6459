package topology

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"hypercache/node/ring"
)

// simGroups is how many groups the simulation plays; the others are marked busy, so that plan leaves them alone.
const simGroups = 2

// simSeeds is the number of runs; TOPOLOGY_SEEDS asks for more.
var simSeeds = cmp.Or(seedsFromEnv(), 60)

func seedsFromEnv() int {
	n, _ := strconv.Atoi(os.Getenv("TOPOLOGY_SEEDS"))
	return n
}

// simulation runs plan, choose and the state machine, as they are, against a model of replicas, with crashes, lost
// answers, nodes that learn of commits late, detectors that err, and controllers that were deposed and go on.
type simulation struct {
	t        *testing.T
	rng      *rand.Rand
	now      time.Time
	st       *State
	v        *view
	nodes    map[string]*simNode
	inFlight []*simElection
	delayed  []groupChange // commits of deposed controllers, still on their way
	acked    [simGroups][]simEntry
	entries  int
	runs     int
	pastEnd  bool // faults are over
	drop     int  // messages in eight that get lost
	elected  int
	moved    int
}

type simEntry struct {
	term uint64
	id   int
}

type simNode struct {
	id   string
	up   bool
	run  string
	view *State // what it has learnt
	reps [simGroups]simReplica
}

type simReplica struct {
	promised uint64
	log      []simEntry
}

func (r *simReplica) head() Position {
	if len(r.log) == 0 {
		return Position{}
	}
	return Position{r.log[len(r.log)-1].term, uint64(len(r.log))}
}

type simElection struct {
	b     ballot
	stage int
	stale bool // of a controller that is no more
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{
		t: t, drop: int(2 + seed%5), rng: rand.New(rand.NewPCG(seed, 7)), now: epochZero, nodes: map[string]*simNode{},
		st: &State{Epoch: 1, ClusterID: "c", RF: 3, Members: map[string]Member{}},
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		s.st.Members[id] = Member{ID: id, Addr: id, Zone: id, Status: Up}
	}
	for id := range s.st.Members {
		s.nodes[id] = &simNode{id: id, up: true, run: id + "0", view: s.st}
	}
	s.newController()
	s.retarget()
	return s
}

func (s *simulation) ids() []string { return sortedIDs(s.nodes) }

func (s *simulation) pick() *simNode { return s.nodes[s.ids()[s.rng.IntN(len(s.nodes))]] }

// newController forgets everything that the controller remembered; what it had under way goes on without it.
func (s *simulation) newController() {
	var target []ring.Placement
	if s.v != nil {
		target = s.v.target
	}
	for _, e := range s.inFlight {
		e.stale = true
	}
	s.v = &view{
		self: "a", timing: testTiming(), down: map[string]bool{}, since: map[string]time.Time{},
		status: map[string]nodeStatus{}, groups: &[ring.Groups]groupView{}, target: target, servers: map[string]server{},
	}
	s.v.timing.PrimaryReturn, s.v.timing.AbortAfter = 0, 0
	for _, id := range s.ids() {
		s.v.servers[id] = server{addr: id, voter: true}
		s.v.since[id] = s.now
	}
	for i := range s.v.groups {
		s.v.groups[i].changed, s.v.groups[i].busy = s.now, i >= simGroups
	}
}

func (s *simulation) retarget() {
	s.v.target = make([]ring.Placement, ring.Groups)
	for i := range s.v.target {
		ids := s.ids()
		s.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		s.v.target[i].Replicas = ids[:1+s.rng.IntN(3)]
	}
}

func (s *simulation) commit(c groupChange) bool {
	res := s.st.apply(&command{Version: commandVersion, Groups: []groupChange{c}})
	if len(res.rejected) > 0 {
		return false
	}
	old := s.st.Groups[c.Group]
	s.st = res.state
	if c.Group >= simGroups {
		return true
	}
	s.v.groups[c.Group].changed = s.now
	if p := c.Set.Primary; p != "" && old.Primary == "" {
		s.elected++
		s.checkNothingLost(int(c.Group), p)
	}
	if !sameSet(old.Replicas, c.Set.Replicas) {
		s.moved++
	}
	return true
}

func (s *simulation) checkNothingLost(i int, primary string) {
	log := s.nodes[primary].reps[i].log
	for n, e := range s.acked[i] {
		if !slices.Contains(log, e) {
			s.t.Fatalf("group %d: %s was elected without acknowledged write %d of %d (%v); %+v", i, primary, n, len(s.acked[i]), e, s.st.Groups[i])
		}
	}
}

// control lets the controller plan once.
func (s *simulation) control() {
	s.v.now = s.now
	for _, id := range s.ids() {
		down := !s.nodes[id].up
		if !s.pastEnd && s.rng.IntN(10) == 0 {
			down = !down // the detector errs
		}
		if s.v.down[id] != down {
			s.v.down[id], s.v.since[id] = down, s.now
		}
	}
	a := plan(s.st, s.v)
	for _, e := range a.elect {
		b := ballot{election: e, conf: s.st.Groups[e.group], answers: map[string]answer{}}
		if b.conf.Primary != "" {
			b.old = b.conf.Primary
			set := b.conf
			set.Term, set.Primary = set.Term+1, ""
			if !s.commit(groupChange{e.group, b.conf.Epoch, set}) {
				continue
			}
			b.conf = s.st.Groups[e.group]
		}
		s.v.groups[e.group].busy = true
		s.inFlight = append(s.inFlight, &simElection{b: b})
	}
	for _, c := range a.changes {
		if int(c.Group) < simGroups && s.rng.IntN(4) == 0 && !s.pastEnd {
			s.delayed = append(s.delayed, c)
		} else {
			s.commit(c)
		}
	}
}

// advance takes one election a step further: some nodes answer the fence; or the choice is made.
func (s *simulation) advance() {
	if len(s.inFlight) == 0 {
		return
	}
	k := s.rng.IntN(len(s.inFlight))
	e := s.inFlight[k]
	g := e.b.group
	if e.stage == 0 {
		for _, id := range replicasOf(&e.b.conf) {
			n := s.nodes[id]
			if !n.up || !s.pastEnd && s.rng.IntN(3) == 0 {
				continue
			}
			r := &n.reps[g]
			ok := r.promised <= e.b.conf.Term
			if ok {
				r.promised = e.b.conf.Term
			}
			h := r.head()
			e.b.answers[id] = answer{FenceReply{Group: g, OK: ok, Promised: r.promised, HeadTerm: h.Term, HeadSeq: h.Seq, Voter: true}, n.run}
		}
		e.stage++
		return
	}
	s.inFlight = slices.Delete(s.inFlight, k, k+1)
	v := choose(&e.b.conf, e.b.answers, chooser{old: e.b.old, prefer: e.b.prefer, avoid: func(string) bool { return false }})
	set := e.b.conf
	switch {
	case v.primary != "":
		set.Primary, set.Run = v.primary, v.run
		s.commit(groupChange{g, e.b.conf.Epoch, set})
	case v.term > set.Term:
		set.Term = v.term + 1
		s.commit(groupChange{g, e.b.conf.Epoch, set})
	}
	if !e.stale {
		s.v.groups[g].busy = false
	}
}

// primaryOf reports whether n believes to be the primary of i, and in which configuration.
func (s *simulation) primaryOf(n *simNode, i int) (*Group, bool) {
	g := &n.view.Groups[i]
	return g, n.up && g.Primary == n.id && g.Run == n.run && n.reps[i].promised <= g.Term
}

// replicate sends n's log to the replicas and the learner, and reports whether quorums have it.
func (s *simulation) replicate(n *simNode, i int, g *Group) bool {
	has := map[string]bool{n.id: true}
	for _, id := range append(replicasOf(g), g.Learner) {
		to := s.nodes[id]
		if id == "" || id == n.id || !to.up || to.reps[i].promised > g.Term || !s.pastEnd && s.rng.IntN(8) < s.drop {
			continue
		}
		to.reps[i] = simReplica{promised: g.Term, log: slices.Clone(n.reps[i].log)}
		has[id] = true
	}
	ok := func(id string) bool { return has[id] }
	return majority(g.Replicas, ok) && (g.Next == nil || majority(g.Next, ok))
}

func (s *simulation) write() {
	i := s.rng.IntN(simGroups)
	believers := slices.DeleteFunc(s.ids(), func(id string) bool {
		_, ok := s.primaryOf(s.nodes[id], i)
		return !ok
	})
	if len(believers) == 0 {
		return
	}
	n := s.nodes[believers[s.rng.IntN(len(believers))]]
	g := &n.view.Groups[i]
	n.reps[i].promised = g.Term
	s.entries++
	e := simEntry{g.Term, s.entries}
	n.reps[i].log = append(slices.Clone(n.reps[i].log), e)
	if s.replicate(n, i, g) {
		s.acked[i] = append(s.acked[i], e)
	}
}

// report lets a node answer a status poll. It commits an entry of its term before it calls itself ready for anything.
func (s *simulation) report() {
	n := s.pick()
	if !n.up {
		return
	}
	ns := nodeStatus{asked: s.now, run: n.run, groups: map[uint16]GroupStatus{}}
	for i := range simGroups {
		g, ok := s.primaryOf(n, i)
		gs := GroupStatus{Group: uint16(i), Epoch: g.Epoch, Term: g.Term}
		if ok {
			gs.Serving = true
			s.entries++
			n.reps[i].promised = g.Term
			n.reps[i].log = append(slices.Clone(n.reps[i].log), simEntry{g.Term, s.entries})
			gs.JointReady = s.replicate(n, i, g) && g.Next != nil
			for _, id := range s.ids() {
				gs.Peers = append(gs.Peers, PeerStatus{ID: id, CaughtUp: slices.Equal(s.nodes[id].reps[i].log, n.reps[i].log)})
			}
		}
		ns.groups[uint16(i)] = gs
	}
	s.v.status[n.id] = ns
}

func (s *simulation) restart(n *simNode) {
	s.runs++
	n.up, n.run = true, fmt.Sprintf("%s%d", n.id, s.runs)
}

func (s *simulation) step() {
	s.now = s.now.Add(50 * time.Millisecond)
	switch r := s.rng.IntN(100); {
	case r < 17:
		s.control()
	case r < 40:
		s.advance()
	case r < 50:
		s.pick().learn(s.st)
	case r < 70:
		s.write()
	case r < 90:
		s.report()
	case s.pastEnd:
	case r < 91:
		if n := s.pick(); n.up {
			n.up = false
		}
	case r < 94:
		if n := s.pick(); !n.up || s.rng.IntN(8) == 0 {
			s.restart(n)
		}
	case r < 95:
		s.newController()
	case r < 98:
		s.retarget()
	case len(s.delayed) > 0:
		k := s.rng.IntN(len(s.delayed))
		s.commit(s.delayed[k])
		s.delayed = slices.Delete(s.delayed, k, k+1)
	}
}

func (n *simNode) learn(st *State) {
	if n.up {
		n.view = st
	}
}

func (s *simulation) settled() bool {
	for i := range simGroups {
		g := &s.st.Groups[i]
		if g.Primary == "" || g.Learner != "" || g.Next != nil || !slices.Equal(g.Replicas, s.v.target[i].Replicas) ||
			g.Primary != g.Replicas[0] || s.nodes[g.Primary].run != g.Run {
			return false
		}
	}
	return true
}

func TestNoAcknowledgedWriteIsLostAndPeaceSettlesEverything(t *testing.T) {
	elected, moved, acked := 0, 0, 0
	for seed := range uint64(simSeeds) {
		s := newSimulation(t, seed)
		for range 2000 {
			s.step()
		}
		s.pastEnd = true
		for _, id := range s.ids() {
			if n := s.nodes[id]; !n.up {
				s.restart(n)
			}
		}
		steps := 0
		for ; !s.settled(); steps++ {
			if steps == 20000 {
				t.Fatalf("seed %d does not settle: %+v, target %v", seed, s.st.Groups[:simGroups], s.v.target[:simGroups])
			}
			s.step()
		}
		elected, moved, acked = elected+s.elected, moved+s.moved, acked+len(s.acked[0])+len(s.acked[1])
	}
	t.Logf("%d elections, %d changes of replicas, %d acknowledged writes", elected, moved, acked)
	if elected < 500 || moved < 200 || acked < 2000 {
		t.Error("the simulation hardly does anything")
	}
}
