package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/node/command/golden/oracle"
)

func TestWatchedIncrementsThroughEveryNodeLoseNone(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	const perClient = 25
	var wg sync.WaitGroup
	var aborted atomic.Int64
	for i := range 6 {
		r := c.Nodes()[i%3].Client()
		wg.Go(func() {
			for done := 0; done < perClient; {
				err := r.Watch(ctx, func(tx *redis.Tx) error {
					n, err := tx.Get(ctx, "counter").Int()
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
					_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
						p.Set(ctx, "counter", n+1, 0)
						return nil
					})
					return err
				}, "counter")
				switch {
				case err == nil:
					done++
				case errors.Is(err, redis.TxFailedErr):
					aborted.Add(1)
				default:
					t.Errorf("increment: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, err := c.Nodes()[0].Client().Get(ctx, "counter").Int(); err != nil || n != 6*perClient {
		t.Errorf("the counter is %d, %v, after %d increments", n, err, 6*perClient)
	}
	t.Logf("%d transactions were aborted", aborted.Load())
	// Another key of the same slot aborts nothing.
	r := c.Nodes()[1].Client()
	err := r.Watch(ctx, func(tx *redis.Tx) error {
		if err := c.Nodes()[2].Client().Set(ctx, "{counter}other", 1, 0).Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "counter").Err() })
		return err
	}, "counter")
	if err != nil {
		t.Errorf("EXEC after a change of another key: %v", err)
	}
}

// TestTransfersAreWholeWhilePrimariesChange moves amounts between two keys of a slot, by EXEC and by script, while each node
// in turn stops and starts again. Their sum is the same whenever it is read.
func TestTransfersAreWholeWhilePrimariesChange(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const total = 1000
	if err := c.Nodes()[0].Client().MSet(ctx, "{acc}a", total, "{acc}b", 0).Err(); err != nil {
		t.Fatal(err)
	}
	const move = "redis.call('decrby', KEYS[1], ARGV[1]) redis.call('incrby', KEYS[2], ARGV[1]) return redis.call('get', KEYS[1])"
	var wg sync.WaitGroup
	var moved, sums atomic.Int64
	for i, n := range c.Nodes() {
		r := n.Client()
		wg.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				amount := (i*7+k)%11 - 5
				var err error
				if k%2 == 0 {
					err = r.Eval(ctx, move, []string{"{acc}a", "{acc}b"}, amount).Err()
				} else {
					_, err = r.TxPipelined(ctx, func(p redis.Pipeliner) error {
						p.DecrBy(ctx, "{acc}a", int64(amount))
						p.IncrBy(ctx, "{acc}b", int64(amount))
						return nil
					})
				}
				if err == nil {
					moved.Add(1)
				}
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				v, err := r.MGet(ctx, "{acc}a", "{acc}b").Result()
				if err != nil {
					continue
				}
				a, _ := strconv.Atoi(fmt.Sprint(v[0]))
				b, _ := strconv.Atoi(fmt.Sprint(v[1]))
				if a+b != total {
					t.Errorf("%d + %d is %d", a, b, a+b)
					return
				}
				sums.Add(1)
			}
		})
	}
	for _, n := range c.Nodes() {
		before := moved.Load()
		Await(t, func() bool { return moved.Load() > before+50 }, func() string { return "nothing moves" })
		n.Stop()
		n.AwaitDown()
		before = moved.Load()
		Await(t, func() bool { return moved.Load() > before+50 }, func() string { return "nothing moves without " + n.ID })
		n.Start()
		c.AwaitReady()
	}
	cancel()
	wg.Wait()
	t.Logf("%d transfers, %d sums", moved.Load(), sums.Load())
}

