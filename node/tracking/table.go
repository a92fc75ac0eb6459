package tracking

import (
	"sync"
	"sync/atomic"

	"hypercache/node/ring"
)

// holder is somebody who may have a key in its cache: a client of this node, or another node for its clients.
type holder struct {
	client *Client
	node   string
}

// holders are those of one key. Most keys have few.
type holders struct {
	few  []holder
	many map[holder]struct{}
}

const fewHolders = 16

func (s *holders) add(h holder) {
	if s.many != nil {
		s.many[h] = struct{}{}
		return
	}
	for _, have := range s.few {
		if have == h {
			return
		}
	}
	if s.few = append(s.few, h); len(s.few) <= fewHolders {
		return
	}
	s.many = make(map[holder]struct{}, 2*len(s.few))
	for _, have := range s.few {
		s.many[have] = struct{}{}
	}
	s.few = nil
}

func (s *holders) each(f func(holder)) {
	for _, h := range s.few {
		f(h)
	}
	for h := range s.many {
		f(h)
	}
}

// table remembers who read which key, bounded. The keys of one group share a lock.
type table struct {
	limit  atomic.Int64
	count  atomic.Int64
	next   atomic.Uint32 // the group that pays for the next key too many
	groups [ring.Groups]groupKeys
}

type groupKeys struct {
	mu   sync.Mutex
	keys map[string]*holders
}

// add notes that h reads a key. When there are too many, it takes out another one, which its holders must be told.
func (t *table) add(g int, key []byte, h holder) (evicted string, told *holders) {
	x := &t.groups[g]
	x.mu.Lock()
	s := x.keys[string(key)]
	known := s != nil
	if !known {
		if x.keys == nil {
			x.keys = map[string]*holders{}
		}
		s = &holders{}
		x.keys[string(key)] = s
	}
	s.add(h)
	x.mu.Unlock()
	if !known && t.count.Add(1) > t.limit.Load() {
		return t.evict()
	}
	return "", nil
}

// evict takes out a random key of the next group that has any.
func (t *table) evict() (string, *holders) {
	for range ring.Groups {
		x := &t.groups[t.next.Add(1)%ring.Groups]
		x.mu.Lock()
		for key, s := range x.keys { // in an order of chance
			delete(x.keys, key)
			t.count.Add(-1)
			x.mu.Unlock()
			return key, s
		}
		x.mu.Unlock()
	}
	return "", nil
}

// take forgets a key and returns its holders, nil if there are none.
func (t *table) take(g int, key []byte) *holders {
	if t.count.Load() == 0 {
		return nil
	}
	x := &t.groups[g]
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.keys[string(key)]
	if s != nil {
		delete(x.keys, string(key))
		t.count.Add(-1)
	}
	return s
}

// takeGroup forgets a group's keys and returns them.
func (t *table) takeGroup(g int) map[string]*holders {
	x := &t.groups[g]
	x.mu.Lock()
	defer x.mu.Unlock()
	keys := x.keys
	x.keys = nil
	t.count.Add(-int64(len(keys)))
	return keys
}
