package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// cluster runs a command that speaks of every key in the cluster: SCAN group after group, RANDOMKEY on a group chosen
// by size, those that touch every key apart, the others on all groups at once.
func (c *Cache) cluster(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	switch {
	case spec.Merge == command.MergeSteps:
		c.runErrand(k, w, spec, args)
		return
	case spec.Write, spec.Merge == command.MergeConcat, spec.Merge == command.MergeDigest:
		c.apart(k, w, spec, args)
		return
	}
	hold := func() origin { return origin{t: k.s.Hold()} }
	c.whole(spec, args, k, k.now, k.home, w, hold)
}

func (c *Cache) whole(spec *command.Spec, args [][]byte, k *conn, now int64, r *round, w *resp.Writer, hold func() origin) {
	switch spec.Name {
	case "scan":
		c.scan(spec, args, k, now, r, w, hold)
		return
	case "randomkey":
		c.randomKey(spec, args, k, now, r, w, hold)
		return
	}
	g, ops := everywhere(spec, args, w.Proto)
	c.dispatch(g, ops, k, now, r)
	if g.complete(hold) {
		g.write(w)
	}
}

func everywhere(spec *command.Spec, args [][]byte, proto int) (*gather, []op) {
	ops := make([]op, ring.Groups)
	for i := range ops {
		first, _ := ring.GroupSlots(i)
		ops[i] = op{spec: spec, args: args, group: uint16(i), slot: first, part: true, proto: proto}
	}
	g := &gather{merge: spec.Merge, proto: proto, left: len(ops), parts: make([][]byte, len(ops))}
	if spec.Merge == command.MergeHot {
		g.limit, _ = command.HotKeysCount(args) // what is wrong with it, each part says
	}
	return g, ops
}

// scanning is one SCAN under way: it goes on to the next group until it has about as many keys as were asked for.
type scanning struct {
	c     *Cache
	spec  *command.Spec
	args  [][]byte
	proto int
	count int
	group uint16
	keys  [][]byte
}

func (c *Cache) scan(spec *command.Spec, args [][]byte, k *conn, now int64, r *round, w *resp.Writer, hold func() origin) {
	cursor, ok := command.ParseScanCursor(args[1])
	if !ok {
		w.Error(command.ErrInvalidCursor)
		return
	}
	group, inner := command.SplitScanCursor(cursor)
	s := &scanning{c: c, spec: spec, proto: w.Proto, count: scanCount(args), group: uint16(group)}
	for _, a := range args {
		s.args = append(s.args, append([]byte(nil), a...))
	}
	c.chain(func(done func(raw []byte)) { s.next(inner, k, now, r, done) }, w, hold)
}

// scanCount is how many keys a page should have. Mistakes in the options are for the command itself to find.
func scanCount(args [][]byte) int {
	for i := 2; i+1 < len(args); i++ {
		if strings.EqualFold(string(args[i]), "count") {
			if n, err := strconv.Atoi(string(args[i+1])); err == nil && n > 0 {
				return n
			}
		}
	}
	return 10
}

// chain runs steps that end in one reply: into w if that comes before the command returns, held otherwise.
func (c *Cache) chain(start func(done func(raw []byte)), w *resp.Writer, hold func() origin) {
	g := &gather{left: 1, parts: make([][]byte, 1)}
	g.then = func(parts [][]byte, to origin) { to.reply(parts[0]) }
	start(func(raw []byte) { g.settle(0, raw) })
	if g.complete(hold) {
		w.Raw(g.parts[0])
	}
}

