package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/ring"
)

// BenchmarkMemoryBesideRedis builds the same collections here and in a redis-server and prints the bytes per element of
// both and their ratio. Set HYPERCACHE_BESIDE_REDIS to run it.
func BenchmarkMemoryBesideRedis(b *testing.B) {
	if os.Getenv("HYPERCACHE_BESIDE_REDIS") == "" {
		b.Skip("HYPERCACHE_BESIDE_REDIS is not set")
	}
	r := startRedis(b)
	for _, c := range []struct {
		kind       string
		keys, each int
		width      int
	}{
		{"hash", 20_000, 5, 16}, {"hash", 4_000, 50, 16}, {"hash", 400, 500, 16}, {"hash", 40, 5_000, 16}, {"hash", 1, 200_000, 16},
		{"hash", 2_000, 20, 300}, {"hash", 1, 50_000, 300},
		{"ints", 20_000, 5, 0}, {"ints", 400, 500, 0}, {"ints", 1, 200_000, 0},
		{"set", 20_000, 5, 16}, {"set", 400, 500, 16}, {"set", 1, 200_000, 16}, {"set", 1, 50_000, 300},
		{"zset", 20_000, 5, 16}, {"zset", 2_000, 100, 16}, {"zset", 800, 120, 60}, {"zset", 400, 500, 16}, {"zset", 1, 200_000, 16},
		{"zset", 1, 200_000, 60}, {"list", 20_000, 5, 16}, {"list", 400, 500, 16}, {"list", 1, 200_000, 16}, {"list", 1, 200_000, 4},
		{"list", 400, 200, 300}, {"list", 400, 100, 2000},
	} {
		b.Run(fmt.Sprintf("%s/keys=%d/each=%d/width=%d", c.kind, c.keys, c.each, c.width), func(b *testing.B) {
			for b.Loop() { // the time means nothing here
			}
			db := New(Options{})
			defer db.Close()
			r.ask(b, "FLUSHALL")
			before := r.used(b)
			for g := range ring.Groups { // what a shard takes once
				db.Shard(g).Set([]byte("base"), nil, 0)
			}
			base := exactUsed(db)
			for k := range c.keys {
				build(db, r, c.kind, k, c.each, c.width)
			}
			r.drain(b)
			n := float64(c.keys * c.each)
			mine, theirs := float64(exactUsed(db)-base)/n, float64(r.used(b)-before)/n
			b.ReportMetric(mine, "B/elem")
			b.ReportMetric(float64(db.Reserved())/n, "reserved-B/elem")
			b.ReportMetric(theirs, "redis-B/elem")
			b.ReportMetric(mine/theirs, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// build makes one collection on both sides.
func build(db *DB, r *redis, kind string, k, each, width int) {
	key := fmt.Appendf(nil, "%s:%010d", kind, k)
	s := shardOf(db, key)
	text := func(i int) []byte {
		var buf [16]byte
		v := bytes.Clone(keyOf(buf[:], k*1_000_003+i))
		return append(v, bytes.Repeat([]byte("x"), max(width-16, 0))...)[:max(width, 1)]
	}
	switch kind {
	case "hash":
		h := s.NewHash(key)
		for i := range each {
			f := text(i)[:16]
			h.Set(f, text(i+7))
			r.send("HSET", key, f, text(i+7))
		}
	case "ints":
		m := s.NewSet(key)
		for i := range each {
			v := strconv.AppendInt(nil, int64(i)*7919+int64(k), 10)
			m.Add(v)
			r.send("SADD", key, v)
		}
	case "set":
		m := s.NewSet(key)
		for i := range each {
			m.Add(text(i))
			r.send("SADD", key, text(i))
		}
	case "zset":
		z := s.NewSortedSet(key)
		for i := range each {
			score := i * 7919 % 100_003
			z.Set(text(i), float64(score))
			r.send("ZADD", key, strconv.AppendInt(nil, int64(score), 10), text(i))
		}
	case "list":
		l := s.NewList(key)
		for i := range each {
			l.Insert(i, text(i))
			r.send("RPUSH", key, text(i))
		}
	}
}

// redis is a connection to a redis-server that the test has started.
type redis struct {
	w    *bufio.Writer
	r    *bufio.Reader
	owed int // replies
}

func startRedis(b *testing.B) *redis {
	dir := b.TempDir()
	socket := filepath.Join(dir, "redis.sock")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := cmd.Start(); err != nil {
		cancel()
		b.Skip(err)
	}
	b.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for begin := time.Now(); time.Since(begin) < 10*time.Second; {
		if c, err := net.Dial("unix", socket); err == nil {
			b.Cleanup(func() { _ = c.Close() })
			return &redis{w: bufio.NewWriter(c), r: bufio.NewReader(c)}
		}
	}
	b.Fatal("redis-server does not answer")
	return nil
}

func (r *redis) send(name string, args ...[]byte) {
	fmt.Fprintf(r.w, "*%d\r\n$%d\r\n%s\r\n", len(args)+1, len(name), name)
	for _, a := range args {
		fmt.Fprintf(r.w, "$%d\r\n%s\r\n", len(a), a)
	}
	if r.owed++; r.owed == 1000 {
		_ = r.flush()
	}
}

// flush reads the replies that are owed, one line each.
func (r *redis) flush() error {
	if err := r.w.Flush(); err != nil {
		return err
	}
	for ; r.owed > 0; r.owed-- {
		if line, err := r.r.ReadString('\n'); err != nil || line[0] == '-' {
			return fmt.Errorf("redis-server: %s %w", line, err)
		}
	}
	return nil
}

func (r *redis) drain(b *testing.B) {
	if err := r.flush(); err != nil {
		b.Fatal(err)
	}
}

func (r *redis) ask(b *testing.B, name string, args ...[]byte) {
	r.send(name, args...)
	r.drain(b)
}

// used returns used_memory.
func (r *redis) used(b *testing.B) int64 {
	fmt.Fprintf(r.w, "*2\r\n$4\r\nINFO\r\n$6\r\nmemory\r\n")
	_ = r.w.Flush()
	head, err := r.r.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(head[1:]))
	body := make([]byte, n+2)
	if _, err := io.ReadFull(r.r, body); err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(body), "used_memory:")
	value, _, _ := strings.Cut(rest, "\r")
	used, _ := strconv.ParseInt(value, 10, 64)
	return used
}
