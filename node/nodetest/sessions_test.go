package nodetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/command/golden/random"
	"hypercache/node/resp"
)

// TestSessionsAgreeWithRedis has several connections do together what random steps say, each step on a lone node, or through
// all nodes of three, and on a redis-server, and compares what every connection gets: replies in order, and pushes in
// order. HYPERCACHE_DIFFERENTIAL lengthens each theme's run ("60s") and makes it another each time; HYPERCACHE_SEED repeats
// one. Without either the steps are always the same, as many of them as there is time for: corners that are known to differ
// (docs/commands.md) are rare, but not left out of what scripts may contain.
func TestSessionsAgreeWithRedis(t *testing.T) {
	for name, nodes := range map[string]int{"lone": 1, "cluster": 3} {
		t.Run(name, func(t *testing.T) {
			redis, ours := clusterServer(t), Start(t, nodes, nil)
			for _, theme := range random.Themes {
				t.Run(string(theme), func(t *testing.T) {
					limit, seed := differential(t, 150*time.Millisecond)
					if os.Getenv("HYPERCACHE_DIFFERENTIAL") == "" && os.Getenv("HYPERCACHE_SEED") == "" {
						seed = 1
					}
					rng := rand.New(rand.NewPCG(seed, 0))
					steps, failures := 0, 0
					for end := time.Now().Add(limit); time.Now().Before(end) && failures < maxDifferences; {
						d := &duel{t: t, rng: rng}
						d.session(theme, redis, ours)
						if d.close(); d.failed {
							failures++
						}
						steps += d.steps
					}
					t.Logf("%d steps compared", steps)
				})
			}
		})
	}
}

// maxDifferences ends a run; each ends its session.
const maxDifferences = 30

// differential is how long to compare, and from which seed.
func differential(t *testing.T, usual time.Duration) (limit time.Duration, seed uint64) {
	t.Helper()
	limit, seed = usual, uint64(time.Now().UnixNano())
	var err error
	if s := os.Getenv("HYPERCACHE_DIFFERENTIAL"); s != "" {
		if limit, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("HYPERCACHE_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HYPERCACHE_SEED=%d", seed)
	return limit, seed
}

// sessionConns is how many connections a session has.
const sessionConns = 5

// wire is a connection whose input is cut into units: replies and pushes.
type wire struct {
	net.Conn
	id      string
	control *oracle.Conn // to the same node
	in      []byte
	units   [][]byte
}

func newWire(t *testing.T, c net.Conn, control *oracle.Conn) *wire {
	t.Helper()
	w := &wire{Conn: c, control: control}
	if _, err := c.Write(oracle.Encode(random.Words("CLIENT", "ID"))); err != nil {
		t.Fatal(err)
	}
	if err := w.await(1); err != nil {
		t.Fatal(err)
	}
	w.id = strings.Trim(string(w.units[0]), ":\r\n")
	w.units = nil
	return w
}

func (w *wire) took(b []byte) {
	w.in = append(w.in, b...)
	for {
		n := resp.Size(w.in)
		if n == 0 {
			return
		}
		w.units = append(w.units, bytes.Clone(w.in[:n]))
		w.in = w.in[n:]
	}
}

// drain takes what has arrived.
func (w *wire) drain() error {
	raw, err := w.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var fault error
	buf := make([]byte, 1<<16)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.Read(int(fd), buf)
			switch {
			case n > 0:
				w.took(buf[:n])
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EAGAIN):
				return true
			default:
				fault = errors.Join(io.ErrUnexpectedEOF, err)
				return true
			}
		}
	})
	return errors.Join(err, fault)
}

// patience is how long a unit that must come may take.
const sessionPatience = 10 * time.Second

// await reads until there are n units.
func (w *wire) await(n int) error {
	if err := w.SetReadDeadline(time.Now().Add(sessionPatience)); err != nil {
		return err
	}
	defer func() { _ = w.SetReadDeadline(time.Time{}) }()
	buf := make([]byte, 1<<16)
	for len(w.units) < n {
		k, err := w.Read(buf)
		w.took(buf[:k])
		if err != nil {
			return fmt.Errorf("%d of %d units: %w", len(w.units), n, err)
		}
	}
	return nil
}

