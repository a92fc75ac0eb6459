package rdb

import (
	"encoding/binary"
	"iter"
	"math"
	"slices"
	"strconv"
)

// Redis' default limits of compact encodings.
const (
	hashEntries, hashWord = 512, 64
	zsetEntries, zsetWord = 128, 64
	intsetEntries         = 512
	listNode              = 8 << 10 // bytes of a node of a list
	streamNodeBytes       = 4096
	streamNodeEntries     = 100 // at most 127, see appendStreamNode
	listpackHead          = 6
	compressFrom          = 21 // bytes of the shortest string that is compressed
	intDigits             = 11 // of the longest string that is written as an integer
)

// appendLength appends a length in its shortest form.
func appendLength(b []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, length14<<6|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, length32), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, length64), n)
}

// appendString appends a string: as an integer, compressed, or as it is.
func appendString(b, s []byte) []byte {
	if len(s) <= intDigits {
		if n, ok := canonicalInt(s); ok {
			switch {
			case n == int64(int8(n)):
				return append(b, lengthSpecial<<6|specialInt8, byte(n))
			case n == int64(int16(n)):
				return binary.LittleEndian.AppendUint16(append(b, lengthSpecial<<6|specialInt16), uint16(n))
			case n == int64(int32(n)):
				return binary.LittleEndian.AppendUint32(append(b, lengthSpecial<<6|specialInt32), uint32(n))
			}
		}
	}
	if len(s) >= compressFrom {
		if packed, ok := compress(nil, s, len(s)-4); ok {
			b = append(b, lengthSpecial<<6|specialLZF)
			return append(appendLength(appendLength(b, uint64(len(packed))), uint64(len(s))), packed...)
		}
	}
	return append(appendLength(b, uint64(len(s))), s...)
}

// AppendString appends a value of type String: its type and content. The other functions do the same for theirs; they go
// through the sequences up to twice.
func AppendString(b, value []byte) []byte { return appendString(append(b, typeString), value) }

// AppendList appends a value of type List, of any number of elements.
func AppendList(b []byte, elements iter.Seq[[]byte]) []byte {
	var nodes []byte
	count := uint64(0)
	lp := newListpack(nil)
	flush := func() {
		if lp.n > 0 {
			nodes = appendString(append(nodes, nodePacked), lp.finish())
			count++
			lp = newListpack(lp.b[:0])
		}
	}
	for e := range elements {
		if lp.size()+len(e)+10 > listNode {
			flush()
		}
		lp.element(e)
	}
	flush()
	return append(appendLength(append(b, typeListQuicklist2), count), nodes...)
}

// AppendSet appends a value of type Set of n members.
func AppendSet(b []byte, n int, members iter.Seq[[]byte]) []byte {
	if ints, ok := intsOf(n, members); ok {
		return appendString(append(b, typeSetIntset), intset(ints))
	}
	b = appendLength(append(b, typeSet), uint64(n))
	for m := range members {
		b = appendString(b, m)
	}
	return b
}

func intsOf(n int, members iter.Seq[[]byte]) (ints []int64, ok bool) {
	if n > intsetEntries {
		return nil, false
	}
	for m := range members {
		i, ok := canonicalInt(m)
		if !ok {
			return nil, false
		}
		ints = append(ints, i)
	}
	slices.Sort(ints)
	return ints, true
}

func intset(ints []int64) []byte {
	width := 2
	for _, n := range ints {
		if n != int64(int16(n)) {
			width = max(width, 4)
		}
		if n != int64(int32(n)) {
			width = 8
		}
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(width))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(ints)))
	var word [8]byte
	for _, n := range ints {
		binary.LittleEndian.PutUint64(word[:], uint64(n))
		b = append(b, word[:width]...)
	}
	return b
}

// AppendHash appends a value of type Hash of n fields.
func AppendHash(b []byte, n int, fields iter.Seq2[[]byte, []byte]) []byte {
	small := n <= hashEntries
	if small {
		for f, v := range fields {
			if small = len(f) <= hashWord && len(v) <= hashWord; !small {
				break
			}
		}
	}
	if small {
		lp := newListpack(nil)
		for f, v := range fields {
			lp.element(f)
			lp.element(v)
		}
		return appendString(append(b, typeHashListpack), lp.finish())
	}
	b = appendLength(append(b, typeHash), uint64(n))
	for f, v := range fields {
		b = appendString(appendString(b, f), v)
	}
	return b
}

// AppendZSet appends a value of type ZSet of n members in order of (score, member).
func AppendZSet(b []byte, n int, members iter.Seq2[[]byte, float64]) []byte {
	small := n <= zsetEntries
	if small {
		for m := range members {
			if small = len(m) <= zsetWord; !small {
				break
			}
		}
	}
	if small {
		lp := newListpack(nil)
		for m, score := range members {
			lp.element(m)
			lp.element(appendScore(nil, score))
		}
		return appendString(append(b, typeZSetListpack), lp.finish())
	}
	b = appendLength(append(b, typeZSet2), uint64(n))
	for m, score := range members {
		b = binary.LittleEndian.AppendUint64(appendString(b, m), math.Float64bits(score))
	}
	return b
}

