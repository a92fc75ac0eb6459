package command

import (
	"math"

	"hypercache/node/store"
)

const errStreamID = "ERR Invalid stream ID specified as stream command argument"

// maxStreamID is the longest argument that can be an ID, in bytes.
const maxStreamID = 127

// parseStreamID reads an ID. One without the part behind the dash gets seq. "-" and "+" are the least and the largest,
// unless strict.
func parseStreamID(arg []byte, seq uint64, strict bool) (id store.StreamID, ok bool) {
	if len(arg) > maxStreamID {
		return id, false
	}
	if !strict && option(arg, "-") {
		return id, true
	}
	if !strict && option(arg, "+") {
		return store.MaxStreamID, true
	}
	ms, rest, dash := cutID(arg)
	if id.Ms, ok = parseUnsigned(ms); !ok {
		return id, false
	}
	if !dash {
		id.Seq = seq
		return id, true
	}
	id.Seq, ok = parseUnsigned(rest)
	return id, ok
}

// cutID cuts an ID at its first dash, and ends it at a NUL.
func cutID(arg []byte) (ms, seq []byte, dash bool) {
	for i, b := range arg {
		if b == 0 {
			arg = arg[:i]
			break
		}
	}
	for i, b := range arg {
		if b == '-' {
			return arg[:i], arg[i+1:], true
		}
	}
	return arg, nil, false
}

// parseUnsigned reads a number of 64 bits without a sign, in any form that strtoull takes: with blanks before it, zeros,
// and a plus sign. A minus sign is an error in front of a number in its usual form and turns others round; Redis does so.
func parseUnsigned(b []byte) (uint64, bool) {
	if n, ok := parseInt(b); ok {
		return uint64(n), n >= 0
	}
	for len(b) > 0 && (b[0] == ' ' || b[0] >= '\t' && b[0] <= '\r') {
		b = b[1:]
	}
	minus := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		minus = b[0] == '-'
		b = b[1:]
	}
	var n uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > math.MaxUint64/10 || n*10 > math.MaxUint64-d {
			return 0, false
		}
		n = n*10 + d
	}
	if minus {
		n = -n
	}
	return n, len(b) > 0
}

// streamID reads the ID of an argument, or replies with Redis' error.
func (c *Ctx) streamID(i int, seq uint64, strict bool) (store.StreamID, bool) {
	id, ok := parseStreamID(c.Args[i], seq, strict)
	if !ok {
		c.W.Error(errStreamID)
	}
	return id, ok
}

