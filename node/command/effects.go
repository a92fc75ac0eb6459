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

// EncodeEntry appends the command that creates r's key with its value and expiry: SET key value [PXAT at]. Snapshots
// and full resyncs are made of it.
func EncodeEntry(e *Effects, r store.Ref) {
	e.set(r.Key(), r.Value(), r.ExpireAt())
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