func TestScriptLoadedOnOneNodeRunsOnAll(t *testing.T) {
	c := Start(t, 3, nil)
	ctx := t.Context()
	sha, err := c.Nodes()[0].Client().ScriptLoad(ctx, "return redis.call('incr', KEYS[1])").Result()
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range c.Nodes() {
		for k := range 20 {
			v, err := n.Client().EvalSha(ctx, sha, []string{fmt.Sprintf("k%d", k)}).Int()
			if err != nil || v != i+1 {
				t.Fatalf("EVALSHA through %s: %d, %v", n.ID, v, err)
			}
		}
	}
	if err := c.Nodes()[1].Client().ScriptFlush(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		if err := n.Client().EvalSha(ctx, sha, []string{"k"}).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			t.Errorf("EVALSHA through %s after SCRIPT FLUSH: %v", n.ID, err)
		}
	}
	// A script that declares no key runs where the first that it touches is; keys of two slots it may not touch.
	for k := range 20 {
		r := c.Nodes()[k%3].Client()
		if v, err := r.Eval(ctx, "return redis.call('incr', ARGV[1])", nil, fmt.Sprintf("k%d", k)).Int(); err != nil || v != 4 {
			t.Errorf("EVAL without keys: %d, %v", v, err)
		}
	}
	err = c.Nodes()[0].Client().Eval(ctx, "return redis.call('get', 'b')", []string{"a"}).Err()
	if err == nil || !strings.HasPrefix(err.Error(), "ERR Script attempted to access a non local key in a cluster node") {
		t.Errorf("a script touches another slot: %v", err)
	}
}

func TestSlowScriptsAreAnnouncedAndKilled(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for _, n := range c.Nodes() {
		if err := n.Client().ConfigSet(ctx, "busy-reply-threshold", "100").Err(); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	slow := c.Nodes()[0].Client()
	go func() { ended <- slow.Eval(ctx, "while true do end", []string{"{s}a"}).Err() }() // SCRIPT KILL ends it
	r := c.Nodes()[1].Client()
	var err error
	Await(t, func() bool {
		err = r.Get(ctx, "{s}b").Err()
		return err != nil && strings.HasPrefix(err.Error(), "BUSY ")
	}, func() string { return fmt.Sprintf("GET of the script's slot: %v", err) })
	began := time.Now()
	for k := range 100 { // other slots are served
		if err := r.Set(ctx, fmt.Sprintf("k%d", k), 1, 0).Err(); err != nil && !strings.HasPrefix(err.Error(), "BUSY ") {
			t.Errorf("SET beside a script: %v", err)
		}
	}
	t.Logf("100 writes beside the script took %v", time.Since(began))
	if err := c.Nodes()[2].Client().ScriptKill(ctx).Err(); err != nil {
		t.Errorf("SCRIPT KILL: %v", err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "Script killed by user with SCRIPT KILL") {
		t.Errorf("the killed script answered %v", err)
	}
	if err := r.Set(ctx, "{s}b", 1, 0).Err(); err != nil {
		t.Errorf("SET after the kill: %v", err)
	}
	if err := r.ScriptKill(ctx).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOTBUSY") {
		t.Errorf("SCRIPT KILL of nothing: %v", err)
	}
	// What has written can't be killed, and its writes come together.
	go func() {
		ended <- slow.Eval(ctx, "redis.call('set',KEYS[1],1) for i=1,3e7 do end redis.call('set',KEYS[1],2)", []string{"{s}a"}).Err()
	}()
	unkillable := false
	for done := false; !done; {
		select {
		case err := <-ended:
			if done = true; err != nil && !errors.Is(err, redis.Nil) {
				t.Errorf("the script that writes: %v", err)
			}
		default:
			err := r.ScriptKill(ctx).Err()
			unkillable = unkillable || err != nil && strings.HasPrefix(err.Error(), "UNKILLABLE")
		}
	}
	if !unkillable {
		t.Error("SCRIPT KILL of a script that has written was never refused")
	}
	if v, err := r.Get(ctx, "{s}a").Result(); err != nil || v != "2" {
		t.Errorf("after the script: %s, %v", v, err)
	}
}

// TestPipelinedTransactionsKeepTheirOrder sends WATCH, a transaction, a script and reads at once, so that EXEC comes before WATCH
// is answered.
func TestPipelinedTransactionsKeepTheirOrder(t *testing.T) {
	c := Start(t, 3, nil)
	for _, n := range c.Nodes() {
		nc, err := n.Dial()
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(Patient))
		conn := oracle.NewConn(nc)
		var commands [][][]byte
		var want []string
		say := func(reply, line string) {
			var args [][]byte
			for w := range strings.FieldsSeq(line) {
				args = append(args, []byte(strings.ReplaceAll(w, "_", " ")))
			}
			commands, want = append(commands, args), append(want, reply)
		}
		for i := range 40 {
			key := fmt.Sprintf("%s-%d", n.ID, i)
			say("+OK\r\n", "SET "+key+" 1")
			say("+OK\r\n", "WATCH "+key)
			say("$1\r\n1\r\n", "GET "+key)
			say("+OK\r\n", "MULTI")
			say("+QUEUED\r\n", "INCR "+key)
			say("+QUEUED\r\n", "PING")
			say("+QUEUED\r\n", "GET "+key)
			say("*3\r\n:2\r\n+PONG\r\n$1\r\n2\r\n", "EXEC")
			say("$1\r\n2\r\n", "GET "+key)
			say(":3\r\n", "EVAL return_redis.call('incr',KEYS[1]) 1 "+key)
			say("$1\r\n3\r\n", "GET "+key)
			say("+OK\r\n", "WATCH "+key)
			say(":4\r\n", "INCR "+key)
			say("+OK\r\n", "MULTI")
			say("+QUEUED\r\n", "DEL "+key)
			say("*-1\r\n", "EXEC")
			say("$-1\r\n", "EVAL for_i=1,1e5_do_end_redis.call('append',KEYS[1],'x')_return_false 1 "+key)
			say("$2\r\n4x\r\n", "GET "+key)
		}
		got, err := conn.Pipeline(commands)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if string(got[i]) != want[i] {
				t.Fatalf("%s: %d: %q: %q, want %q", n.ID, i, commands[i], got[i], want[i])
			}
		}
		conn.Close()
	}
}

