package recovery

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"hypercache/node/ring"
	"hypercache/node/topology"
)

// elected stands in Group.Run for a primary that was elected before: such a group's election asks who may vote.
const elected = "before-recovery"

// maxVoters bounds Raft's voters, as the topology itself does.
const maxVoters = 5

// builder derives the new topology from inspections, which are sorted by id.
type builder struct {
	list   []*Inspection
	source *Inspection // has the newest topology; nil: nobody has one
	// certain: the source's topology is complete, because a majority of its voters was given with their Raft files.
	certain bool
	rf      int
	acksOne bool

	state               topology.State
	raftIndex, raftTerm uint64
	absent              []string // members by the source's topology that were not given
	reasons             [ring.Groups]string
	complete            map[string][]uint16
	notes               []string
}

func newBuilder(list []*Inspection) *builder {
	b := &builder{list: list, complete: map[string][]uint16{}}
	for _, in := range list {
		b.rf = max(b.rf, in.RF)
		b.acksOne = b.acksOne || in.WriteAcks == "one"
		t := in.Topology
		if t == nil {
			continue
		}
		b.raftIndex, b.raftTerm = max(b.raftIndex, t.Index), max(b.raftTerm, t.Term, t.CurrentTerm)
		if b.source == nil || newer(t, b.source.Topology) {
			b.source = in
		}
	}
	if b.source != nil {
		b.certain = b.votersGiven()
		b.rf = max(b.source.Topology.State.RF, 1)
	}
	b.rf = max(b.rf, 1)
	return b
}

// newer reports whether t's log is more up to date than u's, by Raft's own rule.
func newer(t, u *Topology) bool { return t.Term > u.Term || t.Term == u.Term && t.Index > u.Index }

func (b *builder) votersGiven() bool {
	voters, given := 0, 0
	for id, votes := range b.source.Topology.Servers {
		if !votes {
			continue
		}
		voters++
		if in := b.given(id); in != nil && in.Topology != nil {
			given++
		}
	}
	return 2*given > voters
}

func (b *builder) given(id string) *Inspection {
	for _, in := range b.list {
		if in.ID() == id {
			return in
		}
	}
	return nil
}

func (b *builder) anyRecords() bool {
	return slices.ContainsFunc(b.list, func(in *Inspection) bool {
		return slices.ContainsFunc(in.Groups, func(g Group) bool { return g.holds() })
	})
}

// members takes in the nodes that were given, and nobody else.
func (b *builder) members() {
	var before map[string]topology.Member
	if b.source != nil {
		b.state = *b.source.Topology.State // what is not about members and groups stays as it was
		before = b.state.Members
	}
	b.state.Epoch++
	b.state.RF, b.state.Members, b.state.Groups = b.rf, map[string]topology.Member{}, [ring.Groups]topology.Group{}
	for _, in := range b.list {
		m := in.Member
		if before[m.ID].Status == topology.Draining {
			m.Status = topology.Draining
		}
		b.state.Members[m.ID] = m
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if before[id].Status != topology.Removed && b.given(id) == nil {
			b.absent = append(b.absent, id)
		}
	}
}

