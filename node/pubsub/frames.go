package pubsub

import (
	"encoding/binary"

	"hypercache/node/ring"
)

// send queues a frame for the node; write appends its body. A message that may be lost is dropped when too much waits.
func (b *Bus) send(f *far, typ byte, mayDrop bool, write func([]byte) []byte) {
	b.mu.Lock()
	out := f.out
	b.mu.Unlock()
	if out == nil {
		b.Dropped.Add(1)
		return
	}
	if out.Waiting() > maxQueued {
		b.Dropped.Add(1)
		if !mayDrop {
			out.Close() // its end tells the node that it missed something
		}
		return
	}
	buf, ok := out.Begin(typ)
	if !ok {
		b.Dropped.Add(1)
		return
	}
	out.End(write(buf))
	f.dirty.Store(true)
	b.dirty.Store(true)
	b.Sent.Add(1)
}

// Flush sends what is queued.
func (b *Bus) Flush() {
	if !b.dirty.Load() || !b.dirty.CompareAndSwap(true, false) {
		return
	}
	for _, f := range *b.all.Load() {
		if f.dirty.CompareAndSwap(true, false) {
			b.mu.Lock()
			out := f.out
			b.mu.Unlock()
			if out != nil {
				out.Flush()
			}
		}
	}
}

// Publish carries a message to the subscribers of every node, and returns how many there are on this one.
func (b *Bus) Publish(channel, payload []byte) int {
	for _, f := range *b.all.Load() {
		b.send(f, frameMessage, true, func(buf []byte) []byte { return appendMessage(buf, Channel, channel, payload) })
	}
	return b.registry.Publish(channel, payload)
}

// PublishShard carries a message to the nodes that have subscribers of shard channels in the channel's group.
func (b *Bus) PublishShard(channel, payload []byte) int {
	g := ring.GroupOf(ring.Slot(channel))
	for _, f := range *b.all.Load() {
		if f.interest.Load().shards[g/8]&(1<<(g%8)) != 0 {
			b.send(f, frameMessage, true, func(buf []byte) []byte { return appendMessage(buf, Shard, channel, payload) })
		}
	}
	return b.registry.PublishShard(channel, payload)
}

func appendMessage(buf []byte, k Kind, channel, payload []byte) []byte {
	buf = append(buf, byte(k))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(channel)))
	return append(append(buf, channel...), payload...)
}

// Event publishes a keyspace notification: by the key, by the event, or both.
func (b *Bus) Event(byKey, byEvent bool, event string, key []byte) {
	var what byte
	if byKey {
		what |= eventSpace
	}
	if byEvent {
		what |= eventName
	}
	for _, f := range *b.all.Load() {
		if f.interest.Load().keyspace {
			b.send(f, frameEvent, true, func(buf []byte) []byte {
				return append(append(append(buf, what, byte(len(event))), event...), key...)
			})
		}
	}
	if b.registry.Keyspace() {
		b.event(what, event, key)
	}
}

func (b *Bus) event(what byte, event string, key []byte) {
	if what&eventSpace != 0 {
		b.registry.Publish(append([]byte(KeyspacePrefix), key...), []byte(event))
	}
	if what&eventName != 0 {
		b.registry.Publish([]byte(KeyeventPrefix+event), key)
	}
}

// Frame handles what another node sends on a stream that it opened. answer is that stream.
func (b *Bus) Frame(name string, answer Link, typ byte, body []byte) error {
	switch typ {
	case frameMessage:
		return b.message(body)
	case frameEvent:
		if len(body) < 2 || len(body) < 2+int(body[1]) {
			return errFrame
		}
		n := 2 + int(body[1])
		b.Received.Add(1)
		b.event(body[0], string(body[2:n]), body[n:])
	case frameInterest:
		return b.learn(name, answer, body)
	case frameInvalidate:
		if len(body) < 8 {
			return errFrame
		}
		if b.tracking != nil {
			b.tracking.Invalidate(body[8:], binary.LittleEndian.Uint64(body))
		}
	case frameFlush:
		b.flushTracking()
	default:
		return errFrame
	}
	return nil
}

func (b *Bus) message(body []byte) error {
	if len(body) < 5 || len(body)-5 < int(binary.LittleEndian.Uint32(body[1:])) {
		return errFrame
	}
	n := 5 + int(binary.LittleEndian.Uint32(body[1:]))
	b.Received.Add(1)
	switch Kind(body[0]) {
	case Channel:
		b.registry.Publish(body[5:n], body[n:])
	case Shard:
		b.registry.PublishShard(body[5:n], body[n:])
	default:
		return errFrame
	}
	return nil
}

func (b *Bus) learn(name string, answer Link, body []byte) error {
	i, version, err := decodeInterest(body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.node(name).interest.Store(&i)
	b.mu.Unlock()
	b.learned()
	if buf, ok := answer.Begin(frameAck); ok {
		answer.End(binary.LittleEndian.AppendUint64(buf, version))
		answer.Flush()
	}
	return nil
}

// Watched says whether any node but this one wants keyspace notifications; Tracked, whether any has clients that track.
func (b *Bus) Watched() bool {
	return b.anyone(func(i *interest) bool { return i.keyspace })
}

// Tracked is told of by Watched.
func (b *Bus) Tracked() bool {
	return b.anyone(func(i *interest) bool { return i.tracking })
}

func (b *Bus) anyone(wants func(*interest) bool) bool {
	for _, f := range *b.all.Load() {
		if wants(f.interest.Load()) {
			return true
		}
	}
	return false
}

// Invalidate tells one node that a key of its clients has changed; client is one of the node's whose write it was.
func (b *Bus) Invalidate(name string, key []byte, client uint64) {
	b.mu.Lock()
	f := b.node(name)
	b.mu.Unlock()
	b.send(f, frameInvalidate, false, func(buf []byte) []byte {
		return append(binary.LittleEndian.AppendUint64(buf, client), key...)
	})
}

// InvalidatePrefix tells the nodes that have clients tracking a prefix of the key, but the one that hears of it anyway.
// by is the node that has the client whose write it was.
func (b *Bus) InvalidatePrefix(key []byte, by string, client uint64, told []string) {
	for _, f := range *b.all.Load() {
		if !f.interest.Load().tracks(key) || contains(told, f.name) {
			continue
		}
		c := uint64(0)
		if f.name == by {
			c = client
		}
		b.send(f, frameInvalidate, false, func(buf []byte) []byte {
			return append(binary.LittleEndian.AppendUint64(buf, c), key...)
		})
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (i *interest) tracks(key []byte) bool {
	for _, p := range i.prefixes {
		if len(key) >= len(p) && string(key[:len(p)]) == string(p) {
			return true
		}
	}
	return false
}

// FlushTracking tells all nodes that have clients which track that any key may have changed.
func (b *Bus) FlushTracking() {
	for _, f := range *b.all.Load() {
		if f.interest.Load().tracking {
			b.send(f, frameFlush, false, func(buf []byte) []byte { return buf })
		}
	}
}
