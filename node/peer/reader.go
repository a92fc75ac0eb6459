package peer

import "io"

const (
	// firstBuffer is what a stream's reader begins with. A node has eight streams with every other node, most of them
	// idle: at readBuffer each, a hundred nodes would take 200 MiB of each other's memory.
	firstBuffer = 4 << 10
	// smallReads is how many reads in a row that a quarter of the buffer would have held make it shrink. An idle stream is
	// pinged every few seconds, so that takes an hour; a heartbeat comes ten times a second.
	smallReads = 256
)

// reader is a buffered reader whose buffer follows the traffic: it grows, up to readBuffer, when one read fills it or a frame
// needs the room, and shrinks when that has not happened for long.
type reader struct {
	src   io.Reader
	buf   []byte
	r, w  int // buf[r:w] is read and not discarded
	small int // reads in a row that used little of buf
}

func newReader(src io.Reader) *reader { return &reader{src: src, buf: make([]byte, firstBuffer)} }

// buffered is how many bytes peek returns without reading.
func (b *reader) buffered() int { return b.w - b.r }

// peek returns the next n bytes, at most readBuffer, valid until the next call of peek or Read.
func (b *reader) peek(n int) ([]byte, error) {
	for b.w-b.r < n {
		if err := b.fill(n); err != nil {
			return nil, err
		}
	}
	return b.buf[b.r : b.r+n], nil
}

// discard drops n bytes that peek returned.
func (b *reader) discard(n int) { b.r += n }

// Read implements io.Reader for what is larger than the buffer.
func (b *reader) Read(p []byte) (int, error) {
	if b.r == b.w {
		return b.src.Read(p)
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// fill reads once, into a buffer with room for n bytes.
func (b *reader) fill(n int) error {
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	}
	switch size := len(b.buf); {
	case n > size || b.w == size:
		b.resize(max(n, min(4*size, readBuffer)))
	case b.small >= smallReads && size > firstBuffer && max(n, b.w) <= size/4:
		b.resize(size / 4)
	}
	for range 100 {
		k, err := b.src.Read(b.buf[b.w:])
		b.w += k
		b.note(k)
		if k > 0 {
			return nil // an error comes again with the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// note keeps count of small reads, and makes room for more where a read took all there was.
func (b *reader) note(k int) {
	if k > len(b.buf)/4 {
		b.small = 0
	} else {
		b.small++
	}
	if b.w == len(b.buf) && len(b.buf) < readBuffer {
		b.resize(min(4*len(b.buf), readBuffer))
	}
}

func (b *reader) resize(size int) {
	next := make([]byte, size)
	b.w = copy(next, b.buf[b.r:b.w])
	b.r, b.buf, b.small = 0, next, 0
}
