package resp

import (
	"math"
	"strconv"

	"github.com/tidwall/redcon"
)

// Writer encodes replies into Buf, append only. It does not allocate once Buf has grown, and never fails. Proto is 2 or
// 3 and decides how the types are written that only RESP3 has. The zero value writes RESP2. Not safe for concurrent use.
type Writer struct {
	Buf   []byte
	Proto int
}

// OK writes +OK.
func (w *Writer) OK() { w.Buf = append(w.Buf, "+OK\r\n"...) }

// SimpleString writes a status reply. CR and LF in s are replaced by spaces.
func (w *Writer) SimpleString(s string) { w.Buf = redcon.AppendString(w.Buf, s) }

// Error writes an error reply. msg begins with its prefix ("ERR …"), without dash and line end; CR and LF in it are
// replaced by spaces.
func (w *Writer) Error(msg string) { w.Buf = redcon.AppendError(w.Buf, msg) }

// Int writes an integer reply.
func (w *Writer) Int(n int64) { w.Buf = redcon.AppendInt(w.Buf, n) }

// Bulk writes a binary-safe string. A nil b is the empty string; use Null for "no value".
func (w *Writer) Bulk(b []byte) { w.Buf = redcon.AppendBulk(w.Buf, b) }

// BulkString is Bulk for a string.
func (w *Writer) BulkString(s string) { w.Buf = redcon.AppendBulkString(w.Buf, s) }

// Null writes "no value": $-1 in RESP2, _ in RESP3.
func (w *Writer) Null() {
	if w.Proto == 3 {
		w.Buf = append(w.Buf, "_\r\n"...)
		return
	}
	w.Buf = redcon.AppendNull(w.Buf)
}

// NullArray writes "no array": *-1 in RESP2, _ in RESP3.
func (w *Writer) NullArray() {
	if w.Proto == 3 {
		w.Buf = append(w.Buf, "_\r\n"...)
		return
	}
	w.Buf = append(w.Buf, "*-1\r\n"...)
}

// Array announces n elements, which the caller writes next.
func (w *Writer) Array(n int) { w.Buf = redcon.AppendArray(w.Buf, n) }

// Map announces n pairs; the caller writes 2n replies next. RESP2 clients see a flat array.
func (w *Writer) Map(n int) {
	if w.Proto == 3 {
		w.header('%', n)
		return
	}
	w.Array(2 * n)
}

// Set announces n distinct elements. RESP2 clients see an array.
func (w *Writer) Set(n int) { w.aggregate('~', n) }

// Push announces an out-of-band message of n elements. RESP2 clients see an array.
func (w *Writer) Push(n int) { w.aggregate('>', n) }

// Attribute announces n pairs, a key and a value each, that say something about the value behind them. There is nothing like
// it in RESP2: it is for RESP3 clients only.
func (w *Writer) Attribute(n int) { w.header('|', n) }

// Double writes a floating-point number with the 17 significant digits Redis gives; a bulk string in RESP2.
func (w *Writer) Double(f float64) {
	var scratch [32]byte
	text := scratch[:0]
	switch {
	case math.IsInf(f, 1):
		text = append(text, "inf"...)
	case math.IsInf(f, -1):
		text = append(text, "-inf"...)
	case math.IsNaN(f):
		text = append(text, "nan"...)
	default:
		text = strconv.AppendFloat(text, f, 'g', 17, 64)
	}
	if w.Proto == 3 {
		w.Buf = append(w.Buf, ',')
		w.Buf = append(w.Buf, text...)
		w.crlf()
		return
	}
	w.Bulk(text)
}

// Bool writes #t or #f; 1 or 0 in RESP2.
func (w *Writer) Bool(b bool) {
	switch {
	case w.Proto == 3 && b:
		w.Buf = append(w.Buf, "#t\r\n"...)
	case w.Proto == 3:
		w.Buf = append(w.Buf, "#f\r\n"...)
	case b:
		w.Int(1)
	default:
		w.Int(0)
	}
}

// Verbatim writes text with its format, three letters such as "txt" or "mkd"; a bulk string in RESP2.
func (w *Writer) Verbatim(format string, text []byte) {
	if w.Proto != 3 {
		w.Bulk(text)
		return
	}
	w.header('=', len(format)+1+len(text))
	w.Buf = append(w.Buf, format...)
	w.Buf = append(w.Buf, ':')
	w.Buf = append(w.Buf, text...)
	w.crlf()
}

// BigNumber writes an integer of any size given in decimal; a bulk string in RESP2.
func (w *Writer) BigNumber(s string) {
	if w.Proto != 3 {
		w.BulkString(s)
		return
	}
	w.Buf = append(w.Buf, '(')
	w.Buf = append(w.Buf, s...)
	w.crlf()
}

// Raw appends bytes that are already encoded.
func (w *Writer) Raw(b []byte) { w.Buf = append(w.Buf, b...) }

func (w *Writer) aggregate(kind byte, n int) {
	if w.Proto == 3 {
		w.header(kind, n)
		return
	}
	w.Array(n)
}

func (w *Writer) header(kind byte, n int) {
	w.Buf = append(w.Buf, kind)
	w.Buf = strconv.AppendInt(w.Buf, int64(n), 10)
	w.crlf()
}

func (w *Writer) crlf() { w.Buf = append(w.Buf, '\r', '\n') }
