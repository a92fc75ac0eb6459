package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Errors about the bytes below the values.
var (
	// ErrTruncated: the bytes end too early.
	ErrTruncated = errors.New("the file ends too early")
	// ErrChecksum: the bytes are not those that were written.
	ErrChecksum = errors.New("the checksum is wrong")
	// ErrForeign: no RDB file at all.
	ErrForeign = errors.New("no RDB file: it does not begin with REDIS and a version")
	// ErrVersion: a version that is not known.
	ErrVersion = errors.New("unknown version")
)

const (
	sourceBuffer = 64 << 10
	// maxString is the longest string, Redis' proto-max-bulk-len.
	maxString = 512 << 20
	// firstStep is how much of a string is allocated before any of it has arrived.
	firstStep = 64 << 10
)

// source reads bytes, counts them and sums them up.
type source struct {
	r      io.Reader
	buf    []byte
	pos    int   // buf[pos:] is not read yet
	summed int   // buf[:summed] is in crc
	base   int64 // offset of buf[0]
	crc    uint64
	err    error
}

func newSource(r io.Reader) *source { return &source{r: r, buf: make([]byte, 0, sourceBuffer)} }

func (s *source) offset() int64 { return s.base + int64(s.pos) }

// fill gets more bytes when all have been read.
func (s *source) fill() error {
	if s.err != nil {
		return s.err
	}
	s.sum()
	s.base += int64(len(s.buf))
	s.pos, s.summed = 0, 0
	for {
		n, err := s.r.Read(s.buf[:cap(s.buf)])
		s.buf = s.buf[:n]
		if errors.Is(err, io.EOF) {
			err = ErrTruncated
		}
		s.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sum adds what was read to the checksum.
func (s *source) sum() uint64 {
	s.crc = checksum(s.crc, s.buf[s.summed:s.pos])
	s.summed = s.pos
	return s.crc
}

func (s *source) byte() (byte, error) {
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	s.pos++
	return s.buf[s.pos-1], nil
}

func (s *source) full(b []byte) error {
	for len(b) > 0 {
		if s.pos == len(s.buf) {
			if err := s.fill(); err != nil {
				return err
			}
		}
		n := copy(b, s.buf[s.pos:])
		s.pos += n
		b = b[n:]
	}
	return nil
}

// bytes appends n bytes to dst, which grows as they arrive.
func (s *source) bytes(dst []byte, n uint64) ([]byte, error) {
	if n > maxString {
		return dst, fmt.Errorf("a string of %d bytes is too long", n)
	}
	for step := uint64(firstStep); n > 0; step *= 2 {
		k := int(min(step, n))
		at := len(dst)
		dst = append(dst, make([]byte, k)...)
		if err := s.full(dst[at:]); err != nil {
			return dst[:at], err
		}
		n -= uint64(k)
	}
	return dst, nil
}

// rest is what was not read.
func (s *source) rest() io.Reader {
	b := bytes.Clone(s.buf[s.pos:])
	return io.MultiReader(bytes.NewReader(b), s.r)
}

// Lengths: the top bits of the first byte say how many follow; 3 says that a string is no plain string.
const (
	length6       = 0
	length14      = 1
	lengthLong    = 2
	lengthSpecial = 3

	length32 = 0x80
	length64 = 0x81

	specialInt8  = 0
	specialInt16 = 1
	specialInt32 = 2
	specialLZF   = 3
)

func (s *source) length() (n uint64, special bool, err error) {
	c, err := s.byte()
	if err != nil {
		return 0, false, err
	}
	switch c >> 6 {
	case length6:
		return uint64(c & 0x3f), false, nil
	case length14:
		d, err := s.byte()
		return uint64(c&0x3f)<<8 | uint64(d), false, err
	case lengthSpecial:
		return uint64(c & 0x3f), true, nil
	}
	var b [8]byte
	switch c {
	case length32:
		err = s.full(b[4:])
	case length64:
		err = s.full(b[:])
	default:
		err = fmt.Errorf("%#x begins no length", c)
	}
	return binary.BigEndian.Uint64(b[:]), false, err
}

// count is length where only a number fits.
func (s *source) count() (uint64, error) {
	n, special, err := s.length()
	if err == nil && special {
		err = errors.New("a string where a length should be")
	}
	return n, err
}

// string appends a string in any of its forms to dst.
func (s *source) string(dst []byte) ([]byte, error) {
	n, special, err := s.length()
	if err != nil {
		return dst, err
	}
	if !special {
		return s.bytes(dst, n)
	}
	if n == specialLZF {
		return s.compressed(dst)
	}
	if n > specialInt32 {
		return dst, fmt.Errorf("unknown form %d of a string", n)
	}
	var b [4]byte
	k := 1 << n
	if err := s.full(b[:k]); err != nil {
		return dst, err
	}
	return strconv.AppendInt(dst, signed(b[:k]), 10), nil
}

func (s *source) compressed(dst []byte) ([]byte, error) {
	packed, err := s.count()
	if err != nil {
		return dst, err
	}
	size, err := s.count()
	if err != nil {
		return dst, err
	}
	if size > maxString {
		return dst, fmt.Errorf("a string of %d bytes is too long", size)
	}
	b, err := s.bytes(nil, packed)
	if err != nil {
		return dst, err
	}
	return decompress(dst, b, size)
}

func (s *source) uint64() (uint64, error) {
	var b [8]byte
	err := s.full(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}
