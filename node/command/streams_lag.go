package command

import "hypercache/node/store"

// advance moves a group's last ID and its count of entries read to an entry that is delivered to it.
func advance(st *store.Entries, g *store.StreamGroup, id store.StreamID) {
	if id.Compare(g.Last) <= 0 {
		return
	}
	if g.Read >= 0 && !tombstoneFrom(st, id) {
		g.Read = increment(g.Read)
	} else if st.State().Added > 0 {
		g.Read = readUpTo(st, id)
	}
	g.Last = id
}

// tombstoneFrom says whether an entry was deleted at or behind id that comes after the first one of today.
func tombstoneFrom(st *store.Entries, id store.StreamID) bool {
	deleted := st.State().MaxDeleted
	return st.Len() > 0 && id.Compare(deleted) <= 0 && st.First().Compare(deleted) <= 0
}

// readUpTo is how many of all entries ever added come up to id, -1 when that cannot be known.
func readUpTo(st *store.Entries, id store.StreamID) int64 {
	state := st.State()
	if state.Added == 0 {
		return 0
	}
	if st.Len() == 0 && id.Compare(state.Last) <= 0 {
		return state.Added
	}
	switch id.Compare(state.Last) {
	case 0:
		return state.Added
	case 1:
		return -1
	}
	first := st.First()
	if state.MaxDeleted.IsZero() || state.MaxDeleted.Compare(first) < 0 {
		switch id.Compare(first) {
		case -1:
			return state.Added - int64(st.Len())
		case 0:
			return state.Added - int64(st.Len()) + 1
		}
	}
	return -1
}

// lag is how many entries the group has not read; ok is false when that cannot be known.
func lag(st *store.Entries, g *store.StreamGroup) (n int64, ok bool) {
	added := st.State().Added
	if added == 0 {
		return 0, true
	}
	if g.Read >= 0 && !tombstoneFrom(st, g.Last) {
		return added - g.Read, true
	}
	if read := readUpTo(st, g.Last); read >= 0 {
		return added - read, true
	}
	return 0, false
}