// next asks the present group from its own cursor on. k, now and r belong to the goroutine that the command runs on,
// and are only used by the first step; later ones run where the reply of the one before arrived.
func (s *scanning) next(inner uint64, k *conn, now int64, r *round, done func([]byte)) {
	for {
		args := append([][]byte{s.args[0], strconv.AppendUint(nil, inner, 10)}, s.args[2:]...)
		first, _ := ring.GroupSlots(int(s.group))
		ops := []op{{spec: s.spec, args: args, group: s.group, slot: first, part: true, proto: s.proto}}
		step := &gather{left: 1, parts: make([][]byte, 1)}
		step.then = func(parts [][]byte, _ origin) {
			if cursor, more := s.took(parts[0], done); more {
				s.detach(cursor, done)
			}
		}
		s.c.dispatch(step, ops, k, now, r)
		if !step.complete(func() origin { return origin{} }) {
			return
		}
		cursor, more := s.took(step.parts[0], done)
		if !more {
			return
		}
		inner = cursor
	}
}

// detach goes on in a goroutine of its own: the one that brought the reply may hold locks, and must not run commands.
func (s *scanning) detach(inner uint64, done func([]byte)) {
	ok := s.c.work.start(func() {
		r := s.c.takeRound()
		s.next(inner, nil, s.c.ticks(), r, done)
		s.c.giveRound(r)
	})
	if !ok {
		done(errStopping)
	}
}

// took takes one group's page. It answers when there is enough, or nothing more; otherwise it says where to go on.
func (s *scanning) took(page []byte, done func([]byte)) (inner uint64, more bool) {
	if len(page) > 0 && page[0] == '-' {
		done(page)
		return 0, false
	}
	_, rest, _ := header(page)
	size := valueSize(rest)
	_, digits, ok := header(rest[:size])
	if !ok {
		done([]byte("-ERR malformed page of a scan\r\n"))
		return 0, false
	}
	inner, _ = strconv.ParseUint(string(digits[:max(len(digits)-2, 0)]), 10, 64)
	s.keys = append(s.keys, elements(rest[size:])...)
	last := inner == 0 && int(s.group) == ring.Groups-1
	if inner == 0 && !last {
		s.group++
	}
	if !last && len(s.keys) < s.count {
		return inner, true
	}
	cursor := uint64(0)
	if !last {
		cursor = command.JoinScanCursor(int(s.group), inner)
	}
	w := resp.Writer{Proto: s.proto}
	w.Array(2)
	w.BulkString(strconv.FormatUint(cursor, 10))
	w.Array(len(s.keys))
	for _, e := range s.keys {
		w.Raw(e)
	}
	done(w.Buf)
	return 0, false
}

var dbsize = [][]byte{[]byte("DBSIZE")}

// randomKey asks every group for its size first, so that each key of the cluster is about equally likely.
func (c *Cache) randomKey(spec *command.Spec, args [][]byte, k *conn, now int64, r *round, w *resp.Writer, hold func() origin) {
	proto := w.Proto
	null := resp.Writer{Proto: proto}
	null.Null()
	pick := func(sizes [][]byte) (o op, reply []byte) {
		var total, at int
		var n [ring.Groups]int
		for i, p := range sizes {
			if len(p) > 0 && p[0] == '-' {
				return op{}, p
			}
			n[i], _, _ = header(p)
			total += n[i]
		}
		if total == 0 {
			return op{}, null.Buf
		}
		for x := rand.IntN(total); x >= n[at]; at++ {
			x -= n[at]
		}
		first, _ := ring.GroupSlots(at)
		return op{spec: spec, args: args[:1:1], group: uint16(at), slot: first, part: true, proto: proto}, nil
	}
	name := append([]byte(nil), args[0]...)
	args = [][]byte{name}
	c.chain(func(done func([]byte)) {
		sizes, ops := everywhere(command.Lookup(dbsize[0]), dbsize, proto)
		one := func(parts [][]byte, k *conn, now int64, r *round) {
			o, reply := pick(parts)
			if reply != nil {
				done(reply)
				return
			}
			g := &gather{left: 1, parts: make([][]byte, 1)}
			g.then = func(parts [][]byte, _ origin) { done(parts[0]) }
			c.dispatch(g, []op{o}, k, now, r)
			if g.complete(func() origin { return origin{} }) {
				done(g.parts[0])
			}
		}
		sizes.then = func(parts [][]byte, _ origin) {
			ok := c.work.start(func() {
				r := c.takeRound()
				one(parts, nil, c.ticks(), r)
				c.giveRound(r)
			})
			if !ok {
				done(errStopping)
			}
		}
		c.dispatch(sizes, ops, k, now, r)
		if sizes.complete(func() origin { return origin{} }) {
			one(sizes.parts, k, now, r)
		}
	}, w, hold)
}