// streamIDs reads the IDs that are the arguments from first on.
func (c *Ctx) streamIDs(first int) ([]store.StreamID, bool) {
	ids := make([]store.StreamID, 0, len(c.Args)-first)
	for i := first; i < len(c.Args); i++ {
		id, ok := c.streamID(i, 0, true)
		if !ok {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

// rangeStart reads the start of a range of IDs, which is outside of it behind a parenthesis.
func (c *Ctx) rangeStart(i int) (store.StreamID, bool) {
	id, open, ok := c.rangeEdge(i, 0)
	if ok && open {
		if id, ok = id.Next(); !ok {
			c.W.Error("ERR invalid start ID for the interval")
		}
	}
	return id, ok
}

// rangeEnd reads the end of a range of IDs.
func (c *Ctx) rangeEnd(i int) (store.StreamID, bool) {
	id, open, ok := c.rangeEdge(i, math.MaxUint64)
	if ok && open {
		if id, ok = id.Prev(); !ok {
			c.W.Error("ERR invalid end ID for the interval")
		}
	}
	return id, ok
}

func (c *Ctx) rangeEdge(i int, seq uint64) (id store.StreamID, open, ok bool) {
	arg := c.Args[i]
	if open = len(arg) > 1 && arg[0] == '('; open {
		arg = arg[1:]
	}
	if id, ok = parseStreamID(arg, seq, open); !ok {
		c.W.Error(errStreamID)
	}
	return id, open, ok
}

// xaddArgs are the arguments of XADD, and of XTRIM as far as it has them.
type xaddArgs struct {
	trims    bool
	trim     store.StreamTrim
	noCreate bool
	auto     bool // the ID is *
	autoSeq  bool // the ID is ms-*
	id       store.StreamID
	words    int // the place of the first field
}

// nextID is the ID of an entry that is added behind last; errText is Redis' error.
func (a *xaddArgs) nextID(last store.StreamID, now int64) (id store.StreamID, errText string) {
	const small = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
	if last == store.MaxStreamID {
		return id, "ERR The stream has exhausted the last possible ID, unable to add more items"
	}
	switch {
	case a.auto && uint64(now) > last.Ms:
		return store.StreamID{Ms: uint64(now)}, ""
	case a.auto:
		id, _ = last.Next()
		return id, ""
	case a.autoSeq && a.id.Ms == last.Ms:
		if last.Seq == math.MaxUint64 {
			return id, small
		}
		return store.StreamID{Ms: last.Ms, Seq: last.Seq + 1}, ""
	case a.id.Compare(last) <= 0:
		return id, small
	}
	return a.id, ""
}

func (c *Ctx) parseXAdd() (a xaddArgs, ok bool) {
	a, at, ok := c.parseTrim(true)
	if !ok {
		return a, false
	}
	a.words = at + 1
	if n := len(c.Args) - a.words; n < 2 || n%2 == 1 {
		c.W.Error(ArityError(c.Spec))
		return a, false
	}
	if !a.auto && !a.autoSeq && a.id.IsZero() {
		c.W.Error("ERR The ID specified in XADD must be greater than 0-0")
		return a, false
	}
	return a, true
}

// trimLimit is how many entries ~ removes at once unless LIMIT says otherwise: 100 nodes, but at most a million, and 10,000 if nodes
// have no limit.
func (c *Ctx) trimLimit() int64 {
	if n := int64(c.Shard.Limits().StreamEntries); n > 0 {
		return 100 * min(n, 10_000)
	}
	return 10_000
}

// parseTrim reads the options of XADD and XTRIM, for XADD up to the ID, whose place is at.
func (c *Ctx) parseTrim(xadd bool) (a xaddArgs, at int, ok bool) {
	limited := false
	i := 2
options:
	for ; i < len(c.Args); i++ {
		arg, more := c.Args[i], i+1 < len(c.Args)
		switch {
		case xadd && option(arg, "*"):
			a.auto = true
			break options
		case more && (option(arg, "maxlen") || option(arg, "minid")):
			if i, ok = c.parseStrategy(&a, i); !ok {
				return a, 0, false
			}
		case more && option(arg, "limit"):
			limited = true
			i++
			if a.trim.Limit, ok = c.intArg(i); !ok {
				return a, 0, false
			}
			if a.trim.Limit < 0 {
				c.W.Error("ERR The LIMIT argument must be >= 0.")
				return a, 0, false
			}
		case xadd && option(arg, "nomkstream"):
			a.noCreate = true
		case xadd:
			if !c.parseNewID(&a, arg) {
				return a, 0, false
			}
			break options
		default:
			c.W.Error(errSyntax)
			return a, 0, false
		}
	}
	return a, i, c.checkTrim(&a, limited, xadd)
}

// parseStrategy reads MAXLEN or MINID, which is the argument i, and returns the place of its last argument.
func (c *Ctx) parseStrategy(a *xaddArgs, i int) (at int, ok bool) {
	if a.trims {
		c.W.Error("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
		return 0, false
	}
	a.trims = true
	a.trim.ByID = option(c.Args[i], "minid")
	i++
	if i+1 < len(c.Args) && (option(c.Args[i], "~") || option(c.Args[i], "=")) {
		a.trim.Approx = c.Args[i][0] == '~'
		i++
	}
	if a.trim.ByID {
		a.trim.MinID, ok = c.streamID(i, 0, true)
		return i, ok
	}
	if a.trim.MaxLen, ok = c.intArg(i); !ok {
		return 0, false
	}
	if a.trim.MaxLen < 0 {
		c.W.Error("ERR The MAXLEN argument must be >= 0.")
		return 0, false
	}
	return i, true
}

// parseNewID reads the ID of a new entry, which may leave its sequence to us.
func (c *Ctx) parseNewID(a *xaddArgs, arg []byte) (ok bool) {
	if ms, seq, dash := cutID(arg); dash && string(seq) == "*" && len(arg) <= maxStreamID {
		a.autoSeq = true
		a.id.Ms, ok = parseUnsigned(ms)
	} else {
		a.id, ok = parseStreamID(arg, 0, true)
	}
	if !ok {
		c.W.Error(errStreamID)
	}
	return ok
}

func (c *Ctx) checkTrim(a *xaddArgs, limited, xadd bool) bool {
	switch {
	case a.trim.Limit > 0 && !a.trims:
		c.W.Error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
	case !xadd && !a.trims:
		c.W.Error("ERR syntax error, XTRIM must be called with a trimming strategy")
	case limited && !a.trim.Approx:
		c.W.Error("ERR syntax error, LIMIT cannot be used without the special ~ option")
	default:
		if a.trim.Approx && !limited {
			a.trim.Limit = c.trimLimit()
		}
		return true
	}
	return false
}
