package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dataset is something to store in both servers: calls of add make commands of one element each.
type dataset struct {
	name     string
	elements int // of which memory is told per element
	payload  int // bytes of user data per element
	commands int
	add      func(b []byte, i int) []byte
}

// request appends one command.
func request(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), '\r', '\n')
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), '\r', '\n')
		b = append(append(b, a...), '\r', '\n')
	}
	return b
}

func word(prefix string, i int) string { return fmt.Sprintf("%s%0*d", prefix, 16-len(prefix), i) }

// collection is a dataset of n keys with per elements each, written by one command per key.
func collection(name string, n, per, payload int, command string, element func(i int) []string) dataset {
	return dataset{name: name, elements: n * per, payload: payload, commands: n, add: func(b []byte, i int) []byte {
		args := []string{command, word("key:", i)}
		for j := range per {
			args = append(args, element(i*per+j)...)
		}
		return request(b, args...)
	}}
}

// one is a dataset of a single key with n elements, 50 a command.
func one(name string, n, payload int, command string, element func(i int) []string) dataset {
	const per = 50
	return dataset{name: name, elements: n, payload: payload, commands: n / per, add: func(b []byte, i int) []byte {
		args := []string{command, "the key"}
		for j := range per {
			args = append(args, element(i*per+j)...)
		}
		return request(b, args...)
	}}
}

func datasets(million int) []dataset {
	const forever = "4102444800000" // 2100, in unix ms
	value := func(i int) string { return word("value:", i) }
	field := func(i int) []string { return []string{"field" + strconv.Itoa(i%1000), value(i)} }
	member := func(i int) []string { return []string{word("member:", i)} }
	scored := func(i int) []string { return []string{strconv.Itoa(i), word("member:", i)} }
	number := func(i int) []string { return []string{strconv.Itoa(i * 7)} }
	var all []dataset
	for _, n := range []int{million, 10 * million} {
		all = append(all,
			dataset{fmt.Sprintf("%d strings of 16+16", n), n, 32, n, func(b []byte, i int) []byte {
				return request(b, "SET", word("key:", i), value(i))
			}},
			dataset{fmt.Sprintf("%d strings of 16+16 with TTL", n), n, 32, n, func(b []byte, i int) []byte {
				return request(b, "SET", word("key:", i), value(i), "PXAT", forever)
			}})
	}
	many := func(name string, per, payload int, command string, element func(i int) []string) dataset {
		return collection(name, million/per, per, payload, command, element)
	}
	return append(all,
		many("hashes of 5 fields", 5, 24, "HSET", field),
		many("hashes of 50 fields", 50, 24, "HSET", field),
		many("hashes of 500 fields", 500, 24, "HSET", field),
		one("one hash", million, 24, "HSET", func(i int) []string { return []string{"f:" + strconv.Itoa(i), value(i)} }),
		many("lists of 5", 5, 16, "RPUSH", member),
		many("lists of 500", 500, 16, "RPUSH", member),
		one("one list", million, 16, "RPUSH", member),
		many("sets of 5", 5, 16, "SADD", member),
		many("sets of 500", 500, 16, "SADD", member),
		many("sets of 50 integers", 50, 8, "SADD", number),
		one("one set", million, 16, "SADD", member),
		many("sorted sets of 5", 5, 24, "ZADD", scored),
		many("sorted sets of 100", 100, 24, "ZADD", scored),
		one("one sorted set", million, 24, "ZADD", scored),
	)
}

// benchMemory prints what both servers' resident memory grows by for the same data.
func benchMemory(ctx context.Context, o options, f *farm) error {
	fmt.Printf("\n## Resident memory: bytes per element beyond the user's own bytes\n\n")
	fmt.Println("The growth of VmRSS from the empty server to the loaded one, less keys and values (for collections: fields, members")
	fmt.Println("and 8 bytes a score; the keys of small collections count as overhead), over the elements. Both are left alone for 4 s")
	fmt.Println("before each look.")
	fmt.Println()
	fmt.Print("| data | redis | HyperCache | ratio of the whole |\n|---|---|---|---|\n")
	for _, d := range datasets(o.million) {
		if !strings.Contains(d.name, o.data) {
			continue
		}
		redis, err := f.redis(ctx, "--appendonly", "no")
		if err != nil {
			return err
		}
		theirs, err := grown(ctx, redis, d)
		f.end(redis)
		if err != nil {
			return fmt.Errorf("%s: redis-server: %w", d.name, err)
		}
		node, err := f.nodes(ctx, o.node, 1, "--persistence.enabled=false", "--cache.max_memory=0")
		if err != nil {
			return err
		}
		ours, err := grown(ctx, node, d)
		f.end(node)
		if err != nil {
			return fmt.Errorf("%s: the node: %w", d.name, err)
		}
		per := func(n int64) float64 { return float64(n)/float64(d.elements) - float64(d.payload) }
		fmt.Printf("| %s | %.1f | %.1f | **%.2f** |\n", d.name, per(theirs), per(ours), float64(ours)/float64(theirs))
	}
	return nil
}

func grown(ctx context.Context, g group, d dataset) (int64, error) {
	const rest = 4 * time.Second // what only starting and loading took goes back
	if err := pause(ctx, rest); err != nil {
		return 0, err
	}
	before, err := g.resident()
	if err != nil {
		return 0, err
	}
	if err := store(ctx, g, d); err != nil {
		return 0, err
	}
	if err := pause(ctx, rest); err != nil {
		return 0, err
	}
	after, err := g.resident()
	return after - before, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// resident is VmRSS of the group's processes in bytes.
func (g group) resident() (sum int64, err error) {
	for _, pid := range g.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("a server has ended: %w", err)
		}
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += kb << 10
	}
	return sum, nil
}

