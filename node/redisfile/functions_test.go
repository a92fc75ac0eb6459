package redisfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/rdb"
)

func lib(name, body string) string {
	return fmt.Sprintf("#!lua name=%s\nredis.register_function('%s', function() return '%s' end)", name, name, body)
}

// TestFunctionsComeToWhatRedisHas runs every FUNCTION command that changes something on redis-server.
func TestFunctionsComeToWhatRedisHas(t *testing.T) {
	for _, rewrite := range []bool{false, true} {
		t.Run(fmt.Sprintf("rewrite %t", rewrite), func(t *testing.T) {
			dir := t.TempDir()
			srv := oracle.Serve(t, dir, "--appendonly", "yes", "--appendfsync", "always")
			c := srv.Client(t)
			do := func(args ...string) string {
				t.Helper()
				reply, err := c.Do(args...)
				if err != nil || reply[0] == '-' {
					t.Fatalf("%.100q: %s, %v", args, reply, err)
				}
				return string(reply)
			}
			do("FUNCTION", "LOAD", lib("flushed", "1"))
			do("FUNCTION", "FLUSH")
			do("FUNCTION", "LOAD", lib("a", "1"))
			_, dump, _ := strings.Cut(do("FUNCTION", "DUMP"), "\r\n")
			dump = strings.TrimSuffix(dump, "\r\n")
			do("FUNCTION", "LOAD", lib("b", "1"))
			if rewrite {
				do("BGREWRITEAOF")
				for !strings.Contains(do("INFO", "persistence"), "aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0") {
				}
			}
			do("FUNCTION", "LOAD", "REPLACE", lib("b", "2"))
			do("FUNCTION", "LOAD", lib("c", "1"))
			do("FUNCTION", "DELETE", "c")
			do("FUNCTION", "DELETE", "a")
			do("FUNCTION", "RESTORE", dump)
			do("FUNCTION", "LOAD", "REPLACE", lib("a", "3"))
			do("FUNCTION", "RESTORE", dump, "REPLACE")
			c.Close()
			srv.Stop()
			src, err := Open(filepath.Join(dir, "appendonlydir"))
			if err != nil {
				t.Fatal(err)
			}
			sum, err := src.Check(t.Context(), time.Now().UnixMilli())
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, f := range sum.Functions {
				got[string(f)] = true
			}
			if len(sum.Functions) != 2 || !got[lib("a", "1")] || !got[lib("b", "2")] {
				t.Errorf("%q", sum.Functions)
			}
		})
	}
}

func TestFunctionCommandsThatCannotBeRepeatedAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"FUNCTION"}, {"FUNCTION", "LIST"}, {"FUNCTION", "LOAD"}, {"FUNCTION", "LOAD", "no library"}, {"FUNCTION", "DELETE", "x"},
		{"FUNCTION", "RESTORE", "x"}, {"FUNCTION", "RESTORE", string(rdb.Seal(rdb.AppendString(nil, []byte("v")), 0))},
		{"FUNCTION", "LOAD", lib("a", "2")},
	} {
		file := filepath.Join(t.TempDir(), "appendonly.aof")
		text := request("FUNCTION", "LOAD", lib("a", "1")) + request(args...)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		src, err := Open(file)
		if err == nil {
			_, err = src.Check(t.Context(), 0)
		}
		if err == nil || !strings.Contains(err.Error(), "offset") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func request(args ...string) string {
	s := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		s += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	return s
}
