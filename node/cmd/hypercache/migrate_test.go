package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	seeded "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
	"hypercache/node/config"
	"hypercache/node/nodetest"
	"hypercache/node/rdb"
)

// redis runs redis-server in dir; do runs a command that must not fail.
func redis(t *testing.T, dir string, extra ...string) (do func(args ...string) string, stop func()) {
	t.Helper()
	srv := oracle.Serve(t, dir, append([]string{"--enable-debug-command", "yes"}, extra...)...)
	c := srv.Client(t)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			c.Close()
			srv.Stop()
		}
	}
	t.Cleanup(stop)
	return func(args ...string) string {
		t.Helper()
		reply, err := c.Do(args...)
		if err != nil || reply[0] == '-' {
			t.Fatalf("%.100q: %.300q, %v", args, reply, err)
		}
		return string(reply)
	}, stop
}

// fillRedis makes keys of all types.
func fillRedis(do func(args ...string) string) {
	for i := range 300 {
		k := fmt.Sprint(i)
		do("SET", "string"+k, strings.Repeat(k, i))
		do("RPUSH", "list"+k, k, "x", strings.Repeat("y", i))
		do("SADD", "set"+k, k, "1")
		do("SADD", "words"+k, k, "w")
		do("HSET", "hash"+k, "f", k, "g", strings.Repeat("z", i))
		do("ZADD", "zset"+k, k, "m", "-0.5", "n")
		if i%3 == 0 {
			do("PEXPIREAT", "hash"+k, fmt.Sprint(99999999999000+i))
		}
	}
	for _, name := range []string{"RPUSH", "SADD", "HSET", "ZADD"} {
		args := []string{name, "large " + name}
		for i := range 20000 {
			args = append(args, fmt.Sprint(i))
		}
		do(args...)
	}
	for i := range 2000 {
		do("XADD", "stream", fmt.Sprintf("%d-1", i+1), "f", fmt.Sprint(i))
	}
	do("XGROUP", "CREATE", "stream", "g", "0")
	do("XREADGROUP", "GROUP", "g", "c", "COUNT", "1500", "STREAMS", "stream", ">")
	do("XACK", "stream", "g", "3-1")
	do("XDEL", "stream", "1-1", "700-1", "2000-1")
	do("XGROUP", "CREATE", "empty stream", "g", "$", "MKSTREAM")
	do("SET", "binary\x00\xff\r\n", "\x00\r\n")
	do("SET", "", "empty key")
	do("SET", "past", "x", "PX", "1")
}

// nodeCounts are how many nodes entries are in, which a move may change where some were deleted.
var nodeCounts = regexp.MustCompile(`radix-tree-(keys|nodes)\r\n:\d+`)