// appendScore writes a score as Redis 7.0 does in a listpack.
func appendScore(b []byte, score float64) []byte {
	switch {
	case math.IsInf(score, 1):
		return append(b, "inf"...)
	case math.IsInf(score, -1):
		return append(b, "-inf"...)
	case score == 0 && math.Signbit(score):
		return append(b, "-0"...)
	case score == math.Trunc(score) && math.Abs(score) < 1<<53:
		return strconv.AppendInt(b, int64(score), 10)
	}
	return strconv.AppendFloat(b, score, 'g', 17, 64)
}

// Append appends the value: its type and content.
func (v *Value) Append(b []byte) []byte {
	pairs := func(yield func(f, w []byte) bool) {
		for i := 0; i+1 < len(v.Items) && yield(v.Items[i], v.Items[i+1]); i += 2 {
		}
	}
	switch v.Type {
	case String:
		return AppendString(b, v.Items[0])
	case List:
		return AppendList(b, slices.Values(v.Items))
	case Set:
		return AppendSet(b, len(v.Items), slices.Values(v.Items))
	case Hash:
		return AppendHash(b, len(v.Items)/2, pairs)
	case ZSet:
		return AppendZSet(b, len(v.Items), func(yield func([]byte, float64) bool) {
			for i, m := range v.Items {
				if !yield(m, v.Scores[i]) {
					return
				}
			}
		})
	}
	return AppendStream(b, v.Stream)
}

// AppendStream appends a value of type Stream.
func AppendStream(b []byte, s *StreamValue) []byte {
	var nodes []byte
	count := uint64(0)
	for rest := s.Entries; len(rest) > 0; count++ {
		var n int
		nodes, n = appendStreamNode(nodes, rest)
		rest = rest[n:]
	}
	b = append(appendLength(append(b, typeStream2), count), nodes...)
	b = appendLength(b, uint64(len(s.Entries)))
	for _, id := range []StreamID{s.State.LastID, s.State.FirstID, s.State.MaxDeleted} {
		b = appendLength(appendLength(b, id.Ms), id.Seq)
	}
	b = appendLength(b, s.State.Added)
	b = appendLength(b, uint64(len(s.Groups)))
	for i := range s.Groups {
		b = appendGroup(b, &s.Groups[i])
	}
	return b
}

// appendStreamNode appends the first entries in one node, which ends where Redis ends it, and returns how many.
func appendStreamNode(b []byte, entries []StreamEntry) (out []byte, n int) {
	first := &entries[0]
	lp := newListpack(nil)
	lp.integer(1) // entries, as long as there is no other
	lp.integer(0)
	lp.integer(int64(len(first.Fields) / 2))
	for i := 0; i < len(first.Fields); i += 2 {
		lp.element(first.Fields[i])
	}
	lp.integer(0)
	for n < len(entries) && n < streamNodeEntries && (n == 0 || lp.size()+wordBytes(&entries[n]) < streamNodeBytes) {
		appendStreamEntry(lp, first, &entries[n])
		n++
	}
	lp.b[lp.start+listpackHead] = byte(n) // as long as the 1
	b = appendString(b, appendID(nil, first.ID))
	return appendString(b, lp.finish()), n
}

func wordBytes(e *StreamEntry) (n int) {
	for _, w := range e.Fields {
		n += len(w)
	}
	return n
}

func appendStreamEntry(lp *lpWriter, first, e *StreamEntry) {
	same := len(e.Fields) == len(first.Fields)
	for i := 0; same && i < len(e.Fields); i += 2 {
		same = string(e.Fields[i]) == string(first.Fields[i])
	}
	if same {
		lp.integer(entrySameFields)
	} else {
		lp.integer(0)
	}
	lp.integer(int64(e.ID.Ms - first.ID.Ms))
	lp.integer(int64(e.ID.Seq - first.ID.Seq))
	words := len(e.Fields)/2 + 3
	if !same {
		lp.integer(int64(len(e.Fields) / 2))
		words = len(e.Fields) + 4
	}
	for i := 0; i < len(e.Fields); i += 2 {
		if !same {
			lp.element(e.Fields[i])
		}
		lp.element(e.Fields[i+1])
	}
	lp.integer(int64(words))
}

func appendID(b []byte, id StreamID) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id.Ms), id.Seq)
}

func appendGroup(b []byte, g *StreamGroup) []byte {
	b = appendString(b, g.Name)
	b = appendLength(appendLength(b, g.LastID.Ms), g.LastID.Seq)
	b = appendLength(b, uint64(g.Read))
	b = appendLength(b, uint64(len(g.Pending)))
	for _, p := range g.Pending {
		b = binary.LittleEndian.AppendUint64(appendID(b, p.ID), uint64(p.DeliveredAt))
		b = appendLength(b, p.Deliveries)
	}
	b = appendLength(b, uint64(len(g.Consumers)))
	owned := make([][]StreamID, len(g.Consumers))
	for _, p := range g.Pending {
		owned[p.Consumer] = append(owned[p.Consumer], p.ID)
	}
	for i, c := range g.Consumers {
		b = binary.LittleEndian.AppendUint64(appendString(b, c.Name), uint64(c.SeenAt))
		b = appendLength(b, uint64(len(owned[i])))
		for _, id := range owned[i] {
			b = appendID(b, id)
		}
	}
	return b
}
