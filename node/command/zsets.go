package command

import (
	"math"

	"hypercache/node/store"
)

func zsetCommands() []binding {
	return []binding{
		{name: "zadd", scope: ScopeKey, run: func(c *Ctx) { c.zadd(0) }, effect: true},
		{name: "zcard", scope: ScopeKey, run: runZCard},
		{name: "zcount", scope: ScopeKey, run: runZCount},
		{name: "zincrby", scope: ScopeKey, run: func(c *Ctx) { c.zadd(zaddIncr) }},
		{name: "zlexcount", scope: ScopeKey, run: runZLexCount},
		{name: "zmscore", scope: ScopeKey, run: runZMScore},
		{name: "zrange", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{}) }},
		{name: "zrangebylex", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{by: byLex, fixed: true}) }},
		{name: "zrangebyscore", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{by: byScore, fixed: true}) }},
		{name: "zrangestore", scope: ScopeKey, run: runZRangeStore},
		{name: "zrank", scope: ScopeKey, run: func(c *Ctx) { c.zrank(false) }},
		{name: "zrem", scope: ScopeKey, run: runZRem, effect: true},
		{name: "zremrangebylex", scope: ScopeKey, run: func(c *Ctx) { c.zremRange(zquery{by: byLex, fixed: true}, "zremrangebylex") }},
		{name: "zremrangebyrank", scope: ScopeKey, run: func(c *Ctx) { c.zremRange(zquery{by: byRank, fixed: true}, "zremrangebyrank") },
			effect: true},
		{name: "zremrangebyscore", scope: ScopeKey, run: func(c *Ctx) { c.zremRange(zquery{by: byScore, fixed: true}, "zremrangebyscore") },
			effect: true},
		{name: "zrevrange", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{by: byRank, fixed: true, rev: true}) }},
		{name: "zrevrangebylex", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{by: byLex, fixed: true, rev: true}) }},
		{name: "zrevrangebyscore", scope: ScopeKey, run: func(c *Ctx) { c.zrange(zquery{by: byScore, fixed: true, rev: true}) }},
		{name: "zrevrank", scope: ScopeKey, run: func(c *Ctx) { c.zrank(true) }},
		{name: "zscan", scope: ScopeKey, run: runZScan},
		{name: "zscore", scope: ScopeKey, run: runZScore},
		{name: "zrandmember", scope: ScopeKey, run: runZRandMember},

		{name: "zpopmax", scope: ScopeKey, run: func(c *Ctx) { c.zpop(true) }},
		{name: "zpopmin", scope: ScopeKey, run: func(c *Ctx) { c.zpop(false) }},
		{name: "zmpop", scope: ScopeKey, run: runZMPop, keys: countedKeys(1)},
		{name: "bzpopmax", scope: ScopeKey, run: func(c *Ctx) { c.bzpop(true) }},
		{name: "bzpopmin", scope: ScopeKey, run: func(c *Ctx) { c.bzpop(false) }},
		{name: "bzmpop", scope: ScopeKey, run: runBZMPop, keys: countedKeys(2)},

		{name: "zdiff", scope: ScopeKey, run: func(c *Ctx) { c.zcombine(zdiff) }, keys: countedKeys(1)},
		{name: "zdiffstore", scope: ScopeKey, run: func(c *Ctx) { c.zcombineStore(zdiff) }, keys: countedKeys(2, 1)},
		{name: "zinter", scope: ScopeKey, run: func(c *Ctx) { c.zcombine(zinter) }, keys: countedKeys(1)},
		{name: "zintercard", scope: ScopeKey, run: runZInterCard, keys: countedKeys(1)},
		{name: "zinterstore", scope: ScopeKey, run: func(c *Ctx) { c.zcombineStore(zinter) }, keys: countedKeys(2, 1)},
		{name: "zunion", scope: ScopeKey, run: func(c *Ctx) { c.zcombine(zunion) }, keys: countedKeys(1)},
		{name: "zunionstore", scope: ScopeKey, run: func(c *Ctx) { c.zcombineStore(zunion) }, keys: countedKeys(2, 1)},
	}
}

// readZSet finds the sorted set that a read is about. ok is false when the reply is written: by absent, or WRONGTYPE.
func (c *Ctx) readZSet(key []byte, absent func()) (z store.SortedSet, ok bool) {
	r, found := c.findRead(key)
	if !found {
		absent()
		return z, false
	}
	if r.Type() != store.ZSet {
		c.W.Error(errWrongType)
		return z, false
	}
	return r.SortedSet(), true
}

