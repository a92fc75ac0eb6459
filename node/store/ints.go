package store

import (
	"encoding/binary"
	"math"
)

// A set of integers has them in ascending order, all as wide as the widest needs.

const intsBytes = 8 << 10 // of a set that stays in this form; Redis' 512 at most take half

// intWidth returns the bytes of each integer of a form, 0 for the other forms.
func intWidth(form int) int {
	if form < formInts16 {
		return 0
	}
	return 2 << (form - formInts16)
}

// formOf returns the narrowest form that holds v.
func formOf(v int64) int {
	switch {
	case v >= math.MinInt16 && v <= math.MaxInt16:
		return formInts16
	case v >= math.MinInt32 && v <= math.MaxInt32:
		return formInts32
	}
	return formInts64
}

func loadInt(p []byte, width int) int64 {
	switch width {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(p)))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(p)))
	}
	return int64(binary.LittleEndian.Uint64(p))
}

func appendWide(dst []byte, v int64, width int) []byte {
	switch width {
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v))
	case 4:
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(v))
}

// searchInts returns how many integers are below v, and whether v is the next one.
func searchInts(ints []byte, width int, v int64) (i int, ok bool) {
	lo, hi := 0, len(ints)/width
	for lo < hi {
		if mid := (lo + hi) / 2; loadInt(ints[mid*width:], width) < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(ints)/width && loadInt(ints[lo*width:], width) == v
}

// addInt adds v to a set in the form of integers. It reports not ok, and does nothing, if the set becomes too large.
func (m *Members) addInt(v int64) (added, ok bool) {
	c, s := &m.c, m.c.s
	ints := c.value()[1:]
	form := c.form()
	w := intWidth(form)
	at, found := searchInts(ints, w, v)
	if found {
		return false, true
	}
	need := max(form, formOf(v))
	if (len(ints)/w+1)*intWidth(need) > intsBytes {
		return false, false
	}
	if need == form {
		s.scratch = appendWide(s.scratch[:0], v, w)
		c.splice(1+at*w, 0, s.scratch)
		return true, true
	}
	s.scratch = s.scratch[:0]
	for i := 0; i <= len(ints); i += w {
		if i == at*w {
			s.scratch = appendWide(s.scratch, v, intWidth(need))
		}
		if i < len(ints) {
			s.scratch = appendWide(s.scratch, loadInt(ints[i:], w), intWidth(need))
		}
	}
	c.replace(byte(need), s.scratch)
	return true, true
}

// leaveInts gives a set of integers the packed form, or a tree if it is too large.
func (m *Members) leaveInts() {
	c, s := &m.c, m.c.s
	w := intWidth(c.form())
	ints := c.value()[1:]
	desk := desks.Get().(*desk)
	defer desks.Put(desk)
	packed := append(desk.work[:0], 0, 0)
	for i := 0; i < len(ints); i += w {
		packed = appendInt(packed, loadInt(ints[i:], w))
	}
	desk.work = packed
	units := len(ints) / w
	if setPacking.fits(units, len(packed)) {
		binary.LittleEndian.PutUint16(packed, uint16(units))
		c.replace(formPacked, packed)
		return
	}
	var head [treeBytes]byte
	t := tree{s, head[:], setLayout}
	t.plant()
	var buf [intText]byte
	for ; len(ints) > 0; ints = ints[w:] {
		t.put(appendText(buf[:0], loadInt(ints, w)), nil)
	}
	c.replace(formTree, head[:])
}
