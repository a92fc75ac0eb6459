package command

import (
	"math"
	"math/bits"
	"strconv"

	"hypercache/node/store"
)

// overflow is what BITFIELD does with a number that its type cannot hold.
type overflow uint8

const (
	overflowWrap overflow = iota
	overflowSat
	overflowFail
)

var overflowNames = [...]string{"wrap", "sat", "fail"}

// fieldType is i1 to i64 or u1 to u63.
type fieldType struct {
	signed bool
	width  int64
}

// fieldOp is one operation of BITFIELD.
type fieldOp struct {
	kind     byte // g, s or i: GET, SET, INCRBY
	t        fieldType
	offset   int64
	operand  int64
	overflow overflow
	args     [][]byte // its words
}

func parseFieldType(arg []byte) (t fieldType, ok bool) {
	if len(arg) == 0 || arg[0] != 'i' && arg[0] != 'u' {
		return t, false
	}
	t.signed = arg[0] == 'i'
	t.width, ok = parseInt(arg[1:])
	return t, ok && t.width >= 1 && (t.width <= 63 || t.signed && t.width == 64)
}

// parseFieldOps reads the operations from Args[2:] on. ok is false when the reply is written.
func (c *Ctx) parseFieldOps() (ops []fieldOp, ok bool) {
	present := overflowWrap
	for i := 2; i < len(c.Args); {
		op := fieldOp{overflow: present}
		size, left := 4, len(c.Args)-i-1
		switch word := c.Args[i]; {
		case option(word, "get") && left >= 2:
			op.kind, size = 'g', 3
		case option(word, "set") && left >= 3:
			op.kind = 's'
		case option(word, "incrby") && left >= 3:
			op.kind = 'i'
		case option(word, "overflow") && left >= 1:
			if present, ok = parseOverflow(c.Args[i+1]); !ok {
				c.W.Error("ERR Invalid OVERFLOW type specified")
				return nil, false
			}
			i += 2
			continue
		default:
			c.W.Error(errSyntax)
			return nil, false
		}
		op.args = c.Args[i : i+size]
		if !c.parseFieldOp(&op) {
			return nil, false
		}
		ops = append(ops, op)
		i += size
	}
	return ops, true
}

func parseOverflow(arg []byte) (overflow, bool) {
	for i, name := range overflowNames {
		if option(arg, name) {
			return overflow(i), true
		}
	}
	return 0, false
}

