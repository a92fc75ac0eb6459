package command

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"

	"hypercache/node/store"
)

func bitmapCommands() []binding {
	return []binding{
		{name: "bitcount", scope: ScopeKey, run: runBitCount},
		{name: "bitfield", scope: ScopeKey, run: runBitField, effect: true},
		{name: "bitfield_ro", scope: ScopeKey, run: runBitField},
		{name: "bitop", scope: ScopeKey, run: runBitOp, effect: true},
		{name: "bitpos", scope: ScopeKey, run: runBitPos},
		{name: "getbit", scope: ScopeKey, run: runGetBit},
		{name: "setbit", scope: ScopeKey, run: runSetBit, effect: true},
	}
}

const errBitOffset = "ERR bit offset is not an integer or out of range"

// bitOffset reads an offset in bits. With width, that of a BITFIELD type, #n counts in widths; a product that overflows
// wraps, as in Redis.
func (c *Ctx) bitOffset(arg []byte, width int64) (offset int64, ok bool) {
	factor := int64(1)
	if width > 0 && len(arg) > 0 && arg[0] == '#' {
		arg, factor = arg[1:], width
	}
	offset, ok = parseInt(arg)
	offset *= factor
	if !ok || offset < 0 || offset>>3 >= maxBulk {
		c.W.Error(errBitOffset)
		return 0, false
	}
	return offset, true
}

var nameSetBit = []byte("SETBIT")

func runSetBit(c *Ctx) {
	key := c.Args[1]
	offset, ok := c.bitOffset(c.Args[2], 0)
	if !ok {
		return
	}
	on, ok := parseInt(c.Args[3])
	if !ok || on&^1 != 0 {
		c.W.Error("ERR bit is not an integer or out of range")
		return
	}
	var value []byte
	r, found, ok := c.writeAs(key, store.String)
	if !ok {
		return
	}
	if found {
		value = r.Value()
	}
	at, shift := int(offset>>3), 7-offset&7
	old, grows := byte(0), at >= len(value)
	if !grows {
		old = value[at]
	}
	was := int64(old) >> shift & 1
	if grows || was != on {
		b := [1]byte{old&^(1<<shift) | byte(on)<<shift}
		c.Shard.SetRange(key, at, b[:])
		if c.FX != nil {
			c.FX.Command(nameSetBit, key, c.Args[2], c.Args[3])
		}
		if !found {
			c.notify(ClassNew, "new", key)
		}
		c.changed(key)
		c.notify(ClassString, "setbit", key)
	}
	c.W.Int(was)
}

func runGetBit(c *Ctx) {
	offset, ok := c.bitOffset(c.Args[2], 0)
	if !ok {
		return
	}
	r, ok := c.findString(c.Args[1], func() { c.W.Int(0) })
	if !ok {
		return
	}
	value, bit := r.Value(), byte(0)
	if at := offset >> 3; at < int64(len(value)) {
		bit = value[at] >> (7 - offset&7) & 1
	}
	c.W.Int(int64(bit))
}

// bitRange are the arguments of BITCOUNT and BITPOS, resolved to bits: first to last, both included; none when first is
// behind last.
type bitRange struct{ first, last int64 }

// clampRange resolves a range in bytes or bits of a string of n bytes, where negative numbers count from the end.
func clampRange(start, end int64, n int, inBits bool) bitRange {
	total := int64(n)
	if inBits {
		total *= 8
	}
	if start < 0 {
		start = max(start+total, 0)
	}
	if end < 0 {
		end = max(end+total, 0)
	}
	end = min(end, total-1)
	if inBits || start > end {
		return bitRange{start, end}
	}
	return bitRange{start * 8, end*8 + 7}
}

// rangeUnit reads BYTE or BIT.
func (c *Ctx) rangeUnit(i int) (inBits, ok bool) {
	switch {
	case option(c.Args[i], "bit"):
		return true, true
	case option(c.Args[i], "byte"):
		return false, true
	}
	c.W.Error(errSyntax)
	return false, false
}

func runBitCount(c *Ctx) {
	r, ok := c.findString(c.Args[1], func() { c.W.Int(0) })
	if !ok {
		return
	}
	value := r.Value()
	switch len(c.Args) {
	case 2:
		c.W.Int(popCount(value))
		return
	case 4, 5:
	default:
		c.W.Error(errSyntax)
		return
	}
	start, ok := c.intArg(2)
	if !ok {
		return
	}
	end, ok := c.intArg(3)
	if !ok {
		return
	}
	if start < 0 && end < 0 && start > end {
		c.W.Int(0)
		return
	}
	inBits := false
	if len(c.Args) == 5 {
		if inBits, ok = c.rangeUnit(4); !ok {
			return
		}
	}
	c.W.Int(countRange(value, clampRange(start, end, len(value), inBits)))
}

// countRange counts the ones of a range that lies in p.
func countRange(p []byte, r bitRange) int64 {
	if r.first > r.last {
		return 0
	}
	from, to := r.first>>3, r.last>>3
	n := popCount(p[from : to+1])
	n -= int64(bits.OnesCount8(p[from] &^ (0xff >> (r.first & 7))))
	return n - int64(bits.OnesCount8(p[to]&(0x7f>>(r.last&7))))
}

func popCount(p []byte) (n int64) {
	for ; len(p) >= 32; p = p[32:] {
		n += int64(bits.OnesCount64(binary.NativeEndian.Uint64(p)) + bits.OnesCount64(binary.NativeEndian.Uint64(p[8:])) +
			bits.OnesCount64(binary.NativeEndian.Uint64(p[16:])) + bits.OnesCount64(binary.NativeEndian.Uint64(p[24:])))
	}
	for _, b := range p {
		n += int64(bits.OnesCount8(b))
	}
	return n
}

