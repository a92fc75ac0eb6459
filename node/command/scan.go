package command

import (
	"math"
	"strconv"

	"hypercache/node/ring"
	"hypercache/node/store"
)

// scanCommands speak about every key of the cluster, one shard at a time.
func scanCommands() []binding {
	return []binding{
		{name: "dbsize", scope: ScopeCluster, merge: MergeSum, run: func(c *Ctx) { c.W.Int(int64(c.Shard.Len())) }},
		{name: "flushall", scope: ScopeCluster, merge: MergeOK, run: runFlush},
		{name: "flushdb", scope: ScopeCluster, merge: MergeOK, run: runFlush},
		{name: "keys", scope: ScopeCluster, merge: MergeConcat, run: runKeys},
		{name: "randomkey", scope: ScopeCluster, merge: MergeOne, run: runRandomKey},
		{name: "scan", scope: ScopeCluster, merge: MergeOne, run: runScan},
	}
}

// groupBits are the low bits of a cluster-wide SCAN cursor; the shard's own cursor is above them.
const groupBits = 8

var _ = [1]struct{}{}[ring.Groups-1<<groupBits] // a group's number fits groupBits, and fills them

// JoinScanCursor makes the cursor that a client sees from a group and the shard's own cursor (below 1<<48).
func JoinScanCursor(group int, cursor uint64) uint64 { return cursor<<groupBits | uint64(group) }

// SplitScanCursor is the reverse. Cursor 0 is the start of group 0.
func SplitScanCursor(c uint64) (group int, cursor uint64) {
	return int(c & (1<<groupBits - 1)), c >> groupBits
}

// ParseScanCursor reads the cursor of a SCAN request as Redis does (strtoul). A bad one is answered with
// ErrInvalidCursor.
func ParseScanCursor(arg []byte) (uint64, bool) {
	s := cstring(arg, len(arg))
	neg := false
	if s != "" && (s[0] == '+' || s[0] == '-') {
		neg = s[0] == '-'
		s = s[1:]
		if s == "" {
			return 0, false
		}
	}
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if neg {
		n = -n
	}
	return n, err == nil
}

// ErrInvalidCursor is the reply to a SCAN cursor that is none.
const ErrInvalidCursor = "ERR invalid cursor"

// flushChunk is how many keys one DEL effect names: a longer one saves little, and a reader has to hold it whole.
const flushChunk = 256

// runFlush empties one shard. Its effect names the keys, since a FLUSHALL in a journal would take the other shards'
// keys with it.
func runFlush(c *Ctx) {
	if len(c.Args) > 2 || len(c.Args) == 2 && !option(c.Args[1], "async") && !option(c.Args[1], "sync") {
		c.W.Error(errSyntax)
		return
	}
	if c.FX != nil {
		c.flushEffects()
	}
	c.Shard.Flush()
	c.changedAll()
	c.W.OK()
}

// FlushEffects is about how many bytes the effects of a FLUSHALL of so many keys have.
func FlushEffects(keys int) int { return keys * 48 }

func (c *Ctx) flushEffects() {
	left, inChunk := c.Shard.Len(), 0
	c.Shard.Range(func(r store.Ref) bool {
		if inChunk == 0 {
			inChunk = min(left, flushChunk)
			left -= inChunk
			c.FX.Buf = append(appendHeader(c.FX.Buf, '*', inChunk+1), "$3\r\nDEL\r\n"...)
			c.FX.N++
		}
		c.FX.Buf = appendBulk(c.FX.Buf, r.Key())
		inChunk--
		return true
	})
}

func (c *Ctx) live(r store.Ref) bool {
	return !r.Expired(c.Now)
}

// runKeys collects the matching keys behind the reply's end first, since an array is announced by its length.
func runKeys(c *Ctx) {
	pattern := c.Args[1]
	all := len(pattern) == 1 && pattern[0] == '*'
	var body []byte
	n := 0
	c.Shard.Range(func(r store.Ref) bool {
		if c.live(r) && (all || matchGlob(pattern, r.Key())) {
			body = appendBulk(body, r.Key())
			n++
		}
		return true
	})
	c.W.Array(n)
	c.W.Raw(body)
}

// randomTries bounds the search for a key that has not expired.
const randomTries = 100

func runRandomKey(c *Ctx) {
	for range randomTries {
		r, ok := c.Shard.Random(c.random())
		if !ok {
			break
		}
		if c.live(r) {
			c.W.Bulk(r.Key())
			return
		}
	}
	c.W.Null()
}

// maxScanCount bounds the work of one SCAN step under the shard's lock. Redis takes any COUNT; a client cannot tell,
// since it may not rely on how many keys a step brings.
const maxScanCount = 1 << 16

func runScan(c *Ctx) {
	cursor, ok := ParseScanCursor(c.Args[1])
	if !ok {
		c.W.Error(ErrInvalidCursor)
		return
	}
	count := int64(10)
	var pattern, typeName []byte
	filtered := false
	for i := 2; i < len(c.Args); i += 2 {
		more := i+1 < len(c.Args)
		switch {
		case more && option(c.Args[i], "count"):
			if count, ok = c.intArg(i + 1); !ok {
				return
			}
			if count < 1 {
				c.W.Error(errSyntax)
				return
			}
		case more && option(c.Args[i], "match"):
			pattern = c.Args[i+1]
			filtered = !(len(pattern) == 1 && pattern[0] == '*')
		case more && option(c.Args[i], "type"):
			typeName = c.Args[i+1]
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	if cursor > math.MaxUint64>>(64-48) {
		cursor = 0 // no shard gave it; Redis too just begins somewhere
	}
	var body []byte
	n := 0
	next := c.Shard.Scan(cursor, int(min(count, maxScanCount)), func(r store.Ref) {
		if !c.live(r) || filtered && !matchGlob(pattern, r.Key()) || typeName != nil && !option(typeName, r.Type().String()) {
			return
		}
		body = appendBulk(body, r.Key())
		n++
	})
	c.W.Array(2)
	c.W.Bulk(strconv.AppendUint(c.scratch[:0], next, 10))
	c.W.Array(n)
	c.W.Raw(body)
}
