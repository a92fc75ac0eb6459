package pubsub

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"hypercache/node/resp"
	"hypercache/node/ring"
)

// Kind is what a subscription names.
type Kind uint8

// The kinds of subscriptions.
const (
	Channel Kind = iota
	Pattern
	Shard
	kinds
)

// Subscriber is one connection's subscriptions. Its lists belong to the goroutine that runs the connection's commands.
type Subscriber struct {
	push  func(raw []byte) bool
	proto atomic.Int32
	names [kinds]map[string]struct{}
	some  atomic.Bool
}

// NewSubscriber makes a subscriber without subscriptions. push takes encoded messages, from any goroutine, and must not
// block.
func NewSubscriber(push func(raw []byte) bool) *Subscriber {
	s := &Subscriber{push: push}
	s.proto.Store(2)
	return s
}

// SetProto says in which version of RESP messages are written.
func (s *Subscriber) SetProto(v int) { s.proto.Store(int32(v)) }

// Proto is the version of RESP in which messages are written.
func (s *Subscriber) Proto() int { return int(s.proto.Load()) }

// Push sends the subscriber something that is no message of a channel.
func (s *Subscriber) Push(raw []byte) bool { return s.push(raw) }

// Count is the number of subscriptions of a kind.
func (s *Subscriber) Count(k Kind) int { return len(s.names[k]) }

// Total is the number of subscriptions. Only the connection's goroutine may ask.
func (s *Subscriber) Total() int {
	return len(s.names[Channel]) + len(s.names[Pattern]) + len(s.names[Shard])
}

// Subscribed says whether there is any subscription; any goroutine may ask.
func (s *Subscriber) Subscribed() bool { return s.some.Load() }

// Names are the subscriptions of a kind, in order.
func (s *Subscriber) Names(k Kind) []string { return slices.Sorted(maps.Keys(s.names[k])) }

// Match says whether a name matches a glob-style pattern.
type Match func(pattern, name []byte) bool

// Registry knows this node's subscribers. Methods are safe for concurrent use, but one subscriber's subscriptions change
// one at a time. Messages reach all subscribers in the same order.
type Registry struct {
	match Match

	mu   sync.Mutex
	subs [kinds]map[string]map[*Subscriber]struct{}
	want interests
}

// NewRegistry returns a registry without subscribers.
func NewRegistry(m Match) *Registry {
	r := &Registry{match: m}
	for k := range r.subs {
		r.subs[k] = map[string]map[*Subscriber]struct{}{}
	}
	return r
}

// interests counts the subscriptions that other nodes have to know of.
type interests struct {
	keyspace int
	shards   [ring.Groups]int
}

// count changes the count for one subscription by n, and reports whether what other nodes have to know has changed.
func (w *interests) count(k Kind, name string, n int) bool {
	switch {
	case k == Shard:
		at := &w.shards[ring.GroupOf(ring.Slot([]byte(name)))]
		*at += n
		return n > 0 && *at == n || *at == 0
	case !concernsKeys(k, name):
		return false
	}
	w.keyspace += n
	return n > 0 && w.keyspace == n || w.keyspace == 0
}

