package ring

import (
	"cmp"
	"slices"
)

// primaries chooses one of each group's replicas: the previous primary where the bound allows it, else by rank; then
// evens out members far below their share. It returns the finished placement.
func (a *assignment) primaries(prev []Placement) []Placement {
	p := &primaryChoice{a: a, of: make([]int, Groups), load: make([]int, len(a.nodes)), limit: make([]int, len(a.nodes))}
	for n := range a.nodes {
		p.limit[n] = ceil(slack * a.nodes[n].share / float64(a.rf))
	}
	p.keep(prev)
	for g := range p.of {
		if p.of[g] < 0 {
			p.place(g)
		}
	}
	p.level()
	out := make([]Placement, Groups)
	for g := range out {
		order := a.ordered(g, p.of[g], prev)
		out[g].Replicas = make([]string, len(order))
		for i, n := range order {
			out[g].Replicas[i] = a.nodes[n].id
		}
	}
	return out
}

// ordered lists g's replicas: the primary, those of prev in their order, the new ones by rank.
func (a *assignment) ordered(g, primary int, prev []Placement) []int {
	place := map[int]int{}
	if g < len(prev) {
		for i, id := range prev[g].Replicas {
			if n, ok := a.index[id]; ok {
				place[n] = i - len(prev[g].Replicas)
			}
		}
	}
	order := slices.Clone(a.held[g])
	slices.SortFunc(order, func(x, y int) int {
		if x == primary || y == primary {
			return cmp.Compare(b2i(y == primary), b2i(x == primary))
		}
		return cmp.Or(cmp.Compare(place[x], place[y]), cmp.Compare(a.rank[g][y], a.rank[g][x]))
	})
	return order
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

type primaryChoice struct {
	a     *assignment
	of    []int // [group]: the primary, -1 while there is none
	load  []int
	limit []int
}

func (p *primaryChoice) set(g, n int) {
	if p.of[g] >= 0 {
		p.load[p.of[g]]--
	}
	p.of[g] = n
	p.load[n]++
}

// keep takes over the previous primaries, and takes back, lowest rank first, what exceeds a member's limit.
func (p *primaryChoice) keep(prev []Placement) {
	groups := make([][]int, len(p.a.nodes))
	for g := range p.of {
		p.of[g] = -1
		if g >= len(prev) || len(prev[g].Replicas) == 0 {
			continue
		}
		if n, ok := p.a.index[prev[g].Replicas[0]]; ok && slices.Contains(p.a.held[g], n) {
			p.set(g, n)
			groups[n] = append(groups[n], g)
		}
	}
	for n := range groups {
		over := p.load[n] - p.limit[n]
		if over <= 0 {
			continue
		}
		slices.SortFunc(groups[n], func(x, y int) int {
			return cmp.Or(cmp.Compare(p.a.rank[x][n], p.a.rank[y][n]), cmp.Compare(x, y))
		})
		for _, g := range groups[n][:over] {
			p.of[g] = -1
			p.load[n]--
		}
	}
}

// place gives g a primary: the replica with the smallest load for its limit, rank deciding between equals, if it has
// room; else the shortest chain of primary moves makes room. The chain exists: a member's replicas divided by rf never
// exceed its limit, so a fractional solution exists, and with it a whole one.
func (p *primaryChoice) place(g int) {
	held := slices.Clone(p.a.held[g])
	slices.SortFunc(held, func(x, y int) int {
		return cmp.Or(
			cmp.Compare(float64(p.load[x])/float64(p.limit[x]), float64(p.load[y])/float64(p.limit[y])),
			cmp.Compare(p.a.rank[g][y], p.a.rank[g][x]), cmp.Compare(x, y))
	})
	if p.load[held[0]] < p.limit[held[0]] || !p.chain(g, func(n int) bool { return p.load[n] < p.limit[n] }) {
		p.set(g, held[0])
	}
}

// chain gives g a primary by moving primaries along the shortest path to a member for which room is true.
func (p *primaryChoice) chain(g int, room func(int) bool) bool {
	via := make([]int, len(p.a.nodes)) // the group that moves to the node
	seen := make([]bool, len(p.a.nodes))
	var queue []int
	visit := func(h int) {
		for _, n := range p.a.held[h] {
			if !seen[n] {
				seen[n], via[n] = true, h
				queue = append(queue, n)
			}
		}
	}
	if p.of[g] >= 0 {
		seen[p.of[g]] = true
	}
	visit(g)
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if room(n) {
			for {
				h := via[n]
				from := p.of[h]
				p.set(h, n)
				if h == g {
					return true
				}
				n = from
			}
		}
		for h, at := range p.of {
			if at == n {
				visit(h)
			}
		}
	}
	return false
}

// level gives members with less than half of their share of primaries some of those that have more than theirs.
func (p *primaryChoice) level() {
	for n := range p.load {
		share := p.a.nodes[n].share / float64(p.a.rf)
		if float64(p.load[n]) >= share/2 {
			continue
		}
		for p.load[n] < int(share) && p.pull(n) {
		}
	}
}

func (p *primaryChoice) pull(n int) bool {
	best, excess := -1, 0.0
	for g, d := range p.of {
		if d == n || !slices.Contains(p.a.held[g], n) {
			continue
		}
		share := p.a.nodes[d].share / float64(p.a.rf)
		if p.load[d]-1 < int(share) {
			continue
		}
		if e := float64(p.load[d]) / share; best < 0 || e > excess || e == excess && p.a.rank[g][n] > p.a.rank[best][n] {
			best, excess = g, e
		}
	}
	if best >= 0 {
		p.set(best, n)
	}
	return best >= 0
}
