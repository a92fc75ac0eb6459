package cache

import (
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
)

// meter times the commands of one goroutine. The clock is read where a run of one quick command ends, not for each of
// them: commands of constant or logarithmic time (Redis' flag fast, and SET) that follow each other in one batch share
// their time. All others are timed one by one, and so is everything while somebody asks about times below a millisecond
// (command.Record.Exact). A time is that of this node's work: waiting for replicas or another node is not in it.
type meter struct {
	set   *command.StatSet
	spec  *command.Spec
	n     uint64
	since time.Duration
}

var clockBase = time.Now()

// monotonic reads the clock; about 30 ns.
func monotonic() time.Duration { return time.Since(clockBase) }

// begin opens a run of a command, and ends another one's.
func (m *meter) begin(spec *command.Spec, r *command.Record) {
	if m.spec == spec {
		m.n++
		return
	}
	now := monotonic()
	m.end(now, r)
	m.spec, m.n, m.since = spec, 1, now
}

// end closes the run and returns what a command of it took.
func (m *meter) end(now time.Duration, r *command.Record) (each time.Duration) {
	if m.spec == nil {
		return 0
	}
	took := max(now-m.since, 0)
	each = took / time.Duration(m.n)
	m.set.Ran(m.spec, m.n, took)
	m.spec, m.n = nil, 0
	return each
}

// ran notes what became of a command, whose reply, as far as there is one, begins at mark.
func (c *Cache) ran(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte, mark int) {
	if len(w.Buf) > mark && w.Buf[mark] == '-' {
		k.home.meter.set.Failed(spec)
		c.obs.record.Error(w.Buf[mark:])
	}
	if spec.Quick && !c.obs.record.Exact() {
		return
	}
	c.timed(k.home.meter.end(monotonic(), c.obs.record), spec, args, k.s.RemoteAddr(), k.client)
}

// timed looks at what one command took.
func (c *Cache) timed(d time.Duration, spec *command.Spec, args [][]byte, addr string, client *command.Client) {
	r := c.obs.record
	if r.Slow.Slow(d) && spec.Flags&command.FlagSkipSlowlog == 0 {
		name := ""
		if client != nil {
			name = client.Name()
		}
		r.Slow.Add(d, command.Redacted(spec, args), addr, name)
	}
	event := "command"
	if spec.Flags&command.FlagFast != 0 {
		event = "fast-command"
	}
	r.Spikes.Add(event, d)
}

// Record is what is known of the commands that ran.
func (c *Cache) Record() *command.Record { return c.obs.record }
