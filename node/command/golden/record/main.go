// Command record sends the requests of node/command/golden/cases to a redis-server 7.0.15 that it starts, and writes
// the transcripts. Run it from the repository's root.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
)

func main() {
	if err := run("node/command/golden/transcripts"); err != nil {
		log.Fatal(err)
	}
}

func run(out string) error {
	cases, err := golden.Cases()
	if err != nil {
		return err
	}
	plain, stop, err := start()
	if err != nil {
		return err
	}
	defer stop()
	cluster, stop, err := start("--cluster-enabled", "yes")
	if err != nil {
		return err
	}
	defer stop()
	if err := assignSlots(cluster); err != nil {
		return err
	}
	steps := 0
	for _, c := range cases {
		srv := plain
		if c.Mode == golden.Cluster || c.Mode == golden.Node {
			srv = cluster
		}
		for _, proto := range []int{2, 3} {
			t := golden.Transcript{Name: c.Name, Mode: c.Mode}
			if t.Steps, err = record(srv, c.Steps, proto); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			steps += len(t.Steps)
			file := filepath.Join(out, c.Name+".resp"+strconv.Itoa(proto)+".txt")
			if err := os.WriteFile(file, t.Format(), 0o644); err != nil {
				return err
			}
		}
	}
	fmt.Printf("recorded %d steps of %d transcripts from redis-server %s\n", steps, 2*len(cases), oracle.Version)
	return nil
}

func start(extra ...string) (*oracle.Server, func(), error) {
	dir, err := os.MkdirTemp("", "golden")
	if err != nil {
		return nil, nil, err
	}
	srv, err := oracle.Start(context.Background(), dir, extra...)
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return srv, func() { srv.Stop(); os.RemoveAll(dir) }, nil
}

// assignSlots makes a cluster of one node and waits until it serves.
func assignSlots(srv *oracle.Server) error {
	c, err := srv.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383"); err != nil {
		return err
	}
	for range 500 {
		reply, err := c.Do("GET", "x")
		if err != nil {
			return err
		}
		if reply[0] != '-' {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the cluster does not come up")
}

func record(srv *oracle.Server, steps []golden.Step, proto int) ([]golden.Step, error) {
	var conn *oracle.Conn
	connect := func() (err error) {
		if conn != nil {
			conn.Close()
		}
		if conn, err = srv.Dial(); err != nil {
			return err
		}
		_, err = conn.Do("HELLO", strconv.Itoa(proto))
		return err
	}
	if err := connect(); err != nil {
		return nil, err
	}
	defer func() { conn.Close() }()
	var out []golden.Step
	for _, s := range steps {
		if s.Args == nil {
			if err := connect(); err != nil {
				return nil, err
			}
			out = append(out, s)
			continue
		}
		reply, err := golden.Run(conn, s)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", s.Line, s.Args, err)
		}
		s.Reply = reply
		out = append(out, s)
	}
	return out, nil
}
