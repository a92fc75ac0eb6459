package peer

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var scaleFlag = flag.Int("scale", 5, "TestMeshAtScale: up to how many nodes; 40 takes 13,000 sockets")

// TestMeshAtScale: every node has four streams to every other. What a peer costs a node bounds how many nodes there can be: its
// memory, above all. With -v it prints the table of docs/reliability.md; the packets are those of the loopback device, so that
// they count only in a network namespace of their own (ip netns exec).
func TestMeshAtScale(t *testing.T) {
	t.Log("| nodes | streams of a node | goroutines | memory, KiB: heap and stacks | loopback packets/s | bytes/s | CPU, of a core |")
	for _, n := range []int{3, 5, 10, 20, 40} {
		if n <= *scaleFlag {
			t.Run(fmt.Sprint(n), func(t *testing.T) { measureMesh(t, n) })
		}
	}
}

func measureMesh(t *testing.T, n int) {
	base, goroutines := memory(), runtime.NumGoroutine()
	lns := make([]net.Listener, n)
	addrs := map[string]string{}
	for i := range lns {
		lns[i] = listen(t)
		addrs[fmt.Sprint("n", i)] = lns[i].Addr().String()
	}
	nets := make([]*Net, n)
	for i := range nets {
		nets[i] = open(t, lns[i], fmt.Sprint("n", i), quiet(), func(o *Options) { o.HeartbeatEvery = 0 }) // as in the product
	}
	for _, net := range nets {
		net.SetPeers(addrs)
	}
	inbound := func(net *Net) int {
		net.mu.Lock()
		defer net.mu.Unlock()
		return len(net.inbound)
	}
	eventually(t, "all streams stand", func() bool {
		for _, net := range nets {
			if inbound(net) != 4*(n-1) {
				return false
			}
			for id := range addrs {
				if net.Down(id) || id != net.opt.Self.NodeID && net.Acked(id).IsZero() {
					return false
				}
			}
		}
		return true
	})
	used := memory()
	p0, b0 := loopback(t)
	cpu, begin := cpuTime(), time.Now()
	window := 2 * time.Second
	if *scaleFlag <= 5 {
		window = 100 * time.Millisecond
	}
	<-time.After(window)
	took := time.Since(begin).Seconds()
	p, b := loopback(t)
	per := func(x float64) float64 { return x / float64(n) }
	t.Logf("| %d | %d | %.0f | %.0f | %.0f | %.0f | %.2f %% |", n, 8*(n-1), per(float64(runtime.NumGoroutine()-goroutines)), per(float64(used-base)/1024),
		per(float64(p-p0)/took), per(float64(b-b0)/took), 100*per((cpuTime()-cpu).Seconds()/took))
	// 8 streams and 17 goroutines a peer; with buffers of 256 KiB it would be 2 MiB.
	if perPeer := per(float64(used-base)) / float64(n-1); perPeer > 256<<10 {
		t.Errorf("%d nodes: each peer takes %.0f KiB of a node's memory", n, perPeer/1024)
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loopback reads what the loopback device has sent; zeros where there is no such file.
func loopback(t *testing.T) (packets, bytes int64) {
	f, err := os.Open("/proc/self/net/dev")
	if err != nil {
		return 0, 0
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, counts, ok := strings.Cut(strings.TrimSpace(s.Text()), ":")
		if !ok || name != "lo" {
			continue
		}
		var x [10]int64
		for i, w := range strings.Fields(counts)[:10] {
			if _, err := fmt.Sscan(w, &x[i]); err != nil {
				t.Fatal(err)
			}
		}
		return x[9], x[8]
	}
	return 0, 0
}
