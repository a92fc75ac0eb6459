package rdb

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
)

// Writer writes a file of version 10. After an error every call returns it.
type Writer struct {
	w   *bufio.Writer
	b   []byte
	crc uint64
	err error
}

// NewWriter writes the file's header to w.
func NewWriter(w io.Writer) *Writer {
	out := &Writer{w: bufio.NewWriterSize(w, 64<<10)}
	out.b = fmt.Appendf(out.b, "REDIS%04d", Version)
	_ = out.flush() // kept in err
	return out
}

func (w *Writer) flush() error {
	w.write(w.b)
	w.b = w.b[:0]
	return w.err
}

func (w *Writer) write(b []byte) {
	if w.err == nil {
		w.crc = checksum(w.crc, b)
		_, w.err = w.w.Write(b)
	}
}

// Aux writes a remark about the file; Redis logs those that it does not know. They come before keys.
func (w *Writer) Aux(name, value string) error {
	w.b = appendString(appendString(append(w.b, opAux), []byte(name)), []byte(value))
	return w.flush()
}

// Function writes a library of functions.
func (w *Writer) Function(text []byte) error {
	w.b = appendString(append(w.b, opFunction2), text)
	return w.flush()
}

// SelectDB says that the keys that follow are in database db, with hints how many there are and how many of them expire.
func (w *Writer) SelectDB(db, keys, expiring uint64) error {
	w.b = appendLength(append(w.b, opSelectDB), db)
	w.b = appendLength(appendLength(append(w.b, opResizeDB), keys), expiring)
	return w.flush()
}

// Entry writes a key with its value: type and content, as the Append functions make it and Verify returns it. expireAt is
// in unix milliseconds, 0 for never.
func (w *Writer) Entry(key []byte, expireAt int64, value []byte) error {
	if len(value) == 0 {
		return fmt.Errorf("key %s has no value", strconv.Quote(string(key)))
	}
	if expireAt != 0 {
		w.b = binary.LittleEndian.AppendUint64(append(w.b, opExpireTimeMillis), uint64(expireAt))
	}
	w.b = appendString(append(w.b, value[0]), key)
	_ = w.flush() // kept in err
	w.write(value[1:])
	return w.err
}

// Close writes the end of the file. It does not close what is below.
func (w *Writer) Close() error {
	w.b = append(w.b, opEOF)
	_ = w.flush() // kept in err
	w.b = binary.LittleEndian.AppendUint64(w.b, w.crc)
	if w.err == nil {
		_, w.err = w.w.Write(w.b)
	}
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}
