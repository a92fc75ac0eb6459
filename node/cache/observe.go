package cache

import (
	"strings"
	"sync/atomic"

	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/tracking"
)

// observing is what the cache keeps for those who watch it: subscribers, clients that cache keys, monitors.
type observing struct {
	registry *pubsub.Registry
	bus      *pubsub.Bus
	tracker  *tracking.Tracker
	reigns   [ring.Groups]uint64 // the terms that clients were told of; Reigns alone uses it
	// notify is the classes of keyspace events that are published.
	notify atomic.Uint32
	// every is not zero while something looks at the commands of all connections; each connection's own is conn.watch.
	every    atomic.Int32
	monitors monitors
	pause    pause
	record   *command.Record
	others   *command.StatSet // what connections without an event loop count
}

func (c *Cache) openObserving() {
	c.obs.registry = pubsub.NewRegistry(command.Match)
	c.obs.record = command.NewRecord()
	c.obs.others = c.obs.record.NewSet()
	for i := range c.loops {
		c.loops[i].meter.set = c.obs.record.NewSet()
	}
	c.obs.tracker = tracking.New(func(on bool) { c.setInterest(interestTracking, on) })
	c.obs.bus = pubsub.NewBus(c.obs.registry, c.obs.tracker)
	c.obs.tracker.Connect(c.obs.bus)
}

// Bus carries messages between the nodes' subscribers.
func (c *Cache) Bus() *pubsub.Bus { return c.obs.bus }

// PubSub has this node's subscribers.
func (c *Cache) PubSub() *pubsub.Registry { return c.obs.registry }

// watch is what is unusual about a connection; only its own goroutine uses it.
type watch struct {
	on  bool // something is: look closer
	sub *pubsub.Subscriber
	// The running command is one whose keys the client will cache; whose write it is matters to the client.
	reads   bool
	monitor bool
	mute    command.ReplyMode
	skip    bool // the running command is CLIENT REPLY SKIP: it has no reply to be dropped
	closely bool // the running command is one that closely runs
	noLoop  uint64
}

// Subscriber implements command.Conn.
func (k *conn) Subscriber() *pubsub.Subscriber {
	k.watch.on = true
	k.watch.sub.SetProto(k.s.Proto())
	return k.watch.sub
}

// TakePushes implements command.Conn.
func (k *conn) TakePushes() { k.s.TakePushes() }

// Announce implements command.Conn.
func (k *conn) Announce() { k.cache.obs.bus.Changed(k.s.Hold().Release) }

// Reset implements command.Conn.
func (k *conn) Reset() {
	k.cache.unwatch(k)
	k.anew()
}

// unwatch ends whatever the connection observes.
func (c *Cache) unwatch(k *conn) {
	w := &k.watch
	if !w.on {
		return
	}
	c.endMonitor(k)
	changed := c.obs.registry.Leave(w.sub)
	k.client.NoteSubscriptions(w.sub)
	if t := k.client.SetTracking(nil); t != nil {
		c.obs.tracker.Stop(t)
		changed = true
	}
	if changed {
		c.obs.bus.Changed(nil)
	}
	k.s.SetListening(false)
	*w = watch{sub: w.sub}
}

// closely runs a command while something looks at it.
func (c *Cache) closely(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	sub := k.watch.sub
	if w.Proto != 3 && sub.Subscribed() && !command.SubscriberMayRun(spec) {
		w.Error(command.SubscriberError(spec))
		c.quiet(k)
		return
	}
	if k.watch.monitor && spec.Flags&(command.FlagReadonly|command.FlagWrite|command.FlagMayReplicate) != 0 {
		w.Error("ERR Replica can't interact with the keyspace")
		return
	}
	if spec.Name != "exec" { // which follows what it runs
		c.show(k, spec, args)
	}
	k.watch.closely = true
	if t := k.client.Tracking(); t != nil {
		c.track(k, t, spec, args)
	}
	c.start(k, w, spec, args)
	k.watch.reads, k.watch.noLoop = false, 0
	k.watch.closely = false
	k.s.SetListening(sub.Subscribed() || k.watch.monitor)
	if strings.HasSuffix(spec.Name, "subscribe") { // its confirmations are pushes, which CLIENT REPLY does not concern
		if k.watch.mute == command.ReplySkip {
			k.watch.mute = command.ReplyOn
		}
		return
	}
	c.quiet(k)
}

// SetReply implements command.Conn.
func (k *conn) SetReply(m command.ReplyMode) {
	if m != command.ReplySkip || k.watch.mute != command.ReplyOff {
		k.watch.mute, k.watch.skip = m, m == command.ReplySkip && k.watch.closely
	}
	k.watch.on = true
}

// quiet drops the reply of the command that has just run if its client wants none.
func (c *Cache) quiet(k *conn) {
	switch {
	case k.watch.mute == command.ReplyOn:
	case k.watch.mute == command.ReplyOff:
		k.s.Discard()
	case k.watch.skip:
		k.watch.skip = false // CLIENT REPLY SKIP itself, which has no reply
	default:
		k.watch.mute = command.ReplyOn
		k.s.Discard()
	}
}
