package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
)

// redis is a redis-server under test's control.
type redis struct {
	t   *testing.T
	dir string
	srv *oracle.Server
	*oracle.Conn
}

func startRedis(t *testing.T, dir string, extra ...string) *redis {
	t.Helper()
	srv := oracle.Serve(t, dir, append([]string{"--enable-debug-command", "yes"}, extra...)...)
	c := srv.Client(t)
	return &redis{t, dir, srv, c}
}

// do runs a command that must not fail.
func (r *redis) do(args ...string) string {
	r.t.Helper()
	reply, err := r.Do(args...)
	if err != nil || reply[0] == '-' {
		r.t.Fatalf("%.100q: %.300q, %v", args, reply, err)
	}
	return string(reply)
}

// bulk is the content of a reply that is one string.
func bulk(reply string) string {
	_, rest, _ := strings.Cut(reply, "\r\n")
	return strings.TrimSuffix(rest, "\r\n")
}

// fill makes keys of every type and encoding. It returns their names.
func fill(r *redis, rng *rand.Rand) []string {
	long := strings.Repeat("abcdefghij", 100)
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for i, v := range []string{"", "a", "0", "-1", "127", "128", "-129", "32768", "-32769", "2147483647", "2147483648",
		"9223372036854775807", "-9223372036854775808", "007", "+1", long, string(noise), strings.Repeat("x", 70000), "\x00\xff\r\n"} {
		r.do("SET", fmt.Sprintf("string%d", i), v)
	}
	add := func(key string, n int, word func(i int) []string, command string) {
		args := []string{command, key}
		for i := range n {
			args = append(args, word(i)...)
		}
		r.do(args...)
	}
	for _, n := range []int{1, 3, 120, 128, 129, 500, 513, 2000} {
		s := strconv.Itoa(n)
		number := func(i int) []string { return []string{strconv.Itoa(i*i*i*7 - 1000)} }
		text := func(i int) []string { return []string{fmt.Sprintf("m%d", i)} }
		add("list-int"+s, n, number, "RPUSH")
		add("list-text"+s, n, text, "RPUSH")
		add("set-int"+s, n, number, "SADD")
		add("set-text"+s, n, text, "SADD")
		pair := func(i int) []string { return []string{fmt.Sprintf("f%d", i), strconv.Itoa(i * 1000003)} }
		add("hash"+s, n, pair, "HSET")
		scored := func(i int) []string {
			return []string{[]string{"1", "-2.5", "0.1", "1e300", "inf", "-inf", "9007199254740993", "-0", strconv.Itoa(i)}[i%9], strconv.Itoa(i)}
		}
		add("zset"+s, n, scored, "ZADD")
	}
	add("list-many", 70000, func(i int) []string { return []string{strconv.Itoa(i)} }, "RPUSH") // more than a listpack counts
	r.do("RPUSH", "list-large", long, strings.Repeat(long, 20), "", "1", strings.Repeat("y", 20000))
	for _, n := range []int{63, 64, 124, 125, 126, 4095, 4096, 16376, 16377, 16378, 16379, 2097145, 2097146, 2097147} { // edges of a listpack's lengths
		r.do("RPUSH", "list-edges", strings.Repeat("e", n))
	}
	for _, n := range []string{"127", "128", "-1", "4095", "4096", "-4096", "-4097", "32767", "-32768", "32768", "8388607", "-8388608", "8388608",
		"2147483647", "-2147483648", "2147483648", "-9223372036854775808"} { // and of its integers
		r.do("RPUSH", "list-edges", n)
	}
	r.do("HSET", "hash-large", "f", long, long, "v", "", "")
	r.do("SADD", "set-large", long, "", "1")
	r.do("ZADD", "zset-large", "1", long, "2", "")
	r.do("SADD", "set-int64", "1", "-9223372036854775808", "9223372036854775807")
	r.do("SADD", "set-int32", "1", "-70000", "2147483647")
	fillStreams(r)
	r.do("SET", "expiring", "x", "PXAT", "99999999999999")
	r.do("EXPIREAT", "hash3", "88888888888")
	return keysOf(r)
}

func fillStreams(r *redis) {
	for i := range 350 {
		id := fmt.Sprintf("%d-%d", 1700000000000+i/3, i%3+1)
		if i%7 == 0 {
			r.do("XADD", "stream", id, "other", strconv.Itoa(i), "", "x")
			continue
		}
		r.do("XADD", "stream", id, "field", strings.Repeat("v", i), "n", strconv.Itoa(i*i))
	}
	r.do("XDEL", "stream", "1700000000003-1", "1700000000050-2")
	r.do("XTRIM", "stream", "MAXLEN", "300")
	r.do("XGROUP", "CREATE", "stream", "idle", "$")
	r.do("XGROUP", "CREATE", "stream", "busy", "0", "ENTRIESREAD", "3")
	r.do("XREADGROUP", "GROUP", "busy", "ann", "COUNT", "20", "STREAMS", "stream", ">")
	r.do("XREADGROUP", "GROUP", "busy", "bob", "COUNT", "5", "STREAMS", "stream", ">")
	r.do("XGROUP", "CREATECONSUMER", "stream", "busy", "carl")
	r.do("XADD", "stream-empty", "5-5", "a", "b")
	r.do("XDEL", "stream-empty", "5-5")
	r.do("XADD", "stream-far", "0-18446744073709551615", "a", "b")
	r.do("XADD", "stream-far", "9223372036854775807-7", "a", "b")
}