// like reads until there is as much as in want.
func (w *wire) like(want [][]byte) error {
	replies, pushes := len(want), random.Pushes(want)
	for _, u := range want {
		if random.IsPush(u) {
			replies--
		}
	}
	for {
		have, _ := split(w.units)
		if len(have) >= replies && random.Pushes(w.units) >= pushes {
			return nil
		}
		if err := w.await(len(w.units) + 1); err != nil {
			return fmt.Errorf("%q of %q: %w", w.units, want, err)
		}
	}
}

// side is one of the two that are compared.
type side struct {
	conns    []*wire
	controls []*oracle.Conn
	fences   []*oracle.Conn // one at each node, subscribed to the shard channel "fence"
}

func (d *duel) dial(to func() (net.Conn, error)) net.Conn {
	d.t.Helper()
	nc, err := to()
	if err != nil {
		d.t.Fatal(err)
	}
	d.open = append(d.open, nc)
	return nc
}

// side opens a session's connections, to each of the servers in turn.
func (d *duel) side(servers ...func() (net.Conn, error)) *side {
	s := &side{}
	for _, to := range servers {
		s.controls = append(s.controls, oracle.NewConn(d.dial(to)))
	}
	for i := range sessionConns {
		at := i % len(servers)
		s.conns = append(s.conns, newWire(d.t, d.dial(servers[at]), s.controls[at]))
	}
	return s
}