// Subscribe adds a subscription; it returns false in changed when there is nothing that other nodes have to know.
func (r *Registry) Subscribe(s *Subscriber, k Kind, name string) (changed bool) {
	if _, ok := s.names[k][name]; ok {
		return false
	}
	if s.names[k] == nil {
		s.names[k] = map[string]struct{}{}
	}
	s.names[k][name] = struct{}{}
	s.some.Store(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subs[k][name] == nil {
		r.subs[k][name] = map[*Subscriber]struct{}{}
	}
	r.subs[k][name][s] = struct{}{}
	return r.want.count(k, name, 1)
}

// Each calls yield for every subscription there is. yield must not call the registry.
func (r *Registry) Each(yield func(k Kind, name string, s *Subscriber)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.subs {
		for name, set := range r.subs[k] {
			for s := range set {
				yield(Kind(k), name, s)
			}
		}
	}
}

// Unsubscribe takes a subscription back.
func (r *Registry) Unsubscribe(s *Subscriber, k Kind, name string) (changed bool) {
	if _, ok := s.names[k][name]; !ok {
		return false
	}
	delete(s.names[k], name)
	s.some.Store(s.Total() > 0)
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.subs[k][name]
	if delete(set, s); len(set) == 0 {
		delete(r.subs[k], name)
	}
	return r.want.count(k, name, -1)
}

// Leave takes all subscriptions back.
func (r *Registry) Leave(s *Subscriber) (changed bool) {
	for k := range kinds {
		for name := range s.names[k] {
			changed = r.Unsubscribe(s, k, name) || changed
		}
	}
	return changed
}

// encoded is one message in both versions of RESP, each made when it is first needed.
type encoded struct {
	raw   [2][]byte
	parts [][]byte
}

func (e *encoded) for2or3(s *Subscriber) []byte {
	i := 0
	if s.proto.Load() == 3 {
		i = 1
	}
	if e.raw[i] == nil {
		w := resp.Writer{Proto: i + 2}
		w.Push(len(e.parts))
		for _, p := range e.parts {
			w.Bulk(p)
		}
		e.raw[i] = w.Buf
	}
	return e.raw[i]
}

func sendAll(to map[*Subscriber]struct{}, parts ...[]byte) int {
	if len(to) == 0 {
		return 0
	}
	e := encoded{parts: parts}
	for s := range to {
		s.push(e.for2or3(s))
	}
	return len(to)
}

var (
	wordMessage  = []byte("message")
	wordPMessage = []byte("pmessage")
	wordSMessage = []byte("smessage")
)

// Publish gives a message to the subscribers here, and returns how many there were. A subscriber gets it once for its
// channel and once for each pattern that matches.
func (r *Registry) Publish(channel, payload []byte) (receivers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	receivers = sendAll(r.subs[Channel][string(channel)], wordMessage, channel, payload)
	for pattern, set := range r.subs[Pattern] {
		if r.match([]byte(pattern), channel) {
			receivers += sendAll(set, wordPMessage, []byte(pattern), channel, payload)
		}
	}
	return receivers
}

// PublishShard gives a message to the subscribers of a shard channel here.
func (r *Registry) PublishShard(channel, payload []byte) (receivers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sendAll(r.subs[Shard][string(channel)], wordSMessage, channel, payload)
}

// Active lists the channels of a kind that have subscribers and match the pattern, nil for all.
func (r *Registry) Active(k Kind, pattern []byte) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.subs[k] {
		if pattern == nil || r.match(pattern, []byte(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Subscribers counts those of one channel.
func (r *Registry) Subscribers(k Kind, name []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subs[k][string(name)])
}

// Patterns counts the different patterns.
func (r *Registry) Patterns() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subs[Pattern])
}

// Lengths counts the different channels, patterns and shard channels.
func (r *Registry) Lengths() (channels, patterns, shards int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subs[Channel]), len(r.subs[Pattern]), len(r.subs[Shard])
}

// wants are the interests as other nodes learn them.
func (r *Registry) wants() (keyspace bool, shards [ring.Groups / 8]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g, n := range r.want.shards {
		if n > 0 {
			shards[g/8] |= 1 << (g % 8)
		}
	}
	return r.want.keyspace > 0, shards
}

// Keyspace says whether some subscriber here may want keyspace notifications.
func (r *Registry) Keyspace() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.want.keyspace > 0
}

// The channels of keyspace notifications are KeyspacePrefix and a key, KeyeventPrefix and an event.
const (
	KeyspacePrefix = "__keyspace@0__:"
	KeyeventPrefix = "__keyevent@0__:"
)

// concernsKeys says whether a subscription may match a channel of keyspace notifications.
func concernsKeys(k Kind, name string) bool {
	if k == Channel {
		return hasPrefix(name, KeyspacePrefix) || hasPrefix(name, KeyeventPrefix)
	}
	literal := name
	if i := bytes.IndexAny([]byte(name), `*?[\`); i >= 0 {
		literal = name[:i]
	}
	const common = "__key"
	n := min(len(literal), len(common))
	return literal[:n] == common[:n]
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }
