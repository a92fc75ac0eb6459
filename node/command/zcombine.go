package command

import (
	"math"
	"slices"

	"hypercache/node/store"
)

// zoperation is how ZUNION, ZINTER and ZDIFF combine their sources.
type zoperation uint8

const (
	zunion zoperation = iota
	zinter
	zdiff
)

// zstoreEvents are the notifications of the commands that store what was combined.
var zstoreEvents = [...]string{zunion: "zunionstore", zinter: "zinterstore", zdiff: "zdiffstore"}

// zsource is one source: a sorted set, a set whose members all have score 1, or nothing.
type zsource struct {
	kind    store.Type
	zset    store.SortedSet
	set     store.Members
	weight  float64
	members int
}

func (s *zsource) score(member []byte) (float64, bool) {
	switch s.kind {
	case store.ZSet:
		return s.zset.Score(member)
	case store.Set:
		return 1, s.set.Has(member)
	}
	return 0, false
}

func (s *zsource) each(fn func(member []byte, score float64) bool) {
	switch s.kind {
	case store.ZSet:
		s.zset.Each(0, 1, fn)
	case store.Set:
		s.set.Each(func(member []byte) bool { return fn(member, 1) })
	}
}

// weighted is a score times the source's weight; infinity times zero is zero.
func (s *zsource) weighted(score float64) float64 {
	score *= s.weight
	if math.IsNaN(score) {
		return 0
	}
	return score
}

// zaggregate makes one score of two.
type zaggregate func(a, b float64) float64

func aggregateSum(a, b float64) float64 {
	if sum := a + b; !math.IsNaN(sum) {
		return sum
	}
	return 0 // inf - inf
}

func aggregateMin(a, b float64) float64 {
	if b < a {
		return b
	}
	return a
}

func aggregateMax(a, b float64) float64 {
	if b > a {
		return b
	}
	return a
}

// zcombination is a parsed ZUNION, ZINTER, ZDIFF, ZINTERCARD or one of those that store.
type zcombination struct {
	op         zoperation
	sources    []zsource
	aggregate  zaggregate
	withScores bool
	limit      int64 // of ZINTERCARD, 0: none

	storing, counting bool
}

// parseZCombination reads the number of keys at place i, the keys, and the options behind them.
func (c *Ctx) parseZCombination(z *zcombination, i int) bool {
	n, ok := c.intArg(i)
	switch {
	case !ok:
		return false
	case n < 1:
		c.W.Error("ERR at least 1 input key is needed for '" + c.Spec.Name + "' command")
		return false
	case n > int64(len(c.Args)-i-1):
		c.W.Error(errSyntax)
		return false
	}
	first := i + 1 + int(n)
	z.aggregate = aggregateSum
	return c.findSources(z, c.Args[i+1:first]) && c.parseZCombineOptions(z, first)
}

func (c *Ctx) findSources(z *zcombination, keys [][]byte) bool {
	z.sources = make([]zsource, len(keys))
	for i, key := range keys {
		s := &z.sources[i]
		s.weight = 1
		r, ok := c.findRead(key)
		if !ok {
			continue
		}
		switch s.kind = r.Type(); s.kind {
		case store.ZSet:
			s.zset = r.SortedSet()
			s.members = s.zset.Len()
		case store.Set:
			s.set = r.Members()
			s.members = s.set.Len()
		default:
			c.W.Error(errWrongType)
			return false
		}
	}
	return true
}

func (c *Ctx) parseZCombineOptions(z *zcombination, i int) bool {
	scoring := z.op != zdiff && !z.counting
	for ; i < len(c.Args); i++ {
		left := len(c.Args) - i - 1
		switch arg := c.Args[i]; {
		case scoring && left >= len(z.sources) && option(arg, "weights"):
			if !c.parseWeights(z, i+1) {
				return false
			}
			i += len(z.sources)
		case scoring && left > 0 && option(arg, "aggregate") && z.parseAggregate(c.Args[i+1]):
			i++
		case !z.storing && !z.counting && option(arg, "withscores"):
			z.withScores = true
		case z.counting && left > 0 && option(arg, "limit"):
			i++
			var ok bool
			if z.limit, ok = parseInt(c.Args[i]); !ok || z.limit < 0 {
				c.W.Error("ERR LIMIT can't be negative")
				return false
			}
		default:
			c.W.Error(errSyntax)
			return false
		}
	}
	return true
}

