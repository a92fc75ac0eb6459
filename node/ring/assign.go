package ring

import (
	"cmp"
	"math"
	"slices"
)

// Member is a node as placement sees it.
type Member struct {
	ID   string
	Zone string // failure domain; nodes without one share the zone ""
	// Weight is the member's share relative to the others'; 0 means 1. A group has at most one replica per member, so
	// a weight beyond that has no effect.
	Weight float64
	// Draining members lose everything they hold.
	Draining bool
}

// Placement names the members that hold a group. Replicas[0] is the preferred primary.
type Placement struct {
	Replicas []string
}

// slack is how far above the average a member may be loaded before it gives something up.
const slack = 1.05

// Assign places Groups groups, rf replicas each, on members. The result has Groups entries and depends on nothing but
// the arguments; the order of members does not matter. prev (nil, or Groups entries) is the placement to stay close to.
//
// The rules, the stronger first:
//
//  1. A group's replicas are distinct members, none of them draining; min(rf, members) of them.
//  2. Nobody holds more than ceil(1.05 x its share) of the replicas, or of the primaries.
//  3. Replicas are in distinct zones, or in all zones if there are fewer than rf, as far as rule 2 leaves room: the only
//     node of a small zone cannot hold a replica of everything. No group is left with one zone while another has three.
//  4. What prev says stays. A member that leaves moves only what it held. A member that has less than half of its share,
//     as a new one, is filled up to it.
//  5. Everything else follows weighted rendezvous hashing.
//
// A ring with virtual nodes would need hundreds of points per node for the balance that rule 2 enforces here, and moves
// data in scattered pieces; jump hashing cannot lose an arbitrary member and knows no zones.
func Assign(prev []Placement, members []Member, rf int) []Placement {
	a := newAssignment(members, rf)
	if len(a.nodes) == 0 {
		return make([]Placement, Groups)
	}
	a.keep(prev)
	needy := a.needy()
	a.shed()
	a.fill()
	a.mend()
	a.level(needy)
	return a.primaries(prev)
}

type node struct {
	id    string
	zone  int
	share float64 // replicas it should hold
	cap   int     // replicas it may hold
	load  int     // replicas it holds
}

type assignment struct {
	rf    int
	zones int
	nodes []node
	index map[string]int
	rank  [][]float64 // [group][node]: rendezvous score, the higher the better
	held  [][]int     // [group]: nodes that hold it
	holds [][]int     // [node]: groups that it holds
	in    [][]int     // [zone]: nodes
}

func newAssignment(members []Member, rf int) *assignment {
	a := &assignment{index: map[string]int{}}
	members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Draining || m.ID == "" })
	slices.SortFunc(members, func(x, y Member) int { return cmp.Compare(x.ID, y.ID) })
	members = slices.CompactFunc(members, func(x, y Member) bool { return x.ID == y.ID })
	zones := map[string]int{}
	weights := make([]float64, len(members))
	for i, m := range members {
		z, ok := zones[m.Zone]
		if !ok {
			z = len(zones)
			zones[m.Zone] = z
			a.in = append(a.in, nil)
		}
		a.in[z] = append(a.in[z], i)
		weights[i] = m.Weight
		if !(m.Weight > 0) || math.IsInf(m.Weight, 0) {
			weights[i] = 1
		}
		a.nodes = append(a.nodes, node{id: m.ID, zone: z})
		a.index[m.ID] = i
	}
	a.zones = len(zones)
	a.rf = min(max(rf, 1), len(members))
	for i, share := range shares(weights, float64(a.rf*Groups)) {
		a.nodes[i].share = share
		a.nodes[i].cap = min(Groups, ceil(slack*share))
	}
	a.rank = ranks(a.nodes, weights)
	a.held, a.holds = make([][]int, Groups), make([][]int, len(a.nodes))
	return a
}