// TestStockRedisLoadsTransactions has a redis-server load what a node wrote.
func TestStockRedisLoadsTransactions(t *testing.T) {
	c := Start(t, 1, nil)
	n := c.Nodes()[0]
	ctx := t.Context()
	r := n.Client()
	for i := range 20 {
		key := fmt.Sprintf("{t%d}", i)
		if _, err := r.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, key+"a", i, time.Hour)
			p.Incr(ctx, key+"a")
			return p.Rename(ctx, key+"a", key+"b").Err()
		}); err != nil {
			t.Fatal(err)
		}
		script := "redis.call('set', KEYS[1], ARGV[1]) redis.call('append', KEYS[1], '!') redis.call('del', KEYS[2]) return 1"
		if err := r.Eval(ctx, script, []string{key + "c", key + "none"}, i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(who string, get func(key string) string) {
		for i := range 20 {
			b, c := get(fmt.Sprintf("{t%d}b", i)), get(fmt.Sprintf("{t%d}c", i))
			if b != strconv.Itoa(i+1) || c != strconv.Itoa(i)+"!" {
				t.Errorf("%s has %q and %q for %d", who, b, c, i)
			}
		}
	}
	n.Stop()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "appendonlydir"), os.DirFS(filepath.Join(n.Config.Persistence.DataDir, "appendonlydir"))); err != nil {
		t.Fatal(err)
	}
	conn := oracle.Serve(t, dir, "--appendonly", "yes").Client(t)
	check("redis-server", func(key string) string {
		raw, err := conn.Do("GET", key)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(raw), "\r\n")
		return lines[min(1, len(lines)-1)]
	})
	n.Start()
	n.AwaitReady()
	again := n.Client()
	check("the node, restarted,", func(key string) string { return again.Get(ctx, key).Val() })
}
