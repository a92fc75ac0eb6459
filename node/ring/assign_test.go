package ring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func members(n, zones int) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{ID: fmt.Sprintf("node-%d", i), Zone: fmt.Sprintf("z%d", i%zones)}
	}
	return out
}

func loads(p []Placement) (replicas, primaries map[string]int) {
	replicas, primaries = map[string]int{}, map[string]int{}
	for _, g := range p {
		for i, id := range g.Replicas {
			replicas[id]++
			if i == 0 {
				primaries[id]++
			}
		}
	}
	return replicas, primaries
}

// moved counts replicas of next that prev does not have, in all and onto id.
func moved(prev, next []Placement, id string) (all, onto int) {
	for g := range next {
		for _, r := range next[g].Replicas {
			if !slices.Contains(prev[g].Replicas, r) {
				all++
				if r == id {
					onto++
				}
			}
		}
	}
	return all, onto
}

// checkRules asserts rules 1 and 2, for members of equal weight.
func checkRules(t rapid.TB, p []Placement, ms []Member, rf int) {
	t.Helper()
	live := map[string]bool{}
	for _, m := range ms {
		if !m.Draining {
			live[m.ID] = true
		}
	}
	want := min(rf, len(live))
	for g := range p {
		seen := map[string]bool{}
		for _, id := range p[g].Replicas {
			if !live[id] || seen[id] {
				t.Fatalf("group %d: %v has a duplicate or someone who is not eligible", g, p[g].Replicas)
			}
			seen[id] = true
		}
		if len(seen) != want {
			t.Fatalf("group %d has %d replicas, want %d", g, len(seen), want)
		}
	}
	replicas, primaries := loads(p)
	n := float64(len(live))
	for id := range live {
		if limit := ceil(slack * Groups * float64(want) / n); replicas[id] > limit {
			t.Fatalf("%s holds %d replicas, limit %d", id, replicas[id], limit)
		}
		if limit := ceil(slack * Groups / n); primaries[id] > limit {
			t.Fatalf("%s holds %d primaries, limit %d", id, primaries[id], limit)
		}
	}
}

func checkZones(t rapid.TB, p []Placement, ms []Member, rf int) {
	t.Helper()
	zone, zones := map[string]string{}, map[string]bool{}
	for _, m := range ms {
		if !m.Draining {
			zone[m.ID] = m.Zone
			zones[m.Zone] = true
		}
	}
	for g := range p {
		seen := map[string]bool{}
		for _, id := range p[g].Replicas {
			seen[zone[id]] = true
		}
		if len(seen) < min(rf, len(zones)) {
			t.Fatalf("group %d: replicas %v are in %d zones of %d", g, p[g].Replicas, len(seen), len(zones))
		}
	}
}

func drawMembers(t *rapid.T, maximum int) []Member {
	n := rapid.IntRange(1, maximum).Draw(t, "members")
	zones := rapid.IntRange(1, 5).Draw(t, "zones")
	ms := make([]Member, n)
	for i := range ms {
		ms[i] = Member{
			ID:       fmt.Sprintf("n%03d", i),
			Zone:     fmt.Sprint(rapid.IntRange(0, zones-1).Draw(t, "zone")),
			Draining: rapid.IntRange(0, 9).Draw(t, "draining") == 0,
		}
	}
	if !slices.ContainsFunc(ms, func(m Member) bool { return !m.Draining }) {
		ms[0].Draining = false
	}
	return ms
}

func TestEveryPlacementKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rf := rapid.IntRange(1, 4).Draw(t, "rf")
		ms := drawMembers(t, 20)
		p := Assign(nil, ms, rf)
		checkRules(t, p, ms, rf)
		// And so does every later one, whatever happens to the members.
		next := drawMembers(t, 20)
		q := Assign(p, next, rf)
		checkRules(t, q, next, rf)

		shuffled := slices.Clone(next)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(shuffled), func(i, j int) {
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		})
		if !reflect.DeepEqual(q, Assign(p, shuffled, rf)) {
			t.Fatal("the order of the members matters")
		}
	})
}

func TestNothingMovesWhenNothingChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rf := rapid.IntRange(1, 3).Draw(t, "rf")
		n := rapid.IntRange(1, 20).Draw(t, "n")
		ms := members(n, rapid.IntRange(1, 4).Draw(t, "zones"))
		p := Assign(nil, ms, rf)
		if !reflect.DeepEqual(p, Assign(p, ms, rf)) {
			t.Fatal("a second Assign moved something")
		}
	})
}