func (c *Ctx) parseFieldOp(op *fieldOp) (ok bool) {
	if op.t, ok = parseFieldType(op.args[1]); !ok {
		c.W.Error("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
		return false
	}
	if op.offset, ok = c.bitOffset(op.args[2], op.t.width); !ok {
		return false
	}
	if op.kind != 'g' {
		if op.operand, ok = parseInt(op.args[3]); !ok {
			c.W.Error(errNotInt)
			return false
		}
	}
	return true
}

func (op *fieldOp) last() int64 { return op.offset + op.t.width - 1 }

func runBitField(c *Ctx) {
	ops, ok := c.parseFieldOps()
	if !ok {
		return
	}
	need := int64(0) // bytes that the writes reach
	for i := range ops {
		if ops[i].kind != 'g' {
			need = max(need, ops[i].last()>>3+1)
		}
	}
	if need > 0 && !c.Spec.Write {
		c.W.Error("ERR BITFIELD_RO only supports the GET subcommand")
		return
	}
	if need > maxBulk { // by less than 8 bytes, which Redis lets pass; such a value could not be logged
		c.W.Error(errBitOffset)
		return
	}
	if need == 0 {
		c.getFields(ops)
		return
	}
	c.setFields(ops, int(need))
}

func (c *Ctx) getFields(ops []fieldOp) {
	if c.Spec.Write {
		c.findWrite(c.Args[1])
	}
	var value []byte
	r, found, ok := c.readAs(c.Args[1], store.String)
	if !ok {
		return
	}
	if found {
		value = r.Value()
	}
	c.W.Array(len(ops))
	for i := range ops {
		c.W.Int(ops[i].get(value))
	}
}

// setFields runs operations with writes among them on a string of at least need bytes. Like Redis it makes the string as
// long as that even where every write fails.
func (c *Ctx) setFields(ops []fieldOp, need int) {
	key := c.Args[1]
	r, found, ok := c.writeAs(key, store.String)
	if !ok {
		return
	}
	grown := !found || len(r.Value()) < need
	if !found {
		c.notify(ClassNew, "new", key)
	}
	if grown {
		c.Shard.SetRange(key, need-1, []byte{0})
	}
	c.W.Array(len(ops))
	written, changed := false, false
	for i := range ops {
		r, _ := c.Shard.Peek(key)
		op, value := &ops[i], r.Value()
		old := op.get(value)
		if op.kind == 'g' {
			c.W.Int(old)
			continue
		}
		now, fits := op.apply(old)
		if !fits && op.overflow == overflowFail {
			c.W.Null()
			continue
		}
		written = true
		if op.kind == 's' {
			c.W.Int(old)
		} else {
			c.W.Int(now)
		}
		if now != old {
			c.putField(value, op, uint64(now))
			changed = true
		}
	}
	if !grown && !changed {
		return
	}
	c.fieldEffects(ops)
	c.changed(key)
	if written {
		c.notify(ClassString, "setbit", key)
	}
}

// putField writes the bytes that a number of the operation's type takes.
func (c *Ctx) putField(value []byte, op *fieldOp, n uint64) {
	first, last := op.offset>>3, op.last()>>3
	var piece [9]byte
	b := piece[:copy(piece[:], value[first:last+1])]
	for i := op.t.width - 1; i >= 0; i-- {
		at := op.offset&7 + i
		mask := byte(0x80) >> (at & 7)
		if b[at>>3] &^= mask; n&1 != 0 {
			b[at>>3] |= mask
		}
		n >>= 1
	}
	c.Shard.SetRange(c.Args[1], int(first), b)
}

// get reads the operation's number; what lies behind the end of the string is zero.
func (op *fieldOp) get(value []byte) int64 {
	first, skip := op.offset>>3, uint(op.offset&7)
	var piece [9]byte
	if first < int64(len(value)) {
		copy(piece[:], value[first:])
	}
	n := uint64(0)
	for _, b := range piece[:8] {
		n = n<<8 | uint64(b)
	}
	n = n<<skip | uint64(piece[8])>>(8-skip)
	unused := uint(64 - op.t.width)
	if op.t.signed {
		return int64(n) >> unused
	}
	return int64(n >> unused)
}

// apply is the number that SET or INCRBY makes of the old one, after wrapping or saturation. fits is false when the type
// could not hold it.
func (op *fieldOp) apply(old int64) (now int64, fits bool) {
	base, by := old, op.operand
	if op.kind == 's' {
		base, by = op.operand, 0
	}
	if op.t.signed {
		return op.applySigned(base, by)
	}
	return op.applyUnsigned(base, by)
}

func (op *fieldOp) applySigned(base, by int64) (now int64, fits bool) {
	limit := int64(math.MaxInt64) >> (64 - op.t.width)
	sum := base + by
	high, low := sum > limit, sum < -limit-1
	switch {
	case addOverflows(base, by):
		high, low = by > 0, by < 0
	case op.t.width < 64 && base < limit-math.MaxInt64:
		high, low = true, false // a SET with so low a number; Redis' own arithmetic overflows here
	}
	switch {
	case !high && !low:
		return sum, true
	case op.overflow == overflowWrap:
		unused := uint(64 - op.t.width)
		return sum << unused >> unused, false
	case high:
		return limit, false
	}
	return -limit - 1, false
}

// applyUnsigned takes a negative base, which only SET can have, for the large number that its bits are.
func (op *fieldOp) applyUnsigned(base, by int64) (now int64, fits bool) {
	limit := uint64(1)<<op.t.width - 1
	sum, carry := bits.Add64(uint64(base), uint64(by), 0)
	low := by < 0 && carry == 0
	high := !low && (sum > limit || by > 0 && carry == 1)
	switch {
	case !high && !low:
		return int64(sum), true
	case op.overflow == overflowWrap:
		return int64(sum & limit), false
	case high:
		return int64(limit), false
	}
	return 0, false
}

// fieldEffects records BITFIELD itself, without its reads, in pieces if it is long.
func (c *Ctx) fieldEffects(ops []fieldOp) {
	if c.FX == nil {
		return
	}
	head := [][]byte{[]byte("BITFIELD"), c.Args[1]}
	args, present := head, overflow(math.MaxUint8)
	for i := range ops {
		op := &ops[i]
		if op.kind == 'g' {
			continue
		}
		if len(args) > effectWords {
			c.FX.Command(args...)
			args, present = args[:len(head)], math.MaxUint8
		}
		if op.overflow != present {
			present = op.overflow
			args = append(args, []byte("OVERFLOW"), []byte(overflowNames[present]))
		}
		args = append(args, op.args[0], op.args[1], strconv.AppendInt(nil, op.offset, 10), op.args[3])
	}
	c.FX.Command(args...)
}
