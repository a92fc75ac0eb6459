//go:build linux

package main

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire is the network between the hosts: every host is a network namespace whose only way out is a TUN device, and this
// program carries the packets between the devices, or does not. So faults need nothing of the kernel but TUN, are exact,
// and end with the program.
type wire struct {
	mu     sync.Mutex
	ports  map[netip.Addr]*port
	cuts   map[link]bool
	rules  rules
	rng    *rand.Rand
	queue  delayed
	wake   chan struct{}
	done   chan struct{}
	wg     sync.WaitGroup
	passed int64
	lost   int64
}

// link is a direction between two hosts.
type link struct{ from, to netip.Addr }

// rules hold for every packet between nodes; the probe and the clients are spared.
type rules struct {
	loss, duplicate float64       // probability
	delay, jitter   time.Duration // each packet waits delay + a random part of jitter, and so may overtake
}

// port is a host's end of the wire.
type port struct {
	addr netip.Addr
	node bool
	dev  *os.File
}

// maxDelayed bounds the packets under way; what is beyond is lost, as in a full queue.
const maxDelayed = 1 << 16

func newWire(seed uint64) *wire {
	w := &wire{
		ports: map[netip.Addr]*port{}, cuts: map[link]bool{}, rng: rand.New(rand.NewPCG(seed, 1)),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	w.wg.Go(w.deliver)
	return w
}

// close ends the devices and waits for those who read them.
func (w *wire) close() {
	close(w.done)
	w.mu.Lock()
	for _, p := range w.ports {
		_ = p.dev.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// attach gives a namespace a device with this address in the hosts' network.
func (w *wire) attach(namespace string, addr netip.Addr, node bool) error {
	var dev *os.File
	err := within(namespace, func() (err error) {
		dev, err = openTUN("tun0")
		return err
	})
	if err != nil {
		return fmt.Errorf("attach %s: %w", addr, err)
	}
	for _, args := range [][]string{
		{"addr", "add", addr.String() + "/24", "dev", "tun0"}, {"link", "set", "tun0", "up"}, {"link", "set", "lo", "up"},
	} {
		if err := ip(append([]string{"-n", namespace}, args...)...); err != nil {
			_ = dev.Close()
			return err
		}
	}
	p := &port{addr: addr, node: node, dev: dev}
	w.mu.Lock()
	w.ports[addr] = p
	w.mu.Unlock()
	w.wg.Go(func() { w.pump(p) })
	return nil
}

// openTUN makes a TUN device in the namespace of the calling thread.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// pump reads what a host sends.
func (w *wire) pump(p *port) {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.dev.Read(buf)
		if err != nil {
			return
		}
		if pkt := buf[:n]; n >= 20 && pkt[0]>>4 == 4 {
			w.carry(p, pkt)
		}
	}
}

// carry decides what becomes of a packet.
func (w *wire) carry(from *port, pkt []byte) {
	dst := netip.AddrFrom4([4]byte(pkt[16:20]))
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.ports[dst]
	if to == nil || w.cuts[link{from.addr, dst}] {
		w.lost++
		return
	}
	r := w.rules
	if !from.node || !to.node {
		r = rules{}
	}
	copies := 1
	if r.loss > 0 && w.rng.Float64() < r.loss {
		w.lost++
		return
	}
	if r.duplicate > 0 && w.rng.Float64() < r.duplicate {
		copies = 2
	}
	for range copies {
		w.passed++
		if r.delay == 0 && r.jitter == 0 {
			_, _ = to.dev.Write(pkt) // a full queue of the device loses it, as a network does
			continue
		}
		if len(w.queue) < maxDelayed {
			at := time.Now().Add(r.delay + time.Duration(w.rng.Float64()*float64(r.jitter)))
			heap.Push(&w.queue, parcel{at, to, append([]byte(nil), pkt...)})
		}
	}
	if len(w.queue) > 0 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// parcel is a packet that is under way.
type parcel struct {
	at  time.Time
	to  *port
	pkt []byte
}

type delayed []parcel

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d delayed) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)        { *d = append(*d, x.(parcel)) }
func (d *delayed) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = parcel{}
	*d = (*d)[:last]
	return x
}

// deliver hands over delayed packets when their time has come.
func (w *wire) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		for len(w.queue) > 0 && !w.queue[0].at.After(time.Now()) {
			x := heap.Pop(&w.queue).(parcel)
			_, _ = x.to.dev.Write(x.pkt)
		}
		next := time.Hour
		if len(w.queue) > 0 {
			next = time.Until(w.queue[0].at)
		}
		w.mu.Unlock()
		timer.Reset(max(next, 0))
		select {
		case <-w.done:
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// cut stops what goes from one host to another; heal lets everything pass again.
func (w *wire) cut(links ...link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range links {
		w.cuts[l] = true
	}
}

func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
	w.rules = rules{}
}

func (w *wire) set(r rules) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = r
}

// between is all links between two sets of hosts, in both directions.
func between(a, b []netip.Addr) (links []link) {
	for _, x := range a {
		for _, y := range b {
			links = append(links, link{x, y}, link{y, x})
		}
	}
	return links
}

// within runs f on a thread that is in a named network namespace. Sockets that f makes belong to it for good, whoever
// uses them. The thread ends with f, so that nothing else runs on a thread in the wrong namespace.
func within(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		done <- enter(namespace, f)
	}()
	return <-done
}

func enter(namespace string, f func() error) error {
	ns, err := os.Open(filepath.Join("/run/netns", namespace))
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return f()
}

func ip(args ...string) error { return command("ip", args...) }

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hostAddr is a host's address.
func hostAddr(n int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|77<<16|uint32(n))
	return netip.AddrFrom4(b)
}
