package command

import (
	"bytes"
	"slices"

	"hypercache/node/store"
)

const (
	errScoreRange = "ERR min or max is not a float"
	errLexRange   = "ERR min or max not valid string range item"
)

// zqueryBy is what the limits of a range are.
type zqueryBy uint8

const (
	byRank zqueryBy = iota
	byScore
	byLex
)

// zquery is a range of a sorted set as one of the ZRANGE commands asks for it.
type zquery struct {
	by zqueryBy
	// fixed says that the command's name tells by and rev, and options may not.
	fixed bool
	// rev is for descending order; the limits of scores and members are then given as max and min.
	rev bool
	// store is set for ZRANGESTORE.
	store      bool
	withScores bool

	start, end    int64
	scores        scoreRange
	members       lexRange
	offset, limit int64 // limit -1: all
}

// parseZRange reads the limits, which follow the key at place key, and the options behind them.
func (c *Ctx) parseZRange(q *zquery, key int) bool {
	q.limit = -1
	if !c.parseZRangeOptions(q, key+3) {
		return false
	}
	switch {
	case q.limit != -1 && q.by == byRank:
		c.W.Error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
		return false
	case q.withScores && q.by == byLex:
		c.W.Error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
		return false
	}
	return c.parseZLimits(q, key+1)
}

func (c *Ctx) parseZRangeOptions(q *zquery, first int) (ok bool) {
	by, rev := q.fixed, q.fixed
	for i := first; i < len(c.Args); i++ {
		arg := c.Args[i]
		switch {
		case !q.store && option(arg, "withscores"):
			q.withScores = true
		case option(arg, "limit") && i+2 < len(c.Args):
			if q.offset, ok = c.intArg(i + 1); !ok {
				return false
			}
			if q.limit, ok = c.intArg(i + 2); !ok {
				return false
			}
			i += 2
		case !rev && option(arg, "rev"):
			rev, q.rev = true, true
		case !by && option(arg, "bylex"):
			by, q.by = true, byLex
		case !by && option(arg, "byscore"):
			by, q.by = true, byScore
		default:
			c.W.Error(errSyntax)
			return false
		}
	}
	return true
}

// parseZLimits reads the limits at places i and i+1.
func (c *Ctx) parseZLimits(q *zquery, i int) (ok bool) {
	lower, upper := c.Args[i], c.Args[i+1]
	if q.rev {
		lower, upper = upper, lower
	}
	switch q.by {
	case byScore:
		if q.scores, ok = parseScoreRange(lower, upper); !ok {
			c.W.Error(errScoreRange)
		}
	case byLex:
		if q.members, ok = parseLexRange(lower, upper); !ok {
			c.W.Error(errLexRange)
		}
	default:
		if q.start, ok = c.intArg(i); ok {
			q.end, ok = c.intArg(i + 1)
		}
	}
	return ok
}

// ranks are the range's first rank and the one behind its last, in ascending order and without LIMIT.
func (q *zquery) ranks(z *store.SortedSet) (from, to int) {
	switch q.by {
	case byScore:
		from = z.Search(func(_ []byte, score float64) bool { return q.scores.belowMin(score) })
		to = z.Search(func(_ []byte, score float64) bool { return q.scores.notAboveMax(score) })
	case byLex:
		from = z.Search(func(member []byte, _ float64) bool { return q.members.belowMin(member) })
		to = z.Search(func(member []byte, _ float64) bool { return q.members.notAboveMax(member) })
	default:
		from, to = rankRange(q.start, q.end, z.Len())
		if q.rev {
			from, to = z.Len()-to, z.Len()-from
		}
	}
	return from, max(from, to)
}

// rankRange turns two indexes, negative ones from the end, into the first rank and the one behind the last.
func rankRange(start, end int64, n int) (from, to int) {
	size := int64(n)
	if start < 0 {
		start = max(start+size, 0)
	}
	if end < 0 {
		end += size
	}
	start, end = min(start, size), min(end, size-1)
	return int(start), int(max(end+1, start))
}

// cut is the part of a range that LIMIT leaves: n members from a rank on, in steps of step.
func (q *zquery) cut(from, to int) (rank, n, step int) {
	n = to - from
	if q.offset < 0 || q.offset > int64(n) {
		return 0, 0, 1
	}
	skip := int(q.offset)
	n -= skip
	if q.limit >= 0 && q.limit < int64(n) {
		n = int(q.limit)
	}
	if q.rev {
		return to - 1 - skip, n, -1
	}
	return from + skip, n, 1
}

// zrange is the ZRANGE commands that reply with the range.
func (c *Ctx) zrange(q zquery) {
	if !c.parseZRange(&q, 1) {
		return
	}
	z, ok := c.readZSet(c.Args[1], c.replyEmptyArray)
	if !ok {
		return
	}
	rank, n, step := q.cut(q.ranks(&z))
	c.W.Array(c.scoredLen(n, q.withScores))
	if n == 0 {
		return
	}
	z.Each(rank, step, func(member []byte, score float64) bool {
		c.replyScored(member, score, q.withScores)
		n--
		return n > 0
	})
}

// scoredLen is the length of the array for n members: RESP3 has an array of two for a member with its score.
func (c *Ctx) scoredLen(n int, withScores bool) int {
	if withScores && c.W.Proto != 3 {
		return 2 * n
	}
	return n
}

func (c *Ctx) replyScored(member []byte, score float64, withScores bool) {
	if !withScores {
		c.W.Bulk(member)
		return
	}
	if c.W.Proto == 3 {
		c.W.Array(2)
	}
	c.W.Bulk(member)
	c.W.Double(score)
}

