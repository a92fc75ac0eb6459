package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// # Errands
//
// DEBUG POPULATE, RELOAD and LOADAOF take as long as there are keys. They run on a goroutine of their own, which asks the
// groups' primaries for one step after the other, each a command like a client's: the event loop and other connections see
// commands of a millisecond, no more. Their session executes nothing behind them meanwhile (resp.Session.Suspend), so the
// order of its commands needs nothing else, and they stop when the client goes.

const (
	// maxErrands is how many a node runs at a time. Each is good for one processor, and for stepBytes of memory.
	maxErrands = 4
	// stepKeys and stepBytes bound the SETs of one step of POPULATE, but for one larger than that.
	stepKeys  = 256
	stepBytes = 1 << 20
	// stepPatience is how long a step is waited for, in times of Options.Wait, which all that its commands may have to wait for
	// end in (a pause of clients aside): a route, another node's answer, replicas.
	stepPatience = 4
)

var (
	errErrands  = fmt.Sprintf("TRYAGAIN Too many DEBUG POPULATE, RELOAD and LOADAOF are under way on this node: up to %d may be", maxErrands)
	errStepSlow = errors.New("TRYAGAIN A primary did not answer in time")
)

// errand is one of them under way. All is its goroutine's.
type errand struct {
	c     *Cache
	ctx   context.Context // ends with the client, and with the node
	r     *round
	like  origins   // what its commands owe to their connection's settings
	slice time.Time // when the present slice of work began
}

// runErrand starts one for a connection.
func (c *Cache) runErrand(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	work, problem := c.errandOf(spec, args)
	if problem != "" {
		w.Error(problem)
		return
	}
	select {
	case c.errands <- struct{}{}:
	default:
		w.Error(errErrands)
		return
	}
	ctx, cancel := context.WithCancel(c.work.ctx)
	k.order++
	t, n := k.s.Hold(), k.order
	k.s.Suspend(cancel)
	var o op
	o.observedBy(k)
	ok := c.work.start(func() {
		defer cancel()
		defer func() { <-c.errands }()
		e := &errand{c: c, ctx: ctx, r: c.takeRound(), like: o.origins, slice: time.Now()}
		defer c.giveRound(e.r)
		t.Reply(e.run(k, n, work))
	})
	if !ok {
		cancel()
		<-c.errands
		t.Reply(errStopping)
	}
}

// errandOf checks the arguments, of which it keeps none, and says what is to be done.
func (c *Cache) errandOf(spec *command.Spec, args [][]byte) (work func(*errand) error, problem string) {
	if spec.Name == "debug|populate" {
		largest, err := strconv.Atoi(c.opt.Server.Config().Get("proto-max-bulk-len"))
		if err != nil {
			return nil, "ERR proto-max-bulk-len: " + err.Error() // its own setting: not possible
		}
		p, problem := command.ParsePopulation(args, largest)
		return func(e *errand) error { return e.populate(&p) }, problem
	}
	name := bytes.Clone(args[1])
	return func(e *errand) error { return e.reload(spec, name) }, command.CheckReload(args)
}

func (e *errand) run(k *conn, n uint64, work func(*errand) error) (reply []byte) {
	ctx, cancel := context.WithTimeout(e.ctx, e.patience())
	defer cancel()
	err := errors.New(errEarlier)
	if e.c.awaitEarlier(ctx, k, n) {
		err = work(e)
	}
	if e.c.work.ctx.Err() != nil {
		return errStopping
	}
	var w resp.Writer
	if err != nil {
		w.Error(err.Error())
	} else {
		w.OK()
	}
	return w.Buf
}

func (e *errand) patience() time.Duration {
	now := e.c.ticks()
	return stepPatience*e.c.opt.Wait + time.Duration(e.c.obs.pause.left(now))*time.Millisecond
}

// step runs n commands wherever they belong and returns their replies in RESP2. ask may use the memory of one command for
// the next.
func (e *errand) step(n int, ask func(i int) op) ([][]byte, error) {
	if err := e.rest(); err != nil {
		return nil, err
	}
	c, a := e.c, newAnswers(n)
	w := resp.Writer{Proto: 2}
	for i := range n {
		o, from, now := ask(i), origin{sink: a, id: uint64(i)}, c.ticks()
		o.origins, o.proto = e.like, 2
		if !c.obs.pause.paused(o.writes(), now) {
			w.Buf = w.Buf[:0]
			where := c.exec(&o, &w, now, e.r, from)
			if where == done || where == elsewhere && c.forward(c.view.Load(), &o, from, e.r) {
				continue
			}
		}
		c.wait(&o, from)
	}
	c.endRound(e.r)
	ctx, cancel := context.WithTimeout(e.ctx, e.patience())
	defer cancel()
	select {
	case <-a.complete:
		return a.replies, nil
	case <-ctx.Done():
		return nil, errStepSlow // or nobody listens any more
	}
}

// rest sleeps between slices of work, as the Run goroutine does and for the same reason: event loops with work to do get no
// processor from one who goes on and on.
func (e *errand) rest() error {
	if time.Since(e.slice) > slice {
		pause := time.NewTimer(slicePause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-e.ctx.Done():
		}
		e.slice = time.Now()
	}
	return e.ctx.Err()
}

// answers is a sink for the replies to the commands of one step. Those that come after nobody waits any more do no harm.
type answers struct {
	complete chan struct{}

	mu      sync.Mutex
	left    int
	replies [][]byte // whole once complete is closed
}

func newAnswers(n int) *answers {
	return &answers{complete: make(chan struct{}), left: n, replies: make([][]byte, n)}
}

// settle implements sink.
func (a *answers) settle(id uint64, raw []byte) {
	own := okReply
	if string(raw) != string(okReply) {
		own = slices.Clone(raw)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.replies[id] = own
	if a.left--; a.left == 0 {
		close(a.complete)
	}
}

var setName, notExisting = []byte("SET"), []byte("NX")

// populate makes the keys that are not there yet.
func (e *errand) populate(p *command.Population) error {
	spec := command.Lookup(setName)
	atOnce := min(max(stepBytes/p.Bytes(), 1), stepKeys)
	var key, value []byte
	for first := 0; first < p.Count; first += atOnce {
		replies, err := e.step(min(atOnce, p.Count-first), func(i int) op {
			key, value = p.Key(key[:0], first+i), p.Value(value[:0], first+i)
			slot := ring.Slot(key)
			return op{spec: spec, args: [][]byte{setName, key, value, notExisting}, group: ring.GroupOf(slot), slot: slot}
		})
		if err != nil {
			return populated(err.Error(), p, first)
		}
		for i, raw := range replies {
			if raw[0] == '-' {
				return populated(string(bytes.TrimSpace(raw[1:])), p, first+i)
			}
		}
	}
	return nil
}

// populated says how far POPULATE came.
func populated(problem string, p *command.Population, i int) error {
	return fmt.Errorf("%s (DEBUG POPULATE stopped at %.256q, key %d of %d)", problem, p.Key(nil, i), i+1, p.Count)
}

// reload asks every group, piece by piece, whether its keys survive.
func (e *errand) reload(spec *command.Spec, name []byte) error {
	for group := range ring.Groups {
		first, _ := ring.GroupSlots(group)
		for cursor := []byte("0"); ; {
			replies, err := e.step(1, func(int) op {
				return op{spec: spec, args: [][]byte{[]byte("DEBUG"), name, cursor}, group: uint16(group), slot: first, part: true}
			})
			if err != nil {
				return err
			}
			raw := replies[0]
			if raw[0] != ':' {
				return errors.New(string(bytes.TrimSpace(raw[min(len(raw), 1):])))
			}
			if cursor = bytes.TrimSpace(raw[1:]); string(cursor) == "0" {
				break
			}
		}
	}
	return nil
}
