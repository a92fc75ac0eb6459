package redisfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"hypercache/node/rdb"
)

// Source is a file or directory of redis-server.
type Source struct {
	// Path is what Open was given.
	Path string
	// Kind says what it is, for people.
	Kind  string
	files []string
	total int64
	done  atomic.Int64
	db    *databases // what append-only files come to; nil for an RDB file
}

// Summary is what a source holds.
type Summary struct {
	// Keys counts by database and by type those that have not expired.
	Keys  map[uint64]int
	Types map[string]int
	// Expired keys are left out everywhere.
	Expired  int
	Expiring int
	// Functions are the texts of libraries of functions, as they are at the end.
	Functions [][]byte
	// Commands of append-only files.
	Commands int
	// RedisVersion is the writer's, if the files tell.
	RedisVersion string
	// Unsummed: an RDB file carries no checksum, so flipped bits may go unnoticed.
	Unsummed bool
}

func newSummary() *Summary { return &Summary{Keys: map[uint64]int{}, Types: map[string]int{}} }

// Total is the number of keys.
func (s *Summary) Total() (n int) {
	for _, k := range s.Keys {
		n += k
	}
	return n
}

func (s *Summary) count(db uint64, k *rdb.Key) {
	s.Keys[db]++
	s.Types[k.Type.String()]++
	if k.ExpireAt != 0 {
		s.Expiring++
	}
}

// Open finds out what path is. It reads the manifest and the beginning of files.
func Open(path string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	s := &Source{Path: path}
	if info.IsDir() {
		err = s.openDir()
	} else {
		err = s.openFile()
	}
	if err != nil {
		return nil, err
	}
	for _, f := range s.files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.total += info.Size()
	}
	return s, nil
}

func (s *Source) openDir() error {
	manifests, err := filepath.Glob(filepath.Join(globEscape(s.Path), "*.manifest"))
	if err != nil {
		return err
	}
	if len(manifests) != 1 {
		return fmt.Errorf("%s holds %d manifests, want one: name an appendonlydir, its manifest, or a file", s.Path, len(manifests))
	}
	return s.openManifest(manifests[0])
}

func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (s *Source) openFile() error {
	if strings.HasSuffix(s.Path, ".manifest") {
		return s.openManifest(s.Path)
	}
	head, err := headOf(s.Path)
	if err != nil {
		return err
	}
	s.files = []string{s.Path}
	switch {
	case strings.HasPrefix(head, "REDIS"):
		s.Kind = "an RDB file"
		return nil
	case strings.HasPrefix(head, "*"), strings.HasPrefix(head, "#TS:"):
		s.Kind = "an append-only file"
		s.db = newDatabases()
		return nil
	case strings.HasPrefix(head, ownMark):
		return fmt.Errorf("%s: %w", s.Path, ErrOwn)
	case head == "":
		return fmt.Errorf("%s is empty", s.Path)
	}
	return fmt.Errorf("%s is neither an RDB file nor an append-only file of Redis", s.Path)
}

// ownMark begins the annotations in HyperCache's append-only files.
const ownMark = "#HC:"

// ErrOwn: the file is one of HyperCache.
var ErrOwn = errors.New("belongs to a HyperCache data directory: start a node on that directory, and copy its keys with 'hypercache backup'")

func headOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	b := make([]byte, 16)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	return string(b[:n]), nil
}

func (s *Source) openManifest(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	s.Kind, s.db = "an append-only directory", newDatabases()
	names, err := parseManifest(string(b))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, n := range names {
		s.files = append(s.files, filepath.Join(filepath.Dir(file), n))
	}
	return nil
}

// Progress is how many bytes of how many the present pass has read.
func (s *Source) Progress() (done, total int64) { return s.done.Load(), s.total }

// Close gives the memory back that the content of append-only files takes. The Source is of no use any more but for another Check.
func (s *Source) Close() {
	if s.db != nil {
		s.db.close()
		s.db = newDatabases()
	}
}

