package cache

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/command"
	"hypercache/node/pubsub"
)

// monitors are the connections that see every command of this node's clients.
type monitors struct {
	mu   sync.Mutex
	list atomic.Pointer[[]*pubsub.Subscriber]
}

func (m *monitors) change(f func([]*pubsub.Subscriber) []*pubsub.Subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var old []*pubsub.Subscriber
	if p := m.list.Load(); p != nil {
		old = *p
	}
	list := f(slices.Clone(old))
	m.list.Store(&list)
}

// Monitor implements command.Conn.
func (k *conn) Monitor() {
	if k.watch.monitor {
		return
	}
	k.watch.on, k.watch.monitor = true, true
	k.client.SetMonitor(true)
	k.s.SetListening(true)
	k.cache.obs.every.Add(1)
	k.cache.obs.monitors.change(func(l []*pubsub.Subscriber) []*pubsub.Subscriber { return append(l, k.watch.sub) })
}

func (c *Cache) endMonitor(k *conn) {
	if !k.watch.monitor {
		return
	}
	k.client.SetMonitor(false)
	c.obs.every.Add(-1)
	c.obs.monitors.change(func(l []*pubsub.Subscriber) []*pubsub.Subscriber {
		return slices.DeleteFunc(l, func(s *pubsub.Subscriber) bool { return s == k.watch.sub })
	})
}

// show sends a command to the monitors, in Redis' form.
func (c *Cache) show(k *conn, spec *command.Spec, args [][]byte) {
	list := c.obs.monitors.list.Load()
	if list == nil || len(*list) == 0 || spec.Flags&(command.FlagSkipMonitor|command.FlagAdmin) != 0 && !spec.Script {
		return
	}
	now := time.Now().UnixMicro()
	line := fmt.Appendf(nil, "+%d.%06d [0 %s]", now/1e6, now%1e6, k.s.RemoteAddr())
	for _, a := range command.Redacted(spec, args) {
		line = appendQuoted(append(line, ' '), a)
	}
	line = append(line, '\r', '\n')
	for _, s := range *list {
		if s == k.watch.sub && spec.Name == "reset" {
			continue // it ends this monitor
		}
		s.Push(line)
	}
}

// appendQuoted writes a string in quotes, with C's escapes.
func appendQuoted(b, s []byte) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '\\' || c == '"':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\a':
			b = append(b, `\a`...)
		case c == '\b':
			b = append(b, `\b`...)
		case c >= ' ' && c <= '~':
			b = append(b, c)
		default:
			b = fmt.Appendf(b, `\x%02x`, c)
		}
	}
	return append(b, '"')
}
