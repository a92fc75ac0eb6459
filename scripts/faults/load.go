//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// The forms of a worker's writes, in turn.
const (
	formSet     = iota // SET of a key of its own: an append-only set
	formList           // APPEND: an append-only list
	formCounter        // INCR
	formHTTP           // PUT of a key of its own
	forms
)

var formNames = [forms]string{"set", "list", "counter", "http"}

// rest is how long a worker pauses between two operations: the load is to find faults, not limits.
const rest = 4 * time.Millisecond

// load is clients without retries, each with elements of its own, that remember what became of every operation.
type load struct {
	lab     *lab
	window  atomic.Int32 // of faults; elements belong to the window in which they were sent
	workers []*worker
	spans   map[int32]span // of the windows; the campaign's alone
	directs []*directs     // likewise
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// worker is one client. Its outcomes are read once it has ended.
type worker struct {
	id       int
	load     *load
	rng      *rand.Rand
	at       int // index of its node
	resp     respClient
	http     *http.Client
	outcomes map[int32]*[forms][]outcome // by window
	moments  map[int32]*[forms][]moment  // the same, kept where writes may be lost
	sick     map[int32]time.Time         // under mu; last acknowledgement by a sick node

	mu    sync.Mutex
	asked time.Time               // when it first asked after the last acknowledgement; zero: it has not yet
	since time.Time               // the same, of a healthy node; zero too if it asked a sick one since
	in    int32                   // the window of asked and since
	gaps  map[int32]time.Duration // longest time without an acknowledgement
	waits map[int32]time.Duration // the same, asking healthy nodes
}

func startLoad(ctx context.Context, l *lab, n int, seed uint64) *load {
	ctx, cancel := context.WithCancel(ctx)
	d := &load{lab: l, cancel: cancel, spans: map[int32]span{}}
	for i := range n {
		w := &worker{
			id: i, load: d, rng: rand.New(rand.NewPCG(seed, uint64(i)+100)), at: i, resp: respClient{lab: l}, http: l.httpClient(opTimeout),
			outcomes: map[int32]*[forms][]outcome{}, moments: map[int32]*[forms][]moment{}, sick: map[int32]time.Time{}, gaps: map[int32]time.Duration{}, waits: map[int32]time.Duration{},
		}
		d.workers = append(d.workers, w)
		d.wg.Go(func() { w.run(ctx) })
	}
	return d
}

func (d *load) stop() {
	d.cancel()
	d.wg.Wait()
}

// begin opens the next window and returns its number.
func (d *load) begin() int32 {
	window := d.window.Add(1)
	d.spans[window] = span{began: time.Now()}
	return window
}

// healed notes the end of a window's fault.
func (d *load) healed(window int32) {
	d.spans[window] = span{began: d.spans[window].began, healed: time.Now()}
}

// longest is the longest time that a worker went without an acknowledgement in a window so far, and the longest time that
// one did which asked healthy nodes.
func (d *load) longest(window int32) (gap, wait time.Duration) {
	for _, k := range d.workers {
		k.mu.Lock()
		gap, wait = max(gap, k.gaps[window]), max(wait, k.waits[window])
		if k.in == window && !k.asked.IsZero() {
			gap = max(gap, time.Since(k.asked))
		}
		k.mu.Unlock()
	}
	return gap, wait
}

func (w *worker) key(form int, window int32, i int) string {
	switch form {
	case formList, formCounter:
		return fmt.Sprintf("%s:%d:%d", formNames[form], w.id, window)
	}
	return fmt.Sprintf("%s:%d:%d:%d", formNames[form], w.id, window, i)
}

func (w *worker) run(ctx context.Context) {
	defer w.resp.close()
	defer w.http.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		window, form := w.load.window.Load(), n%forms
		all := w.outcomes[window]
		if all == nil {
			all = new([forms][]outcome)
			w.outcomes[window], w.moments[window] = all, new([forms][]moment)
		}
		i := len(all[form])
		h := w.load.lab.pick(w.at)
		w.asks(window, w.load.lab.healthy(h))
		out := w.write(ctx, h, form, w.key(form, window, i), i)
		all[form] = append(all[form], out)
		w.remember(window, form, out, h)
		if out == acked {
			w.note()
		}
		if pause(ctx, rest) != nil {
			return
		}
	}
}

