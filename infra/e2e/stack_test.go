//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"hypercache/infra/provider/machine"
)

// pulumiLimit bounds one run of the CLI, a cold compilation of the program included.
const pulumiLimit = 8 * time.Minute

// stack is a deployment of the project in a directory of its own, a copy with links, so that stack files and node data
// don't touch the checkout.
type stack struct {
	t      *testing.T
	dir    string
	offset int
	env    []string
}

// newStack makes a stack of the local cloud.
func newStack(t *testing.T, offset int) *stack {
	t.Helper()
	s := newProject(t)
	s.offset = offset
	t.Cleanup(s.removeAll)
	s.pulumi("stack", "init", "e2e")
	s.set("portOffset", strconv.Itoa(offset))
	s.set("readyTimeout", "60")
	return s
}

// newProject makes the directory, without a stack.
func newProject(t *testing.T) *stack {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t: t, dir: t.TempDir()}
	for _, name := range []string{"go.mod", "go.sum", "node", "provisioning", "infra", "scripts", "Pulumi.yaml"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hypercache", "pulumi-resource-hypercache"} {
		data, err := os.ReadFile(filepath.Join(root, "bin", name))
		if err != nil {
			t.Fatalf("make build has not run: %v", err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, "bin", name), data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	state := t.TempDir()
	s.env = append(os.Environ(), "PULUMI_BACKEND_URL=file://"+state, "PULUMI_CONFIG_PASSPHRASE=e2e")
	return s
}

// removeAll ends every node by the pid in its record, whatever state a failed test left.
func (s *stack) removeAll() {
	for _, r := range s.records() {
		if r.Process.Alive() {
			_ = syscall.Kill(r.Process.PID, syscall.SIGKILL)
			s.t.Logf("cleaned up %s, pid %d", r.Name, r.Process.PID)
		}
	}
}

func (s *stack) records() []machine.Record {
	records, err := machine.Site{Dir: filepath.Join(s.dir, ".hypercache", "local", "e2e")}.Records()
	if err != nil {
		s.t.Error(err)
	}
	return records
}

func (s *stack) record(name string) machine.Record {
	s.t.Helper()
	for _, r := range s.records() {
		if r.Name == name {
			return r
		}
	}
	s.t.Fatalf("no record of %s", name)
	return machine.Record{}
}

// try runs the CLI and returns its output and whether it succeeded.
func (s *stack) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pulumiLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pulumi", append(args, "--non-interactive")...)
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	s.t.Logf("pulumi %s: %v, %v", strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond), err)
	return out.String(), err
}

func (s *stack) pulumi(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("pulumi %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *stack) set(key, value string) {
	s.t.Helper()
	s.pulumi("config", "set", "-s", "e2e", key, value)
}

func (s *stack) up() string {
	s.t.Helper()
	return s.pulumi("up", "-s", "e2e", "--yes", "--skip-preview")
}

// output reads a stack output.
func (s *stack) output(name string, into any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pulumi", "stack", "output", name, "--json", "--show-secrets", "-s", "e2e")
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		s.t.Fatalf("output %s: %v\n%s", name, err, out)
	}
}

// resp is the RESP port of node i, counting from 0.
func (s *stack) resp(i int) string { return strconv.Itoa(8080 + s.offset + i) }

// password is what clients give as the user default, empty where they need none. The stack must be up.
func (s *stack) password() string {
	s.t.Helper()
	var password string
	s.output("password", &password)
	return password
}

// as has cmd give a password to the nodes it talks to. redis-cli must then name the user, too: see named.
func as(password string, cmd *exec.Cmd) *exec.Cmd {
	if password != "" {
		cmd.Env = append(os.Environ(), "REDISCLI_AUTH="+password)
	}
	return cmd
}

// named are redis-cli's arguments for the user default. Without the name, a node that needs no password would refuse it.
func named(password string) []string {
	if password == "" {
		return nil
	}
	return []string{"--user", "default"}
}

// redis runs redis-cli against node i with an optional script on its standard input.
func (s *stack) redis(i int, script string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "redis-cli", append([]string{"-p", s.resp(i)}, args...)...)
	if script != "" {
		cmd.Stdin = strings.NewReader(script)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli -p %s %s: %v\n%s", s.resp(i), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

const keys = 3000

// fill writes keys through node 0.
func (s *stack) fill() {
	s.t.Helper()
	var script strings.Builder
	for k := range keys {
		fmt.Fprintf(&script, "SET key:%d value:%d\n", k, k)
	}
	if got := strings.Count(s.redis(0, script.String()), "OK"); got != keys {
		s.t.Fatalf("%d of %d writes were acknowledged", got, keys)
	}
}

// verify reads every key through node i.
func (s *stack) verify(i int) {
	s.t.Helper()
	var script strings.Builder
	for k := range keys {
		fmt.Fprintf(&script, "GET key:%d\n", k)
	}
	lines := strings.Split(s.redis(i, script.String()), "\n")
	missing := 0
	for k := range keys {
		if k >= len(lines) || strings.Trim(strings.TrimSpace(lines[k]), `"`) != fmt.Sprintf("value:%d", k) {
			missing++
		}
	}
	if missing > 0 {
		s.t.Errorf("%d of %d keys are missing through node %d", missing, keys, i+1)
	}
}
