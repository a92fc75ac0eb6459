package command

import (
	"bytes"
	"slices"
	"strconv"

	"hypercache/node/store"
)

// streamEncoder writes a stream as the commands that create it.
//
// A delivery may be of an entry that is no longer there, and XCLAIM makes none of such. So those entries are added first,
// with the groups and the deliveries of them, and trimmed away, of which nothing is remembered; XSETID 0-0 lets entries
// of any ID follow. Redis' own rewriting of its log loses these deliveries.
type streamEncoder struct {
	e    *Effects
	full func()
	key  []byte
	st   store.Entries
}

func encodeStream(e *Effects, r store.Ref, full func()) {
	s := streamEncoder{e: e, full: full, key: bytes.Clone(r.Key()), st: r.Stream()}
	gone := s.goneEntries()
	switch {
	case len(gone) > 0:
		for _, id := range gone {
			s.strings("XADD", string(s.key), id.String(), "x", "y")
		}
		s.groups()
		s.claims(false)
		s.strings("XTRIM", string(s.key), "MAXLEN", "0")
		s.strings("XSETID", string(s.key), "0-0")
	case s.st.Len() == 0:
		s.strings("XADD", string(s.key), "MAXLEN", "0", "0-1", "x", "y")
	}
	s.entries()
	s.state()
	if len(gone) == 0 {
		s.groups()
	}
	s.claims(true)
}

// state sets what the stream remembers. XSETID takes no deleted ID above the last one, but can put the last one below.
func (s *streamEncoder) state() {
	state := s.st.State()
	top := state.Last
	if top.Compare(state.MaxDeleted) < 0 {
		top = state.MaxDeleted
	}
	s.strings("XSETID", string(s.key), top.String(), "ENTRIESADDED", strconv.FormatInt(state.Added, 10),
		"MAXDELETEDID", state.MaxDeleted.String())
	if top != state.Last {
		s.strings("XSETID", string(s.key), state.Last.String())
	}
}

func (s *streamEncoder) strings(args ...string) {
	s.e.Strings(args...)
	s.flush()
}

func (s *streamEncoder) flush() {
	if len(s.e.Buf) > encodeBytes {
		s.full()
	}
}

// goneEntries returns in order the IDs that are delivered but no longer there.
func (s *streamEncoder) goneEntries() (ids []store.StreamID) {
	for _, g := range s.st.Groups() {
		eachDelivery(g, nil, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
			if !s.st.Has(d.ID) {
				ids = append(ids, d.ID)
			}
			return true
		})
	}
	slices.SortFunc(ids, store.StreamID.Compare)
	return slices.Compact(ids)
}

func (s *streamEncoder) entries() {
	s.st.Each(store.StreamID{}, store.MaxStreamID, func(entry *store.StreamEntry) bool {
		s.e.Buf = append(appendHeader(s.e.Buf, '*', 3+2*entry.Len()), "$4\r\nXADD\r\n"...)
		s.e.Buf = appendBulk(s.e.Buf, s.key)
		var tmp [64]byte
		s.e.Buf = appendBulk(s.e.Buf, entry.ID.Append(tmp[:0]))
		entry.Each(func(field, value []byte) { s.e.Buf = appendBulk(appendBulk(s.e.Buf, field), value) })
		s.e.N++
		s.flush()
		return true
	})
}

func (s *streamEncoder) groups() {
	for _, g := range s.st.Groups() {
		s.strings("XGROUP", "CREATE", string(s.key), g.Name(), g.Last.String(), "ENTRIESREAD", strconv.FormatInt(g.Read, 10))
		for _, consumer := range g.Consumers() {
			s.strings("XGROUP", "CREATECONSUMER", string(s.key), g.Name(), consumer.Name())
		}
	}
}

// claims makes the deliveries of the entries that are there, or of those that are not.
func (s *streamEncoder) claims(there bool) {
	for _, g := range s.st.Groups() {
		var same store.Delivery
		var ids [][]byte
		flush := func() {
			if len(ids) > 0 {
				claimEffect(s.e, s.key, g, same, ids, false)
				ids = ids[:0]
				s.flush()
			}
		}
		eachDelivery(g, nil, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
			id := d.ID
			if s.st.Has(id) != there {
				return true
			}
			d.ID = store.StreamID{}
			if d != same || len(ids) == effectIDs {
				flush()
			}
			same = d
			ids = append(ids, id.Append(nil))
			return true
		})
		flush()
	}
}
