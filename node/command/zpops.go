package command

import (
	"math"
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

// firstZSet is firstOf for sorted sets.
func (c *Ctx) firstZSet(keys [][]byte) (key []byte, z store.SortedSet, ok bool) {
	key, r, ok := c.firstOf(keys, store.ZSet)
	if key != nil {
		z = r.SortedSet()
	}
	return key, z, ok
}

// bzpop is BZPOPMIN and BZPOPMAX.
func (c *Ctx) bzpop(highest bool) {
	last := len(c.Args) - 1
	until, ok := c.timeout(c.Args[last])
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

func runZMPop(c *Ctx) {
	if q, ok := c.parseManyPop(1, "min", "max"); ok {
		c.zmpop(&q, c.W.NullArray)
	}
}

func runBZMPop(c *Ctx) {
	q, ok := c.parseManyPop(2, "min", "max")
	if !ok {
		return
	}
	until, ok := c.timeout(c.Args[1])
	if !ok {
		return
	}
	c.zmpop(&q, func() { c.block(until) })
}

// zmpop pops from the first sorted set, or calls absent.
func (c *Ctx) zmpop(q *manyPop, absent func()) {
	key, z, ok := c.firstZSet(q.keys)
	if !ok {
		return
	}
	if key == nil {
		absent()
		return
	}
	gone := c.popMembers(key, &z, q.second, q.count)
	c.W.Array(2)
	c.W.Bulk(key)
	c.replyScoredPairs(gone)
}

func runZRandMember(c *Ctx) {
	if len(c.Args) == 2 {
		if z, ok := c.readZSet(c.Args[1], c.replyNull); ok {
			member, _ := z.Random(c.random())
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
		if count < -maxRepeats {
			c.W.Error(errTooMany)
			return
		}
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
	case withScores && (count < -math.MaxInt64/2 || count > math.MaxInt64/2):
		c.W.Error("ERR value is out of range")
	default:
		return count, withScores, true
	}
	return 0, false, false
}

// randomRepeats replies with n members, each chosen from all.
func (c *Ctx) randomRepeats(z *store.SortedSet, n int64, withScores bool) {
	rng := c.random()
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
	rng := c.random()
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
	rng := c.random()
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
	z, ok := c.readZSet(c.Args[1], c.emptyScan)
	if !ok {
		return
	}
	q, ok := c.parseScan(3)
	if !ok {
		return
	}
	var number [32]byte
	appendScore := appendScore
	if r, ok := c.peek(c.Args[1]); ok && r.Encoding() == "listpack" {
		appendScore = appendScanScore
	}
	next := z.Scan(cursor, q.count, func(member []byte, score float64) {
		if q.matches(member) {
			q.add(member)
			q.add(appendScore(number[:0], score))
		}
	})
	c.replyScan(next, &q)
}
