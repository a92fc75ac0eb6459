package rdb

import "errors"

var errLZF = errors.New("compressed string is corrupt")

// LZF is a run of literals (a byte 0 to 31: that many and one more follow) or a copy of 3 to 264 bytes from at most
// 8,192 bytes back (three bits of length, seven of them mean that another length byte follows; 13 bits of distance).
const (
	lzfMaxLiteral  = 32
	lzfMaxCopy     = 264
	lzfMaxDistance = 8192
	lzfHashBits    = 13
)

// decompress appends to dst what src stands for, which is size bytes, or fails. A copy of three bytes gives 264 at most,
// so size is checked before anything is allocated.
func decompress(dst, src []byte, size uint64) ([]byte, error) {
	if size > uint64(len(src))*lzfMaxCopy/2 {
		return nil, errLZF
	}
	start, want := len(dst), int(size)
	for i := 0; i < len(src); {
		control := int(src[i])
		i++
		if control < lzfMaxLiteral {
			n := control + 1
			if n > len(src)-i || n > want-(len(dst)-start) {
				return nil, errLZF
			}
			dst = append(dst, src[i:i+n]...)
			i += n
			continue
		}
		n := control >> 5
		if n == 7 {
			if i == len(src) {
				return nil, errLZF
			}
			n += int(src[i])
			i++
		}
		n += 2
		if i == len(src) {
			return nil, errLZF
		}
		distance := (control&31)<<8 + int(src[i]) + 1
		i++
		from := len(dst) - distance
		if from < start || n > want-(len(dst)-start) {
			return nil, errLZF
		}
		for k := range n { // the copy may reach into itself
			dst = append(dst, dst[from+k])
		}
	}
	if len(dst)-start != want {
		return nil, errLZF
	}
	return dst, nil
}

// compress appends the compressed form of src to dst. ok is false if that would take more than limit bytes.
func compress(dst, src []byte, limit int) (out []byte, ok bool) {
	var seen [1 << lzfHashBits]int32 // position of the last three bytes with this hash, plus one
	start, literal := len(dst), 0    // src[literal:i] is not written yet
	flush := func(end int) {
		for literal < end {
			n := min(end-literal, lzfMaxLiteral)
			dst = append(append(dst, byte(n-1)), src[literal:literal+n]...)
			literal += n
		}
	}
	for i := 0; i+2 < len(src); {
		if len(dst)-start > limit {
			return dst[:start], false
		}
		word := uint32(src[i])<<16 | uint32(src[i+1])<<8 | uint32(src[i+2])
		slot := &seen[word*0x9E3779B1>>(32-lzfHashBits)]
		from := int(*slot) - 1
		*slot = int32(i + 1)
		if from < 0 || i-from > lzfMaxDistance || src[from] != src[i] || src[from+1] != src[i+1] || src[from+2] != src[i+2] {
			i++
			continue
		}
		n := 3
		for n < lzfMaxCopy && i+n < len(src) && src[from+n] == src[i+n] {
			n++
		}
		flush(i)
		distance := i - from - 1
		if n-2 < 7 {
			dst = append(dst, byte((n-2)<<5|distance>>8), byte(distance))
		} else {
			dst = append(dst, byte(7<<5|distance>>8), byte(n-2-7), byte(distance))
		}
		i += n
		literal = i
	}
	flush(len(src))
	return dst, len(dst)-start <= limit
}