// write sends one operation, and after a failure goes on at another node.
func (w *worker) write(ctx context.Context, h *host, form int, key string, i int) (out outcome) {
	began := time.Now()
	var err error
	switch form {
	case formSet:
		_, out, err = w.resp.do(ctx, h, "SET", key, strconv.Itoa(i))
	case formList:
		_, out, err = w.resp.do(ctx, h, "APPEND", key, strconv.Itoa(i)+";")
	case formCounter:
		_, out, err = w.resp.do(ctx, h, "INCR", key)
	case formHTTP:
		out, err = put(ctx, w.http, h, key, strconv.Itoa(i))
	}
	if took := time.Since(began); w.load.lab.trace && (out != acked || took > time.Second) && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%8.3fs %s %s at %s (healthy %t): %v after %v\n", began.Sub(w.load.lab.begun).Seconds(), formNames[form], key, h.id, w.load.lab.healthy(h), err, took.Round(time.Millisecond))
	}
	if out != acked {
		w.at += 1 + w.rng.IntN(2)
		w.resp.close()
	}
	return out
}

// remember keeps when an operation was acknowledged, if replies don't promise that it stays.
func (w *worker) remember(window int32, form int, out outcome, h *host) {
	if w.load.lab.acks != "one" {
		return
	}
	m := moment{}
	if out == acked {
		m.at = time.Now()
		if !w.load.lab.healthy(h) {
			w.mu.Lock()
			w.sick[window] = m.at
			w.mu.Unlock()
		}
	}
	w.moments[window][form] = append(w.moments[window][form], m)
}

// asks notes that the next operation goes to a node, healthy or not.
func (w *worker) asks(window int32, healthy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.asked.IsZero() {
		w.asked, w.in = now, window
	}
	switch {
	case !healthy:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = now
	}
}

// note takes an acknowledgement.
func (w *worker) note() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaps[w.in] = max(w.gaps[w.in], time.Since(w.asked))
	if !w.since.IsZero() {
		w.waits[w.in] = max(w.waits[w.in], time.Since(w.since))
	}
	w.asked, w.since = time.Time{}, time.Time{}
}

// check reads back everything of a window through one node after another. What it finds missing it tells lost of, too, if
// replies don't promise that it stays.
func (d *load) check(ctx context.Context, window int32, lost func(window int32, e exposure)) (total verdict, err error) {
	for i, w := range d.workers {
		all := w.outcomes[window]
		if all == nil {
			continue
		}
		if at, ok := w.sick[window]; ok {
			lost(window, exposure{sick: at.Sub(d.spans[window].began)})
		}
		r := reader{lab: d.lab, at: i}
		for form := range all {
			v, err := w.check(ctx, &r, window, form, all[form], lost)
			if err != nil {
				return total, err
			}
			total.add(v)
		}
		r.c.close()
	}
	return total, nil
}

func (w *worker) check(ctx context.Context, r *reader, window int32, form int, outcomes []outcome, lost func(window int32, e exposure)) (v verdict, err error) {
	name := fmt.Sprintf("window %d, worker %d, %s", window, w.id, formNames[form])
	if form == formList || form == formCounter {
		content, err := r.get(ctx, []string{w.key(form, window, 0)})
		if err != nil {
			return v, err
		}
		if form == formList {
			return checkList(name, content[0], outcomes), nil
		}
		n, _ := strconv.Atoi(content[0])
		return checkCounter(name, n, outcomes), nil
	}
	var names []string
	for i := range outcomes {
		names = append(names, w.key(form, window, i))
	}
	content, err := r.get(ctx, names)
	if err != nil {
		return v, err
	}
	there := func(i int) bool { return content[i] == strconv.Itoa(i) }
	for i, m := range w.moments[window][form] {
		if !m.at.IsZero() && !there(i) {
			by, e := lostAt(w.load.spans, window, m.at)
			lost(by, e)
		}
	}
	return checkSet(name, outcomes, there), nil
}