// Check reads everything and says what there is. now, in unix milliseconds, decides which keys have expired. Append-only
// files leave their content in memory for Each.
func (s *Source) Check(ctx context.Context, now int64) (*Summary, error) {
	s.done.Store(0)
	sum := newSummary()
	if s.db == nil {
		err := s.readRDB(ctx, sum, func(db uint64, k *rdb.Key, _ *rdb.Value) error {
			if expired(k, now) {
				sum.Expired++
				return nil
			}
			sum.count(db, k)
			return nil
		})
		if !errors.Is(err, errTail) {
			return sum, err
		}
		s.Kind, sum = "an append-only file that begins with an RDB file", newSummary()
		s.done.Store(0)
	}
	s.Close()
	s.db = newDatabases()
	s.db.at = now
	for _, f := range s.files {
		if err := s.run(ctx, f, sum); err != nil {
			return sum, fmt.Errorf("%s: %w", f, err)
		}
	}
	s.db.count(sum, now)
	return sum, nil
}

func expired(k *rdb.Key, now int64) bool { return k.ExpireAt != 0 && k.ExpireAt <= now }

// Each calls fn with every key of a database that has not expired by now. Call Check first. fn may keep the value, not the
// key; its error is returned as it is.
func (s *Source) Each(ctx context.Context, db uint64, now int64, fn func(k *rdb.Key, v *rdb.Value) error) error {
	if s.db != nil {
		return s.db.each(ctx, db, now, fn)
	}
	s.done.Store(0)
	var refused error
	err := s.readRDB(ctx, newSummary(), func(in uint64, k *rdb.Key, v *rdb.Value) error {
		if in != db || expired(k, now) {
			return nil
		}
		refused = fn(k, v)
		return refused
	})
	return cmp.Or(refused, err)
}

// open returns a file as a reader that counts, and ends with ctx.
func (s *Source) open(ctx context.Context, file string) (io.Reader, io.Closer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	return &counted{ctx, f, &s.done}, f, nil
}

type counted struct {
	ctx  context.Context
	r    io.Reader
	done *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.done.Add(int64(n))
	return n, err
}

func (s *Source) readRDB(ctx context.Context, sum *Summary, fn func(db uint64, k *rdb.Key, v *rdb.Value) error) error {
	file := s.files[0]
	r, c, err := s.open(ctx, file)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // only read
	rest, _, err := readRDB(r, sum, fn)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var b [1]byte
	n, err := io.ReadFull(rest, b[:])
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	return fmt.Errorf("%s: %w", file, errTail)
}

// errTail: it is an append-only file that begins with an RDB file, and what follows counts too.
var errTail = errors.New("something follows the RDB file's end")

// keySink gathers each value, and hands it on with its database.
type keySink struct {
	rdb.Collector
	db  uint64
	sum *Summary
}

func (k *keySink) SelectDB(db uint64) error {
	k.db = db
	return nil
}

func (k *keySink) Aux(name, value []byte) error {
	if string(name) == "redis-ver" {
		k.sum.RedisVersion = string(value)
	}
	return nil
}

func (k *keySink) Function(text []byte) error {
	return k.sum.addFunctions([][]byte{text}, false)
}

// readRDB reads one RDB file and returns what follows it, and at which offset.
func readRDB(r io.Reader, sum *Summary, fn func(db uint64, k *rdb.Key, v *rdb.Value) error) (io.Reader, int64, error) {
	sink := &keySink{sum: sum}
	sink.Done = func(k *rdb.Key, v *rdb.Value) error {
		switch {
		case v.Empty():
			return nil // Redis skips these too
		case !v.Unique():
			return errors.New("a field, member, group or consumer comes twice")
		}
		return fn(sink.db, k, v)
	}
	in := rdb.NewReader(r)
	if err := in.Read(sink); err != nil {
		return nil, 0, err
	}
	sum.Unsummed = sum.Unsummed || in.Unsummed
	return in.Rest(), in.Offset(), nil
}
