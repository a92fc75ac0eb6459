package store

import (
	"encoding/binary"
	"unsafe"
)

// An entry is one block:
//
//	byte 0     type (bits 0-2), raw (3), has an expiry (4), width of the lengths (5-6); 0 marks a free block
//	bytes 1-3  access clock
//	lengths    tiny: key 1, value 1; short: key 1, value 2; long: key 4, value 4
//	expiry     8 bytes unix ms and 4 bytes position in the expiry heap, only if the entry has one
//	key, value
//
// All numbers are little-endian and unaligned.
type block struct{ p unsafe.Pointer }

const (
	typeMask  = 0x07
	flagRaw   = 0x08
	flagTTL   = 0x10
	lenMask   = 0x60
	lenTiny   = 0x00
	lenShort  = 0x20
	lenLong   = 0x40
	ttlBytes  = 12
	clockMask = 1<<24 - 1
)

// shape is everything about an entry that decides where its key and its value lie.
type shape struct {
	klen, vlen int
	ttl        bool
}

// width returns the width of the lengths and the bytes of the header up to and with them.
func (f shape) width() (bits uint8, bytes int) {
	switch {
	case f.klen <= 0xff && f.vlen <= 0xff:
		return lenTiny, 6
	case f.klen <= 0xff && f.vlen <= 0xffff:
		return lenShort, 7
	}
	return lenLong, 12
}

// header returns the bytes in front of the key.
func (f shape) header() int {
	_, n := f.width()
	if f.ttl {
		n += ttlBytes
	}
	return n
}

func (f shape) size() int { return f.header() + f.klen + f.vlen }

func (b block) bytes(off, n int) []byte { return unsafe.Slice((*byte)(unsafe.Add(b.p, off)), n) }
func (b block) flags() uint8            { return *(*uint8)(b.p) }
func (b block) u8(off int) int          { return int(*(*uint8)(unsafe.Add(b.p, off))) }
func (b block) u16(off int) int         { return int(binary.LittleEndian.Uint16(b.bytes(off, 2))) }
func (b block) u32(off int) uint32      { return binary.LittleEndian.Uint32(b.bytes(off, 4)) }
func (b block) putU32(off int, v uint32) {
	binary.LittleEndian.PutUint32(b.bytes(off, 4), v)
}

// init writes the header of a new String of shape f; expiry, key and value are the caller's.
func (b block) init(f shape, clock uint32) {
	bits, _ := f.width()
	if f.ttl {
		bits |= flagTTL
	}
	b.putU32(0, uint32(bits)|uint32(String)|clock<<8)
	b.setLens(f)
}

func (b block) setLens(f shape) {
	switch bits, _ := f.width(); bits {
	case lenTiny:
		h := b.bytes(4, 2)
		h[0], h[1] = byte(f.klen), byte(f.vlen)
	case lenShort:
		b.bytes(4, 1)[0] = byte(f.klen)
		binary.LittleEndian.PutUint16(b.bytes(5, 2), uint16(f.vlen))
	default:
		b.putU32(4, uint32(f.klen))
		b.putU32(8, uint32(f.vlen))
	}
}

// shape returns the entry's shape and the offset of its key.
func (b block) shape() (f shape, koff int) {
	flags := b.flags()
	switch flags & lenMask {
	case lenTiny:
		f.klen, f.vlen, koff = b.u8(4), b.u8(5), 6
	case lenShort:
		f.klen, f.vlen, koff = b.u8(4), b.u16(5), 7
	default:
		f.klen, f.vlen, koff = int(b.u32(4)), int(b.u32(8)), 12
	}
	if flags&flagTTL != 0 {
		f.ttl = true
		koff += ttlBytes
	}
	return f, koff
}

func (b block) key() []byte {
	f, koff := b.shape()
	return b.bytes(koff, f.klen)
}

func (b block) value() []byte {
	f, koff := b.shape()
	return b.bytes(koff+f.klen, f.vlen)
}

// equals reports whether the entry's key is key.
func (b block) equals(key []byte) bool {
	f, koff := b.shape()
	return f.klen == len(key) && string(b.bytes(koff, f.klen)) == string(key)
}

// ttlOffset returns where the expiry lies in an entry that has one.
func (b block) ttlOffset() int {
	switch b.flags() & lenMask {
	case lenTiny:
		return 6
	case lenShort:
		return 7
	}
	return 12
}

// expireAt returns the expiry in unix milliseconds, 0 for none.
func (b block) expireAt() int64 {
	if b.flags()&flagTTL == 0 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b.bytes(b.ttlOffset(), 8)))
}

func (b block) setExpireAt(at int64) {
	binary.LittleEndian.PutUint64(b.bytes(b.ttlOffset(), 8), uint64(at))
}

// heapPos is the entry's position in the expiry heap. Only entries with an expiry have one.
func (b block) heapPos() int       { return int(b.u32(b.ttlOffset() + 8)) }
func (b block) setHeapPos(pos int) { b.putU32(b.ttlOffset()+8, uint32(pos)) }

func (b block) clock() uint32         { return b.u32(0) >> 8 }
func (b block) setClock(clock uint32) { b.putU32(0, uint32(b.flags())|clock<<8) }

func (b block) raw() bool { return b.flags()&flagRaw != 0 }

// setKind marks what the value is.
func (b block) setKind(t Type, raw bool) {
	f := (*uint8)(b.p)
	*f = *f&^(typeMask|flagRaw) | uint8(t)
	if raw {
		*f |= flagRaw
	}
}