// writeZSet finds the sorted set that a write is about. ok is false when the key holds another type: the reply is written.
func (c *Ctx) writeZSet(key []byte) (z store.SortedSet, found, ok bool) {
	r, found := c.findWrite(key)
	if !found {
		return z, false, true
	}
	if r.Type() != store.ZSet {
		c.W.Error(errWrongType)
		return z, true, false
	}
	return r.SortedSet(), true, true
}

func (c *Ctx) replyZero()       { c.W.Int(0) }
func (c *Ctx) replyNull()       { c.W.Null() }
func (c *Ctx) replyEmptyArray() { c.W.Array(0) }

// maxFXWords is how many words behind its key one effect has at most.
const maxFXWords = 1000

// pieces appends "name key word …" as often as it takes to name all words, of which per at a time belong together.
func (e *Effects) pieces(name, key []byte, words [][]byte, per int) {
	if e == nil {
		return
	}
	for len(words) > 0 {
		n := min(len(words), maxFXWords/per*per)
		e.Buf = appendHeader(e.Buf, '*', n+2)
		e.Buf = appendBulk(appendBulk(e.Buf, name), key)
		for _, w := range words[:n] {
			e.Buf = appendBulk(e.Buf, w)
		}
		e.N++
		words = words[n:]
	}
}

var (
	nameZAdd = []byte("ZADD")
	nameZRem = []byte("ZREM")
)

// zaddFlags are the options of ZADD.
type zaddFlags uint8

const (
	zaddNX zaddFlags = 1 << iota
	zaddXX
	zaddGT
	zaddLT
	zaddCH
	zaddIncr
)

func zaddOption(arg []byte) zaddFlags {
	switch {
	case option(arg, "nx"):
		return zaddNX
	case option(arg, "xx"):
		return zaddXX
	case option(arg, "ch"):
		return zaddCH
	case option(arg, "incr"):
		return zaddIncr
	case option(arg, "gt"):
		return zaddGT
	case option(arg, "lt"):
		return zaddLT
	}
	return 0
}

// parseZAdd reads the options and checks the scores; the pairs begin at first.
func (c *Ctx) parseZAdd(flags zaddFlags) (all zaddFlags, first int, ok bool) {
	first = 2
	for ; first < len(c.Args); first++ {
		f := zaddOption(c.Args[first])
		if f == 0 {
			break
		}
		flags |= f
	}
	words := len(c.Args) - first
	switch {
	case words == 0 || words%2 != 0:
		c.W.Error(errSyntax)
	case flags&zaddNX != 0 && flags&zaddXX != 0:
		c.W.Error("ERR XX and NX options at the same time are not compatible")
	case flags&zaddGT != 0 && flags&(zaddNX|zaddLT) != 0 || flags&zaddLT != 0 && flags&zaddNX != 0:
		c.W.Error("ERR GT, LT, and/or NX options at the same time are not compatible")
	case flags&zaddIncr != 0 && words > 2:
		c.W.Error("ERR INCR option supports a single increment-element pair")
	default:
		return flags, first, c.checkScores(first)
	}
	return 0, 0, false
}

// checkScores checks every second argument from first on.
func (c *Ctx) checkScores(first int) bool {
	for i := first; i < len(c.Args); i += 2 {
		if _, ok := parseDouble(c.Args[i]); !ok {
			c.W.Error(errNotFloat)
			return false
		}
	}
	return true
}

// zaddOutcome is what ZADD did with one pair.
type zaddOutcome uint8

const (
	zaddRefused zaddOutcome = iota // by NX, XX, GT or LT
	zaddSame
	zaddUpdated
	zaddAdded
	zaddNaN
)

// zaddOne gives a member its score, or adds to it, as far as the options let it.
func zaddOne(z *store.SortedSet, member []byte, score float64, flags zaddFlags) (result float64, did zaddOutcome) {
	old, found := z.Score(member)
	if !found {
		if flags&zaddXX != 0 {
			return 0, zaddRefused
		}
		z.Set(member, unsigned(score))
		return score, zaddAdded
	}
	if flags&zaddNX != 0 {
		return 0, zaddRefused
	}
	if flags&zaddIncr != 0 {
		score += old
		if math.IsNaN(score) {
			return 0, zaddNaN
		}
	}
	if flags&zaddLT != 0 && score >= old || flags&zaddGT != 0 && score <= old {
		return 0, zaddRefused
	}
	if score == old {
		return score, zaddSame
	}
	z.Set(member, unsigned(score))
	return score, zaddUpdated
}

