package command

import (
	"math"

	"hypercache/node/store"
)

func runHRandField(c *Ctx) {
	if len(c.Args) == 2 {
		h, ok := c.readHash(c.Args[1])
		switch {
		case !ok:
		case h == nil:
			c.W.Null()
		default:
			field, _ := h.Random(c.random())
			c.W.Bulk(field)
		}
		return
	}
	n, ok := c.randomCount(2)
	if !ok {
		return
	}
	values := len(c.Args) == 4
	if len(c.Args) > 4 || values && !option(c.Args[3], "withvalues") {
		c.W.Error(errSyntax)
		return
	}
	if values && (n < -math.MaxInt64/2 || n > math.MaxInt64/2) {
		c.W.Error(errTooMany)
		return
	}
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	if h == nil || n == 0 {
		c.W.Array(0)
		return
	}
	if n < 0 {
		c.repeatedFields(h, -n, values)
		return
	}
	c.distinctFields(h, int(min(n, int64(h.Len()))), values)
}

func (c *Ctx) sampleHeader(n int, values bool) {
	if values && c.W.Proto != 3 {
		n *= 2
	}
	c.W.Array(n)
}

func (c *Ctx) sampleField(field, value []byte, values bool) {
	if values && c.W.Proto == 3 {
		c.W.Array(2)
	}
	c.hashEntry(field, value, true, values)
}

func (c *Ctx) repeatedFields(h *store.Fields, n int64, values bool) {
	if n > maxRepeats {
		c.W.Error(errTooMany)
		return
	}
	mark := len(c.W.Buf)
	c.sampleHeader(int(n), values)
	for range n {
		field, value := h.Random(c.random())
		c.sampleField(field, value, values)
		if len(c.W.Buf)-mark > maxSampleBytes {
			c.W.Buf = c.W.Buf[:mark]
			c.W.Error(errTooMany)
			return
		}
	}
}

func (c *Ctx) distinctFields(h *store.Fields, n int, values bool) {
	c.sampleHeader(n, values)
	if dense(n, h.Len()) {
		s := chooser{n, h.Len()}
		h.Each(func(field, value []byte) bool {
			if s.take(c.random()) {
				c.sampleField(field, value, values)
			}
			return s.need > 0
		})
		return
	}
	seen := make(map[string]struct{}, n)
	for len(seen) < n {
		field, value := h.Random(c.random())
		if _, have := seen[string(field)]; !have {
			seen[string(field)] = struct{}{}
			c.sampleField(field, value, values)
		}
	}
}
