package cache

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"hypercache/node/command"
)

func TestCommandsAreCountedAndTimed(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k, r := c.client(c.nodes[0]), c.nodes[0].Record()
	for range 3 {
		k.send("SET a 1", "GET a", "GET a", "GETRANGE a 0 1", "INCR b", "LCS a b c", "NOSUCH")
		k.receive(7)
	}
	got := map[string]string{}
	for _, section := range []string{"commandstats", "errorstats", "latencystats"} {
		r.Info(section, func(field, value string) { got[field] = value })
	}
	for field, want := range map[string]string{
		"cmdstat_get": `^calls=6,usec=\d+,usec_per_call=\d+\.\d\d,rejected_calls=0,failed_calls=0$`, "cmdstat_set": `^calls=3,`,
		"cmdstat_lcs": `calls=3,.*failed_calls=3$`, "errorstat_ERR": `^count=3$`, "errorstat_CROSSSLOT": `^count=3$`, "cmdstat_getrange": `^calls=3,`,
		"latency_percentiles_usec_get": `^p50=\d+\.\d{3},p99=\d+\.\d{3},p99\.9=\d+\.\d{3}$`,
	} {
		if !regexp.MustCompile(want).MatchString(got[field]) {
			t.Errorf("%s: %q does not match %s", field, got[field], want)
		}
	}
	r.Reset()
	r.Info("commandstats", func(field, _ string) { t.Errorf("%s after the reset", field) })
}

func TestSlowCommandsAreLogged(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	k := c.client(a)
	k.want("GET x", "nil")
	k.want("SLOWLOG LEN", "0")
	for _, x := range c.nodes {
		x.Record().SetThresholds(0, 0)
		x.Record().Slow.Limit(3)
	}
	near, far := key(0, 0), key(1, 0)
	k.want("SET "+near+" "+strings.Repeat("v", 200), "OK")
	k.want("GET "+near, strings.Repeat("v", 200))
	got := k.do("SLOWLOG GET 2")
	want := fmt.Sprintf(`^\[\[1 \d{10} \d+ \[GET %s\]  \] \[0 \d{10} \d+ \[SET %[1]s v{128}\.\.\. \(72 more bytes\)\]  \]\]$`, near)
	if !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("%s does not match %s", got, want)
	}
	k.want("GET "+far, "nil")
	if b.Record().Slow.Len() != 1 {
		t.Error("a forwarded command is not logged where it ran")
	}
	k.want("PING", "PONG")
	k.want("SLOWLOG LEN", "3")
	k.want("SLOWLOG RESET", "OK")
	a.Record().SetThresholds(-1, 0)
	k.want("PING", "PONG")
	k.want("SLOWLOG LEN", "1") // SLOWLOG RESET itself
}

func TestSpikesAreKept(t *testing.T) {
	r := command.NewRecord()
	r.Spikes.Add("command", time.Second)
	r.SetThresholds(-1, 100)
	c := start(t, 1, setup{})
	c.alone()
	c.nodes[0].Record().SetThresholds(-1, 100)
	k := c.client(c.nodes[0])
	c.nodes[0].Record().Spikes.Add("command", 99*time.Millisecond)
	k.want("LATENCY LATEST", "[]")
	c.nodes[0].Record().Spikes.Add("command", 150*time.Millisecond)
	if got := k.do("LATENCY LATEST"); !regexp.MustCompile(`^\[\[command \d{10} 150 150\]\]$`).MatchString(got) {
		t.Error(got)
	}
	if got := k.do("LATENCY GRAPH command"); !strings.HasPrefix(got, "command - high 150 ms, low 150 ms (all time high 150 ms)\n") {
		t.Error(got)
	}
	k.want("LATENCY RESET", "1")
}
