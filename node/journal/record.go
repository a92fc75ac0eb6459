package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"hypercache/node/ring"
)

// A record is one annotation line and the RESP commands that it describes:
//
//	#HC:1 <group> <term> <seq> <kind> <length> <crc of data> <crc of this line>\r\n<length bytes>
//
// Numbers are decimal and canonical, checksums are CRC32C in eight lower-case hex digits, both seeded with the
// directory's salt. The line has a checksum of its own so that a record with bad data still tells its group and where
// the next one starts. The salt keeps clients from forging records in values: nobody outside can compute a checksum.
const (
	magic     = "#HC:1 "
	magicFile = "#HC:1 file "
	// maxHeader bounds a record's line. Redis reads annotation lines of up to 1,023 bytes.
	maxHeader     = 128
	fileHeaderLen = len(magicFile) + 16 + 1 + 8 + 2
)

// kindMark is written after an fsync: Seq is the file offset before which everything is on the disk itself. It tells a
// torn tail from corruption after a power loss.
const kindMark Kind = 100

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal computes the checksums of one directory.
type seal uint32

func newSeal(salt uint64) seal {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], salt)
	return seal(crc32.Update(0, castagnoli, b[:]))
}

func (s seal) sum(b []byte) uint32 { return crc32.Update(uint32(s), castagnoli, b) }

func (k Kind) letter() byte {
	switch k {
	case Effects:
		return 'E'
	case Noop:
		return 'N'
	case SyncBegin:
		return 'B'
	case SyncEnd:
		return 'F'
	case kindMark:
		return 'M'
	}
	return 0
}

func kindOf(letter byte) Kind {
	switch letter {
	case 'E':
		return Effects
	case 'N':
		return Noop
	case 'B':
		return SyncBegin
	case 'F':
		return SyncEnd
	case 'M':
		return kindMark
	}
	return 0
}

const hexDigits = "0123456789abcdef"

func appendHex32(b []byte, v uint32) []byte {
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[v>>shift&15])
	}
	return b
}

// appendHeader appends the record's line; sum is the data's checksum.
func (s seal) appendHeader(dst []byte, r *Record, sum uint32) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = strconv.AppendUint(dst, uint64(r.Group), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, r.Term, 10)
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, r.Seq, 10)
	dst = append(dst, ' ', r.Kind.letter(), ' ')
	dst = strconv.AppendUint(dst, uint64(len(r.Data)), 10)
	dst = append(dst, ' ')
	dst = appendHex32(dst, sum)
	dst = append(dst, ' ')
	dst = appendHex32(dst, s.sum(dst[start:]))
	return append(dst, '\r', '\n')
}

// appendRecord appends line and data.
func (s seal) appendRecord(dst []byte, r *Record) []byte {
	return append(s.appendHeader(dst, r, s.sum(r.Data)), r.Data...)
}

// header is a record's line as read.
type header struct {
	Record       // without Data
	length int64 // of the data
	sum    uint32
	size   int64 // of the line
}

func (h *header) end(off int64) int64 { return off + h.size + h.length }

type verdict uint8

const (
	headerOK    verdict = iota
	headerShort         // the bytes may be the beginning of a line that is cut off
	headerBad
)

// parseHeader reads the line at the start of b. Every byte of an accepted line is covered by its checksum.
func (s seal) parseHeader(b []byte) (header, verdict) {
	var h header
	if len(b) > maxHeader {
		b = b[:maxHeader]
	}
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		n := min(len(b), len(magic))
		if len(b) < maxHeader && string(b[:n]) == magic[:n] {
			return h, headerShort
		}
		return h, headerBad
	}
	line := b[:eol+1]
	p := lineParser{b: line, ok: true}
	p.literal(magic)
	group := p.number(' ')
	h.Term, h.Seq = p.number(' '), p.number(' ')
	h.Kind = kindOf(p.byte())
	p.literal(" ")
	length := p.number(' ')
	h.sum = p.hex32()
	p.literal(" ")
	covered := p.i
	sum := p.hex32()
	p.literal("\r\n")
	if !p.ok || p.i != len(line) || s.sum(line[:min(covered, len(line))]) != sum {
		return header{}, headerBad
	}
	if h.Kind == 0 || group >= ring.Groups || length > 1<<62 || h.Kind != Effects && length != 0 {
		return header{}, headerBad
	}
	h.Group, h.length, h.size = uint16(group), int64(length), int64(len(line))
	return h, headerOK
}

// lineParser reads fields; after the first that does not fit, ok is false and everything reads as zero.
type lineParser struct {
	b  []byte
	i  int
	ok bool
}

func (p *lineParser) byte() byte {
	if !p.ok || p.i >= len(p.b) {
		p.ok = false
		return 0
	}
	p.i++
	return p.b[p.i-1]
}

func (p *lineParser) literal(s string) {
	if !p.ok || len(p.b)-p.i < len(s) || string(p.b[p.i:p.i+len(s)]) != s {
		p.ok = false
		return
	}
	p.i += len(s)
}

// number reads a canonical decimal and the byte after it.
func (p *lineParser) number(after byte) (v uint64) {
	start := p.i
	for {
		c := p.byte()
		if !p.ok {
			return 0
		}
		if c == after {
			break
		}
		d := uint64(c - '0')
		if d > 9 || v > (1<<64-1-d)/10 {
			p.ok = false
			return 0
		}
		v = v*10 + d
	}
	digits := p.i - 1 - start
	if digits == 0 || digits > 1 && p.b[start] == '0' {
		p.ok = false
	}
	return v
}

func (p *lineParser) hex(digits int) (v uint64) {
	for range digits {
		c := p.byte()
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			p.ok = false
			return 0
		}
	}
	return v
}

func (p *lineParser) hex32() uint32 { return uint32(p.hex(8)) }

// appendFileHeader appends the first line of every file: #HC:1 file <salt> <crc>.
func appendFileHeader(dst []byte, salt uint64) []byte {
	start := len(dst)
	dst = append(dst, magicFile...)
	dst = appendHex32(appendHex32(dst, uint32(salt>>32)), uint32(salt))
	dst = append(dst, ' ')
	dst = appendHex32(dst, newSeal(salt).sum(dst[start:]))
	return append(dst, '\r', '\n')
}

func parseFileHeader(b []byte) (salt uint64, ok bool) {
	if len(b) < fileHeaderLen {
		return 0, false
	}
	b = b[:fileHeaderLen]
	p := lineParser{b: b, ok: true}
	p.literal(magicFile)
	salt = p.hex(16)
	return salt, p.ok && bytes.Equal(b, appendFileHeader(nil, salt))
}
