package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// testLimit bounds what a test waits for, a cold compilation included.
const testLimit = 2 * time.Minute

// serveHost starts a host as the engine sees it.
func serveHost(t *testing.T) (*host, pulumirpc.LanguageRuntimeClient) {
	t.Helper()
	h, stop := newHost("127.0.0.1:1"), make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{Cancel: stop, Init: func(srv *grpc.Server) error {
		pulumirpc.RegisterLanguageRuntimeServer(srv, h)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("127.0.0.1:"+strconv.Itoa(handle.Port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.close()
		_ = conn.Close()
		close(stop)
		if err := <-handle.Done; err != nil {
			t.Error(err)
		}
	})
	return h, pulumirpc.NewLanguageRuntimeClient(conn)
}

// pluginRun is a plugin under way.
type pluginRun struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[pulumirpc.RunPluginResponse]
	hangUp context.CancelFunc
}

func startPlugin(t *testing.T, client pulumirpc.LanguageRuntimeClient, req *pulumirpc.RunPluginRequest) pluginRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testLimit)
	t.Cleanup(cancel)
	stream, err := client.RunPlugin(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	return pluginRun{t: t, stream: stream, hangUp: cancel}
}

// rest collects what is still to come.
func (p pluginRun) rest() (stdout, stderr string, code int32, err error) {
	for code = -1; ; {
		msg, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return stdout, stderr, code, nil
		}
		if err != nil {
			return stdout, stderr, code, err
		}
		stdout += string(msg.GetStdout())
		stderr += string(msg.GetStderr())
		if exit, ok := msg.GetOutput().(*pulumirpc.RunPluginResponse_Exitcode); ok {
			code = exit.Exitcode
		}
	}
}

// firstLine waits for the line that a plugin begins with.
func (p pluginRun) firstLine() string {
	p.t.Helper()
	var text string
	for !strings.Contains(text, "\n") {
		msg, err := p.stream.Recv()
		if err != nil {
			p.t.Fatalf("after %q: %v", text, err)
		}
		text += string(msg.GetStdout())
	}
	return strings.TrimSpace(text)
}

func pluginRequest(dir string) *pulumirpc.RunPluginRequest {
	return &pulumirpc.RunPluginRequest{
		Pwd: dir, Kind: "analyzer", Args: []string{"127.0.0.1:1"}, Env: append(os.Environ(), "GREETING=hello"),
		Info: &pulumirpc.ProgramInfo{RootDirectory: dir, ProgramDirectory: dir, EntryPoint: "."},
	}
}

func TestPluginTalksToTheEngine(t *testing.T) {
	dir := writeProgram(t, `package main

import (
	"fmt"
	"os"
)

func main() {
	here, _ := os.Getwd()
	fmt.Println("4711")
	fmt.Fprintln(os.Stderr, os.Args[1], os.Getenv("GREETING"), here)
	os.Exit(7)
}
`)
	pwd, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	req := pluginRequest(dir)
	req.Pwd = pwd
	_, client := serveHost(t)
	stdout, stderr, code, err := startPlugin(t, client, req).rest()
	if err != nil {
		t.Fatal(err)
	}
	if stdout != "4711\n" || code != 7 {
		t.Errorf("stdout %q and code %d, want the port and 7", stdout, code)
	}
	if want := "127.0.0.1:1 hello " + pwd + "\n"; stderr != want {
		t.Errorf("stderr %q, want arguments, environment and directory: %q", stderr, want)
	}
}

func TestPluginThatDoesNotCompileIsShownWithItsPlace(t *testing.T) {
	_, client := serveHost(t)
	dir := writeProgram(t, "package main\n\nfunc main() { nonsense() }\n")
	_, _, _, err := startPlugin(t, client, pluginRequest(dir)).rest()
	if text := status.Convert(err).Message(); !strings.Contains(text, "main.go:3") || !strings.Contains(text, "nonsense") {
		t.Errorf("got %v, want the compiler's complaint with file and line", err)
	}
}