// zadd is ZADD, and ZINCRBY, which takes the same options.
func (c *Ctx) zadd(flags zaddFlags) {
	flags, first, ok := c.parseZAdd(flags)
	if !ok {
		return
	}
	key := c.Args[1]
	z, found, ok := c.writeZSet(key)
	switch {
	case !ok:
		return
	case flags&zaddIncr != 0:
		c.zincr(z, found, flags, first)
		return
	case !found && flags&zaddXX != 0:
		c.W.Int(0)
		return
	case !found:
		z = c.newZSet(key)
	}
	added, updated := int64(0), int64(0)
	var few [64][]byte
	words := few[:0]
	for i := first; i < len(c.Args); i += 2 {
		score, _ := parseDouble(c.Args[i])
		switch _, did := zaddOne(&z, c.Args[i+1], score, flags); did {
		case zaddAdded:
			added++
		case zaddUpdated:
			updated++
		default:
			continue
		}
		words = append(words, c.Args[i], c.Args[i+1])
	}
	c.FX.pieces(nameZAdd, key, words, 2)
	if added+updated > 0 {
		c.changed(key)
		c.notify(ClassZSet, "zadd", key)
	}
	if flags&zaddCH != 0 {
		added += updated
	}
	c.W.Int(added)
}

func (c *Ctx) newZSet(key []byte) store.SortedSet {
	c.notify(ClassNew, "new", key)
	return c.Shard.NewSortedSet(key)
}

// zincr is ZADD with INCR.
func (c *Ctx) zincr(z store.SortedSet, found bool, flags zaddFlags, first int) {
	key, member := c.Args[1], c.Args[first+1]
	by, _ := parseDouble(c.Args[first])
	if !found {
		if flags&zaddXX != 0 {
			c.W.Null()
			return
		}
		z = c.newZSet(key)
	}
	score, did := zaddOne(&z, member, by, flags)
	switch did {
	case zaddNaN:
		c.W.Error("ERR resulting score is not a number (NaN)")
		return
	case zaddRefused:
		c.W.Null()
		return
	case zaddAdded, zaddUpdated:
		c.FX.Command(nameZAdd, key, appendScore(c.scratch[:0], score), member)
		c.changed(key)
		c.notify(ClassZSet, "zincr", key)
	}
	c.W.Double(score)
}

func runZRem(c *Ctx) {
	key := c.Args[1]
	z, found, ok := c.writeZSet(key)
	if !ok {
		return
	}
	if !found {
		c.W.Int(0)
		return
	}
	var few [64][]byte
	removed := few[:0]
	for _, member := range c.Args[2:] {
		if z.Remove(member) {
			removed = append(removed, member)
		}
	}
	if len(removed) > 0 {
		c.FX.pieces(nameZRem, key, removed, 1)
		c.notify(ClassZSet, "zrem", key)
		c.dropEmptyZSet(key, &z)
		c.changed(key)
	}
	c.W.Int(int64(len(removed)))
}

// dropEmptyZSet deletes the key if nothing is left in it.
func (c *Ctx) dropEmptyZSet(key []byte, z *store.SortedSet) {
	if z.Len() == 0 {
		c.Shard.Delete(key)
		c.notify(ClassGeneric, "del", key)
	}
}

func runZCard(c *Ctx) {
	if z, ok := c.readZSet(c.Args[1], c.replyZero); ok {
		c.W.Int(int64(z.Len()))
	}
}

func runZScore(c *Ctx) {
	if z, ok := c.readZSet(c.Args[1], c.replyNull); ok {
		c.replyScore(&z, c.Args[2])
	}
}

func (c *Ctx) replyScore(z *store.SortedSet, member []byte) {
	score, ok := z.Score(member)
	if !ok {
		c.W.Null()
		return
	}
	c.W.Double(score)
}

func runZMScore(c *Ctx) {
	members := c.Args[2:]
	z, ok := c.readZSet(c.Args[1], func() {
		c.W.Array(len(members))
		for range members {
			c.W.Null()
		}
	})
	if !ok {
		return
	}
	c.W.Array(len(members))
	for _, m := range members {
		c.replyScore(&z, m)
	}
}

func (c *Ctx) zrank(reverse bool) {
	z, ok := c.readZSet(c.Args[1], c.replyNull)
	if !ok {
		return
	}
	rank, ok := z.Rank(c.Args[2])
	if !ok {
		c.W.Null()
		return
	}
	if reverse {
		rank = z.Len() - 1 - rank
	}
	c.W.Int(int64(rank))
}
