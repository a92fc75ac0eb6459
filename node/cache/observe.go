package cache

import (
	"sync/atomic"

	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
)

// observing is what the cache keeps for those who watch it: subscribers, clients that cache keys, monitors.
type observing struct {
	registry *pubsub.Registry
	bus      *pubsub.Bus
	// notify is the classes of keyspace events that are published.
	notify atomic.Uint32
	// every is not zero while something looks at the commands of all connections; each connection's own is conn.watch.
	every atomic.Int32
}

func (c *Cache) openObserving() {
	c.obs.registry = pubsub.NewRegistry(command.Match)
	c.obs.bus = pubsub.NewBus(c.obs.registry, nil)
}

// Bus carries messages between the nodes' subscribers.
func (c *Cache) Bus() *pubsub.Bus { return c.obs.bus }

// PubSub has this node's subscribers.
func (c *Cache) PubSub() *pubsub.Registry { return c.obs.registry }

// watch is what is unusual about a connection; only its own goroutine uses it.
type watch struct {
	on  bool // something is: look closer
	sub *pubsub.Subscriber
}

// Subscriber implements command.Conn.
func (k *conn) Subscriber() *pubsub.Subscriber {
	if k.watch.sub == nil {
		k.watch.sub = pubsub.NewSubscriber(k.s.Push)
		k.watch.sub.SetProto(k.s.Proto())
		k.watch.on = true
	}
	return k.watch.sub
}

// TakePushes implements command.Conn.
func (k *conn) TakePushes() { k.s.TakePushes() }

// Announce implements command.Conn.
func (k *conn) Announce() { k.cache.obs.bus.Changed(k.s.Hold().Release) }

// Reset implements command.Conn.
func (k *conn) Reset() { k.cache.unwatch(k) }

// unwatch ends whatever the connection observes.
func (c *Cache) unwatch(k *conn) {
	w := &k.watch
	if !w.on {
		return
	}
	if w.sub != nil {
		if c.obs.registry.Leave(w.sub) {
			c.obs.bus.Changed(nil)
		}
		k.client.NoteSubscriptions(w.sub)
	}
	k.s.SetListening(false)
	*w = watch{}
}

// closely runs a command while something looks at it.
func (c *Cache) closely(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	if sub := k.watch.sub; sub != nil && w.Proto != 3 && sub.Subscribed() && !command.SubscriberMayRun(spec) {
		w.Error(command.SubscriberError(spec))
		return
	}
	c.start(k, w, spec, args)
	if sub := k.watch.sub; sub != nil {
		k.s.SetListening(sub.Subscribed())
	}
}
