//go:build e2e

package nodetest

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/ring"
)

var scaleFlag = flag.Int("nodes", 6, "TestManyProcessesFoundGrowAndRest: how many nodes")

// TestManyProcessesFoundGrowAndRest starts many nodes on this machine, adds one, and reads what an idle node takes. With -v it
// prints the figures of docs/reliability.md.
func TestManyProcessesFoundGrowAndRest(t *testing.T) {
	n := *scaleFlag
	bin := BuildBinary(t)
	begin := time.Now()
	nodes := StartProcesses(t, bin, n, nil)
	founded := time.Since(begin)
	share := 3 * ring.Groups / n
	for _, p := range nodes {
		awaitShare(t, p, share*3/4)
	}
	settled := time.Since(begin)

	late := addProcess(t, nodes)
	begin = time.Now()
	late.Start()
	late.AwaitReady()
	ready := time.Since(begin)
	awaitShare(t, late, 3*ring.Groups/(n+1)*3/4)
	joined := time.Since(begin)
	nodes = append(nodes, late)

	window := 2 * time.Second
	if n > 6 {
		window = 10 * time.Second
	}
	<-time.After(window) // what moves after a join has moved
	cpu := make([]float64, len(nodes))
	for i, p := range nodes {
		cpu[i] = cpuSeconds(t, p.PID())
	}
	<-time.After(window)
	var load, busiest, memory, largest float64
	for i, p := range nodes {
		used := (cpuSeconds(t, p.PID()) - cpu[i]) / window.Seconds()
		rss := procField(t, p.PID(), "VmRSS") / 1024
		load, busiest, memory, largest = load+used, max(busiest, used), memory+rss, max(largest, rss)
	}
	count := float64(len(nodes))
	t.Logf("%d nodes ready after %.1f s, data spread after %.1f s; one more ready after %.1f s, with its share after %.1f s; an idle node: %.1f %% of a core (the busiest %.1f), %.0f MiB (the largest %.0f), %d descriptors",
		n, founded.Seconds(), settled.Seconds(), ready.Seconds(), joined.Seconds(), 100*load/count, 100*busiest, memory/count, largest, descriptors(t, late.PID()))
}

// addProcess prepares one more node of the cluster, which ends with the test.
func addProcess(t *testing.T, nodes []*Process) *Process {
	t.Helper()
	p := *nodes[0]
	p.ID, p.cmd = fmt.Sprint("n", len(nodes)), nil
	dir := filepath.Dir(p.file)
	p.file = filepath.Join(dir, p.ID+".yaml")
	p.Config.Server.NodeID, p.Config.Persistence.DataDir = p.ID, filepath.Join(dir, p.ID)
	w := &p.Config.Network
	w.RESPPort, w.HTTPPort, w.GossipPort, w.RPCPort = freePort(t), freePort(t), freePort(t), freePort(t)
	if err := os.WriteFile(p.file, []byte(p.Config.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &p
}

// awaitShare waits until p holds at least so many groups and is ready.
func awaitShare(t *testing.T, p *Process, groups int) {
	t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	Await(t, func() bool {
		r, err := client.Get("http://" + p.Config.Network.HTTPAddr() + "/health")
		if err != nil {
			return false
		}
		defer func() { _ = r.Body.Close() }()
		var h struct {
			Roles struct{ Primary, Replica int }
		}
		return json.NewDecoder(r.Body).Decode(&h) == nil && h.Roles.Primary+h.Roles.Replica >= groups
	}, func() string { return fmt.Sprintf("%s has not got %d groups", p.ID, groups) })
}

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return (user + system) / 100 // USER_HZ
}

// procField reads a number of /proc/PID/status.
func procField(t *testing.T, pid int, name string) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), name+":")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		t.Fatalf("no %s in the status of process %d", name, pid)
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
