package machine

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestMain turns this test program into the node program that the tests run: it is one when it is started like one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "drain" || strings.HasPrefix(os.Args[1], "--config=")) {
		os.Exit(standIn(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// standInConfig is what the stand-in reads of its configuration; the section test is for it alone.
type standInConfig struct {
	Network struct {
		HTTPPort int `yaml:"http_port"`
	}
	Test struct {
		Peers      []int // HTTP ports of the cluster's nodes, itself included
		Quorum     int   // how many of them must be alive for it to be ready
		NeverReady bool  `yaml:"never_ready"`
		Die        bool
		DeafToTerm bool `yaml:"deaf_to_term"`
		DrainFails bool `yaml:"drain_fails"`
	}
}

func standIn(args []string) int {
	drain := args[0] == "drain"
	if drain { // drain --timeout=… --config=…
		args = args[2:]
	}
	file := strings.TrimPrefix(args[0], "--config=")
	var c standInConfig
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &c)
	}
	if err != nil {
		fmt.Println(err)
		return 2
	}
	if drain {
		return standInDrain(file, c)
	}
	return standInServe(c)
}

// standInDrain notes who was asked to drain.
func standInDrain(file string, c standInConfig) int {
	if c.Test.DrainFails {
		fmt.Println("no place for group 7")
		return 1
	}
	node := filepath.Dir(file)
	f, err := os.OpenFile(filepath.Join(filepath.Dir(node), "drains"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	defer f.Close()
	fmt.Fprintln(f, filepath.Base(node))
	return 0
}

func standInServe(c standInConfig) int {
	fmt.Println("stand-in starts")
	if c.Test.Die {
		fmt.Println("cannot go on: the disk is made of cheese")
		return 3
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if c.Test.DeafToTerm {
		ctx = context.Background()
	}
	http.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		alive := 0
		for _, port := range c.Test.Peers {
			node := Record{HTTP: fmt.Sprintf("http://127.0.0.1:%d", port)}
			if node.ask(r.Context(), "/health") == nil {
				alive++
			}
		}
		if alive < c.Test.Quorum || c.Test.NeverReady {
			http.Error(w, fmt.Sprintf("%d of %d there", alive, c.Test.Quorum), http.StatusServiceUnavailable)
		}
	})
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.Network.HTTPPort))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() { _ = http.Serve(l, nil) }()
	<-ctx.Done()
	return 0
}