// reader reads many keys. A read that fails is tried again at other nodes: it is about what is there, not how fast.
type reader struct {
	lab *lab
	at  int
	c   respClient
}

const readBatch = 200

func (r *reader) get(ctx context.Context, keys []string) (values []string, err error) {
	r.c.lab = r.lab
	for part := range slices.Chunk(keys, readBatch) {
		var got []string
		for try := 0; ; try++ {
			if got, err = r.c.getAll(ctx, r.lab.pick(r.at), part); err == nil {
				break
			}
			r.c.close()
			if try == 20 {
				return nil, fmt.Errorf("read back from %s: %w", r.lab.pick(r.at).id, err)
			}
			r.at++
			if err := pause(ctx, 250*time.Millisecond); err != nil {
				return nil, err
			}
		}
		values = append(values, got...)
	}
	return values, nil
}

// registers is a few clients on a few keys, whose histories are checked for linearizability.
type registers struct {
	begin     time.Time
	mu        sync.Mutex
	histories map[string][]porcupine.Operation
	cancel    context.CancelFunc
	wg        sync.WaitGroup
}

const (
	registerKeys    = 3
	registerClients = 4
	registerOps     = 120 // a client's on all keys; a history must stay short enough to be decided
	registerRest    = 40 * time.Millisecond
)

func startRegisters(ctx context.Context, l *lab, window int32, seed uint64) *registers {
	ctx, cancel := context.WithCancel(ctx)
	r := &registers{begin: time.Now(), histories: map[string][]porcupine.Operation{}, cancel: cancel}
	for i := range registerClients {
		rng := rand.New(rand.NewPCG(seed, uint64(window)<<8|uint64(i)))
		r.wg.Go(func() { r.run(ctx, l, window, i, rng) })
	}
	return r
}

func (r *registers) run(ctx context.Context, l *lab, window int32, client int, rng *rand.Rand) {
	k := respClient{lab: l}
	defer k.close()
	at := client
	for n := 0; n < registerOps && ctx.Err() == nil; n++ {
		key := fmt.Sprintf("register:%d:%d", window, rng.IntN(registerKeys))
		op := registerOp{"GET", ""}
		switch rng.IntN(6) {
		case 0:
			op = registerOp{"SET", strconv.Itoa(client*10000 + n)}
		case 1:
			op = registerOp{"GETSET", strconv.Itoa(client*10000 + n)}
		case 2:
			op = registerOp{"INCR", ""}
		case 3:
			op = registerOp{"SETNX", strconv.Itoa(client*10000 + n)}
		}
		args := []string{op.op, key}
		if op.arg != "" {
			args = append(args, op.arg)
		}
		call := time.Now()
		reply, out, _ := k.do(ctx, l.pick(at), args...)
		ret := time.Now()
		if out != acked {
			at++
			k.close()
		}
		if out == acked || out == unknown && op.op != "GET" {
			r.mu.Lock()
			r.histories[key] = append(r.histories[key], operation(client, op, call, ret, r.begin, out, string(reply)))
			r.mu.Unlock()
		}
		if pause(ctx, registerRest) != nil {
			return
		}
	}
}

// stop waits for the clients and returns the keys whose history is not linearizable, and those that could not be decided.
func (r *registers) stop() (violated, undecided []string, operations int) {
	r.cancel()
	r.wg.Wait()
	for key, h := range r.histories {
		operations += len(h)
		switch linearizable(h, 10*time.Second) {
		case porcupine.Illegal:
			violated = append(violated, key)
		case porcupine.Unknown:
			undecided = append(undecided, key)
		}
	}
	return violated, undecided, operations
}
