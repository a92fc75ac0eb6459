package command

import (
	"math"
	"math/big"
)

// The commands on lists that wait, in their order of checks: arguments, the timeout last, then the keys from the first on.

func (c *Ctx) runBlockingPop(from end) {
	last := len(c.Args) - 1
	until, ok := c.timeout(c.Args[last])
	if !ok {
		return
	}
	key, l, ok := c.firstList(c.Args[1:last])
	if !ok {
		return
	}
	if key == nil {
		c.block(until)
		return
	}
	c.W.Array(2)
	c.W.Bulk(key)
	c.W.Bulk(l.At(from.index(l.Len())))
	c.remove(key, &l, from, 1)
}

func runBLMPop(c *Ctx) {
	p, ok := c.parseManyPop(2, "left", "right")
	if !ok {
		return
	}
	until, ok := c.timeout(c.Args[1])
	if !ok {
		return
	}
	key, l, ok := c.firstList(p.keys)
	if !ok {
		return
	}
	if key == nil {
		c.block(until)
		return
	}
	c.replyManyPop(key, &l, &p)
}

func runBLMove(c *Ctx) {
	if from, to, ok := c.endArgs(); ok {
		c.blmove(from, to, c.Args[5])
	}
}

func (c *Ctx) blmove(from, to end, timeout []byte) {
	until, ok := c.timeout(timeout)
	if !ok {
		return
	}
	key, l, ok := c.firstList(c.Args[1:2])
	switch {
	case !ok:
	case key != nil:
		c.move(&l, from, to)
	case c.NoBlock:
		c.W.Null() // not the null array of those that answer with a key
	default:
		c.block(until)
	}
}

// timeout reads how long a command waits, in seconds with a fraction, and returns until when: 0 for ever.
func (c *Ctx) timeout(arg []byte) (until int64, ok bool) {
	ms, ok := parseTimeout(arg)
	switch {
	case !ok:
		c.W.Error("ERR timeout is not a float or out of range")
		return 0, false
	case ms < 0:
		c.W.Error("ERR timeout is negative")
		return 0, false
	case ms == 0 || ms > math.MaxInt64-c.Now:
		return 0, true
	}
	return c.Now + ms, true
}

// parseTimeout turns seconds into milliseconds, rounded up so that no wait becomes one for ever. What 64 bits can't hold
// is negative, as a C compiler has it.
func parseTimeout(arg []byte) (ms int64, ok bool) {
	if n, ok := parseInt(arg); ok && n > math.MinInt64/1000 && n < math.MaxInt64/1000 {
		return n * 1000, true
	}
	x, ok := parseLongDouble(arg)
	if !ok {
		return 0, false
	}
	x = new(big.Float).SetPrec(longDoublePrec).Mul(x, big.NewFloat(1000))
	if x.Cmp(new(big.Float).SetPrec(longDoublePrec).SetInt64(math.MaxInt64)) > 0 {
		return math.MinInt64, true
	}
	ms, accuracy := x.Int64()
	if accuracy == big.Below {
		ms++
	}
	return ms, true
}