func runBitPos(c *Ctx) {
	bit, ok := c.intArg(2)
	if !ok {
		return
	}
	if bit != 0 && bit != 1 {
		c.W.Error("ERR The bit argument must be 1 or 0.")
		return
	}
	r, ok := c.findString(c.Args[1], func() { c.W.Int(-bit) })
	if !ok {
		return
	}
	value := r.Value()
	where, ok := c.posRange(len(value))
	if !ok {
		return
	}
	if where.first > where.last {
		c.W.Int(-1)
		return
	}
	pos := findBit(value, byte(bit), where)
	if pos < 0 && bit == 0 && len(c.Args) < 5 {
		pos = int64(len(value)) * 8 // zeros follow a string whose end was not given
	}
	c.W.Int(pos)
}

// posRange reads BITPOS' optional start, end and unit for a string of n bytes.
func (c *Ctx) posRange(n int) (r bitRange, ok bool) {
	if len(c.Args) == 3 {
		return clampRange(0, int64(n)-1, n, false), true
	}
	if len(c.Args) > 6 {
		c.W.Error(errSyntax)
		return r, false
	}
	start, ok := c.intArg(3)
	if !ok {
		return r, false
	}
	inBits := false
	if len(c.Args) == 6 {
		if inBits, ok = c.rangeUnit(5); !ok {
			return r, false
		}
	}
	end := int64(n) - 1
	if len(c.Args) >= 5 {
		if end, ok = c.intArg(4); !ok {
			return r, false
		}
	}
	return clampRange(start, end, n, inBits), true
}

// findBit returns the place of the first bit of this value in a range that lies in p, -1 if there is none.
func findBit(p []byte, bit byte, r bitRange) int64 {
	flip := uint64(0) // makes the bit that is looked for a one
	if bit == 0 {
		flip = ^flip
	}
	at, end := int(r.first>>3), int(r.last>>3)
	b := (p[at] ^ byte(flip)) & (0xff >> (r.first & 7))
	for b == 0 && at < end {
		at++
		for at+8 <= end && binary.NativeEndian.Uint64(p[at:]) == flip {
			at += 8
		}
		b = p[at] ^ byte(flip)
	}
	pos := int64(at)*8 + int64(bits.LeadingZeros8(b))
	if b == 0 || pos > r.last {
		return -1
	}
	return pos
}

func runBitOp(c *Ctx) {
	op, dst, keys := c.Args[1], c.Args[2], c.Args[3:]
	name := ""
	for _, known := range [...]string{"and", "or", "xor", "not"} {
		if option(op, known) {
			name = known
		}
	}
	switch {
	case name == "":
		c.W.Error(errSyntax)
		return
	case name == "not" && len(keys) != 1:
		c.W.Error("ERR BITOP NOT must be called with a single source key.")
		return
	}
	sources, ok := c.bitSources(keys)
	if !ok {
		return
	}
	result := combine(name, sources)
	_, had := c.findWrite(dst)
	c.W.Int(int64(len(result)))
	if len(result) == 0 {
		if had {
			c.deleteKey(dst)
		}
		return
	}
	c.Shard.Set(dst, nil, 0)
	c.Shard.SetRange(dst, 0, result) // and not Set: Redis reports the encoding raw
	if len(c.Args) <= effectWords {
		c.repeat()
	} else {
		c.FX.set(dst, result, 0)
	}
	if !had {
		c.notify(ClassNew, "new", dst)
	}
	c.changed(dst)
	c.notify(ClassString, "set", dst)
}

// bitSources finds the strings of BITOP; those that do not exist are empty. Expired ones are deleted first, since that
// moves memory.
func (c *Ctx) bitSources(keys [][]byte) (sources [][]byte, ok bool) {
	for _, key := range keys {
		c.findWrite(key)
	}
	sources = make([][]byte, len(keys))
	for i, key := range keys {
		r, found, ok := c.readAs(key, store.String)
		if !ok {
			return nil, false
		}
		if found {
			sources[i] = r.Value()
		}
	}
	return sources, true
}

// combine is BITOP's result, as long as the longest source; shorter ones are followed by zeros.
func combine(op string, sources [][]byte) []byte {
	size := 0
	for _, s := range sources {
		size = max(size, len(s))
	}
	result := make([]byte, size)
	copy(result, sources[0])
	if op == "not" {
		notBytes(result)
		return result
	}
	for _, s := range sources[1:] {
		switch op {
		case "and":
			andBytes(result, s)
			clear(result[len(s):])
		case "or":
			orBytes(result, s)
		case "xor":
			subtle.XORBytes(result, result, s)
		}
	}
	return result
}

func notBytes(p []byte) {
	for ; len(p) >= 8; p = p[8:] {
		binary.NativeEndian.PutUint64(p, ^binary.NativeEndian.Uint64(p))
	}
	for i, b := range p {
		p[i] = ^b
	}
}

// andBytes does dst &= src for the length of src.
func andBytes(dst, src []byte) {
	for ; len(src) >= 8 && len(dst) >= 8; dst, src = dst[8:], src[8:] {
		binary.NativeEndian.PutUint64(dst, binary.NativeEndian.Uint64(dst)&binary.NativeEndian.Uint64(src))
	}
	for i, b := range src {
		dst[i] &= b
	}
}

// orBytes does dst |= src for the length of src.
func orBytes(dst, src []byte) {
	for ; len(src) >= 8 && len(dst) >= 8; dst, src = dst[8:], src[8:] {
		binary.NativeEndian.PutUint64(dst, binary.NativeEndian.Uint64(dst)|binary.NativeEndian.Uint64(src))
	}
	for i, b := range src {
		dst[i] |= b
	}
}
