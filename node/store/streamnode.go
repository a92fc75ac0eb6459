package store

import (
	"encoding/binary"
	"strconv"
)

// maxNodeBytes is the largest stream-node-max-bytes, as in Redis.
const maxNodeBytes = 1 << 30

// streamNode holds consecutive entries of a stream in one piece of memory. Its place in the stream is the ID of its first entry,
// whose field names are kept once for all entries that have the same. The bytes are:
//
//	count of fields, fields,                               of the first entry
//	{ length of the rest, flags, ms, seq, [count,] words } an entry
//
// Counts and lengths are uvarints, ms is the distance to the first entry's, seq likewise and signed. The words of an entry
// are its fields and values, or with flagSame its values alone. A deleted entry stays, with flagDead. See appendWord for
// words.
type streamNode struct {
	buf        []byte
	live, dead int32
	packed     int64 // the size of Redis' listpack of the same entries: where Redis begins a node, so do we
}

const (
	flagDead = 1 << iota
	flagSame
)

// full says whether Redis would begin a new node for an entry whose words have so many bytes.
func (n *streamNode) full(bytes int, l *Limits) bool {
	most := l.StreamBytes
	if most == 0 || most > maxNodeBytes {
		most = maxNodeBytes
	}
	return n.packed+int64(bytes) >= int64(most) || l.StreamEntries > 0 && int(n.live+n.dead) >= l.StreamEntries
}

// begin makes n the node of a first entry with these words.
func (n *streamNode) begin(words [][]byte) {
	n.buf = binary.AppendUvarint(nil, uint64(len(words)/2))
	n.packed = listpackFrame + 3*listpackInt(0) + listpackInt(int64(len(words)/2))
	for i := 0; i < len(words); i += 2 {
		n.buf = appendWord(n.buf, words[i])
		n.packed += listpackWord(words[i])
	}
}

// add appends an entry; first is the ID of the node.
func (n *streamNode) add(first, id StreamID, words [][]byte) {
	flags, from, step := byte(0), 0, 1
	if n.sameFields(words) {
		flags, from, step = flagSame, 1, 2
	}
	var head [3 * binary.MaxVarintLen64]byte
	h := binary.AppendUvarint(append(head[:0], flags), id.Ms-first.Ms)
	h = binary.AppendVarint(h, int64(id.Seq-first.Seq))
	n.packed += listpackInt(0) + listpackInt(int64(id.Ms-first.Ms)) + listpackInt(int64(id.Seq-first.Seq))
	pieces := int64(len(words)/2 + 3)
	if flags == 0 {
		h = binary.AppendUvarint(h, uint64(len(words)/2))
		n.packed += listpackInt(int64(len(words) / 2))
		pieces += int64(len(words)/2 + 1)
	}
	size := len(h)
	for i := from; i < len(words); i += step {
		size += wordSize(words[i])
		n.packed += listpackWord(words[i])
	}
	n.packed += listpackInt(pieces)
	n.buf = append(binary.AppendUvarint(n.buf, uint64(size)), h...)
	for i := from; i < len(words); i += step {
		n.buf = appendWord(n.buf, words[i])
	}
	n.live++
}

// sameFields says whether the fields of words are those of the node.
func (n *streamNode) sameFields(words [][]byte) bool {
	count, size := binary.Uvarint(n.buf)
	if count != uint64(len(words)/2) {
		return false
	}
	r := wordReader{buf: n.buf[size:]}
	for i := 0; i < len(words); i += 2 {
		if string(r.next()) != string(words[i]) {
			return false
		}
	}
	return true
}

// seal gives back the room at the end of a node that gets no further entries.
func (n *streamNode) seal() {
	if cap(n.buf)-len(n.buf) > len(n.buf)/16 {
		n.buf = append(make([]byte, 0, len(n.buf)), n.buf...)
	}
}

// StreamEntry is an entry of a stream, valid until the shard's next change.
type StreamEntry struct {
	ID     StreamID
	count  int    // of fields
	fields []byte // the node's, nil for an entry with fields of its own
	words  []byte
	dead   bool
	flags  *byte

	readers [2]wordReader // memory of Each
}

// Len returns the number of fields.
func (e *StreamEntry) Len() int { return e.count }

// Each calls fn with every field and its value; they are valid during the call.
func (e *StreamEntry) Each(fn func(field, value []byte)) {
	e.readers = [2]wordReader{{buf: e.words}, {buf: e.fields}}
	words := &e.readers[0]
	if e.fields == nil {
		e.eachPair(words, fn)
		return
	}
	for range e.count {
		field := e.readers[1].next()
		fn(field, words.next())
	}
}

// eachPair reads fields and values in turn, where the value takes the reader's memory for numbers from the field.
func (e *StreamEntry) eachPair(words *wordReader, fn func(field, value []byte)) {
	for range e.count {
		field := words.next()
		if len(field) <= len(e.readers[1].scratch) {
			field = append(e.readers[1].scratch[:0], field...)
		}
		fn(field, words.next())
	}
}

// nodeWalk walks over the entries of a node, deleted ones included.
type nodeWalk struct {
	first  StreamID
	count  int
	fields []byte
	rest   []byte
}

func (n *streamNode) walk(first StreamID) nodeWalk {
	count, size := binary.Uvarint(n.buf)
	r := wordReader{buf: n.buf[size:]}
	for range count {
		r.skip()
	}
	fields := n.buf[size : len(n.buf)-len(r.buf)]
	return nodeWalk{first, int(count), fields, r.buf}
}

