// Command benchserver measures the wire edge alone: PING, SET, GET and INCR over a sharded map, nothing else behind it.
//
// Run it beside redis-server on the same machine and compare requests per second and processor time per request:
//
//	go run ./node/resp/internal/benchserver -addr 127.0.0.1:7777
//	redis-benchmark -p 7777 -t set,get,incr -c 50 -r 100000 -P 16 -q
package main

import (
	"context"
	"flag"
	"fmt"
	"hash/maphash"
	"net/http"
	_ "net/http/pprof"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"hypercache/node/resp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "host:port to serve")
	loops := flag.Int("loops", 0, "event loops, 0 = one per processor")
	held := flag.Bool("held", false, "settle every reply through a ticket from another goroutine")
	profile := flag.String("pprof", "", "host:port for profiles")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *loops, *held, *profile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string, loops int, held bool, profile string) error {
	h := &handler{seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].entries = map[string]*entry{}
	}
	if held {
		h.settle = make(chan []resp.Ticket, 1024)
		go settleAll(h.settle)
		defer close(h.settle)
	}
	if profile != "" {
		go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(profile, nil)) }()
	}
	srv, err := resp.NewServer(resp.ServerOptions{Addr: addr, Handler: h, Loops: loops})
	if err != nil {
		return err
	}
	fmt.Println(srv.Addr())
	return srv.Serve(ctx)
}

func settleAll(batches <-chan []resp.Ticket) {
	for batch := range batches {
		for _, t := range batch {
			t.Release()
		}
		pool.Put(&batch)
	}
}

var pool = sync.Pool{New: func() any { return new([]resp.Ticket) }}

type entry struct{ value []byte }

type handler struct {
	seed   maphash.Seed
	settle chan []resp.Ticket
	shards [256]struct {
		sync.Mutex
		entries map[string]*entry
		_       [40]byte
	}
}

// client is the state of one session.
type client struct{ tickets []resp.Ticket }

func (h *handler) Open(s *resp.Session) { s.User = &client{} }

func (h *handler) Closed(*resp.Session) {}

func (h *handler) BatchEnd(s *resp.Session) {
	c := s.User.(*client)
	if len(c.tickets) == 0 {
		return
	}
	h.settle <- c.tickets
	c.tickets = (*pool.Get().(*[]resp.Ticket))[:0]
}

func (h *handler) Command(s *resp.Session, w *resp.Writer, args [][]byte) {
	name := args[0]
	if h.settle != nil {
		c := s.User.(*client)
		c.tickets = append(c.tickets, s.Hold())
	}
	switch {
	case is(name, "get") && len(args) == 2:
		h.get(w, args[1])
	case is(name, "set") && len(args) == 3:
		h.set(args[1], args[2])
		w.OK()
	case is(name, "incr") && len(args) == 2:
		h.incr(w, args[1])
	case is(name, "ping"):
		w.SimpleString("PONG")
	case is(name, "config"):
		w.Array(0)
	default:
		w.Error("ERR unknown command")
	}
}

func is(word []byte, name string) bool {
	if len(word) != len(name) {
		return false
	}
	for i := range word {
		if word[i]|0x20 != name[i] {
			return false
		}
	}
	return true
}

func (h *handler) get(w *resp.Writer, key []byte) {
	sh := &h.shards[maphash.Bytes(h.seed, key)&255]
	sh.Lock()
	if e := sh.entries[string(key)]; e != nil {
		w.Bulk(e.value)
	} else {
		w.Null()
	}
	sh.Unlock()
}

func (h *handler) set(key, value []byte) {
	sh := &h.shards[maphash.Bytes(h.seed, key)&255]
	sh.Lock()
	e := sh.entries[string(key)]
	if e == nil {
		e = &entry{}
		sh.entries[string(key)] = e
	}
	e.value = append(e.value[:0], value...)
	sh.Unlock()
}

func (h *handler) incr(w *resp.Writer, key []byte) {
	sh := &h.shards[maphash.Bytes(h.seed, key)&255]
	sh.Lock()
	e := sh.entries[string(key)]
	if e == nil {
		e = &entry{}
		sh.entries[string(key)] = e
	}
	n, _ := strconv.ParseInt(string(e.value), 10, 64)
	e.value = strconv.AppendInt(e.value[:0], n+1, 10)
	sh.Unlock()
	w.Int(n + 1)
}
