package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/config"
	"hypercache/node/rdb"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// redisDir is a directory in which redis-server ran commands.
func redisDir(t *testing.T, extra []string, commands ...string) string {
	t.Helper()
	dir := t.TempDir()
	srv := oracle.Serve(t, dir, extra...)
	defer srv.Stop()
	c := srv.Client(t)
	for _, line := range commands {
		if reply, err := c.Do(strings.Fields(line)...); err != nil || reply[0] == '-' {
			t.Fatalf("%s: %s, %v", line, reply, err)
		}
	}
	return dir
}

// recovered opens what a node would find in dir.
func recovered(t *testing.T, dir string, change func(*config.Config)) (*Server, *restored, error) {
	t.Helper()
	s := &Server{cfg: config.Default(), log: slog.New(slog.DiscardHandler), db: store.New(store.Options{})}
	s.cfg.Persistence.DataDir = dir
	if change != nil {
		change(&s.cfg)
	}
	r, err := s.recover()
	if s.journal != nil {
		t.Cleanup(func() { _ = s.journal.Close(true) })
	}
	return s, r, err
}

func keysOf(s *Server) string {
	var out []string
	for i := range ring.Groups {
		s.db.Shard(i).Range(func(r store.Ref) bool {
			value := fmt.Sprintf("%q", r.Key())
			switch r.Type() {
			case store.String:
				value += fmt.Sprintf("=%q", r.Value())
			case store.Hash:
				f := r.Fields()
				value += fmt.Sprintf(":hash of %d", f.Len())
			case store.List:
				l := r.Elements()
				value += fmt.Sprintf(":list of %d", l.Len())
			case store.Set:
				m := r.Members()
				value += fmt.Sprintf(":set of %d", m.Len())
			case store.ZSet:
				z := r.SortedSet()
				value += fmt.Sprintf(":zset of %d", z.Len())
			case store.Stream:
				st := r.Stream()
				var pending []store.StreamID
				c := st.Group([]byte("g")).Consumer([]byte("c"))
				for id, ok := c.From(store.StreamID{}); ok; id, ok = c.From(store.StreamID{Ms: id.Ms, Seq: id.Seq + 1}) {
					pending = append(pending, id)
				}
				value += fmt.Sprintf(":stream of %d, %v pending", st.Len(), pending)
			}
			out = append(out, fmt.Sprintf("%s@%d", value, r.ExpireAt()))
			return true
		})
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// tree is the content of all files below dir but the lock.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockFile {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %q\n", strings.TrimPrefix(path, dir), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// inTypes make keys of every other type, which come back from the journal by their commands.
var inTypes = []string{"HSET h f v g w", "RPUSH l x y z", "SADD m 1", "ZADD z 1 a 2 b", "XADD x 1-1 f v", "XADD x 2-1 f w", "XADD x 3-1 f y",
	"XGROUP CREATE x g 0", "XREADGROUP GROUP g c COUNT 2 STREAMS x >", "XDEL x 1-1"}

const typesAre = ` "h":hash of 2@0 "l":list of 3@0 "m":set of 1@0 %s"x":stream of 2, [1-1 2-1] pending@0 "z":zset of 2@0`

var (
	inRDB = append(inTypes[:len(inTypes):len(inTypes)], "SET a 1", "SET mortal v PXAT 99999999999999", "SAVE")
	rdbIs = `"a"="1"@0` + fmt.Sprintf(typesAre, `"mortal"="v"@99999999999999 `)
	inAOF = append(inTypes[:len(inTypes):len(inTypes)], "SET a 1", "APPEND a 2", "MSET b x c y", "DEL c")
	aofIs = `"a"="12"@0 "b"="x"@0` + fmt.Sprintf(typesAre, "")
	aofOn = []string{"--appendonly", "yes", "--appendfsync", "always"}
)

func TestALoneNodeTakesOverWhatRedisLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		extra, commands []string
		want, original  string
	}{
		"dump.rdb":      {nil, inRDB, rdbIs, "dump.rdb"},
		"appendonlydir": {aofOn, inAOF, aofIs, "appendonlydir"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := redisDir(t, tt.extra, tt.commands...)
			if err := os.WriteFile(filepath.Join(dir, tt.original+aside), []byte("of an earlier time"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := strings.Split(tree(t, dir), "\n")
			s, r, err := recovered(t, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := keysOf(s); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
			for i, g := range r.groups {
				if !g.Voter || g.Head.Term != 1 || g.Head.Seq != 1 {
					t.Fatalf("group %d: %+v", i, g)
				}
			}
			after := tree(t, dir)
			for _, line := range before {
				if !strings.Contains(after, strings.Replace(line, "/"+tt.original, "/"+tt.original+aside+"-2", 1)) && !strings.Contains(after, line) {
					t.Errorf("an original is gone: %.200s", line)
				}
			}
			if has(dir, adopted) || has(dir, adopting) {
				t.Error("directories of the import are left")
			}
			if err := s.journal.Close(true); err != nil {
				t.Fatal(err)
			}
			again, _, err := recovered(t, dir, nil)
			if err != nil || keysOf(again) != tt.want {
				t.Errorf("after a restart: %s, %v", keysOf(again), err)
			}
		})
	}
}

func TestWhatCannotBeTakenOverIsRefusedAndUntouched(t *testing.T) {
	rdbDir := redisDir(t, nil, inRDB...)
	whole, err := os.ReadFile(filepath.Join(rdbDir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)-20] ^= 4
	aofDir := redisDir(t, aofOn, inAOF...)
	incr := filepath.Join(aofDir, "appendonlydir", "appendonly.aof.1.incr.aof")
	b, err := os.ReadFile(incr)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(incr, b[:len(b)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	both := redisDir(t, append(aofOn, "--save", "1 1"), append(inAOF, "SAVE")...)
	databases := redisDir(t, nil, "SELECT 5", "SET a 1", "SAVE")
	seeds := func(c *config.Config) { c.Cluster.Seeds = []string{"192.0.2.1:7946"}; c.Cluster.BootstrapExpect = 1 }
	file := func(content []byte) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	joined := file(whole)
	if err := os.MkdirAll(filepath.Join(joined, "topology"), 0o750); err != nil {
		t.Fatal(err)
	}
	var twice bytes.Buffer
	w := rdb.NewWriter(&twice)
	for range 2 {
		if err := w.Entry([]byte("k"), 0, rdb.AppendString(nil, []byte("v"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		dir    string
		change func(*config.Config)
		want   string
	}{
		"truncated":        {file(whole[:len(whole)-9]), nil, "dump.rdb: offset"},
		"flipped":          {file(flipped), nil, "dump.rdb: offset"},
		"foreign":          {file([]byte("hello")), nil, "is neither"},
		"a key twice":      {file(twice.Bytes()), nil, "holds 1 keys, not 2"},
		"torn commands":    {aofDir, nil, "ends in the middle of a command"},
		"two of them":      {both, nil, "dump.rdb and appendonlydir"},
		"other databases":  {databases, nil, "hypercache restore --db"},
		"in a cluster":     {file(whole), seeds, "hypercache restore"},
		"a cluster's node": {joined, nil, "hypercache restore"},
	}
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			before := tree(t, tt.dir)
			_, _, err := recovered(t, tt.dir, tt.change)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if after := tree(t, tt.dir); after != before {
				t.Errorf("changed:\n%.1000s\nbefore\n%.1000s", after, before)
			}
		})
	}
}

// TestAnInterruptedImportIsBroughtToItsEnd fails every rename once.
func TestAnInterruptedImportIsBroughtToItsEnd(t *testing.T) {
	errCut := errors.New("cut off")
	for _, original := range []string{"dump.rdb", "appendonlydir"} {
		commands, extra, want := inRDB, []string(nil), rdbIs
		if original == "appendonlydir" {
			commands, extra, want = inAOF, aofOn, aofIs
		}
		for cut := 0; ; cut++ {
			dir := redisDir(t, extra, commands...)
			calls := 0
			s := &Server{cfg: config.Default(), log: slog.New(slog.DiscardHandler), db: store.New(store.Options{})}
			err := s.takeOver(adoption{dir, func(from, to string) error {
				if calls++; calls > cut {
					return errCut
				}
				return os.Rename(from, to)
			}}, original)
			if err == nil {
				if cut < 4 {
					t.Errorf("only %d renames", cut)
				}
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			again, _, err := recovered(t, dir, nil)
			if err != nil || keysOf(again) != want {
				t.Errorf("cut before rename %d: %s, %v", cut, keysOf(again), err)
			}
			if has(dir, original) && original == "dump.rdb" || !has(dir, original+aside) || has(dir, adopted) {
				t.Errorf("cut before rename %d: the directory is not in its end state", cut)
			}
		}
	}
}
