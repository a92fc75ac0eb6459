package cache

import (
	"strconv"
	"testing"

	"hypercache/node/replica"
)

// TestAScriptWithoutKeysFindsThemThroughANodeThatIsPrimaryOfNothing: it is sent to some primary, touches a key that another one
// has, and must come back to be sent there.
func TestAScriptWithoutKeysFindsThemThroughANodeThatIsPrimaryOfNothing(t *testing.T) {
	c := start(t, 3, setup{acks: replica.AcksOne})
	who := func(g int) string { return c.nodes[1+g%2].id }
	c.assign(who, func(g int) []string { return []string{who(g)} })
	cl := c.client(c.nodes[0])
	for _, tt := range []struct{ name, script string }{
		{"short", "return redis.call('INCR',ARGV[1])"},
		{"longer than the stream's reader waits for it", "for i=1,100000 do end return redis.call('INCR',ARGV[1])"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for group := range 4 {
				key := key(group, len(tt.script))
				for n := range 3 {
					cl.words("EVAL", tt.script, "0", key)
					if got := cl.receive(1)[0]; got != strconv.Itoa(n+1) {
						t.Errorf("group %d: %s, want %d", group, got, n+1)
					}
				}
				cl.want("GET "+key, "3")
			}
		})
	}
	for _, x := range c.nodes {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, in := range x.asking {
			for group := range in.waiting {
				eventually(t, "nothing waits", func() bool { return in.waiting[group].Load() == 0 })
			}
		}
	}
}