func keysOf(r *redis) (keys []string) {
	for _, k := range golden.Elements([]byte(r.do("KEYS", "*"))) {
		keys = append(keys, bulk(string(k)))
	}
	return keys
}

// state is what a redis-server says about a key: type, expiry, digest, and for streams everything.
func state(r *redis, key string) string {
	s := r.do("TYPE", key) + r.do("PEXPIRETIME", key) + r.do("DEBUG", "DIGEST-VALUE", key)
	if strings.HasPrefix(s, "+stream") {
		full := golden.Elements([]byte(r.do("XINFO", "STREAM", key, "FULL", "COUNT", "0")))
		for i := 0; i+1 < len(full); i += 2 {
			if !bytes.Contains(full[i], []byte("radix-tree")) {
				s += string(full[i]) + string(full[i+1])
			}
		}
	}
	return s
}

// rewriter writes what it reads to a Writer, and remembers encodings.
func rewriter(w *Writer, encodings map[string]int) *Collector {
	c := &Collector{}
	c.Done = func(k *Key, v *Value) error {
		encodings[k.Type.String()+"/"+k.Encoding]++
		return w.Entry(k.Name, k.ExpireAt, v.Append(nil))
	}
	return c
}

// TestWhatRedisSavesIsReadAndWhatIsWrittenRedisLoads reads a file of redis-server, writes it anew and gives that to
// redis-check-rdb and another redis-server, which must hold the same.
func TestWhatRedisSavesIsReadAndWhatIsWrittenRedisLoads(t *testing.T) {
	for name, extra := range map[string][]string{
		"default":       nil,
		"plain":         {"--rdbcompression", "no", "--hash-max-listpack-entries", "0", "--zset-max-listpack-entries", "0", "--set-max-intset-entries", "0"},
		"large compact": {"--hash-max-listpack-entries", "100000", "--zset-max-listpack-entries", "100000", "--set-max-intset-entries", "100000", "--list-max-listpack-size", "70000", "--maxmemory-policy", "allkeys-lfu"},
		"compressed":    {"--list-compress-depth", "1", "--rdbchecksum", "no", "--maxmemory-policy", "allkeys-lru"},
	} {
		t.Run(name, func(t *testing.T) {
			from := startRedis(t, t.TempDir(), extra...)
			keys := fill(from, rand.New(rand.NewPCG(1, 2)))
			from.do("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
			from.do("SAVE")
			b, err := os.ReadFile(filepath.Join(from.dir, "dump.rdb"))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "dump.rdb")
			encodings := map[string]int{}
			rewrite(t, b, file, encodings, len(keys))
			t.Log(encodings)
			if out, err := exec.Command("redis-check-rdb", file).CombinedOutput(); err != nil {
				t.Fatalf("redis-check-rdb: %v\n%s", err, out)
			}
			to := startRedis(t, dir, "--sanitize-dump-payload", "yes")
			if got, want := to.do("DBSIZE"), from.do("DBSIZE"); got != want {
				t.Fatalf("%s keys, want %s", got, want)
			}
			for _, k := range keys {
				if got, want := state(to, k), state(from, k); got != want {
					t.Errorf("%s:\n%.2000q\nwant\n%.2000q", k, got, want)
				}
			}
			if !strings.Contains(to.do("FUNCTION", "LIST"), "lib") {
				t.Error("the function is lost")
			}
		})
	}
}

func rewrite(t *testing.T, b []byte, file string, encodings map[string]int, keys int) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	sink := &withFunctions{rewriter(w, encodings), w}
	if err := errors.Join(w.Aux("redis-ver", "7.0.15"), w.SelectDB(0, uint64(keys), 2)); err != nil {
		t.Fatal(err)
	}
	r := NewReader(bytes.NewReader(b))
	if err := r.Read(sink); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r.Rest()); err != nil || len(rest) > 0 {
		t.Fatalf("%d bytes left, %v", len(rest), err)
	}
	if err := errors.Join(w.Close(), os.WriteFile(file, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

type withFunctions struct {
	*Collector
	w *Writer
}

func (f *withFunctions) Function(text []byte) error { return f.w.Function(text) }

// TestPayloadsCrossOver restores here-made payloads there, and reads redis-server's.
func TestPayloadsCrossOver(t *testing.T) {
	r := startRedis(t, t.TempDir(), "--sanitize-dump-payload", "yes")
	for _, k := range fill(r, rand.New(rand.NewPCG(3, 4))) {
		value, err := Verify([]byte(bulk(r.do("DUMP", k))))
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		c := &Collector{}
		if err := ReadValue(value, c); err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		r.do("RESTORE", "again", "0", string(Seal(c.Value.Append(nil), 0)), "REPLACE")
		r.do("PERSIST", k)
		if got, want := state(r, "again"), state(r, k); got != want {
			t.Errorf("%s:\n%.2000q\nwant\n%.2000q", k, got, want)
		}
	}
}
