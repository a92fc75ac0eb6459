package command

import (
	"bytes"
	"math"
	"slices"

	"hypercache/node/rdb"
	"hypercache/node/store"
)

// Streams in DUMP, RESTORE, import and export pass through here: one function for each direction, between the handle of
// node/store and the neutral form of node/rdb. Both keep entries, state, groups, consumers and deliveries, those of
// deleted entries included; where one node of entries ends and the next begins is not kept.

// streamValue is the stream of r in neutral form.
func streamValue(r store.Ref) *rdb.StreamValue {
	st := r.Stream()
	state := st.State()
	v := &rdb.StreamValue{
		Entries: make([]rdb.StreamEntry, 0, st.Len()),
		State: rdb.StreamState{Length: uint64(st.Len()), LastID: rdb.StreamID(state.Last), FirstID: rdb.StreamID(st.First()),
			MaxDeleted: rdb.StreamID(state.MaxDeleted), Added: uint64(state.Added)},
	}
	var words wordArena
	st.Each(store.StreamID{}, store.MaxStreamID, func(e *store.StreamEntry) bool {
		fields := make([][]byte, 0, 2*e.Len())
		e.Each(func(field, value []byte) { fields = append(fields, words.keep(field), words.keep(value)) })
		v.Entries = append(v.Entries, rdb.StreamEntry{ID: rdb.StreamID(e.ID), Fields: fields})
		return true
	})
	for _, g := range st.Groups() {
		v.Groups = append(v.Groups, groupValue(g))
	}
	return v
}

// wordArena keeps copies of words, many to an allocation.
type wordArena struct{ free []byte }

func (a *wordArena) keep(w []byte) []byte {
	const chunk = 16 << 10
	if len(w) > cap(a.free)-len(a.free) {
		a.free = make([]byte, 0, max(chunk, len(w)))
	}
	at := len(a.free)
	a.free = append(a.free, w...)
	return a.free[at:len(a.free):len(a.free)]
}

func groupValue(g *store.StreamGroup) rdb.StreamGroup {
	v := rdb.StreamGroup{Name: []byte(g.Name()), LastID: rdb.StreamID(g.Last), Read: g.Read}
	seats := make(map[*store.StreamConsumer]int, len(g.Consumers()))
	for i, c := range g.Consumers() {
		seats[c] = i
		v.Consumers = append(v.Consumers, rdb.StreamConsumer{Name: []byte(c.Name()), SeenAt: c.Seen, ActiveAt: c.Seen})
	}
	eachDelivery(g, nil, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
		v.Pending = append(v.Pending, rdb.StreamPending{ID: rdb.StreamID(d.ID), Consumer: seats[d.Consumer], DeliveredAt: d.Time,
			Deliveries: uint64(d.Count)})
		return true
	})
	return v
}

// putStream stores a stream under key, in place of whatever is there and without an expiry.
func putStream(shard *store.Shard, key []byte, v *rdb.StreamValue) {
	st := shard.NewStream(key)
	for i := range v.Entries {
		st.Add(store.StreamID(v.Entries[i].ID), v.Entries[i].Fields)
	}
	st.SetState(store.StreamState{Last: store.StreamID(v.State.LastID), MaxDeleted: store.StreamID(v.State.MaxDeleted),
		Added: int64(v.State.Added)})
	for _, i := range nameOrder(len(v.Groups), func(i int) []byte { return v.Groups[i].Name }) {
		putGroup(&st, &v.Groups[i])
	}
}

// nameOrder are the numbers below n in order of their names: the order in which the store takes many of them at no cost for each
// that is there already.
func nameOrder(n int, name func(i int) []byte) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(name(a), name(b)) })
	return order
}

func putGroup(st *store.Entries, v *rdb.StreamGroup) {
	g := st.NewGroup(v.Name, store.StreamID(v.LastID), max(v.Read, rdb.EntriesReadUnknown))
	consumers := make([]*store.StreamConsumer, len(v.Consumers))
	for _, i := range nameOrder(len(v.Consumers), func(i int) []byte { return v.Consumers[i].Name }) {
		consumers[i] = g.NewConsumer(v.Consumers[i].Name, v.Consumers[i].SeenAt)
	}
	for _, p := range v.Pending {
		g.Deliver(store.Delivery{ID: store.StreamID(p.ID), Time: p.DeliveredAt, Count: int64(min(p.Deliveries, math.MaxInt64)),
			Consumer: consumers[p.Consumer]})
	}
}