func TestPluginIsKeptBetweenRuns(t *testing.T) {
	home := t.TempDir()
	t.Setenv("PULUMI_HOME", home)
	_, client := serveHost(t)
	dir := writeProgram(t, "package main\n\nfunc main() {}\n")
	run := func() string {
		t.Helper()
		if _, _, code, err := startPlugin(t, client, pluginRequest(dir)).rest(); err != nil || code != 0 {
			t.Fatalf("code %d, %v", code, err)
		}
		kept, err := filepath.Glob(filepath.Join(home, "go-programs", "*", "program"))
		if err != nil || len(kept) != 1 {
			t.Fatalf("kept %v (%v), want one program", kept, err)
		}
		return kept[0]
	}
	kept := run()
	linked, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	// Bytes after the program's end change nothing about it, and the linker would not write them.
	if err := os.WriteFile(kept, append(linked, "mark"...), 0o700); err != nil {
		t.Fatal(err)
	}
	run()
	if again, err := os.ReadFile(kept); err != nil || !strings.HasSuffix(string(again), "mark") {
		t.Errorf("the second run linked the plugin again (%v)", err)
	}
}

// lasting is a plugin that tells its pid and then serves until somebody ends it.
const lasting = `package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(os.Getpid())
	_, _ = l.Accept()
}
`

// awaitEnd waits until the process is gone.
func awaitEnd(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * pluginGrace)
	for syscall.Kill(n, 0) == nil {
		select {
		case <-deadline:
			_ = syscall.Kill(n, syscall.SIGKILL)
			t.Fatalf("process %d is still there", n)
		case <-tick.C:
		}
	}
}

func TestPluginEndsWhenTheEngineHangsUp(t *testing.T) {
	_, client := serveHost(t)
	p := startPlugin(t, client, pluginRequest(writeProgram(t, lasting)))
	pid := p.firstLine()
	p.hangUp()
	awaitEnd(t, pid)
}

func TestPluginThatHearsNoInterruptIsKilled(t *testing.T) {
	_, client := serveHost(t)
	deaf := strings.Replace(lasting, "fmt.Println", "signal.Ignore(os.Interrupt)\n\tfmt.Println", 1)
	deaf = strings.Replace(deaf, "\"os\"", "\"os\"\n\t\"os/signal\"", 1)
	p := startPlugin(t, client, pluginRequest(writeProgram(t, deaf)))
	pid := p.firstLine()
	p.hangUp()
	awaitEnd(t, pid)
}

func TestPluginEndsWithTheHost(t *testing.T) {
	h, client := serveHost(t)
	p := startPlugin(t, client, pluginRequest(writeProgram(t, lasting)))
	pid := p.firstLine()
	h.close()
	if _, _, _, err := p.rest(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want the call to be cancelled", err)
	}
	awaitEnd(t, pid)
}

func TestCancelStopsProgramsAndLeavesPlugins(t *testing.T) {
	h := newHost("127.0.0.1:1")
	program, doneProgram := h.track(context.Background())
	defer doneProgram()
	plugin, donePlugin := h.trackPlugin(context.Background())
	defer donePlugin()
	if _, err := h.Cancel(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if program.Err() == nil || plugin.Err() != nil {
		t.Errorf("program %v, plugin %v, want the program alone to be cancelled", program.Err(), plugin.Err())
	}
	h.close()
	if plugin.Err() == nil {
		t.Error("the plugin outlives the host")
	}
}

func TestPluginOptionsAreChecked(t *testing.T) {
	_, client := serveHost(t)
	req := pluginRequest(t.TempDir())
	req.AttachDebugger = true
	if _, _, _, err := startPlugin(t, client, req).rest(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a debugger: got %v, want a refusal", err)
	}
	if _, _, _, err := startPlugin(t, client, pluginRequest(t.TempDir())).rest(); !strings.Contains(
		status.Convert(err).Message(), "no Go files") {
		t.Errorf("an empty directory: got %v", err)
	}
}

func TestCancelledBuildTakesItsCompilersAlong(t *testing.T) {
	tools, dir := t.TempDir(), writeProgram(t, "package main\n\nfunc main() {}\n")
	// A go command with a compiler that takes a minute, and holds on to the output as compilers do.
	slow := "#!/bin/sh\nsleep 60 &\ntouch " + filepath.Join(dir, "compiling") + "\nwait\n"
	if err := os.WriteFile(filepath.Join(tools, "go"), []byte(slow), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", tools+string(filepath.ListSeparator)+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- build(ctx, dir, filepath.Join(dir, "program")) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case err := <-ended:
			if err == nil || ctx.Err() == nil {
				t.Errorf("ended before it was cancelled: %v", err)
			}
			return
		case <-tick.C:
			if _, err := os.Stat(filepath.Join(dir, "compiling")); err == nil {
				cancel()
			}
		case <-deadline:
			t.Fatal("the compiler goes on although nobody wants the program")
		}
	}
}
