package topology

import (
	"cmp"
	"maps"
	"slices"
)

// maxVoters bounds the Raft voters: five survive two failures, more only make commits slower.
const maxVoters = 5

func sortedIDs[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// planServers brings Raft's configuration closer to the members: all of them follow, an odd number votes.
func (a *actions) planServers(st *State, v *view) {
	for _, id := range sortedIDs(st.Members) {
		m := st.Members[id]
		_, in := v.servers[id]
		// A server's address in Raft's own list may go out of date: addressOf gives the present one. Changing it there
		// races inside raft v1.8.0 (startStopReplication against updateLastAppended).
		if m.Status == Removed || in {
			continue
		}
		a.server = &serverChange{addNonvoter, id, m.Addr}
		return
	}
	for _, id := range sortedIDs(v.servers) {
		if m, ok := st.Members[id]; (!ok || m.Status == Removed) && st.ClusterID != "" {
			if id == v.self {
				a.transfer = a.transfer || len(st.Members) > 0 && otherVoter(v)
				continue
			}
			a.server = &serverChange{remove, id, ""}
			return
		}
	}
	a.planVoters(st, v)
}

func (a *actions) planVoters(st *State, v *view) {
	want := wantedVoters(st, v)
	for _, id := range want {
		if s := v.servers[id]; !s.voter {
			a.server = &serverChange{addVoter, id, s.addr}
			return
		}
	}
	if len(want) == 0 {
		return
	}
	present := 0
	for id := range v.servers {
		present += boolInt(st.Members[id].Status != Removed)
	}
	// A voter that is leaving votes on until another can: while it gives up its groups, the loss of one must not stop the topology.
	needed := present >= safeVoters && v.voters() <= safeVoters
	var extra []string
	for _, id := range sortedIDs(v.servers) {
		if v.servers[id].voter && !slices.Contains(want, id) && (v.down[id] || !needed) {
			extra = append(extra, id)
		}
	}
	if len(extra) == 0 {
		return
	}
	// Those who are going or cannot vote first: between two changes the rest has to have a majority.
	id := slices.MaxFunc(extra, func(x, y string) int {
		return cmp.Or(
			cmp.Compare(boolInt(v.down[x]), boolInt(v.down[y])),
			cmp.Compare(boolInt(st.Members[x].Status != Up), boolInt(st.Members[y].Status != Up)),
			cmp.Compare(y, x))
	})
	if id == v.self {
		a.transfer = a.transfer || otherVoter(v)
		return
	}
	a.server = &serverChange{demote, id, ""}
}

// wantedVoters chooses the voters: the largest odd number of members up to maxVoters, spread over zones, those who vote
// already first. A new member has to be up for a while, unless the voters that stay cannot spare one yet; a voter has to be
// down for long to lose its place.
func wantedVoters(st *State, v *view) []string {
	var candidates []string
	members := 0
	staying := 0 // voters that are not about to leave
	for id, s := range v.servers {
		staying += boolInt(s.voter && st.Members[id].Status == Up)
	}
	urgent := st.Groups[0].Term == 0 || Fragile(st, staying)
	for _, id := range sortedIDs(st.Members) {
		s, in := v.servers[id]
		if !in || st.Members[id].Status != Up {
			continue
		}
		members++
		if s.voter || !v.down[id] && (urgent || v.now.Sub(v.since[id]) >= v.timing.VoterDelay) {
			candidates = append(candidates, id)
		}
	}
	n := min(members, maxVoters)
	n -= 1 - n%2
	if n < 1 || len(candidates) < n {
		return candidates // not enough that are settled: take those there are, one by one
	}
	zones := map[string]int{}
	var want []string
	for len(want) < n {
		best := slices.MinFunc(candidates, func(x, y string) int {
			return cmp.Or(
				cmp.Compare(longDown(v, x), longDown(v, y)),
				cmp.Compare(zones[st.Members[x].Zone], zones[st.Members[y].Zone]),
				-cmp.Compare(boolInt(v.servers[x].voter), boolInt(v.servers[y].voter)),
				-cmp.Compare(boolInt(x == v.self), boolInt(y == v.self)),
				cmp.Compare(x, y))
		})
		want = append(want, best)
		zones[st.Members[best].Zone]++
		candidates = slices.DeleteFunc(candidates, func(id string) bool { return id == best })
	}
	return want
}

// safeVoters is how many voters survive the loss of one.
const safeVoters = 3

// Fragile tells that the loss of one voter would stop the topology although there are members enough to prevent that: a
// cluster that was just founded, say.
func Fragile(st *State, voters int) bool {
	members := 0
	for _, m := range st.Members {
		members += boolInt(m.Status == Up)
	}
	return members >= safeVoters && voters < safeVoters
}

func (v *view) voters() (n int) {
	for _, s := range v.servers {
		n += boolInt(s.voter)
	}
	return n
}

func longDown(v *view, id string) int {
	return boolInt(v.down[id] && v.now.Sub(v.since[id]) > 10*v.timing.VoterDelay)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
