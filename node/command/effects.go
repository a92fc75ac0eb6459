package command

import (
	"strconv"

	"hypercache/node/store"
)

// Effects collects the deterministic commands by which a write is repeated: RESP arrays, absolute times, nothing that
// depends on clock, chance or configuration. Loading them as an append-only file brings a stock redis-server to the
// same state. All methods do nothing on a nil receiver.
type Effects struct {
	// Buf is the encoded commands, one after another.
	Buf []byte
	// N counts them.
	N int
}

// Reset empties e and keeps its memory.
func (e *Effects) Reset() {
	if e != nil {
		e.Buf, e.N = e.Buf[:0], 0
	}
}

// Command appends one command.
func (e *Effects) Command(args ...[]byte) {
	if e == nil {
		return
	}
	e.Buf = appendHeader(e.Buf, '*', len(args))
	for _, a := range args {
		e.Buf = appendBulk(e.Buf, a)
	}
	e.N++
}

// Strings appends one command of strings.
func (e *Effects) Strings(args ...string) {
	if e == nil {
		return
	}
	e.Buf = appendHeader(e.Buf, '*', len(args))
	for _, a := range args {
		e.Buf = appendHeader(e.Buf, '$', len(a))
		e.Buf = append(append(e.Buf, a...), '\r', '\n')
	}
	e.N++
}

func (e *Effects) set(key, value []byte, expireAt int64) {
	if e == nil {
		return
	}
	e.Buf = appendSet(e.Buf, key, value, expireAt)
	e.N++
}

func (e *Effects) setKeepTTL(key, value []byte) {
	if e == nil {
		return
	}
	e.Buf = append(e.Buf, "*4\r\n$3\r\nSET\r\n"...)
	e.Buf = appendBulk(appendBulk(e.Buf, key), value)
	e.Buf = append(e.Buf, "$7\r\nKEEPTTL\r\n"...)
	e.N++
}

// Del appends DEL key: what a primary says when a key expires or is evicted.
func (e *Effects) Del(key []byte) {
	if e == nil {
		return
	}
	e.Buf = append(e.Buf, "*2\r\n$3\r\nDEL\r\n"...)
	e.Buf = appendBulk(e.Buf, key)
	e.N++
}

func (e *Effects) persist(key []byte) {
	if e == nil {
		return
	}
	e.Buf = append(e.Buf, "*2\r\n$7\r\nPERSIST\r\n"...)
	e.Buf = appendBulk(e.Buf, key)
	e.N++
}

func (e *Effects) expireAt(key []byte, at int64) {
	if e == nil {
		return
	}
	e.Buf = append(e.Buf, "*3\r\n$9\r\nPEXPIREAT\r\n"...)
	e.Buf = appendBulkInt(appendBulk(e.Buf, key), at)
	e.N++
}

func (e *Effects) incrBy(key []byte, n int64) {
	if e == nil {
		return
	}
	e.Buf = append(e.Buf, "*3\r\n$6\r\nINCRBY\r\n"...)
	e.Buf = appendBulkInt(appendBulk(e.Buf, key), n)
	e.N++
}

// rewriteItems is how many elements one command of EncodeEntry has at most, Redis' AOF_REWRITE_ITEMS_PER_CMD.
const rewriteItems = 64

// encodeBytes is the size of e.Buf from which EncodeEntry calls full.
const encodeBytes = 32 << 10

// EncodeEntry appends the commands that create r's key with its value and expiry: SET key value [PXAT at], or HSET, RPUSH,
// SADD, ZADD, … and PEXPIREAT. Snapshots and full resyncs are made of it. It calls full, which may take e.Buf and reset e,
// between the commands of a large collection; the key must not be looked at before the last of them.
func EncodeEntry(e *Effects, r store.Ref, full func()) {
	switch r.Type() {
	case store.String:
		e.set(r.Key(), r.Value(), r.ExpireAt())
		return
	case store.Hash:
		p := pieces{e: e, full: full, name: "HSET", key: r.Key()}
		f := r.Fields()
		f.Each(func(field, value []byte) bool { p.add(field, value); return true })
		p.flush()
	case store.List:
		p := pieces{e: e, full: full, name: "RPUSH", key: r.Key()}
		l := r.Elements()
		l.Each(0, 1, func(_ int, element []byte) bool { p.add(element); return true })
		p.flush()
	case store.Set:
		p := pieces{e: e, full: full, name: "SADD", key: r.Key()}
		m := r.Members()
		m.Each(func(member []byte) bool { p.add(member); return true })
		p.flush()
	case store.ZSet:
		p := pieces{e: e, full: full, name: "ZADD", key: r.Key()}
		z := r.SortedSet()
		z.Each(0, 1, func(member []byte, score float64) bool {
			p.add(appendScore(nil, score), member)
			return true
		})
		p.flush()
	case store.Stream:
		encodeStream(e, r, full)
	}
	if at := r.ExpireAt(); at != 0 {
		e.expireAt(r.Key(), at)
	}
}

// pieces cuts the elements of a collection into commands.
type pieces struct {
	e     *Effects
	full  func()
	name  string
	key   []byte
	items [rewriteItems * 2][]byte
	n     int // words in items
	bytes int
}

// add takes the words of one element, which stay valid until flush.
func (p *pieces) add(words ...[]byte) {
	for _, w := range words {
		p.items[p.n] = w
		p.n++
		p.bytes += len(w)
	}
	if p.n+len(words) > min(len(p.items), rewriteItems*len(words)) || p.bytes > encodeBytes {
		p.flush()
	}
}

func (p *pieces) flush() {
	if p.n == 0 {
		return
	}
	args := make([][]byte, 0, p.n+2)
	args = append(append(args, []byte(p.name), p.key), p.items[:p.n]...)
	p.e.Command(args...)
	p.n, p.bytes = 0, 0
	if len(p.e.Buf) > encodeBytes {
		p.full()
	}
}

func appendSet(b, key, value []byte, expireAt int64) []byte {
	if expireAt == 0 {
		b = append(b, "*3\r\n$3\r\nSET\r\n"...)
		return appendBulk(appendBulk(b, key), value)
	}
	b = append(b, "*5\r\n$3\r\nSET\r\n"...)
	b = appendBulk(appendBulk(b, key), value)
	b = append(b, "$4\r\nPXAT\r\n"...)
	return appendBulkInt(b, expireAt)
}

func appendHeader(b []byte, kind byte, n int) []byte {
	b = strconv.AppendInt(append(b, kind), int64(n), 10)
	return append(b, '\r', '\n')
}

func appendBulk(b, s []byte) []byte {
	b = append(appendHeader(b, '$', len(s)), s...)
	return append(b, '\r', '\n')
}

func appendBulkInt(b []byte, n int64) []byte {
	var tmp [20]byte
	return appendBulk(b, strconv.AppendInt(tmp[:0], n, 10))
}

// Len is the size of the effects in bytes.
func (e *Effects) Len() int {
	if e == nil {
		return 0
	}
	return len(e.Buf)
}