func runZCount(c *Ctx)    { c.zcount(byScore) }
func runZLexCount(c *Ctx) { c.zcount(byLex) }

func (c *Ctx) zcount(by zqueryBy) {
	q := zquery{by: by}
	if !c.parseZLimits(&q, 2) {
		return
	}
	if z, ok := c.readZSet(c.Args[1], c.replyZero); ok {
		from, to := q.ranks(&z)
		c.W.Int(int64(to - from))
	}
}

// scoredMember is a member that is kept beyond the next change of the shard.
type scoredMember struct {
	member []byte
	score  float64
}

// scoredMembers collects copies of members.
type scoredMembers struct {
	list  []scoredMember
	arena []byte
}

func (s *scoredMembers) add(member []byte, score float64) {
	start := len(s.arena)
	s.arena = append(s.arena, member...)
	s.list = append(s.list, scoredMember{s.arena[start:len(s.arena):len(s.arena)], score})
}

// sort puts them in the order of a sorted set.
func (s *scoredMembers) sort() {
	slices.SortFunc(s.list, func(a, b scoredMember) int {
		switch {
		case a.score < b.score:
			return -1
		case a.score > b.score:
			return 1
		}
		return bytes.Compare(a.member, b.member)
	})
}

// collect copies n members from a rank on.
func (s *scoredMembers) collect(z *store.SortedSet, rank, n, step int) {
	if n == 0 {
		return
	}
	s.list = make([]scoredMember, 0, n)
	z.Each(rank, step, func(member []byte, score float64) bool {
		s.add(member, score)
		return len(s.list) < n
	})
}

func runZRangeStore(c *Ctx) {
	q := zquery{store: true}
	if !c.parseZRange(&q, 2) {
		return
	}
	var found scoredMembers
	if r, ok := c.findRead(c.Args[2]); ok {
		if r.Type() != store.ZSet {
			c.W.Error(errWrongType)
			return
		}
		z := r.SortedSet()
		rank, n, step := q.cut(q.ranks(&z))
		found.collect(&z, rank, n, step)
	}
	c.storeZSet(c.Args[1], found.list, "zrangestore")
}

// storeZSet puts a sorted set of these members in place of whatever key holds, none if there are none, and replies with
// their number. Its effect is the members themselves: what they were made from may have expired here and not yet there.
func (c *Ctx) storeZSet(key []byte, members []scoredMember, event string) {
	c.W.Int(int64(len(members)))
	if _, found := c.findWrite(key); found {
		c.FX.Del(key)
		if len(members) == 0 {
			c.Shard.Delete(key)
			c.changed(key)
			c.notify(ClassGeneric, "del", key)
			return
		}
	} else if len(members) == 0 {
		return
	} else {
		c.notify(ClassNew, "new", key)
	}
	z := c.Shard.NewSortedSet(key)
	for i := range members {
		z.Set(members[i].member, unsigned(members[i].score))
	}
	c.FX.zadd(key, members)
	c.changed(key)
	c.notify(ClassZSet, event, key)
}

// zadd appends ZADD of all members.
func (e *Effects) zadd(key []byte, members []scoredMember) {
	if e == nil {
		return
	}
	var score [32]byte
	for len(members) > 0 {
		n := min(len(members), maxFXWords/2)
		e.Buf = appendHeader(e.Buf, '*', 2*n+2)
		e.Buf = appendBulk(appendBulk(e.Buf, nameZAdd), key)
		for _, m := range members[:n] {
			e.Buf = appendBulk(e.Buf, appendScore(score[:0], m.score))
			e.Buf = appendBulk(e.Buf, m.member)
		}
		e.N++
		members = members[n:]
	}
}

// zremRange is ZREMRANGEBYRANK, BYSCORE and BYLEX.
func (c *Ctx) zremRange(q zquery, event string) {
	if !c.parseZLimits(&q, 2) {
		return
	}
	key := c.Args[1]
	z, found, ok := c.writeZSet(key)
	if !ok {
		return
	}
	if !found {
		c.W.Int(0)
		return
	}
	from, to := q.ranks(&z)
	c.W.Int(int64(to - from))
	if from == to {
		return
	}
	if q.by == byLex {
		// Where scores differ it is unspecified which members a range of members holds: the effect has to name them.
		c.zremRanks(key, &z, from, to)
	} else {
		removeRanks(&z, from, to)
		c.FX.Command(c.Args...)
	}
	c.changed(key)
	c.notify(ClassZSet, event, key)
	c.dropEmptyZSet(key, &z)
}

// removeRanks removes the members of ranks from to to-1 and returns them in order.
func removeRanks(z *store.SortedSet, from, to int) []scoredMember {
	var gone scoredMembers
	gone.collect(z, from, to-from, 1)
	for i := range gone.list {
		z.Remove(gone.list[i].member)
	}
	return gone.list
}

// zremRanks is removeRanks with its effect: DEL if nothing stays, else ZREM.
func (c *Ctx) zremRanks(key []byte, z *store.SortedSet, from, to int) []scoredMember {
	gone := removeRanks(z, from, to)
	switch {
	case c.FX == nil:
	case z.Len() == 0:
		c.FX.Del(key)
	default:
		words := make([][]byte, len(gone))
		for i := range gone {
			words[i] = gone[i].member
		}
		c.FX.pieces(nameZRem, key, words, 1)
	}
	return gone
}
