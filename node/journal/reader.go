package journal

import (
	"bytes"
	"fmt"
	"io"

	"hypercache/node/journal/vfs"
)

const readSize = 1 << 20

// reader walks one file through a window that grows to the largest record and no further.
type reader struct {
	seal seal
	f    vfs.File
	size int64
	buf  []byte // bytes of the file from off on
	off  int64
}

func newReader(s seal, f vfs.File) (*reader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return &reader{seal: s, f: f, size: size}, nil
}

// window returns the n bytes at off, fewer at the end of the file. They are valid until the next call.
func (r *reader) window(off, n int64) ([]byte, error) {
	n = max(0, min(n, r.size-off))
	if skip := off - r.off; skip >= 0 && skip+n <= int64(len(r.buf)) {
		return r.buf[skip : skip+n], nil
	}
	want := min(max(n, readSize), r.size-off)
	have := 0
	if want > int64(cap(r.buf)) || int64(cap(r.buf)) > 4*max(want, readSize) {
		old := r.buf
		r.buf = make([]byte, want)
		have = keep(r.buf, old, off-r.off)
	} else {
		old := r.buf
		r.buf = r.buf[:want]
		have = keep(r.buf, old, off-r.off)
	}
	got, err := r.f.ReadAt(r.buf[have:], off+int64(have))
	if have+got < len(r.buf) {
		r.buf, r.off = r.buf[:0], 0
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	r.off = off
	return r.buf[:n], nil
}

// keep moves what old holds from skip on to the start of dst.
func keep(dst, old []byte, skip int64) int {
	if skip < 0 || skip >= int64(len(old)) {
		return 0
	}
	return copy(dst, old[skip:])
}

// headerAt parses the line at off.
func (r *reader) headerAt(off int64) (header, verdict, error) {
	b, err := r.window(off, maxHeader)
	if err != nil {
		return header{}, headerBad, err
	}
	h, v := r.seal.parseHeader(b)
	return h, v, nil
}

// dataOf reads the data of the record whose line is at off; ok is false if it fails its checksum.
func (r *reader) dataOf(h *header, off int64) (data []byte, ok bool, err error) {
	b, err := r.window(off, h.size+h.length)
	if err != nil {
		return nil, false, err
	}
	data = b[h.size:]
	return data, r.seal.sum(data) == h.sum, nil
}

// resync returns the offset of the next valid line at or after off, or the file's size.
func (r *reader) resync(off int64) (int64, error) {
	for off < r.size {
		b, err := r.window(off, readSize)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, []byte(magic))
		if i < 0 {
			if off+int64(len(b)) >= r.size {
				return r.size, nil
			}
			off += int64(len(b) - len(magic) + 1)
			continue
		}
		off += int64(i)
		_, v, err := r.headerAt(off)
		if err != nil {
			return 0, err
		}
		if v == headerOK {
			return off, nil
		}
		off++
	}
	return r.size, nil
}

// vouched reports whether a mark after off says that the bytes at off had been synced.
func (r *reader) vouched(off int64) (bool, error) {
	at := off + 1
	for {
		at, err := r.resyncFrom(&at)
		if err != nil || at >= r.size {
			return false, err
		}
		h, v, err := r.headerAt(at)
		if err != nil {
			return false, err
		}
		if v == headerOK && h.Kind == kindMark && int64(h.Seq) > off {
			return true, nil
		}
	}
}

// resyncFrom returns the next valid line from *at on and moves *at behind the line itself: not behind its data, which
// may be what was lost.
func (r *reader) resyncFrom(at *int64) (int64, error) {
	off, err := r.resync(*at)
	if err == nil {
		*at = off + 1
	}
	return off, err
}

// foreignAt says what another program wrote at a record's boundary, "" if the bytes are none of the known kinds.
func (r *reader) foreignAt(off int64) (string, error) {
	b, err := r.window(off, 4096)
	if err != nil {
		return "", err
	}
	switch {
	case bytes.HasPrefix(b, []byte("#TS:")):
		return "a timestamp annotation of redis-server", nil
	case bytes.HasPrefix(b, []byte("REDIS")):
		return "an RDB preamble", nil
	case isCommand(b):
		return "a command without annotation", nil
	}
	return "", nil
}

// isCommand reports whether b starts with the array header and the name of a RESP command.
func isCommand(b []byte) bool {
	var args, n int
	if _, err := fmt.Sscanf(string(b[:min(len(b), 32)]), "*%d\r\n$%d\r\n", &args, &n); err != nil {
		return false
	}
	lead := fmt.Appendf(nil, "*%d\r\n$%d\r\n", args, n)
	if args < 1 || n < 1 || n > 64 || !bytes.HasPrefix(b, lead) || len(b) < len(lead)+n+2 {
		return false
	}
	for _, c := range b[len(lead) : len(lead)+n] {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			return false
		}
	}
	return string(b[len(lead)+n:len(lead)+n+2]) == "\r\n"
}
