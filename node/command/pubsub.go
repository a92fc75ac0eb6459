package command

import (
	"strings"

	"hypercache/node/pubsub"
	"hypercache/node/ring"
)

func pubsubCommands() []binding {
	return []binding{
		{name: "subscribe", conn: func(c *ConnCtx) { c.subscribe(pubsub.Channel, "subscribe") }},
		{name: "unsubscribe", conn: func(c *ConnCtx) { c.unsubscribe(pubsub.Channel, "unsubscribe") }},
		{name: "psubscribe", conn: func(c *ConnCtx) { c.subscribe(pubsub.Pattern, "psubscribe") }},
		{name: "punsubscribe", conn: func(c *ConnCtx) { c.unsubscribe(pubsub.Pattern, "punsubscribe") }},
		{name: "ssubscribe", conn: func(c *ConnCtx) { c.subscribe(pubsub.Shard, "ssubscribe") }},
		{name: "sunsubscribe", conn: func(c *ConnCtx) { c.unsubscribe(pubsub.Shard, "sunsubscribe") }},
		{name: "publish", conn: runPublish},
		{name: "spublish", conn: runPublish},
		{name: "pubsub", conn: runContainer},
		{name: "pubsub|channels", conn: func(c *ConnCtx) { c.activeChannels(pubsub.Channel) }},
		{name: "pubsub|help", conn: helpFunc("PUBSUB", pubsubHelp)},
		{name: "pubsub|numpat", conn: func(c *ConnCtx) { c.W.Int(int64(c.Server.PubSub().Patterns())) }},
		{name: "pubsub|numsub", conn: func(c *ConnCtx) { c.countSubscribers(pubsub.Channel) }},
		{name: "pubsub|shardchannels", conn: func(c *ConnCtx) { c.activeChannels(pubsub.Shard) }},
		{name: "pubsub|shardnumsub", conn: func(c *ConnCtx) { c.countSubscribers(pubsub.Shard) }},
	}
}

// Subscribed says whether the connection has any subscription.
func (c *Client) Subscribed() bool {
	return c.subs[pubsub.Channel].Load()+c.subs[pubsub.Pattern].Load()+c.subs[pubsub.Shard].Load() > 0
}

// SubscriberMayRun says whether a connection that has subscriptions and speaks RESP2 may run a command: whatever else
// it asked, it could not tell the reply from a message.
func SubscriberMayRun(s *Spec) bool {
	switch s.Name {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset":
		return true
	}
	return false
}

// SubscriberError is Redis' answer to the other commands.
func SubscriberError(s *Spec) string {
	return "ERR Can't execute '" + s.Name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
}

// NoteSubscriptions keeps what CLIENT LIST shows.
func (c *Client) NoteSubscriptions(s *pubsub.Subscriber) {
	for k := range c.subs {
		c.subs[k].Store(int32(s.Count(pubsub.Kind(k))))
	}
}

// crossSlot refuses shard channels of different slots, as they would be of different shards.
func (c *ConnCtx) crossSlot(kind pubsub.Kind) bool {
	if kind != pubsub.Shard || !c.Server.ClusterEnabled() {
		return false
	}
	for _, name := range c.Args[min(2, len(c.Args)):] {
		if ring.Slot(name) != ring.Slot(c.Args[1]) {
			c.W.Error(ErrCrossSlot)
			return true
		}
	}
	return false
}

func (c *ConnCtx) subscribe(kind pubsub.Kind, word string) {
	if c.crossSlot(kind) {
		return
	}
	s, changed := c.Conn.Subscriber(), false
	for _, name := range c.Args[1:] {
		changed = c.Server.PubSub().Subscribe(s, kind, string(name)) || changed
		c.confirm(s, kind, word, name)
	}
	c.Conn.Client().NoteSubscriptions(s)
	if changed {
		c.Conn.Announce()
	}
}

func (c *ConnCtx) unsubscribe(kind pubsub.Kind, word string) {
	if c.crossSlot(kind) {
		return
	}
	s, changed := c.Conn.Subscriber(), false
	names := c.Args[1:]
	if len(names) == 0 {
		for _, name := range s.Names(kind) {
			names = append(names, []byte(name))
		}
	}
	for _, name := range names {
		changed = c.Server.PubSub().Unsubscribe(s, kind, string(name)) || changed
		c.Conn.TakePushes() // none may come behind the confirmation
		c.confirm(s, kind, word, name)
	}
	if len(names) == 0 {
		c.confirm(s, kind, word, nil)
	}
	c.Conn.Client().NoteSubscriptions(s)
	if changed {
		c.Server.Bus().Changed(nil)
	}
}

// confirm says that a subscription stands, or not any more, and how many there are.
func (c *ConnCtx) confirm(s *pubsub.Subscriber, kind pubsub.Kind, word string, name []byte) {
	c.W.Push(3)
	c.W.BulkString(word)
	if name == nil {
		c.W.Null()
	} else {
		c.W.Bulk(name)
	}
	n := s.Count(pubsub.Channel) + s.Count(pubsub.Pattern)
	if kind == pubsub.Shard {
		n = s.Count(pubsub.Shard)
	}
	c.W.Int(int64(n))
}

// runPublish answers with the receivers on this node, as Redis Cluster does.
func runPublish(c *ConnCtx) {
	publish := c.Server.Bus().Publish
	if c.Spec.Name == "spublish" {
		publish = c.Server.Bus().PublishShard
	}
	n := publish(c.Args[1], c.Args[2])
	c.Conn.TakePushes() // its own subscription hears of it before the reply
	c.W.Int(int64(n))
}

func (c *ConnCtx) activeChannels(kind pubsub.Kind) {
	if len(c.Args) > 3 {
		c.subcommandSyntax()
		return
	}
	var pattern []byte
	if len(c.Args) == 3 {
		pattern = c.Args[2]
	}
	names := c.Server.PubSub().Active(kind, pattern)
	c.W.Array(len(names))
	for _, name := range names {
		c.W.BulkString(name)
	}
}

// subcommandSyntax is Redis' answer to a subcommand with arguments that it can't have.
func (c *ConnCtx) subcommandSyntax() {
	c.W.Error("ERR unknown subcommand or wrong number of arguments for '" + cstring(c.Args[1], 128) + "'. Try " +
		strings.ToUpper(cstring(c.Args[0], 128)) + " HELP.")
}

func (c *ConnCtx) countSubscribers(kind pubsub.Kind) {
	c.W.Array(2 * (len(c.Args) - 2))
	for _, name := range c.Args[2:] {
		c.W.Bulk(name)
		c.W.Int(int64(c.Server.PubSub().Subscribers(kind, name)))
	}
}

var pubsubHelp = []string{
	"CHANNELS [<pattern>]",
	"    Return the currently active channels matching a <pattern> (default: '*').",
	"NUMPAT",
	"    Return number of subscriptions to patterns.",
	"NUMSUB [<channel> ...]",
	"    Return the number of subscribers for the specified channels, excluding",
	"    pattern subscriptions(default: no channels).",
	"SHARDCHANNELS [<pattern>]",
	"    Return the currently active shard level channels matching a <pattern> (default: '*').",
	"SHARDNUMSUB [<shardchannel> ...]",
	"    Return the number of subscribers for the specified shard level channel(s)",
}
