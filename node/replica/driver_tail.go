package replica

import (
	"math/bits"

	"hypercache/node/journal"
)

// tailBytes bounds the records that a group keeps in memory for followers that fall behind; older ones need a
// snapshot of the group. More saves snapshots after short interruptions and costs memory 256-fold.
const tailBytes = 256 << 10

// tail holds a group's newest records in one buffer without pointers.
type tail struct {
	first uint64 // sequence number of recs[0]
	recs  []tailRecord
	buf   []byte
	keep  uint64 // unless 0, records from here on are kept up to most bytes
	most  int
}

type tailRecord struct {
	off, len uint32
	kind     journal.Kind
}

// reset empties the tail; the next record has sequence number first.
func (t *tail) reset(first uint64) {
	t.first = first
	t.recs, t.buf = t.recs[:0], t.buf[:0]
	if cap(t.buf) > 2*tailBytes {
		t.buf = nil
	}
}

// next is the sequence number that the next record must have.
func (t *tail) next() uint64 { return t.first + uint64(len(t.recs)) }

func (t *tail) append(seq uint64, kind journal.Kind, data []byte) {
	if seq != t.next() {
		t.reset(seq)
	}
	if n := len(t.buf) + len(data); n > 2*tailBytes && !(t.pinned() && n <= t.most) {
		t.trim(len(data))
	}
	t.recs = append(t.recs, tailRecord{off: uint32(len(t.buf)), len: uint32(len(data)), kind: kind})
	t.buf = append(t.buf, data...)
}

// pinned tells that what must be kept is still there.
func (t *tail) pinned() bool { return t.keep > 0 && t.first <= t.keep }

// trim keeps the newest records that fit in half of the buffer together with what comes.
func (t *tail) trim(incoming int) {
	keep, bytes := len(t.recs), incoming
	for keep > 0 && bytes+int(t.recs[keep-1].len) <= tailBytes {
		keep--
		bytes += int(t.recs[keep].len)
	}
	var from uint32
	if keep < len(t.recs) {
		from = t.recs[keep].off
	} else {
		from = uint32(len(t.buf))
	}
	n := copy(t.buf, t.buf[from:])
	t.buf = t.buf[:n]
	if cap(t.buf) > 4*tailBytes {
		t.buf = append([]byte(nil), t.buf...)
	}
	t.first += uint64(keep)
	t.recs = t.recs[:copy(t.recs, t.recs[keep:])]
	for i := range t.recs {
		t.recs[i].off -= from
	}
}

// record returns the kind and the data of seq, which must be retained.
func (t *tail) record(seq uint64) (journal.Kind, []byte) {
	r := t.recs[seq-t.first]
	return r.kind, t.buf[r.off : r.off+r.len]
}

func trailingZeros(v uint64) int { return bits.TrailingZeros64(v) }