func TestBalanceZonesAndMovement(t *testing.T) {
	for _, n := range []int{3, 4, 5, 6, 7, 9, 12, 16, 30, 50, 99, 100} {
		for _, zones := range []int{1, 3} {
			t.Run(fmt.Sprintf("%d nodes, %d zones", n, zones), func(t *testing.T) {
				const rf = 3
				ms := members(n, zones)
				p := Assign(nil, ms, rf)
				checkRules(t, p, ms, rf)
				if n%zones == 0 {
					checkZones(t, p, ms, rf)
				}
				testJoin(t, p, n, zones, rf)
				testLeave(t, p, ms, rf)
			})
		}
	}
}

func testJoin(t *testing.T, p []Placement, n, zones, rf int) {
	ms := members(n+1, zones)
	q := Assign(p, ms, rf)
	checkRules(t, q, ms, rf)
	share := float64(rf*Groups) / float64(n+1)
	all, onto := moved(p, q, ms[n].ID)
	if float64(onto) < share*0.7 || float64(all) > share*1.45+2 {
		t.Errorf("a join moved %d replicas, %d of them to the new node; its share is %.1f", all, onto, share)
	}
	if _, primaries := loads(q); float64(primaries[ms[n].ID]) < math.Floor(share/float64(rf)*0.5) {
		t.Errorf("the new node got %d primaries of %.1f", primaries[ms[n].ID], share/float64(rf))
	}
}

func testLeave(t *testing.T, p []Placement, ms []Member, rf int) {
	ms = slices.Clone(ms)
	gone := &ms[len(ms)/2]
	gone.Draining = true
	q := Assign(p, ms, rf)
	checkRules(t, q, ms, rf)
	held, _ := loads(p)
	all, _ := moved(p, q, "")
	if len(ms) > rf && all != held[gone.ID] {
		// Zones of unequal size may need a few more moves to stay distinct; nothing else may.
		if all < held[gone.ID] || float64(all) > 1.35*float64(held[gone.ID])+2 {
			t.Errorf("%d replicas moved, the leaver held %d", all, held[gone.ID])
		}
	}
}

// With one zone nothing but the leaver's replicas may move.
func TestALeaveMovesOnlyWhatTheLeaverHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rf := rapid.IntRange(1, 3).Draw(t, "rf")
		n := rapid.IntRange(rf+1, 40).Draw(t, "n")
		ms := members(n, 1)
		p := Assign(nil, ms, rf)
		gone := rapid.IntRange(0, n-1).Draw(t, "gone")
		ms[gone].Draining = true
		held, _ := loads(p)
		if all, _ := moved(p, Assign(p, ms, rf), ""); all != held[ms[gone].ID] {
			t.Fatalf("%d replicas moved, the leaver held %d", all, held[ms[gone].ID])
		}
	})
}

func TestGrowthFromOneToAHundredStaysBalanced(t *testing.T) {
	var p []Placement
	for n := 1; n <= 100; n++ {
		ms := members(n, 3)
		p = Assign(p, ms, 3)
		checkRules(t, p, ms, 3)
		if n >= 3 && n%3 == 0 {
			checkZones(t, p, ms, 3) // also where a zone was short of nodes before
		}
	}
	replicas, _ := loads(p)
	for id, n := range replicas {
		if n < 4 {
			t.Errorf("%s holds %d replicas of 7.7 on average", id, n)
		}
	}
}

func TestWeightsDivideTheLoad(t *testing.T) {
	ms := members(6, 3)
	for i := range 3 {
		ms[i].Weight = 2
	}
	replicas, primaries := loads(Assign(nil, ms, 3))
	for i, m := range ms {
		share := 768.0 / 9 * max(ms[i].Weight, 1)
		if f := float64(replicas[m.ID]); f < share*0.85 || f > share*1.06+1 {
			t.Errorf("%s: %v replicas, share %.1f", m.ID, f, share)
		}
		if f := float64(primaries[m.ID]); f > share/3*1.06+1 {
			t.Errorf("%s: %v primaries, share %.1f", m.ID, f, share/3)
		}
	}
}

func TestFewerMembersThanReplicas(t *testing.T) {
	if p := Assign(nil, nil, 3); len(p) != Groups || len(p[0].Replicas) != 0 {
		t.Fatal("no members: want empty placements")
	}
	p := Assign(nil, members(2, 2), 3)
	for g := range p {
		if len(p[g].Replicas) != 2 {
			t.Fatalf("group %d: %v", g, p[g].Replicas)
		}
	}
}

func BenchmarkAssign(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ms := members(n, 3)
			for b.Loop() {
				Assign(nil, ms, 3)
			}
		})
	}
}
