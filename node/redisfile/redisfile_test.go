package redisfile

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypercache/node/command"
	"hypercache/node/command/golden/oracle"
	"hypercache/node/rdb"
	"hypercache/node/store"
)

// redis runs redis-server in dir with commands, and stops it.
func redis(t *testing.T, dir string, extra []string, commands ...string) {
	t.Helper()
	srv := oracle.Serve(t, dir, extra...)
	defer srv.Stop()
	c := srv.Client(t)
	for _, line := range commands {
		if reply, err := c.Do(strings.Fields(line)...); err != nil || reply[0] == '-' {
			t.Fatalf("%s: %s, %v", line, reply, err)
		}
		for line == "BGREWRITEAOF" {
			info, err := c.Do("INFO", "persistence")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(info), "aof_rewrite_in_progress:0") && strings.Contains(string(info), "aof_rewrite_scheduled:0") {
				break
			}
		}
	}
}

// content is what a path comes to.
func content(t *testing.T, path string, db uint64) (map[string]string, *Summary) {
	t.Helper()
	now := time.Now().UnixMilli()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := s.Check(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	if err := s.Each(t.Context(), db, now, func(k *rdb.Key, v *rdb.Value) error {
		got[string(k.Name)] = fmt.Sprintf("%v %q %v @%d", v.Type, v.Items, v.Scores, k.ExpireAt)
		if s := v.Stream; s != nil {
			g := s.Groups[0]
			got[string(k.Name)] = fmt.Sprintf("%q %v %s %v %d", s.Entries, s.State, g.Name, g.LastID, len(g.Pending))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != sum.Keys[db] {
		t.Errorf("%d keys, the summary says %d", len(got), sum.Keys[db])
	}
	return got, sum
}

// writes make keys of every type.
var writes = []string{"SET a 1", "INCR a", "MSET b x c y", "APPEND b z", "RENAME c d", "SET gone x", "DEL gone",
	"SET mortal v", "EXPIREAT mortal 99999999999", "SET past v", "PEXPIRE past 1", "SELECT 3", "SET other db", "SELECT 0", "SETRANGE a 5 q",
	"RPUSH list y z", "HSET hash f v", "SADD set 7", "ZADD zset 1.5 m", "XADD stream 1-1 f v", "XADD stream 2-1 f w", "XADD stream 3-1 f x",
	"XGROUP CREATE stream g 0", "XREADGROUP GROUP g c COUNT 2 STREAMS stream >",
	"LPUSH list x", "HSET hash f w", "SREM set 8", "ZINCRBY zset 1 m", "XDEL stream 2-1", "XACK stream g 1-1"}

var wantWrites = map[string]string{
	"a": `string ["2\x00\x00\x00\x00q"] [] @0`, "b": `string ["xz"] [] @0`, "d": `string ["y"] [] @0`,
	"mortal": `string ["v"] [] @99999999999000`,
	"list":   `list ["x" "y" "z"] [] @0`, "hash": `hash ["f" "w"] [] @0`, "set": `set ["7"] [] @0`, "zset": `zset ["m"] [2.5] @0`,
	"stream": `[{"1-1" ["f" "v"]} {"3-1" ["f" "x"]}] {2 3-1 1-1 2-1 3} g 2-1 1`,
}

func check(t *testing.T, path string) {
	t.Helper()
	got, sum := content(t, path, 0)
	delete(got, "past") // may not have expired yet
	if fmt.Sprint(got) != fmt.Sprint(wantWrites) {
		t.Errorf("%s:\n%v\nwant\n%v", path, got, wantWrites)
	}
	if sum.Keys[3] != 1 {
		t.Errorf("%d keys in database 3", sum.Keys[3])
	}
}

func TestEveryKindOfFileComesToTheSameKeys(t *testing.T) {
	t.Run("RDB", func(t *testing.T) {
		dir := t.TempDir()
		redis(t, dir, nil, append(writes, "SAVE")...)
		check(t, filepath.Join(dir, "dump.rdb"))
	})
	on := []string{"--appendonly", "yes", "--appendfsync", "always"}
	t.Run("append-only directory", func(t *testing.T) {
		dir := t.TempDir()
		redis(t, dir, on, writes...)
		check(t, filepath.Join(dir, "appendonlydir"))
		check(t, filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest"))
		check(t, filepath.Join(dir, "appendonlydir", "appendonly.aof.1.incr.aof")) // the base is empty
	})
	for _, preamble := range []string{"yes", "no"} {
		t.Run("rewritten, preamble "+preamble, func(t *testing.T) {
			dir := t.TempDir()
			half := len(writes) / 2
			redis(t, dir, append(on, "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"), append(writes[:half:half], "BGREWRITEAOF")...)
			redis(t, dir, append(on, "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"), writes[half:]...)
			check(t, filepath.Join(dir, "appendonlydir"))
		})
	}
	t.Run("RDB and commands in one file", func(t *testing.T) {
		dir := t.TempDir()
		redis(t, dir, nil, append(writes[:2:2], "SAVE")...)
		redis(t, dir, on, writes[2:]...) // no dump.rdb is read with appendonly yes
		front, err := os.ReadFile(filepath.Join(dir, "dump.rdb"))
		if err != nil {
			t.Fatal(err)
		}
		back, err := os.ReadFile(filepath.Join(dir, "appendonlydir", "appendonly.aof.1.incr.aof"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "old.aof")
		if err := os.WriteFile(file, append(front, back...), 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, file)
	})
}

func TestMultiExecIsSeenThrough(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.aof")
	write(t, file, "MULTI", "SET a 1", "SET b 2", "EXEC")
	got, sum := content(t, file, 0)
	if len(got) != 2 || sum.Commands != 4 {
		t.Errorf("%v, %d commands", got, sum.Commands)
	}
}

func TestFlushallEmptiesEveryDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.aof")
	write(t, file, "SELECT 0", "SET a 1", "SELECT 1", "SET b 2", "FLUSHALL", "SET c 3", "SELECT 2", "SET d 4", "FLUSHDB")
	for db, want := range []int{0, 1, 0} {
		if got, sum := content(t, file, uint64(db)); len(got) != want || sum.Total() != 1 {
			t.Errorf("database %d: %v, %d keys in all", db, got, sum.Total())
		}
	}
}

// A TTL that a RESTORE of Redis up to 6.2 carries counts from the load, as in Redis.
func TestTheTTLOfARestoreCountsFromNow(t *testing.T) {
	s := store.New(store.Options{}).Shard(0)
	s.Set([]byte("k"), []byte("v"), 0)
	r, _ := s.Find([]byte("k"), 0)
	value, err := command.AppendValue(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	payload := string(rdb.Seal(value, 0))
	var b []byte
	for _, args := range [][]string{
		{"RESTORE", "relative", "60000", payload}, {"RESTORE", "absolute", "4102444800000", payload, "ABSTTL"},
		{"RESTORE", "gone", "1000", payload, "absttl", "REPLACE"}, {"RESTORE", "stays", "0", payload, "REPLACE"},
	} {
		var words [][]byte
		for _, a := range args {
			words = append(words, []byte(a))
		}
		b = append(b, oracle.Encode(words)...)
	}
	file := filepath.Join(t.TempDir(), "a.aof")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	const now = 1_700_000_000_000
	src, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if sum, err := src.Check(t.Context(), now); err != nil || sum.Expired != 1 {
		t.Fatal(sum, err)
	}
	got := map[string]int64{}
	if err := src.Each(t.Context(), 0, now, func(k *rdb.Key, _ *rdb.Value) error {
		got[string(k.Name)] = k.ExpireAt
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int64{"relative": now + 60000, "absolute": 4102444800000, "stays": 0}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func write(t *testing.T, file string, lines ...string) {
	t.Helper()
	var b []byte
	for _, l := range lines {
		var args [][]byte
		for _, w := range strings.Fields(l) {
			args = append(args, []byte(w))
		}
		b = append(b, oracle.Encode(args)...)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsWrongIsNamedAndRefused(t *testing.T) {
	dir := t.TempDir()
	for want, lines := range map[string][]string{
		"offset 27: \"EXPIRE\" counts":       {"SET a 1", "EXPIRE a 10"},
		"\"SET\" counts its time":            {"SET a 1 EX 10"},
		"unknown command":                    {"FOO bar"},
		"\"GET\" cannot be taken":            {"GET a"},
		"fails: ERR value is not an integer": {"SET a x", "INCR a"},
		"offset 0: ends in the middle":       nil,
		"ends in the middle of a command":    {"SET a 1", "MULTI", "SET b 2"},
	} {
		file := filepath.Join(dir, "x.aof")
		write(t, file, lines...)
		if lines == nil {
			if err := os.WriteFile(file, []byte("*1\r\n$3\r\nSE"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(file)
		if err == nil {
			_, err = s.Check(t.Context(), 1)
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", want, err)
		}
	}
	for want, text := range map[string]string{
		"is empty":        "",
		"is neither":      "hello",
		"HyperCache data": "#HC:1 file 00 00\r\n",
	} {
		file := filepath.Join(dir, "y")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestManifestsAreReadAsRedisWritesThem(t *testing.T) {
	names, err := parseManifest("# remark\nfile a.2.base.rdb seq 2 type b\nfile a.1.incr.aof seq 1 type h\nfile \"a b.3.incr.aof\" seq 3 type i\nfile a.4.incr.aof seq 4 type i\n")
	if want := "[a.2.base.rdb a b.3.incr.aof a.4.incr.aof]"; err != nil || fmt.Sprint(names) != want {
		t.Errorf("%q, %v", names, err)
	}
	for _, bad := range []string{"", "file x", "file a seq 1 type z", "file ../a seq 1 type b", "file a seq 2 type i\nfile b seq 1 type i"} {
		if names, err := parseManifest(bad); err == nil {
			t.Errorf("%q: %q", bad, names)
		}
	}
	if _, err := parseManifest("file a seq 1 type i\n#HC:1 manifest 00"); !errors.Is(err, ErrOwn) {
		t.Error(err)
	}
}

// FuzzCommands: no input of an append-only file panics or takes memory that it does not have.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"))
	f.Add([]byte("#TS:1\r\n*1\r\n$5\r\nMULTI\r\n*1048576\r\n$536870912\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "x.aof")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := Open(file); err == nil {
			_, _ = s.Check(t.Context(), 1)
		}
	})
}