func (c *Ctx) parseWeights(z *zcombination, first int) (ok bool) {
	for i := range z.sources {
		if z.sources[i].weight, ok = parseDouble(c.Args[first+i]); !ok {
			c.W.Error("ERR weight value is not a float")
			return false
		}
	}
	return true
}

func (z *zcombination) parseAggregate(arg []byte) bool {
	switch {
	case option(arg, "sum"):
		z.aggregate = aggregateSum
	case option(arg, "min"):
		z.aggregate = aggregateMin
	case option(arg, "max"):
		z.aggregate = aggregateMax
	default:
		return false
	}
	return true
}

// result is the members of the combination in order of (score, member). Like Redis it adds up the scores of a member
// from the smallest source to the largest.
func (z *zcombination) result() []scoredMember {
	var out scoredMembers
	switch z.op {
	case zdiff:
		z.diff(func(member []byte, score float64) bool { out.add(member, score); return true })
	case zinter:
		z.sortSources()
		z.inter(func(member []byte, score float64) bool { out.add(member, score); return true })
	default:
		z.sortSources()
		z.union(&out)
	}
	out.sort()
	return out.list
}

func (z *zcombination) sortSources() {
	slices.SortStableFunc(z.sources, func(a, b zsource) int { return a.members - b.members })
}

func (z *zcombination) union(out *scoredMembers) {
	places := map[string]int{}
	for i := range z.sources {
		s := &z.sources[i]
		s.each(func(member []byte, score float64) bool {
			score = s.weighted(score)
			if at, ok := places[string(member)]; ok {
				out.list[at].score = z.aggregate(out.list[at].score, score)
				return true
			}
			places[string(member)] = len(out.list)
			out.add(member, score)
			return true
		})
	}
}

// inter calls fn with the members of the intersection, in the order of the smallest source.
func (z *zcombination) inter(fn func(member []byte, score float64) bool) {
	first := &z.sources[0]
	first.each(func(member []byte, score float64) bool {
		score = first.weighted(score)
		for i := range z.sources[1:] {
			s := &z.sources[1+i]
			other, ok := s.score(member)
			if !ok {
				return true
			}
			// Not weighted: here NaN falls to the aggregate, as in Redis.
			score = z.aggregate(score, other*s.weight)
		}
		return fn(member, score)
	})
}

func (z *zcombination) diff(fn func(member []byte, score float64) bool) {
	z.sources[0].each(func(member []byte, score float64) bool {
		for i := range z.sources[1:] {
			if _, ok := z.sources[1+i].score(member); ok {
				return true
			}
		}
		return fn(member, score)
	})
}

// zcombine is ZUNION, ZINTER and ZDIFF.
func (c *Ctx) zcombine(op zoperation) {
	z := zcombination{op: op}
	if !c.parseZCombination(&z, 1) {
		return
	}
	members := z.result()
	c.W.Array(c.scoredLen(len(members), z.withScores))
	for _, m := range members {
		c.replyScored(m.member, m.score, z.withScores)
	}
}

// zcombineStore is ZUNIONSTORE, ZINTERSTORE and ZDIFFSTORE.
func (c *Ctx) zcombineStore(op zoperation) {
	z := zcombination{op: op, storing: true}
	if c.parseZCombination(&z, 2) {
		c.storeZSet(c.Args[1], z.result(), zstoreEvents[op])
	}
}

func runZInterCard(c *Ctx) {
	z := zcombination{op: zinter, counting: true}
	if !c.parseZCombination(&z, 1) {
		return
	}
	z.sortSources()
	n := int64(0)
	z.inter(func([]byte, float64) bool {
		n++
		return n != z.limit
	})
	c.W.Int(n)
}