// fence waits until what a node published has reached all.
func (d *duel) fence(step random.Step) {
	if len(d.ours.controls) == 1 {
		return
	}
	if d.ours.fences == nil {
		for _, to := range d.nodes {
			c := oracle.NewConn(d.dial(to))
			say(d.t, c, "SSUBSCRIBE", "fence")
			d.ours.fences = append(d.ours.fences, c)
		}
	}
	say(d.t, d.ours.conns[step.Conn].control, "SPUBLISH", "fence", "")
	for _, c := range d.ours.fences {
		if _, err := c.ReadReply(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// close ends the connections, and waits until none of them waits any more.
func (d *duel) close() {
	for _, s := range []*side{d.redis, d.ours} {
		for _, w := range s.conns {
			w.Close()
		}
		for _, c := range s.controls {
			for !bytes.Contains(say(d.t, c, "INFO", "clients"), []byte("blocked_clients:0\r\n")) {
			}
		}
	}
	for _, c := range d.open {
		c.Close()
	}
}

// all sends a request to every node by its control connection.
func (s *side) all(t *testing.T, args ...string) {
	t.Helper()
	for _, c := range s.controls {
		if b := say(t, c, args...); b[0] == '-' {
			t.Fatalf("%q: %s", args, b)
		}
	}
}

// settle waits until a redis-server has done what it was sent, and told everybody.
func (s *side) settle(d *duel) {
	d.t.Helper()
	for range 3 {
		if _, err := s.controls[0].Do("PING"); err != nil {
			d.t.Fatalf("redis-server: %v\nat   %s", err, d.log[len(d.log)-1])
		}
	}
	for i, w := range s.conns {
		if err := w.drain(); err != nil {
			d.t.Fatalf("redis-server, connection %d: %v", i, err)
		}
	}
}

// duel is one session on both sides.
type duel struct {
	t           *testing.T
	open        []net.Conn
	nodes       []func() (net.Conn, error)
	failed      bool
	redis, ours *side
	rng         *rand.Rand
	run         *random.Session
	owed        [sessionConns][][][]byte // requests without a reply so far
	queued      [sessionConns][][][]byte
	steps       int
	log         []string
}

// notifyFlags are settings of notify-keyspace-events.
var notifyFlags = []string{"KEA", "KEA", "KEA", "KA", "EA", "KE$", "KEg", "KElz", "KEshz", "KEAn", "KEtd", "KExe"}

// session is one run over an empty keyspace.
func (d *duel) session(theme random.Theme, redis *oracle.Server, ours *Cluster) {
	t := d.t
	var nodes []func() (net.Conn, error)
	for _, n := range ours.Nodes() {
		nodes = append(nodes, n.Dial)
	}
	d.nodes = nodes
	d.redis = d.side(func() (net.Conn, error) { return net.Dial("tcp", redis.Addr) })
	d.ours = d.side(nodes...)
	protos := make([]int, sessionConns)
	for i := range protos {
		protos[i] = 2 + d.rng.IntN(2)
	}
	flags := ""
	if theme == random.Notifications {
		flags = notifyFlags[d.rng.IntN(len(notifyFlags))]
	}
	for _, s := range []*side{d.redis, d.ours} {
		say(t, s.controls[0], "FLUSHALL")
		say(t, s.controls[0], "SCRIPT", "FLUSH")
		s.all(t, "CONFIG", "SET", "notify-keyspace-events", flags)
		for i, w := range s.conns {
			w.prepare(t, protos[i], theme == random.Notifications && i == 0)
		}
	}
	say(t, d.redis.controls[0], "CONFIG", "SET", "hz", "500") // waits end in time
	d.run = random.NewSession(d.rng, theme, protos)
	d.run.Cluster = len(nodes) > 1
	for range 150 {
		step := d.run.Next()
		if theme == random.Notifications && step.Conn == 0 {
			continue // it listens
		}
		if d.step(step); d.failed {
			return
		}
		d.steps++
	}
	d.finish()
}

// prepare sets a new connection up.
func (w *wire) prepare(t *testing.T, proto int, listens bool) {
	t.Helper()
	asks := [][][]byte{random.Words("HELLO", strconv.Itoa(proto))}
	if listens {
		asks = append(asks, random.Words("PSUBSCRIBE", "__key*__:*"))
	}
	for _, args := range asks {
		if _, err := w.Write(oracle.Encode(args)); err != nil {
			t.Fatal(err)
		}
		if err := w.await(1); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		w.units = nil
	}
}

// step takes a step on both sides and compares.
func (d *duel) step(step random.Step) {
	d.note(step)
	d.send(d.redis, step)
	d.redis.settle(d)
	for w := d.redis.conns[step.Conn]; step.Awaits; {
		if replies, _ := split(w.units); len(replies) > 0 {
			d.redis.settle(d)
			break
		}
		if err := w.await(len(w.units) + 1); err != nil {
			d.t.Fatalf("redis-server: %q: %v", step.Requests, err)
		}
	}
	d.send(d.ours, step)
	if replies, _ := split(d.redis.conns[step.Conn].units); d.run.Theme == random.Messages && len(replies) > 0 {
		if err := d.ours.conns[step.Conn].await(1); err == nil {
			d.fence(step)
		}
	}
	for i := range sessionConns {
		want, got := d.redis.conns[i], d.ours.conns[i]
		err := got.like(want.units)
		if err == nil {
			err = got.drain()
		}
		if err == nil {
			err = d.compare(i, want.units, got.units)
		}
		if err != nil {
			d.failed = true
			d.t.Errorf("connection %d: %v\nat   %s\n%s", i, err, d.log[len(d.log)-1], strings.Join(d.log[max(0, len(d.log)-150):], "\n"))
			return
		}
		want.units, got.units = nil, nil
		d.run.Blocked(i, len(d.owed[i]) > 0)
	}
	d.awaitBlocked()
}

func (d *duel) note(step random.Step) {
	if step.Unblock > 0 {
		d.log = append(d.log, fmt.Sprintf("%d: unblock %d", step.Conn, step.Unblock))
		return
	}
	for _, args := range step.Requests {
		d.log = append(d.log, fmt.Sprintf("%d: %q", step.Conn, args))
		if name := strings.ToUpper(string(args[0])); !strings.HasSuffix(name, "SUBSCRIBE") {
			d.owed[step.Conn] = append(d.owed[step.Conn], args)
		}
	}
}

func (d *duel) send(s *side, step random.Step) {
	w := s.conns[step.Conn]
	if step.Unblock > 0 {
		say(d.t, w.control, "CLIENT", "UNBLOCK", w.id, []string{"", "TIMEOUT", "ERROR"}[step.Unblock])
		return
	}
	var all []byte
	for _, args := range step.Requests {
		all = append(all, oracle.Encode(args)...)
	}
	if _, err := w.Write(all); err != nil {
		d.t.Fatal(err)
	}
}

// compare compares what connection i got.
func (d *duel) compare(i int, want, got [][]byte) error {
	wantReplies, wantPushes := split(want)
	gotReplies, gotPushes := split(got)
	if len(wantReplies) != len(gotReplies) {
		return fmt.Errorf("%d replies %.600q, redis-server has %d: %.600q", len(gotReplies), gotReplies, len(wantReplies), wantReplies)
	}
	for k, reply := range wantReplies {
		if len(d.owed[i]) == 0 { // an error to SUBSCRIBE
			if !bytes.Equal(reply, gotReplies[k]) {
				return fmt.Errorf("got %q, redis-server %q", gotReplies[k], reply)
			}
			continue
		}
		args := d.owed[i][0]
		d.owed[i] = d.owed[i][1:]
		if err := d.answer(i, args, reply, gotReplies[k]); err != nil {
			return fmt.Errorf("%q: %w", args, err)
		}
	}
	return random.ComparePushes(wantPushes, gotPushes)
}

// answer compares one reply, and follows the transaction.
func (d *duel) answer(i int, args [][]byte, want, got []byte) error {
	if d.run.Cluster && local(args) && want[0] == got[0] {
		return nil
	}
	queued := d.queued[i]
	switch name := strings.ToUpper(string(args[0])); {
	case string(want) == "+QUEUED\r\n":
		d.queued[i] = append(queued, args)
	case (name == "EXEC" || name == "DISCARD") && len(args) == 1:
		d.queued[i] = nil
	}
	return random.CompareAnswer(args, queued, want, got)
}

// local says that the reply is of the node that was asked.
func local(args [][]byte) bool {
	switch strings.ToUpper(string(args[0])) {
	case "PUBLISH", "SPUBLISH", "PUBSUB":
		return true
	case "EVAL":
		return len(args) > 1 && bytes.Contains(args[1], []byte("publish'"))
	}
	return false
}

func split(units [][]byte) (replies, pushes [][]byte) {
	for _, u := range units {
		if random.IsPush(u) {
			pushes = append(pushes, u)
		} else {
			replies = append(replies, u)
		}
	}
	return replies, pushes
}

// awaitBlocked waits until who waits at redis-server waits in its place here too.
func (d *duel) awaitBlocked() {
	want := map[*oracle.Conn]int{}
	for i := range d.owed {
		if len(d.owed[i]) > 0 {
			want[d.ours.conns[i].control]++
		}
	}
	for c, n := range want {
		text := []byte(fmt.Sprintf("blocked_clients:%d\r\n", n))
		for end := time.Now().Add(sessionPatience); !bytes.Contains(say(d.t, c, "INFO", "clients"), text); {
			if time.Now().After(end) {
				d.failed = true
				d.t.Errorf("%d connections do not wait: %q\n%s", n, say(d.t, c, "INFO", "clients"), strings.Join(d.log, "\n"))
				return
			}
		}
		say(d.t, c, "EXISTS", random.Keys[0]) // behind the command that waits
	}
}

// finish ends all waits, and compares what came late and the final state.
func (d *duel) finish() {
	for range 3 { // what was sent behind one that waits may wait too
		for i := range d.owed {
			if len(d.owed[i]) > 0 {
				d.step(random.Step{Conn: i, Unblock: 1})
			}
			if d.failed {
				return
			}
		}
	}
	for i := range d.owed {
		if d.step(random.Step{Conn: i, Requests: [][][]byte{random.Words("PING")}}); d.failed {
			return
		}
	}
	state := random.Dump(func(args ...string) []byte { return say(d.t, d.redis.controls[0], args...) })
	for i, c := range d.ours.controls {
		if got := random.Dump(func(args ...string) []byte { return say(d.t, c, args...) }); got != state {
			d.failed = true
			d.t.Errorf("state differs at node %d:\n%s\nredis-server:\n%s\n%s", i, got, state, strings.Join(d.log, "\n"))
		}
	}
}