// group decides about one group: term, replicas, and whether something may be lost.
func (b *builder) group(i int) {
	var before topology.Group
	if b.source != nil {
		before = b.source.Topology.State.Groups[i]
	}
	listed := union(before.Replicas, before.Next)
	holders := b.holders(i, listed)
	if len(listed) == 0 && len(holders) == 0 && b.source != nil {
		return // never assigned
	}
	reason := b.doubt(i, &before, listed, holders)
	if reason != "" {
		holders = b.acceptable(i, holders)
	}
	g := topology.Group{Term: b.highest(i, before.Term) + termGap, Epoch: b.state.Epoch}
	if len(holders) > 0 {
		g.Run = elected
	}
	for _, in := range holders {
		g.Replicas = append(g.Replicas, in.ID())
	}
	b.state.Groups[i], b.reasons[i] = g, reason
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// highest is the highest term that anybody given has seen in the group.
func (b *builder) highest(i int, term uint64) uint64 {
	for _, in := range b.list {
		term = max(term, in.Groups[i].Term, in.Groups[i].Promised)
	}
	return term
}

// holders are the given nodes whose copies count, the best first: the replicas by the topology, and whoever has more than
// they have. Without a topology: everybody who has records. A copy without records is none, since each primary begins
// with one: its node has dropped the group, or has lost its disk.
func (b *builder) holders(i int, listed []string) (out []*Inspection) {
	var top topology.Position
	for _, in := range b.list {
		if g := &in.Groups[i]; g.holds() && slices.Contains(listed, in.ID()) && top.Less(g.head()) {
			top = g.head()
		}
	}
	for _, in := range b.list {
		if g := &in.Groups[i]; g.holds() && (slices.Contains(listed, in.ID()) || top.Less(g.head())) {
			out = append(out, in)
		}
	}
	if len(listed) == 0 {
		listed = rotated(out, i)
	}
	slices.SortStableFunc(out, func(x, y *Inspection) int {
		gx, gy := &x.Groups[i], &y.Groups[i]
		return cmp.Or(compare(gy.head(), gx.head()), cmp.Compare(boolInt(gy.Complete), boolInt(gx.Complete)),
			cmp.Compare(rank(listed, x.ID()), rank(listed, y.ID())))
	})
	return out
}

// rotated spreads preferred primaries of groups that no topology has an order for.
func rotated(list []*Inspection, i int) (ids []string) {
	for k := range list {
		ids = append(ids, list[(i+k)%len(list)].ID())
	}
	return ids
}

func rank(ids []string, id string) int {
	if i := slices.Index(ids, id); i >= 0 {
		return i
	}
	return len(ids)
}

func compare(x, y topology.Position) int {
	return cmp.Or(cmp.Compare(x.Term, y.Term), cmp.Compare(x.Seq, y.Seq))
}

// vouches reports whether the node is given and its copy holds all that it ever acknowledged.
func (b *builder) vouches(i int, id string) bool {
	in := b.given(id)
	return in != nil && in.Groups[i].holds() && in.Groups[i].Complete
}

// doubt says why acknowledged writes may be missing from the holders' copies, or "".
func (b *builder) doubt(i int, before *topology.Group, listed []string, holders []*Inspection) string {
	vouches := func(id string) bool { return b.vouches(i, id) }
	switch {
	case len(holders) == 0:
		return "nobody given has a copy: the content is gone"
	case b.source == nil || len(listed) == 0:
		return b.doubtWithoutTopology(i, holders)
	case b.acksOne && !all(listed, vouches):
		return fmt.Sprintf("with write_acks: one every one of its replicas %v would have to be given with a complete copy", listed)
	case !majority(before.Replicas, vouches) || before.Next != nil && !majority(before.Next, vouches):
		return fmt.Sprintf("no majority of its replicas %v is given with a complete copy", listed)
	case all(listed, vouches):
		return ""
	}
	if slices.ContainsFunc(holders, func(in *Inspection) bool { return !slices.Contains(listed, in.ID()) }) {
		return fmt.Sprintf("a node has more than the replicas %v of the topology that was found, which is old", listed)
	}
	if term := b.highest(i, 0); !b.certain && term > before.Term {
		return fmt.Sprintf("the topology that was found is old: it has term %d, somebody term %d; its replicas may be others than %v", before.Term, term, listed)
	}
	return ""
}

func (b *builder) doubtWithoutTopology(i int, holders []*Inspection) string {
	n := 0
	for _, in := range holders {
		n += boolInt(b.vouches(i, in.ID()))
	}
	switch {
	case b.acksOne && n < max(b.rf, len(holders)):
		return fmt.Sprintf("%d of %d replicas are given with a complete copy; with write_acks: one all would have to be", n, max(b.rf, len(holders)))
	case 2*n <= max(b.rf, len(holders)):
		return fmt.Sprintf("%d of %d replicas are given with a complete copy: no majority", n, max(b.rf, len(holders)))
	}
	return ""
}

func all(ids []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !ok(id) })
}

func majority(ids []string, ok func(string) bool) bool {
	n := 0
	for _, id := range ids {
		n += boolInt(ok(id))
	}
	return 2*n > len(ids)
}