// redisState is what redis-server says about all its keys. A digest speaks of all of a value; of streams, XINFO adds the groups.
func redisState(do func(args ...string) string) string {
	var lines []string
	for _, k := range golden.Elements([]byte(do("KEYS", "*"))) {
		_, key, _ := strings.Cut(string(k), "\r\n")
		key = strings.TrimSuffix(key, "\r\n")
		kind := do("TYPE", key)
		lines = append(lines, fmt.Sprintf("%q %s %s %s", key, kind, do("PEXPIRETIME", key), do("DEBUG", "DIGEST-VALUE", key)))
		if kind == "+stream\r\n" {
			full := nodeCounts.ReplaceAllString(do("XINFO", "STREAM", key, "FULL", "COUNT", "100"), "")
			lines = append(lines, fmt.Sprintf("%q %q", key, full))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestKeysMoveFromRedisThroughAClusterAndBack: restore a file of redis-server, back up, load that in redis-server.
func TestKeysMoveFromRedisThroughAClusterAndBack(t *testing.T) {
	from := t.TempDir()
	do, stop := redis(t, from)
	fillRedis(do)
	do("SAVE")
	want := redisState(do)
	stop()
	c := nodetest.Start(t, 3, nil)
	addr := "-addr=" + c.Nodes()[1].Config.Network.RESPAddr()
	file := filepath.Join(from, "dump.rdb")

	r := fixture{}.run("restore", file, "--dry-run", addr)
	if r.code != 0 || !strings.Contains(r.out, "nothing written, as asked") {
		t.Fatalf("dry run: %+v", r)
	}
	r = fixture{}.run("restore", file, addr, "--json")
	var report restoreReport
	if err := json.Unmarshal([]byte(r.out), &report); r.code != 0 || err != nil || report.Written != 1808 || report.Expired > 1 {
		t.Fatalf("restore: %+v, %v", r, err)
	}
	r = fixture{}.run("restore", addr, file)
	if r.code != 1 || !strings.Contains(r.errOut, "1808 keys exist already and were left as they are; --replace") {
		t.Errorf("again: %+v", r)
	}
	if r = (fixture{}).run("restore", addr, file, "-replace"); r.code != 0 || !strings.Contains(r.out, "1808 keys written") {
		t.Errorf("again with -replace: %+v", r)
	}

	to := t.TempDir()
	saved := filepath.Join(to, "dump.rdb")
	if r = (fixture{}).run("backup", saved, addr); r.code != 0 || !strings.Contains(r.out, "1808 keys, 100 with a time to live") {
		t.Fatalf("backup: %+v", r)
	}
	if out, err := exec.Command("redis-check-rdb", saved).CombinedOutput(); err != nil {
		t.Fatalf("redis-check-rdb: %v\n%s", err, out)
	}
	if r = (fixture{}).run("backup", saved, addr); r.code != 1 || !strings.Contains(r.errOut, "exists already; --force") {
		t.Errorf("a second backup: %+v", r)
	}
	do, _ = redis(t, to)
	if got := redisState(do); got != want {
		t.Errorf("redis-server has after the backup\n%.3000s\nwant\n%.3000s", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(to, ".*temp*")); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

func TestRestoreWritesNothingOfAFileThatIsNotWhole(t *testing.T) {
	dir := t.TempDir()
	do, stop := redis(t, dir)
	do("SET", "a", "1")
	do("SET", "b", strings.Repeat("x", 1000))
	do("SELECT", "3")
	do("SET", "c", "1")
	do("SAVE")
	stop()
	c := nodetest.Start(t, 1, nil)
	n := c.Nodes()[0]
	addr := "-addr=" + n.Config.Network.RESPAddr()
	file := filepath.Join(dir, "dump.rdb")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)-12] ^= 1
	for want, b := range map[string][]byte{"the file ends too early": whole[:len(whole)-3], "offset": flipped, "is neither": []byte("hello")} {
		bad := filepath.Join(dir, "bad.rdb")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := (fixture{}).run("restore", bad, addr); r.code != 1 || !strings.Contains(r.errOut, want) || !strings.Contains(r.errOut, bad) {
			t.Errorf("%s: %+v", want, r)
		}
	}
	if r := (fixture{}).run("restore", file, addr); r.code != 1 || !strings.Contains(r.errOut, "db0: 2 keys, db3: 1 keys") {
		t.Errorf("two databases: %+v", r)
	}
	if keys := n.Keys(); keys != 0 {
		t.Errorf("%d keys were written", keys)
	}
	if r := (fixture{}).run("restore", file, addr, "-db=3"); r.code != 0 || !strings.Contains(r.out, "1 keys written") {
		t.Errorf("-db=3: %+v", r)
	}
	if keys := n.Keys(); keys != 1 {
		t.Errorf("%d keys after -db=3", keys)
	}
}

func TestAValueThatIsTooLongIsNamed(t *testing.T) {
	c := nodetest.Start(t, 1, func(f *config.Config) { f.Cache.MaxValueBytes = 1 << 20 })
	file := filepath.Join(t.TempDir(), "dump.rdb")
	var b bytes.Buffer
	w := rdb.NewWriter(&b)
	long := make([]byte, 1<<20+1)
	_, _ = rand.Read(long)
	for _, key := range []string{"fits", "long"} {
		if key == "fits" {
			long = long[:1<<20-64]
		} else {
			long = long[:1<<20+1]
		}
		if err := w.Entry([]byte(key), 0, rdb.AppendString(nil, long)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	r := fixture{}.run("restore", file, "-addr="+c.Nodes()[0].Config.Network.RESPAddr())
	if r.code != 1 || !strings.Contains(r.errOut, `key "long": its value is longer than the node takes`) {
		t.Errorf("%+v", r)
	}
}

func TestBackupAndRestoreGiveAPassword(t *testing.T) {
	passwords := file(t, "the-password\nanother-one\n")
	c := nodetest.Start(t, 1, func(f *config.Config) { f.Auth.PasswordFile = passwords })
	addr := "-addr=" + c.Nodes()[0].Config.Network.RESPAddr()
	own := file(t, "auth: {password_file: "+passwords+"}\n")
	saved := filepath.Join(t.TempDir(), "saved.rdb")
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"none", nil, nil, 1, "NOAUTH Authentication required."},
		{"a wrong one", []string{"REDISCLI_AUTH=nonsense"}, nil, 1, "as user default: AUTH: WRONGPASS"},
		{"nobody's", []string{"REDISCLI_AUTH=the-password"}, []string{"-user=ann"}, 1, "as user ann: AUTH: WRONGPASS"},
		{"of a file that is missing", nil, []string{"-password-file=" + saved + ".none"}, 1, "no such file"},
		{"of the environment", []string{"REDISCLI_AUTH=another-one"}, nil, 0, ""},
		{"of a file", []string{"REDISCLI_AUTH=nonsense"}, []string{"-password-file=" + passwords}, 0, ""},
		{"of the configuration", nil, []string{"-config=" + own}, 0, ""},
	} {
		r := fixture{env: tt.env}.run(append([]string{"backup", saved, addr}, tt.args...)...)
		if r.code != tt.code || !strings.Contains(r.errOut, tt.want) || strings.Contains(r.errOut, "nonsense") || strings.Contains(r.errOut, "the-password") {
			t.Errorf("backup with %s: %+v", tt.name, r)
		}
		if tt.code != 0 {
			continue
		}
		if r := (fixture{env: tt.env}).run(append([]string{"restore", saved, addr}, tt.args...)...); r.code != 0 {
			t.Errorf("restore with %s: %+v", tt.name, r)
		}
		if err := os.Remove(saved); err != nil {
			t.Error(err)
		}
	}
}

func TestBackupAndRestoreNameWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"backup"}, 2, "want: backup FILE"},
		{[]string{"restore", "a", "b"}, 2, "want: restore FILE"},
		{[]string{"restore", filepath.Join(dir, "none")}, 1, "no such file"},
		{[]string{"backup", filepath.Join(dir, "f"), "-addr=127.0.0.1:1"}, 1, "no node answers at 127.0.0.1:1"},
		{[]string{"backup", filepath.Join(dir, "f"), "-addr=nonsense"}, 2, "not an address"},
	} {
		if r := (fixture{}).run(tt.args...); r.code != tt.code || !strings.Contains(r.errOut, tt.want) {
			t.Errorf("%v: %+v", tt.args, r)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestLargeCollectionsAreWrittenInPieces: a stock redis-server stands for a node here, streams and all.
func TestLargeCollectionsAreWrittenInPieces(t *testing.T) {
	from := t.TempDir()
	do, stop := redis(t, from)
	noise := func(seed, n int) string {
		b := make([]byte, n)
		_, _ = seeded.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b) // it never fails
		return string(b)
	}
	for i := range 1200 {
		k := fmt.Sprint(i)
		do("RPUSH", "list", noise(i, 9000))
		do("HSET", "hash", k, noise(i, 9000))
		do("SADD", "set", k+noise(i, 9000))
		do("ZADD", "zset", fmt.Sprint(float64(i)/3), k+noise(i, 9000))
		do("XADD", "stream", "*", "f", k)
		do("XADD", "large stream", "*", "f", noise(i, 30000))
	}
	for _, stream := range []string{"stream", "large stream"} {
		do("XDEL", stream, strings.Split(do("XRANGE", stream, "-", "+", "COUNT", "1"), "\r\n")[3])
		do("XGROUP", "CREATE", stream, "g", "0", "ENTRIESREAD", "1")
		do("XREADGROUP", "GROUP", "g", "c", "COUNT", "7", "STREAMS", stream, ">")
		do("XREADGROUP", "GROUP", "g", "d", "COUNT", "2", "STREAMS", stream, ">")
	}
	do("PEXPIREAT", "zset", "99999999999999")
	do("SAVE")
	// A stream that is too large for one RESTORE is written entry by entry: its consumers were seen when that was done.
	state := func() string { return seenTimes.ReplaceAllString(redisState(do), "") + streams(do) }
	want := state()
	stop()
	do, stop = redis(t, t.TempDir())
	addr := "-addr=" + do("CONFIG", "GET", "port")
	addr = "-addr=127.0.0.1:" + strings.Split(addr, "\r\n")[4]
	do("SET", "list", "in the way")
	file := filepath.Join(from, "dump.rdb")
	r := fixture{}.run("restore", addr, file)
	if r.code != 1 || !strings.Contains(r.errOut, "1 keys exist already") || !strings.HasPrefix(do("GET", "list"), "$10") {
		t.Fatalf("restore: %+v", r)
	}
	if r = (fixture{}).run("restore", addr, file, "--replace"); r.code != 0 {
		t.Fatalf("restore: %+v", r)
	}
	if got := state(); got != want {
		t.Errorf("%.2000s\nwant\n%.2000s", got, want)
	}
	saved := filepath.Join(t.TempDir(), "dump.rdb")
	if r = (fixture{}).run("backup", addr, saved); r.code != 0 {
		t.Fatalf("backup: %+v", r)
	}
	stop()
	do, _ = redis(t, filepath.Dir(saved))
	if got := state(); got != want {
		t.Errorf("after the backup: %.2000s\nwant\n%.2000s", got, want)
	}
}

// fakeRedis answers each line of a request that answer knows, with "" closing the connection.
func fakeRedis(t *testing.T, answer func(word string) (reply string, known bool)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			function := false
			for words := bufio.NewScanner(c); words.Scan(); {
				if function = function || words.Text() == "FUNCTION"; function { // FUNCTION DUMP: there are none
					if function = words.Text() != "DUMP"; !function {
						_, _ = fmt.Fprintf(c, "$10\r\n%s\r\n", rdb.SealFunctions(nil))
					}
					continue
				}
				reply, known := answer(words.Text())
				if known && reply == "" {
					break
				}
				_, _ = c.Write([]byte(reply))
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "-addr=" + l.Addr().String()
}

func aPayload() string {
	payload := string(rdb.Seal(rdb.AppendString(nil, []byte("v")), 0))
	return fmt.Sprintf("$%d\r\n%s\r\n", len(payload), payload)
}

// TestAKeyThatScanNamesTwiceIsSavedOnce: redis-server refuses a file with a key twice.
func TestAKeyThatScanNamesTwiceIsSavedOnce(t *testing.T) {
	answers := map[string]string{
		"DBSIZE": ":2\r\n", "PEXPIRETIME": ":-1\r\n", "DUMP": aPayload(),
		"SCAN": "*2\r\n$1\r\n0\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\na\r\n",
	}
	addr := fakeRedis(t, func(word string) (string, bool) { a, ok := answers[word]; return a, ok })
	file := filepath.Join(t.TempDir(), "dump.rdb")
	if r := (fixture{}).run("backup", addr, file); r.code != 0 || !strings.Contains(r.out, "2 keys") {
		t.Errorf("%+v", r)
	}
}

// TestBackupGoesOnOneByOneWhenANodeHangsUp: together the values were more than the node keeps for a client. An expiry that
// changes between its two answers is asked for again, and so is what a cluster cannot answer yet.
func TestBackupGoesOnOneByOneWhenANodeHangsUp(t *testing.T) {
	dumps, expiries := 0, []string{":-1\r\n", ":-1\r\n", ":5\r\n", ":6\r\n"}
	addr := fakeRedis(t, func(word string) (string, bool) {
		switch word {
		case "DBSIZE":
			return ":2\r\n", true
		case "SCAN":
			return "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", true
		case "DUMP":
			switch dumps++; dumps {
			case 1:
				return "", true
			case 3:
				return "-CLUSTERDOWN wait\r\n", true
			}
			return aPayload(), true
		case "PEXPIRETIME":
			next := ":99999999999999\r\n"
			if len(expiries) > 0 {
				next, expiries = expiries[0], expiries[1:]
			}
			return next, true
		}
		return "", false
	})
	file := filepath.Join(t.TempDir(), "dump.rdb")
	if r := (fixture{}).run("backup", addr, file); r.code != 0 || !strings.Contains(r.out, "2 keys, 2 with a time to live") {
		t.Fatalf("%+v, %d dumps", r, dumps)
	}
	saved, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close() //nolint:errcheck // only read
	c := &rdb.Collector{Done: func(k *rdb.Key, _ *rdb.Value) error {
		if k.ExpireAt != 99999999999999 {
			t.Errorf("%s expires at %d", k.Name, k.ExpireAt)
		}
		return nil
	}}
	if err := rdb.NewReader(saved).Read(c); err != nil {
		t.Error(err)
	}
}

// TestRestoreTriesAgainWhatPasses: a write whose outcome was not known may have happened.
func TestRestoreTriesAgainWhatPasses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dump.rdb")
	var b bytes.Buffer
	w := rdb.NewWriter(&b)
	for _, key := range []string{"a", "b", "c"} {
		if err := w.Entry([]byte(key), 0, rdb.AppendString(nil, []byte("v"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	replies := []string{"-NOREPLICAS no\r\n", "-TRYAGAIN no\r\n", "-BUSYKEY it exists\r\n", "-BUSYKEY it was written\r\n", "+OK\r\n"}
	addr := fakeRedis(t, func(word string) (string, bool) {
		switch {
		case word == "CONFIG":
			return "*0\r\n", true
		case word == "RESTORE" && len(replies) > 0:
			next := replies[0]
			replies = replies[1:]
			return next, true
		}
		return "", false
	})
	r := fixture{}.run("restore", addr, file, "--json")
	var report restoreReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Written != 2 || report.Existing != 1 || r.code != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// seenTimes are those of consumers in what redisState tells.
var seenTimes = regexp.MustCompile(`seen-time\\r\\n:\d+`)

// streams is what a digest does not tell of the streams.
func streams(do func(args ...string) string) (all string) {
	for _, s := range []string{"stream", "large stream"} {
		all += do("XPENDING", s, "g") + do("XINFO", "GROUPS", s)
		info := do("XINFO", "STREAM", s)
		all += info[strings.Index(info, "last-generated-id"):strings.Index(info, "first-entry")]
	}
	return all
}

// TestRedisMigratesToANode: MIGRATE on redis-server pipes RESTORE to the other side.
func TestRedisMigratesToANode(t *testing.T) {
	do, _ := redis(t, t.TempDir())
	c := nodetest.Start(t, 1, nil)
	host, port, _ := strings.Cut(c.Nodes()[0].Config.Network.RESPAddr(), ":")
	do("SET", "a", "1", "PX", "100000")
	do("HSET", "h", "f", "v")
	if got := do("MIGRATE", host, port, "", "0", "10000", "KEYS", "a", "h"); got != "+OK\r\n" || do("DBSIZE") != ":0\r\n" {
		t.Fatalf("%q, then %q keys are left", got, do("DBSIZE"))
	}
	if n := c.Nodes()[0].Keys(); n != 2 {
		t.Errorf("%d keys arrived", n)
	}
}

// TestFunctionsMoveFromRedisThroughAClusterAndBack with the keys that they work on.
func TestFunctionsMoveFromRedisThroughAClusterAndBack(t *testing.T) {
	from := t.TempDir()
	do, stop := redis(t, from)
	const text = "#!lua name=lib\nredis.register_function('add', function(k) return redis.call('INCR', k[1]) end)"
	do("SET", "k", "1")
	do("FUNCTION", "LOAD", text)
	do("FUNCTION", "LOAD", "#!lua name=binary\nredis.register_function('b', function() return '\xff' end)")
	want := do("FUNCTION", "LIST", "LIBRARYNAME", "lib", "WITHCODE")
	do("SAVE")
	stop()
	c := nodetest.Start(t, 3, nil)
	n := c.Nodes()[2]
	addr, file := "-addr="+n.Config.Network.RESPAddr(), filepath.Join(from, "dump.rdb")
	if r := (fixture{}).run("restore", file, "--dry-run", addr); r.code != 0 || !strings.Contains(r.out, "the file has 2 libraries of functions") {
		t.Errorf("dry run: %+v", r)
	}
	r := fixture{}.run("restore", file, addr, "--json")
	var report restoreReport
	if err := json.Unmarshal([]byte(r.out), &report); r.code != 0 || err != nil || report.Written != 1 || report.FunctionsWritten != 2 {
		t.Fatalf("restore: %+v, %v", r, err)
	}
	if v, err := c.Nodes()[0].Client().FCall(t.Context(), "add", []string{"k"}).Int(); err != nil || v != 2 {
		t.Errorf("FCALL: %d, %v", v, err)
	}
	if r = (fixture{}).run("restore", file, addr); r.code != 1 || !strings.Contains(r.errOut, "2 libraries of functions and 1 keys exist already") {
		t.Errorf("again: %+v", r)
	}
	if r = (fixture{}).run("restore", file, addr, "--replace"); r.code != 0 || !strings.Contains(r.out, "2 of 2 libraries of functions loaded") {
		t.Errorf("again with --replace: %+v", r)
	}
	to := t.TempDir()
	saved := filepath.Join(to, "dump.rdb")
	if r = (fixture{}).run("backup", saved, addr); r.code != 0 || !strings.Contains(r.out, "1 keys, 0 with a time to live, and 2 libraries of functions saved") {
		t.Fatalf("backup: %+v", r)
	}
	if out, err := exec.Command("redis-check-rdb", saved).CombinedOutput(); err != nil {
		t.Fatalf("redis-check-rdb: %v\n%s", err, out)
	}
	do, _ = redis(t, to)
	if got := do("FUNCTION", "LIST", "LIBRARYNAME", "lib", "WITHCODE"); got != want {
		t.Errorf("redis-server has %q, want %q", got, want)
	}
	if got := do("FCALL", "add", "1", "k") + do("FCALL", "b", "0"); got != ":2\r\n$1\r\n\xff\r\n" {
		t.Errorf("FCALL on redis-server: %q", got)
	}
}

func TestALibraryThatIsRefusedKeepsAllKeysOut(t *testing.T) {
	from := t.TempDir()
	do, stop := redis(t, from)
	do("SET", "k", "1")
	do("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('f', function() end)")
	do("SAVE")
	stop()
	c := nodetest.Start(t, 1, nil)
	n := c.Nodes()[0]
	if err := n.Client().FunctionLoad(t.Context(), "#!lua name=other\nredis.register_function('F', function() end)").Err(); err != nil {
		t.Fatal(err)
	}
	r := fixture{}.run("restore", filepath.Join(from, "dump.rdb"), "-addr="+n.Config.Network.RESPAddr())
	if r.code != 1 || !strings.Contains(r.errOut, "#!lua name=mine") || !strings.Contains(r.errOut, "Function f already exists") || n.Keys() != 0 {
		t.Errorf("%+v; %d keys", r, n.Keys())
	}
}
