package command

import (
	"math"
	"math/rand/v2"
	"strconv"

	"hypercache/node/store"
)

// zpopEvents are the notifications of pops from the low and the high end.
var zpopEvents = map[bool]string{false: "zpopmin", true: "zpopmax"}

// popMembers removes up to n members from one end of the sorted set under key, with effects and events.
func (c *Ctx) popMembers(key []byte, z *store.SortedSet, highest bool, n int64) []scoredMember {
	count := int(min(n, int64(z.Len())))
	from := 0
	if highest {
		from = z.Len() - count
	}
	gone := c.zremRanks(key, z, from, from+count)
	if highest {
		for i, j := 0, len(gone)-1; i < j; i, j = i+1, j-1 {
			gone[i], gone[j] = gone[j], gone[i]
		}
	}
	c.notify(ClassZSet, zpopEvents[highest], key)
	c.dropEmptyZSet(key, z)
	c.changed(key)
	return gone
}

// zpop is ZPOPMIN and ZPOPMAX.
func (c *Ctx) zpop(highest bool) {
	if len(c.Args) > 3 {
		c.W.Error(errSyntax)
		return
	}
	n := int64(1)
	if len(c.Args) == 3 {
		var ok bool
		if n, ok = parseInt(c.Args[2]); !ok || n < 0 {
			c.W.Error("ERR value is out of range, must be positive")
			return
		}
	}
	z, found, ok := c.writeZSet(c.Args[1])
	if !ok {
		return
	}
	if !found || n == 0 {
		c.W.Array(0)
		return
	}
	gone := c.popMembers(c.Args[1], &z, highest, n)
	if c.W.Proto == 3 && len(c.Args) == 3 {
		c.replyScoredPairs(gone)
		return
	}
	c.W.Array(2 * len(gone))
	for _, m := range gone {
		c.W.Bulk(m.member)
		c.W.Double(m.score)
	}
}

// replyScoredPairs replies with arrays of member and score, in RESP2 as well.
func (c *Ctx) replyScoredPairs(members []scoredMember) {
	c.W.Array(len(members))
	for _, m := range members {
		c.W.Array(2)
		c.W.Bulk(m.member)
		c.W.Double(m.score)
	}
}

// firstZSet is the first of the keys that exists. ok is false when it holds no sorted set: the reply is written.
func (c *Ctx) firstZSet(keys [][]byte) (key []byte, z store.SortedSet, ok bool) {
	for _, key := range keys {
		if z, found, ok := c.writeZSet(key); !ok || found {
			return key, z, ok
		}
	}
	return nil, z, true
}

// bzpop is BZPOPMIN and BZPOPMAX.
func (c *Ctx) bzpop(highest bool) {
	last := len(c.Args) - 1
	until, ok := c.zsetUntil(c.Args[last])
	if !ok {
		return
	}
	key, z, ok := c.firstZSet(c.Args[1:last])
	switch {
	case !ok:
	case key == nil:
		c.block(until)
	default:
		gone := c.popMembers(key, &z, highest, 1)
		c.W.Array(3)
		c.W.Bulk(key)
		c.W.Bulk(gone[0].member)
		c.W.Double(gone[0].score)
	}
}

// zmpopQuery is what ZMPOP and BZMPOP ask for.
type zmpopQuery struct {
	keys    [][]byte
	highest bool
	count   int64
}

// parseZMPop reads the number of keys at place i and what follows.
func (c *Ctx) parseZMPop(i int) (q zmpopQuery, ok bool) {
	keys, ok := parseInt(c.Args[i])
	if !ok || keys < 1 {
		c.W.Error("ERR numkeys should be greater than 0")
		return q, false
	}
	rest := c.Args[i+1:]
	if keys >= int64(len(rest)) {
		c.W.Error(errSyntax)
		return q, false
	}
	q.keys, rest = rest[:keys], rest[keys:]
	q.highest = option(rest[0], "max")
	if !q.highest && !option(rest[0], "min") {
		c.W.Error(errSyntax)
		return q, false
	}
	q.count = 1
	switch rest = rest[1:]; {
	case len(rest) == 0:
		return q, true
	case len(rest) == 1 || !option(rest[0], "count"):
		c.W.Error(errSyntax)
		return q, false
	}
	if q.count, ok = parseInt(rest[1]); !ok || q.count < 1 {
		c.W.Error("ERR count should be greater than 0")
		return q, false
	}
	if len(rest) > 2 {
		c.W.Error(errSyntax)
		return q, false
	}
	return q, true
}

func runZMPop(c *Ctx) {
	if q, ok := c.parseZMPop(1); ok {
		c.zmpop(&q, c.W.NullArray)
	}
}

func runBZMPop(c *Ctx) {
	q, ok := c.parseZMPop(2)
	if !ok {
		return
	}
	until, ok := c.zsetUntil(c.Args[1])
	if !ok {
		return
	}
	c.zmpop(&q, func() { c.block(until) })
}

// zmpop pops from the first sorted set, or calls absent.
func (c *Ctx) zmpop(q *zmpopQuery, absent func()) {
	key, z, ok := c.firstZSet(q.keys)
	if !ok {
		return
	}
	if key == nil {
		absent()
		return
	}
	gone := c.popMembers(key, &z, q.highest, q.count)
	c.W.Array(2)
	c.W.Bulk(key)
	c.replyScoredPairs(gone)
}