// store sends a dataset in pipelines of 500 commands over one connection.
func store(ctx context.Context, g group, d dataset) error {
	c, err := dial(ctx, g.port)
	if err != nil {
		return err
	}
	defer c.Close()
	const window = 500
	var b []byte
	for i := 0; i < d.commands; {
		b = b[:0]
		n := 0
		for ; n < window && i < d.commands; n++ {
			b = d.add(b, i)
			i++
		}
		if err := c.send(b, n); err != nil {
			return fmt.Errorf("%s, command %d: %w", d.name, i, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// wire is a connection that reads replies of one line.
type wire struct {
	net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, port int) (*wire, error) {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReader(c)}, nil
}

// send writes n commands and reads their replies: lines, or bulk strings.
func (c *wire) send(b []byte, n int) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	for range n {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		switch line[0] {
		case '-':
			return errors.New(strings.TrimSpace(line))
		case '$':
			size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
			if err != nil {
				return err
			}
			if size >= 0 {
				if _, err := c.r.Discard(size + 2); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// benchRestart prints how long both servers take to load their files and to rewrite them, and what a client sees meanwhile.
func benchRestart(ctx context.Context, o options, f *farm) error {
	fmt.Printf("\n## Append-only files of %d strings of 16+16: rewriting and loading\n\n", o.million)
	fmt.Print("The slowest of the GETs and SETs that one client sends one after another while the file is rewritten.\n\n")
	fmt.Print("| | rewrite | slowest request meanwhile | restart until it serves |\n|---|---|---|---|\n")
	aof := []string{"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"}
	redis, err := f.redis(ctx, aof...)
	if err != nil {
		return err
	}
	node, err := f.nodes(ctx, o.node, 1, "--persistence.rewrite_percentage=0", "--cache.max_memory=0")
	if err != nil {
		return err
	}
	d := datasets(o.million)[0]
	for _, s := range []struct {
		name  string
		group group
	}{{"redis", redis}, {"HyperCache", node}} {
		if err := store(ctx, s.group, d); err != nil {
			return err
		}
		took, slowest, err := rewriting(ctx, s.group)
		if err != nil {
			return fmt.Errorf("%s: rewrite: %w", s.name, err)
		}
		again := f.end(s.group)
		began := time.Now()
		if again.pids[0], err = f.start(ctx, again.args[0], again.args[1:]...); err != nil {
			return err
		}
		want := ":" + strconv.Itoa(d.elements)
		if err := await(ctx, func() bool { return ask(again.port, "DBSIZE") == want }); err != nil {
			return fmt.Errorf("%s: DBSIZE is %s: %w", s.name, ask(again.port, "DBSIZE"), err)
		}
		fmt.Printf("| %s | %.2f s | %.1f ms | %.2f s |\n", s.name, took.Seconds(), float64(slowest.Microseconds())/1000, time.Since(began).Seconds())
		f.end(again.group)
	}
	return nil
}

// rewriting has the file rewritten and returns how long that takes and the slowest request of a client meanwhile.
func rewriting(ctx context.Context, g group) (took, slowest time.Duration, err error) {
	c, err := dial(ctx, g.port)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	began := time.Now()
	if err := c.send(request(nil, "BGREWRITEAOF"), 1); err != nil {
		return 0, 0, err
	}
	var times []time.Duration
	for i := 0; ; i++ {
		at := time.Now()
		if err := c.send(request(nil, "SET", word("key:", i), word("value:", i)), 1); err != nil {
			return 0, 0, err
		}
		if err := c.send(request(nil, "GET", word("key:", i*7)), 1); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(at))
		if i%500 != 499 {
			continue
		}
		info, err := c.text("INFO", "persistence")
		if err != nil {
			return 0, 0, err
		}
		running := strings.Contains(info, "aof_rewrite_in_progress:1") || strings.Contains(info, "aof_rewrite_scheduled:1")
		if !running && time.Since(began) > 100*time.Millisecond {
			return time.Since(began), slices.Max(times), nil
		}
		if time.Since(began) > time.Minute {
			return 0, 0, errors.New("the rewrite did not end within a minute")
		}
	}
}

// text asks for a bulk string.
func (c *wire) text(args ...string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := c.Write(request(nil, args...)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	for line[0] != '$' && line[0] != '=' {
		return "", errors.New(strings.TrimSpace(line))
	}
	size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return "", err
	}
	b := make([]byte, size+2)
	_, err = io.ReadFull(c.r, b)
	return string(b[:max(len(b)-2, 0)]), err
}

// ended is a group that was stopped, with the command line that starts its first server again.
type ended struct {
	group
	args []string
}

// end stops the group's servers.
func (f *farm) end(g group) ended {
	e := ended{group: group{port: g.port, pids: slices.Clone(g.pids)}}
	f.procs = slices.DeleteFunc(f.procs, func(p *exec.Cmd) bool {
		if !slices.Contains(g.pids, p.Process.Pid) {
			return false
		}
		if p.Process.Pid == g.pids[0] {
			e.args = p.Args
		}
		stop(p)
		return true
	})
	return e
}
