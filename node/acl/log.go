package acl

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// DefaultLogLen is how many entries the log keeps (acllog-max-len).
	DefaultLogLen = 128
	// groupWithin is how long an entry goes on counting what is the same, in milliseconds, and groupAmong how many of the newest
	// entries are looked at for it: Redis' figures.
	groupWithin = 60_000
	groupAmong  = 10
	// maxObject bounds what is kept of a key or a name, in bytes.
	maxObject = 256
)

// Context is where a command came from that was refused.
type Context string

// The contexts, as ACL LOG names them.
const (
	TopLevel Context = "toplevel"
	InMulti  Context = "multi"
	InLua    Context = "lua"
)

// Refusal is an entry of the log.
type Refusal struct {
	Count   int
	Reason  Reason
	Context Context
	Object  string
	User    string
	At      int64  // unix ms, of the latest
	Client  string // its line of CLIENT LIST
}

// Log keeps what was refused on one node, the newest first: equal ones within a minute are one. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	entries []Refusal
	// Counts are how many were refused since the start, by Reason.
	counts [DeniedChannel + 1]atomic.Uint64
}

// Count is how many were refused for a reason since the start.
func (l *Log) Count(r Reason) uint64 { return l.counts[r].Load() }

// Add notes a refusal; max is how many entries are kept.
func (l *Log) Add(r Refusal, max int) {
	l.counts[r.Reason].Add(1)
	r.Count, r.Object, r.User = 1, bounded(r.Object), bounded(r.User)
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(e Refusal) bool {
		return e.Reason == r.Reason && e.Context == r.Context && e.Object == r.Object && e.User == r.User && r.At-e.At <= groupWithin
	}
	if i := slices.IndexFunc(l.entries[:min(len(l.entries), groupAmong)], same); i >= 0 {
		r.Count += l.entries[i].Count
		l.entries = slices.Delete(l.entries, i, i+1)
	}
	l.entries = slices.Insert(l.entries, 0, r)
	if len(l.entries) > max {
		clear(l.entries[max:])
		l.entries = l.entries[:max]
	}
}

// Latest returns up to n entries.
func (l *Log) Latest(n int) []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries[:min(n, len(l.entries))])
}

// Reset forgets all entries.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}

func bounded(s string) string { return s[:min(len(s), maxObject)] }
