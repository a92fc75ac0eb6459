// Package healthcheck tests scripts/health-check.sh against small servers that pass for nodes. It holds no code of its own.
package healthcheck

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/internal/need"
)

// node is a server that passes for one of ours.
type node struct{ resp, http string }

func (n node) argument() string { return "127.0.0.1:" + n.resp + ":" + n.http }

// start serves HTTP with the given answer to /ready, and RESP that answers PING with pong.
func start(t *testing.T, ready int, body, pong string) node {
	t.Helper()
	return startWith(t, ready, body, pong, "")
}

// startWith is start with a password for the user default. Without one any is taken of it, and none without a name.
func startWith(t *testing.T, ready int, body, pong, password string) node {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(ready)
		fmt.Fprint(w, body)
	})
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go servePings(l, pong, password)
	return node{resp: portOf(t, l.Addr().String()), http: portOf(t, web.Listener.Addr().String())}
}

func servePings(l net.Listener, pong, password string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			open := password == ""
			for s := bufio.NewScanner(c); s.Scan(); {
				words := command(s)
				switch {
				case len(words) == 3 && strings.EqualFold(words[0], "AUTH") && words[1] == "default" && (password == "" || words[2] == password):
					open = true
					fmt.Fprint(c, "+OK\r\n")
				case len(words) > 0 && strings.EqualFold(words[0], "AUTH"):
					fmt.Fprint(c, "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
				case !open:
					fmt.Fprint(c, "-NOAUTH Authentication required.\r\n")
				case len(words) == 1 && strings.EqualFold(words[0], "PING"):
					fmt.Fprint(c, pong)
				}
			}
		}()
	}
}

// command is the one that begins with the line which s has read: words, or an array of bulk strings.
func command(s *bufio.Scanner) []string {
	var n int
	if _, err := fmt.Sscanf(s.Text(), "*%d", &n); err != nil {
		return strings.Fields(s.Text())
	}
	var words []string
	for range n {
		var size int
		if !s.Scan() {
			return nil
		}
		if _, err := fmt.Sscanf(s.Text(), "$%d", &size); err != nil || !s.Scan() || len(s.Text()) != size {
			return nil
		}
		words = append(words, s.Text())
	}
	return words
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// run runs the script with only the given programs on PATH and returns its output and exit code.
func run(t *testing.T, path string, args ...string) (string, int) {
	t.Helper()
	return runAs(t, "", path, args...)
}

// runAs is run with a password in the environment.
func runAs(t *testing.T, password, path string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command("bash", append([]string{filepath.Join("..", "..", "scripts", "health-check.sh")}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+path, "REDISCLI_AUTH="+password)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// toolbox makes a directory with links to what the script may use; a program that is not installed is need's business.
func toolbox(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range append(programs, "bash", "curl", "sed", "tr", "cut", "timeout", "dirname", "cat", "sort", "head") {
		if err := os.Symlink(need.Program(t, p), filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const pong = "+PONG\r\n"

func TestWellNodesAreALineEachAndExitZero(t *testing.T) {
	a, b := start(t, 200, "", pong), start(t, 200, "", pong)
	out, code := run(t, toolbox(t), a.argument(), b.argument())
	if code != 0 || strings.Count(out, " ok\n") != 2 || !strings.Contains(out, "all 2 nodes are well") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

func TestSickNodesAreNamedWithWhatTheyLack(t *testing.T) {
	well := start(t, 200, "", pong)
	unready := start(t, 503, `{"reason": "catching up"}`, pong)
	mute := start(t, 200, "", "-LOADING wait\r\n")
	out, code := run(t, toolbox(t), well.argument(), unready.argument(), mute.argument(), "127.0.0.1:1:1")
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	for _, want := range []string{
		"not ready: {\"reason\": \"catching up\"}", "RESP on " + mute.resp + " does not answer", "HTTP on 1 does not answer",
		"3 of 4 nodes are sick: " + unready.argument() + " " + mute.argument() + " 127.0.0.1:1:1",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in:\n%s", want, out)
		}
	}
}

func TestThePasswordIsGivenWithItsUsersName(t *testing.T) {
	const password = `sésame "open"`
	locked, free := startWith(t, 200, "", pong, password), start(t, 200, "", pong)
	for name, box := range map[string]string{"redis-cli": toolbox(t, "redis-cli"), "bash": toolbox(t)} {
		if out, code := runAs(t, password, box, locked.argument(), free.argument()); code != 0 {
			t.Errorf("%s: exit %d:\n%s", name, code, out)
		}
		for _, wrong := range []string{"", "wrong"} {
			out, code := runAs(t, wrong, box, locked.argument(), free.argument())
			if code != 1 || !strings.Contains(out, "wants a password") || !strings.Contains(out, "1 of 2 nodes are sick: "+locked.argument()) {
				t.Errorf("%s with %q: exit %d:\n%s", name, wrong, code, out)
			}
		}
	}
}

func TestNodesAndPasswordComeFromTheStacksOutputs(t *testing.T) {
	const password = "stacks-own"
	a, b := startWith(t, 200, "", pong, password), start(t, 503, "", pong)
	box := toolbox(t)
	output := fmt.Sprintf(`[
  {
    "gossipPort": 7946,
    "httpPort": %s,
    "name": "node-1",
    "privateIp": "127.0.0.1",
    "publicIp": "",
    "respPort": %s,
    "rpcPort": 7373,
    "zone": "zone-a"
  },
  {"name": "node-2", "publicIp": "127.0.0.1", "privateIp": "10.255.255.1", "respPort": %s, "httpPort": %s}
]`, a.http, a.resp, b.resp, b.http)
	// Programs that pass for Pulumi: the version is what the script looks at before it trusts them.
	script := "#!" + filepath.Join(box, "bash") + "\ncase $*/$3 in version/*) echo v3.300.0;;\n*--show-secrets*/password) echo " + password +
		";;\n*/password) echo '[secret]';;\n*) cat <<'JSON'\n" + output + "\nJSON\nesac\n"
	for _, name := range []string{"pulumi", "pulumi-language-go"} {
		if err := os.WriteFile(filepath.Join(box, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out, code := run(t, box)
	if code != 1 || !strings.Contains(out, "1 of 2 nodes are sick: node-2") || !strings.Contains(out, "node-1 ") || strings.Contains(out, "RESP") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if out, code := runAs(t, "another", box); code != 1 || !strings.Contains(out, "sick: node-1 node-2") {
		t.Errorf("the environment's password does not go before the stack's: exit %d:\n%s", code, out)
	}
}

func TestNonsenseIsRefusedWithExitTwo(t *testing.T) {
	for _, bad := range []string{"host:x", "host:1:", ":1", "--loud"} {
		if out, code := run(t, toolbox(t), bad); code != 2 {
			t.Errorf("%s: exit %d:\n%s", bad, code, out)
		}
	}
}

func TestAddressesAreNotRunAsCommands(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	run(t, toolbox(t), "$(touch "+mark+"):1:1", "`touch "+mark+"`:1:1")
	if _, err := os.Stat(mark); err == nil {
		t.Error("an argument was run as a command")
	}
}