func (c *Ctx) zsetRNG() *rand.Rand {
	if c.RNG != nil {
		return c.RNG
	}
	return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
}

// maxRandomRepeats bounds the reply of ZRANDMEMBER with a negative count, which may name a member any number of times.
const maxRandomRepeats = 1 << 20

func runZRandMember(c *Ctx) {
	if len(c.Args) == 2 {
		if z, ok := c.readZSet(c.Args[1], c.replyNull); ok {
			member, _ := z.Random(c.zsetRNG())
			c.W.Bulk(member)
		}
		return
	}
	count, withScores, ok := c.parseZRandMember()
	if !ok {
		return
	}
	z, ok := c.readZSet(c.Args[1], c.replyEmptyArray)
	if !ok {
		return
	}
	if count < 0 {
		c.randomRepeats(&z, -count, withScores)
		return
	}
	c.randomDistinct(&z, int(min(count, int64(z.Len()))), withScores)
}

func (c *Ctx) parseZRandMember() (count int64, withScores, ok bool) {
	if count, ok = c.intArg(2); !ok {
		return 0, false, false
	}
	withScores = len(c.Args) > 3
	switch {
	case count == math.MinInt64:
		c.W.Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
	case len(c.Args) > 4 || withScores && !option(c.Args[3], "withscores"):
		c.W.Error(errSyntax)
	case withScores && (count < -math.MaxInt64/2 || count > math.MaxInt64/2), count < -maxRandomRepeats:
		c.W.Error("ERR value is out of range")
	default:
		return count, withScores, true
	}
	return 0, false, false
}

// randomRepeats replies with n members, each chosen from all.
func (c *Ctx) randomRepeats(z *store.SortedSet, n int64, withScores bool) {
	rng := c.zsetRNG()
	c.W.Array(c.scoredLen(int(n), withScores))
	for range n {
		member, score := z.Random(rng)
		c.replyScored(member, score, withScores)
	}
}

// randomDistinct replies with n different members: every choice of n has the same chance.
func (c *Ctx) randomDistinct(z *store.SortedSet, n int, withScores bool) {
	c.W.Array(c.scoredLen(n, withScores))
	if n == 0 {
		return
	}
	if n < z.Len()/8 {
		c.randomRanks(z, n, withScores)
		return
	}
	rng := c.zsetRNG()
	left := z.Len()
	z.Each(left-1, -1, func(member []byte, score float64) bool {
		if rng.IntN(left) < n {
			c.replyScored(member, score, withScores)
			n--
		}
		left--
		return n > 0
	})
}

// randomRanks is randomDistinct for few of many.
func (c *Ctx) randomRanks(z *store.SortedSet, n int, withScores bool) {
	rng := c.zsetRNG()
	chosen := make(map[int]bool, n)
	for len(chosen) < n {
		rank := rng.IntN(z.Len())
		if chosen[rank] {
			continue
		}
		chosen[rank] = true
		z.Each(rank, 1, func(member []byte, score float64) bool {
			c.replyScored(member, score, withScores)
			return false
		})
	}
}

// zscanQuery is the options of ZSCAN.
type zscanQuery struct {
	count   int64
	pattern []byte // nil for all
}

func (c *Ctx) parseZScan() (q zscanQuery, ok bool) {
	q.count = 10
	for i := 3; i < len(c.Args); i += 2 {
		more := i+1 < len(c.Args)
		switch {
		case more && option(c.Args[i], "count"):
			if q.count, ok = c.intArg(i + 1); !ok {
				return q, false
			}
			if q.count < 1 {
				c.W.Error(errSyntax)
				return q, false
			}
		case more && option(c.Args[i], "match"):
			q.pattern = c.Args[i+1]
			if string(q.pattern) == "*" {
				q.pattern = nil
			}
		default:
			c.W.Error(errSyntax)
			return q, false
		}
	}
	return q, true
}

// appendScanScore is a score as ZSCAN prints it: whole numbers, as Redis' small sorted sets hold them, without an exponent.
func appendScanScore(b []byte, score float64) []byte {
	if score >= -1<<62 && score <= 1<<62 && score == math.Trunc(score) {
		return strconv.AppendInt(b, int64(score), 10)
	}
	return appendScore(b, score)
}

func runZScan(c *Ctx) {
	cursor, ok := ParseScanCursor(c.Args[2])
	if !ok {
		c.W.Error(ErrInvalidCursor)
		return
	}
	z, ok := c.readZSet(c.Args[1], func() {
		c.W.Array(2)
		c.W.BulkString("0")
		c.W.Array(0)
	})
	if !ok {
		return
	}
	q, ok := c.parseZScan()
	if !ok {
		return
	}
	var body []byte
	n := 0
	var number [32]byte
	appendScore := appendScore
	if r, ok := c.peek(c.Args[1]); ok && r.Encoding() == "listpack" {
		appendScore = appendScanScore
	}
	next := z.Scan(cursor, int(min(q.count, maxScanCount)), func(member []byte, score float64) {
		if q.pattern != nil && !matchGlob(q.pattern, member) {
			return
		}
		body = appendBulk(appendBulk(body, member), appendScore(number[:0], score))
		n += 2
	})
	c.W.Array(2)
	c.W.Bulk(strconv.AppendUint(c.scratch[:0], next, 10))
	c.W.Array(n)
	c.W.Raw(body)
}