// next reads the next entry into e and reports whether there was one.
func (w *nodeWalk) next(e *StreamEntry) bool {
	if len(w.rest) == 0 {
		return false
	}
	size, n := binary.Uvarint(w.rest)
	b := w.rest[n : n+int(size)]
	w.rest = w.rest[n+int(size):]
	e.flags = &b[0]
	e.dead = b[0]&flagDead != 0
	ms, n := binary.Uvarint(b[1:])
	b = b[1+n:]
	seq, m := binary.Varint(b)
	b = b[m:]
	e.ID = StreamID{w.first.Ms + ms, w.first.Seq + uint64(seq)}
	if *e.flags&flagSame != 0 {
		e.count, e.fields, e.words = w.count, w.fields, b
		return true
	}
	count, n := binary.Uvarint(b)
	e.count, e.fields, e.words = int(count), nil, b[n:]
	return true
}

// find looks for the entry with this ID; deleted ones are not found.
func (n *streamNode) find(first, id StreamID, e *StreamEntry) bool {
	for w := n.walk(first); w.next(e); {
		if c := e.ID.Compare(id); c >= 0 {
			return c == 0 && !e.dead
		}
	}
	return false
}

// kill marks an entry of the node as deleted.
func (n *streamNode) kill(e *StreamEntry) {
	*e.flags |= flagDead
	n.live--
	n.dead++
}

// last returns the ID of the last entry, deleted or not.
func (n *streamNode) last(first StreamID) StreamID {
	var e StreamEntry
	for w := n.walk(first); w.next(&e); {
	}
	return e.ID
}

// Words are strings or, in their only decimal form, numbers of 64 bits:
//
//	0x00 to 0x7f   the number itself
//	0x80 to 0xbf   a string of 0 to 63 bytes, which follow
//	0xc0 to 0xc7   a number in the 1 to 8 bytes that follow, the lowest first
//	0xc8           a string; its length, a uvarint, and its bytes follow
const (
	wordString = 0x80
	wordNumber = 0xc0
	wordLong   = 0xc8
)

func numberOf(w []byte) (int64, bool) {
	if !isCanonicalInt(w) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(w), 10, 64)
	return n, err == nil
}

// decimalBytes is how many bytes a number takes in two's complement.
func decimalBytes(v int64) int {
	n := 1
	for v < -128 || v > 127 {
		v >>= 8
		n++
	}
	return n
}

func appendWord(b, w []byte) []byte {
	if v, ok := numberOf(w); ok {
		if v >= 0 && v < wordString {
			return append(b, byte(v))
		}
		n := decimalBytes(v)
		b = append(b, byte(wordNumber+n-1))
		for range n {
			b = append(b, byte(v))
			v >>= 8
		}
		return b
	}
	if len(w) < wordNumber-wordString {
		return append(append(b, byte(wordString+len(w))), w...)
	}
	return append(binary.AppendUvarint(append(b, wordLong), uint64(len(w))), w...)
}

func wordSize(w []byte) int {
	if v, ok := numberOf(w); ok {
		if v >= 0 && v < wordString {
			return 1
		}
		return 1 + decimalBytes(v)
	}
	if len(w) < wordNumber-wordString {
		return 1 + len(w)
	}
	var tmp [binary.MaxVarintLen64]byte
	return 1 + binary.PutUvarint(tmp[:], uint64(len(w))) + len(w)
}

// wordReader reads words one after another. What next returns is valid until it is called again.
type wordReader struct {
	buf     []byte
	scratch [20]byte
}

func (r *wordReader) next() []byte {
	kind := r.buf[0]
	if kind < wordString {
		r.buf = r.buf[1:]
		return strconv.AppendInt(r.scratch[:0], int64(kind), 10)
	}
	if kind >= wordNumber && kind < wordLong {
		n := int(kind-wordNumber) + 1
		v := int64(int8(r.buf[n]))
		for i := n - 1; i > 0; i-- {
			v = v<<8 | int64(r.buf[i])
		}
		r.buf = r.buf[1+n:]
		return strconv.AppendInt(r.scratch[:0], v, 10)
	}
	start := 1
	n := int(kind - wordString)
	if kind == wordLong {
		length, size := binary.Uvarint(r.buf[1:])
		start, n = 1+size, int(length)
	}
	w := r.buf[start : start+n : start+n]
	r.buf = r.buf[start+n:]
	return w
}

func (r *wordReader) skip() {
	kind := r.buf[0]
	switch {
	case kind < wordString:
		r.buf = r.buf[1:]
	case kind < wordNumber:
		r.buf = r.buf[1+kind-wordString:]
	case kind < wordLong:
		r.buf = r.buf[2+kind-wordNumber:]
	default:
		n, size := binary.Uvarint(r.buf[1:])
		r.buf = r.buf[1+size+int(n):]
	}
}

// listpackFrame is what a listpack takes without elements.
const listpackFrame = 7

// listpackInt and listpackWord are the sizes of elements of Redis' listpacks.
func listpackInt(v int64) int64 {
	switch {
	case v >= 0 && v < 1<<7:
		return 2
	case v >= -1<<12 && v < 1<<12:
		return 3
	case v >= -1<<15 && v < 1<<15:
		return 4
	case v >= -1<<23 && v < 1<<23:
		return 5
	case v >= -1<<31 && v < 1<<31:
		return 6
	}
	return 10
}

func listpackWord(w []byte) int64 {
	if v, ok := numberOf(w); ok {
		return listpackInt(v)
	}
	n := int64(len(w))
	switch {
	case n < 1<<6:
		n++
	case n < 1<<12:
		n += 2
	default:
		n += 5
	}
	back := int64(1)
	for m := n; m > 127; m >>= 7 {
		back++
	}
	return n + back
}