// steps are the goroutines that go on with commands of several steps. None of them waits for another node beyond the end of
// ctx, and Run waits for all.
type steps struct {
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

var errStopping = []byte("-LOADING The node is stopping\r\n")

func (s *steps) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

func (s *steps) close() {
	s.cancel()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

func (s *steps) wait() { s.wg.Wait() }

func (c *Cache) takeRound() *round { return c.batches.Get().(*round) }

func (c *Cache) giveRound(r *round) {
	c.endRound(r)
	c.batches.Put(r)
}

// ErrScope is returned by Do for commands that belong to a connection.
var ErrScope = errors.New("command belongs to a connection")

type once chan []byte

func (o once) settle(_ uint64, raw []byte) {
	select {
	case o <- append([]byte(nil), raw...):
	default: // a second answer would wait here for ever, with a lock held
	}
}

// Do runs one command as a client's would be, wherever its keys are, and returns the reply in RESP2. A command that would
// wait for its keys answers as if it had waited in vain. It is safe for concurrent use.
func (c *Cache) Do(ctx context.Context, args ...[]byte) ([]byte, error) {
	return c.do(ctx, LevelDefault, args)
}

func (c *Cache) do(ctx context.Context, level Level, args [][]byte) ([]byte, error) {
	spec, problem := command.Resolve(args)
	if problem != "" {
		return nil, errors.New(problem)
	}
	answer := make(once, 1)
	to := origin{sink: answer}
	w := resp.Writer{Proto: 2}
	r := c.takeRound()
	now := c.ticks()
	direct := false
	hold := func() origin { return to }
	switch spec.Scope {
	case command.ScopeKey:
		slot, one := c.oneSlot(args, command.Keys(spec, args, nil))
		if !one {
			c.giveRound(r)
			return nil, errors.New(crossSlot)
		}
		ops := []op{{spec: spec, args: args, group: ring.GroupOf(slot), slot: slot, proto: 2}}
		c.dispatch(answer, level.at(ops), nil, now, r)
	case command.ScopeScatter:
		g, ops := split(spec, args, 2)
		c.dispatch(g, level.at(ops), nil, now, r)
		if direct = g.complete(hold); direct {
			g.write(&w)
		}
	case command.ScopeCluster:
		if spec.Merge == command.MergeSteps {
			c.giveRound(r)
			return nil, ErrScope
		}
		c.whole(spec, args, nil, now, r, &w, func() origin { return to })
		direct = len(w.Buf) > 0
	default:
		c.giveRound(r)
		return nil, ErrScope
	}
	err := c.finishDo(r)
	switch {
	case direct && err == nil:
		return w.Buf, nil
	case direct && spec.Write: // it was executed, and what the journal could not take now it may take later
		return []byte("-" + errUnknown + "\r\n"), nil
	case direct:
		return []byte("-" + errNoAnswer + "\r\n"), nil
	}
	// A reply that is held comes all the same: other replicas may have the write.
	select {
	case raw := <-answer:
		return raw, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Cache) finishDo(r *round) error {
	for _, s := range r.remotes {
		s.Flush()
	}
	r.remotes = r.remotes[:0]
	err := c.driver.EndBatch(&r.batch)
	r.release(err == nil)
	c.countReads(&r.reads)
	c.flushDirty()
	c.batches.Put(r)
	return err
}