// ceil rounds up, forgiving the last bits of a product that should have been whole.
func ceil(x float64) int { return int(math.Ceil(x - 1e-9)) }

// shares divides total by weight, nobody getting more than Groups; what is cut off goes to the others.
func shares(weights []float64, total float64) []float64 {
	out := make([]float64, len(weights))
	full := make([]bool, len(weights))
	for {
		sum, rest := 0.0, total
		for i, w := range weights {
			if full[i] {
				rest -= Groups
			} else {
				sum += w
			}
		}
		again := false
		for i, w := range weights {
			if full[i] {
				continue
			}
			out[i] = rest * w / sum
			if out[i] > Groups {
				out[i], full[i], again = Groups, true, true
			}
		}
		if !again {
			return out
		}
	}
}

// ranks computes weighted rendezvous scores: weight / -ln(u) with u uniform in (0,1) from the pair's hash makes a node
// come first in proportion to its weight, whoever else there is.
func ranks(nodes []node, weights []float64) [][]float64 {
	seeds := make([]uint64, len(nodes))
	for i, n := range nodes {
		h := uint64(14695981039346656037) // FNV-1a, then mixed below
		for _, c := range []byte(n.id) {
			h = (h ^ uint64(c)) * 1099511628211
		}
		seeds[i] = h
	}
	out := make([][]float64, Groups)
	for g := range out {
		out[g] = make([]float64, len(nodes))
		for i := range nodes {
			u := (float64(mix(seeds[i]^mix(uint64(g)+1))>>11) + 0.5) / (1 << 53)
			out[g][i] = weights[i] / -math.Log(u)
		}
	}
	return out
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (a *assignment) add(g, n int) {
	a.held[g] = append(a.held[g], n)
	a.holds[n] = append(a.holds[n], g)
	a.nodes[n].load++
}

func (a *assignment) drop(g, n int) {
	a.held[g] = slices.DeleteFunc(a.held[g], func(x int) bool { return x == n })
	a.holds[n] = slices.DeleteFunc(a.holds[n], func(x int) bool { return x == g })
	a.nodes[n].load--
}

// keep takes over what prev says of members that are still there.
func (a *assignment) keep(prev []Placement) {
	for g := range min(len(prev), Groups) {
		for _, id := range prev[g].Replicas {
			if n, ok := a.index[id]; ok && !slices.Contains(a.held[g], n) {
				a.add(g, n)
			}
		}
		for len(a.held[g]) > a.rf {
			a.drop(g, a.surplus(g))
		}
	}
}

// surplus picks the replica of g that is missed least: one that shares its zone, then the most loaded, then the lowest
// rank.
func (a *assignment) surplus(g int) int {
	return slices.MinFunc(a.held[g], func(x, y int) int { return a.missed(g, x, y) })
}

// missed compares how much g would miss its replicas x and y.
func (a *assignment) missed(g, x, y int) int {
	return cmp.Or(
		cmp.Compare(a.inZone(g, a.nodes[y].zone), a.inZone(g, a.nodes[x].zone)),
		cmp.Compare(float64(a.nodes[y].load)/a.nodes[y].share, float64(a.nodes[x].load)/a.nodes[x].share),
		cmp.Compare(a.rank[g][x], a.rank[g][y]),
	)
}

func (a *assignment) inZone(g, zone int) (n int) {
	for _, x := range a.held[g] {
		if a.nodes[x].zone == zone {
			n++
		}
	}
	return n
}

// shed takes from overloaded members the groups that lose no zone by it, then those that have the most zones, and among
// equals those in which they rank lowest.
func (a *assignment) shed() {
	for n := range a.nodes {
		if a.nodes[n].load <= a.nodes[n].cap {
			continue
		}
		groups := slices.Clone(a.holds[n])
		zone := a.nodes[n].zone
		slices.SortFunc(groups, func(x, y int) int {
			return cmp.Or(
				cmp.Compare(b2i(a.inZone(x, zone) < 2), b2i(a.inZone(y, zone) < 2)),
				cmp.Compare(a.distinct(y), a.distinct(x)),
				cmp.Compare(a.rank[x][n], a.rank[y][n]), cmp.Compare(x, y))
		})
		for _, g := range groups[:a.nodes[n].load-a.nodes[n].cap] {
			a.drop(g, n)
		}
	}
}

// zoneFits reports whether g lacks zone without its replica except, or has all zones already.
func (a *assignment) zoneFits(g, zone, except int) bool {
	seen := 0
	for i, x := range a.held[g] {
		if x == except {
			continue
		}
		z := a.nodes[x].zone
		if !slices.ContainsFunc(a.held[g][:i], func(y int) bool { return y != except && a.nodes[y].zone == z }) {
			seen++
		}
		if z == zone {
			zone = -1
		}
	}
	return zone >= 0 || seen == a.zones
}

// fill gives every group its missing replicas.
func (a *assignment) fill() {
	for g := range a.held {
		for len(a.held[g]) < a.rf {
			n := a.best(g, true)
			if n < 0 && !a.makeRoom(g, true) {
				n = a.best(g, false)
				if n < 0 && !a.makeRoom(g, false) {
					break // cannot be: the caps sum up to all replicas, see makeRoom
				}
			}
			if n >= 0 {
				a.add(g, n)
			}
		}
	}
}

// best returns the highest ranking member that can take g: among those below their share, else among those below
// their cap. -1: none.
func (a *assignment) best(g int, zoned bool) int {
	best, bestBelow := -1, false
	for n := range a.nodes {
		nd := &a.nodes[n]
		if nd.load >= nd.cap || slices.Contains(a.held[g], n) || zoned && !a.zoneFits(g, nd.zone, -1) {
			continue
		}
		below := nd.load < ceil(nd.share)
		if best < 0 || below && !bestBelow || below == bestBelow && a.rank[g][n] > a.rank[g][best] {
			best, bestBelow = n, below
		}
	}
	return best
}

// makeRoom gives g a replica although every fitting member is full, by the shortest chain of moves: g goes to x, a group
// of x goes to y, and so on to a member with room. Without zones such a chain always exists (the caps admit a complete
// assignment, and an augmenting path leads to it).
func (a *assignment) makeRoom(g int, zoned bool) bool {
	return a.chain(g,
		func(zone int) bool { return !zoned || a.zoneFits(g, zone, -1) },
		func(h, from, zone int) bool { return !zoned || a.zoneFits(h, zone, from) })
}

// chain gives g a replica in a zone for which first is true, and moves groups of the member that gets it on as long as it
// takes to find room, each once and only to zones for which next is true. It takes the shortest such chain, or does nothing
// and returns false.
func (a *assignment) chain(g int, first func(zone int) bool, next func(h, from, zone int) bool) bool {
	type step struct{ from, group int } // group moves from node `from` to the node the step is recorded for
	via := make([]step, len(a.nodes))
	seen := make([]bool, len(a.nodes))
	var queue []int
	visit := func(zone int, s step) {
		for _, n := range a.in[zone] {
			if !seen[n] && !slices.Contains(a.held[s.group], n) {
				seen[n], via[n] = true, s
				queue = append(queue, n)
			}
		}
	}
	for zone := range a.in {
		if first(zone) {
			visit(zone, step{-1, g})
		}
	}
	moves := func(h, n int) bool { // whether h moves already on the way to n
		for ; n >= 0; n = via[n].from {
			if via[n].group == h {
				return true
			}
		}
		return false
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if a.nodes[n].load < a.nodes[n].cap {
			for n >= 0 {
				s := via[n]
				if s.from >= 0 {
					a.drop(s.group, s.from)
				}
				a.add(s.group, n)
				n = s.from
			}
			return true
		}
		for _, h := range a.holds[n] {
			if moves(h, n) {
				continue
			}
			for zone := range a.in {
				if next(h, n, zone) {
					visit(zone, step{n, h})
				}
			}
		}
	}
	return false
}

// mend moves replicas out of shared zones into zones that their group lacks: where there is room, and else by a chain of
// moves, none of which takes a zone from another group. A group that lacks a zone loses its majority with one. Where there
// are not zones enough for all, those that have the most give: a group in one zone would lose everything with it.
func (a *assignment) mend() {
	want := min(a.rf, a.zones)
	for g := range a.held {
		for a.distinct(g) < want && a.spread(g, a.keepsZones) {
		}
	}
	for g := range a.held {
		for a.distinct(g)+1 < want {
			rich := a.distinct(g) + 2
			if !a.spread(g, func(h, from, zone int) bool { return a.distinct(h) >= rich || a.keepsZones(h, from, zone) }) {
				break
			}
		}
	}
}

// spread gives g one more zone by a chain of moves for which next is true, if that can be.
func (a *assignment) spread(g int, next func(h, from, zone int) bool) bool {
	shared := slices.DeleteFunc(slices.Clone(a.held[g]), func(n int) bool { return a.inZone(g, a.nodes[n].zone) < 2 })
	slices.SortFunc(shared, func(x, y int) int { return a.missed(g, x, y) })
	for _, out := range shared {
		a.drop(g, out)
		if a.chain(g, func(zone int) bool { return a.inZone(g, zone) == 0 }, next) {
			return true
		}
		a.add(g, out)
	}
	return false
}

// keepsZones reports whether h has as many zones as before when it moves from a member to zone.
func (a *assignment) keepsZones(h, from, zone int) bool {
	old := a.nodes[from].zone
	return old == zone || a.inZone(h, old) > 1 || a.inZone(h, zone) == 0
}

// distinct counts the zones of g's replicas.
func (a *assignment) distinct(g int) (zones int) {
	for i, n := range a.held[g] {
		if !slices.ContainsFunc(a.held[g][:i], func(x int) bool { return a.nodes[x].zone == a.nodes[n].zone }) {
			zones++
		}
	}
	return zones
}

// needy returns the members that hold less than half of their share. It is asked before anything moves: what a new
// member gets because others are over their cap is not all that it should get.
func (a *assignment) needy() (needy []int) {
	for n := range a.nodes {
		if float64(a.nodes[n].load) < a.nodes[n].share/2 {
			needy = append(needy, n)
		}
	}
	return needy
}

// level fills up the members of needy from those that hold most.
func (a *assignment) level(needy []int) {
	for _, n := range needy {
		for a.nodes[n].load < int(a.nodes[n].share) && a.pull(n) {
		}
	}
}

// pull moves to n the group in which it ranks highest among the groups of the most loaded member that can spare one
// and stays ahead of n. (Not: stays at its share. Zones can force a share that nobody in them reaches.)
func (a *assignment) pull(n int) bool {
	donors := make([]int, 0, len(a.nodes))
	for d := range a.nodes {
		if d != n && float64(a.nodes[d].load-1)/a.nodes[d].share >= float64(a.nodes[n].load+1)/a.nodes[n].share {
			donors = append(donors, d)
		}
	}
	slices.SortFunc(donors, func(x, y int) int {
		return cmp.Or(cmp.Compare(float64(a.nodes[y].load)/a.nodes[y].share, float64(a.nodes[x].load)/a.nodes[x].share), cmp.Compare(x, y))
	})
	for _, d := range donors {
		best := -1
		for _, g := range a.holds[d] {
			if !slices.Contains(a.held[g], n) && a.zoneFits(g, a.nodes[n].zone, d) && (best < 0 || a.rank[g][n] > a.rank[best][n]) {
				best = g
			}
		}
		if best >= 0 {
			a.drop(best, d)
			a.add(best, n)
			return true
		}
	}
	return false
}