// acceptable chooses the copies of a group whose loss is to be accepted: sound ones if there are any. The highest count as
// complete from then on.
func (b *builder) acceptable(i int, holders []*Inspection) []*Inspection {
	sound := slices.DeleteFunc(slices.Clone(holders), func(in *Inspection) bool { return in.Groups[i].Damaged })
	if len(sound) == 0 {
		sound = holders
	}
	for _, in := range sound {
		if g := &in.Groups[i]; g.head() == sound[0].Groups[i].head() && !g.Complete {
			b.complete[in.ID()] = append(b.complete[in.ID()], uint16(i))
		}
	}
	return sound
}

// place gives the groups that nobody has a copy of to nodes, empty.
func (b *builder) place() {
	var members []ring.Member
	for _, in := range b.list {
		m := b.state.Members[in.ID()]
		members = append(members, ring.Member{ID: m.ID, Zone: m.Zone, Draining: m.Status != topology.Up})
	}
	prev := make([]ring.Placement, ring.Groups)
	for i := range prev {
		prev[i].Replicas = b.state.Groups[i].Replicas
	}
	for i, p := range ring.Assign(prev, members, b.rf) {
		if g := &b.state.Groups[i]; g.Term > 0 && len(g.Replicas) == 0 {
			g.Replicas = p.Replicas
		}
	}
}

// voters are an odd number of members, spread over zones.
func (b *builder) voters() []string {
	n := min(len(b.list), maxVoters)
	n -= 1 - n%2
	zones := map[string]int{}
	var out []string
	for len(out) < n {
		var best *topology.Member
		for _, in := range b.list {
			m := b.state.Members[in.ID()]
			if !slices.Contains(out, m.ID) && (best == nil || zones[m.Zone] < zones[best.Zone]) {
				best = &m
			}
		}
		zones[best.Zone]++
		out = append(out, best.ID)
	}
	slices.Sort(out)
	return out
}

// losses gathers the groups' reasons, and the members that are missing.
func (b *builder) losses() (out []Loss) {
	for _, id := range b.absent {
		out = append(out, Loss{Reason: fmt.Sprintf("%s is a member and was not given: it will be one no more, and what only it has is lost", id)})
	}
	at := map[string]int{}
	for i, reason := range b.reasons {
		if reason == "" {
			continue
		}
		k, ok := at[reason]
		if !ok {
			k = len(out)
			at[reason] = k
			out = append(out, Loss{Reason: reason})
		}
		out[k].Groups = append(out[k].Groups, uint16(i))
	}
	return out
}

// note tells what the plan is built on.
func (b *builder) note() {
	say := func(format string, args ...any) { b.notes = append(b.notes, fmt.Sprintf(format, args...)) }
	if b.source == nil {
		say("no node has a topology any more: it is made from the logs")
		say("the logs have no users and no libraries of functions: whoever reaches the nodes is the user default, with the passwords of auth.password_file or without any, until ACL SETUSER and FUNCTION LOAD make them anew")
	} else {
		say("the topology is that of %s: epoch %d, raft term %d, index %d", b.source.ID(), b.source.Topology.State.Epoch, b.source.Topology.Term, b.source.Topology.Index)
	}
	for _, in := range b.list {
		switch {
		case in.Interrupted != "":
			say("%s: an earlier %s was begun there and has not ended", in.ID(), in.Interrupted)
		case in.TopologyProblem != "":
			say("%s: its topology can't be read and is left out: %s", in.ID(), in.TopologyProblem)
		}
		if in.ClusterID == "" && !in.Empty {
			say("%s: nothing says any more which cluster its data belong to; make sure that it is this one", in.ID())
		}
		if in.Empty {
			say("%s: it has no data and gets copies from the others", in.ID())
		}
	}
	groups := 0
	for i := range b.reasons {
		groups += boolInt(b.reasons[i] != "")
	}
	if groups > 0 {
		say("in sum: acknowledged writes may be missing in %d of %d groups", groups, ring.Groups)
	} else {
		say("no acknowledged write can be missing: every group has a complete copy on a majority of its replicas")
	}
}

func boolInt(v bool) int {
	if v {
		return 1
	}
	return 0
}
