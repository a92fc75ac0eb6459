package command

import (
	"testing"

	"hypercache/node/resp"
)

// hot is the state that a connection's loop keeps from command to command.
func hot() (*Ctx, map[string][][]byte) {
	ctx := &Ctx{Shard: newShard(), Now: 1_000_000, W: &resp.Writer{Proto: 2}, FX: &Effects{}}
	requests := map[string][][]byte{
		"GET":  bytesOf([]string{"GET", "key:000000000001"}),
		"SET":  bytesOf([]string{"SET", "key:000000000001", "xxxxxxxx"}),
		"INCR": bytesOf([]string{"incr", "counter:000000000001"}),
	}
	for _, name := range []string{"SET", "INCR"} {
		ctx.do(requests[name])
	}
	return ctx, requests
}

func (c *Ctx) do(args [][]byte) {
	c.W.Buf = c.W.Buf[:0]
	c.FX.Reset()
	c.Spec = Lookup(args[0])
	c.Args = args
	c.Run()
}

func TestHotCommandsAllocateNothing(t *testing.T) {
	ctx, requests := hot()
	s := newShard()
	key, value := []byte("key"), []byte("value")
	s.Set(key, value, 0)
	storeAllocs := testing.AllocsPerRun(1000, func() { s.Set(key, value, 0) })
	for name, args := range requests {
		n := testing.AllocsPerRun(1000, func() { ctx.do(args) })
		if name != "GET" {
			n -= storeAllocs
		}
		if n > 0 {
			t.Errorf("%s: %v allocations beyond the store's", name, n)
		}
	}
}
