//go:build e2e

package journal

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypercache/internal/need"
	"hypercache/node/ring"
)

// redis starts a stock redis-server on dir and returns a way to ask it.
func redis(t *testing.T, dir string) func(args ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "redis.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--save", "")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	ask := func(args ...string) string {
		b, _ := exec.Command("redis-cli", append([]string{"-h", "127.0.0.1", "-p", port}, args...)...).Output()
		return strings.TrimSpace(string(b))
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if ask("ping") == "PONG" {
			return ask
		}
		<-tick.C
	}
	b, _ := os.ReadFile(out.Name())
	t.Fatalf("redis-server does not serve our directory:\n%s", b)
	return nil
}

func TestStockRedisReadsOurDirectory(t *testing.T) {
	for _, tool := range []string{"redis-server", "redis-check-aof", "redis-cli"} {
		need.Program(t, tool)
	}
	for _, rewritten := range []bool{false, true} {
		t.Run(fmt.Sprintf("rewritten=%t", rewritten), func(t *testing.T) {
			dir := t.TempDir()
			j, _, _ := mustOpen(t, Options{Dir: dir, Fsync: Always})
			store := &db{}
			var pos [ring.Groups]Position
			write := func(n int) {
				for i := range n {
					key := fmt.Sprintf("key:%d", i)
					g := ring.GroupOf(ring.Slot([]byte(key)))
					pos[g] = Position{1 << 60, pos[g].Seq + 1}
					r := Record{Group: g, Kind: Effects, Term: 1 << 60, Seq: pos[g].Seq, Data: appendCmd(key, "v#HC:1 \r\n")}
					if i%10 == 0 {
						r.Data = append(append([]byte("*1\r\n$5\r\nMULTI\r\n"), r.Data...), "*1\r\n$4\r\nEXEC\r\n"...)
					}
					if err := store.apply(Record{Group: g, Data: appendCmd(key, "v#HC:1 \r\n")}); err != nil {
						t.Fatal(err)
					}
					j.Append(r)
					if i%100 == 0 {
						pos[g].Seq++
						j.Append(Record{Group: g, Kind: Noop, Term: 1 << 60, Seq: pos[g].Seq})
						if err := j.Commit(j.Stats().Appended); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			write(2000)
			if rewritten {
				snapshot := store.snapshot(&pos)
				if err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
					if g == ring.Groups/2 {
						write(700) // APPEND counts twice what is in the base and behind it
					}
					return snapshot(g, emit)
				}); err != nil {
					t.Fatal(err)
				}
				write(500)
			}
			if err := j.Close(true); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("redis-check-aof", filepath.Join(dir, aofDir, manifestName)).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "All AOF files and manifest are valid") {
				t.Fatalf("redis-check-aof: %v\n%s", err, out)
			}
			ask := redis(t, dir)
			if got := ask("dbsize"); got != "2000" {
				t.Fatalf("dbsize %s", got)
			}
			for i := range 20 {
				key := fmt.Sprintf("key:%d", i*97)
				want := store[ring.GroupOf(ring.Slot([]byte(key)))][key]
				if got := ask("get", key); got != strings.TrimSpace(want) {
					t.Fatalf("%s: %q, want %q", key, got, want)
				}
			}
		})
	}
}
