package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypercache/node/command"
	"hypercache/node/journal"
	"hypercache/node/rdb"
	"hypercache/node/redisfile"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// A lone node that starts for the first time in a directory of redis-server takes over what is there: it reads and checks
// all of it, writes a journal of its own in a directory below, and only then, by renaming that directory, decides. From
// then on every start brings the takeover to its end: the original files are moved aside, ours into their place. Before
// the decision a crash or an error leaves the originals as they were.

const (
	adopting = "hypercache-import"   // the journal while it is written; of no use if it is found
	adopted  = "hypercache-imported" // the same, complete
	aside    = ".imported"           // what the originals' names get
	lastMove = "hypercache.format"   // what makes the directory ours
	lockFile = "hypercache.lock"
)

// foreignNames are what redis-server leaves in its directory.
var foreignNames = []string{"dump.rdb", "appendonly.aof", "appendonlydir"}

// adopt takes over files of redis-server, if there are any. A node that belongs to others, or did, leaves them to the journal,
// which refuses them.
func (s *Server) adopt() error {
	dir := s.cfg.Persistence.DataDir
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create persistence.data_dir: %w", err)
	}
	lock, err := journal.Lock(dir)
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer lock.Close() //nolint:errcheck // the journal takes it again
	a := adoption{dir, os.Rename}
	if has(dir, adopted) {
		if err := a.finish(); err != nil {
			return fmt.Errorf("finish the import in %s: %w", dir, err)
		}
		return nil
	}
	if err := os.RemoveAll(filepath.Join(dir, adopting)); err != nil {
		return err
	}
	found := foreignFiles(dir)
	if len(found) == 0 || !s.lone() || has(dir, "topology") {
		return nil
	}
	if len(found) > 1 {
		return fmt.Errorf("%s holds %s; only redis-server's configuration tells which of them counts: move the others out of the directory",
			dir, strings.Join(found, " and "))
	}
	err = s.takeOver(a, found[0])
	if errors.Is(err, redisfile.ErrOwn) {
		return nil // a directory of ours without its format: the journal says what is wrong
	}
	if err != nil && !has(dir, adopted) {
		_ = os.RemoveAll(filepath.Join(dir, adopting)) // the next start removes it too
		return fmt.Errorf("import what redis-server left, nothing was changed: %w", err)
	}
	return err
}

// lone says that the node is a cluster of one, and not meant to be more yet.
func (s *Server) lone() bool {
	return s.cfg.Cluster.Expect() == 1 && !slices.ContainsFunc(s.cfg.Cluster.Seeds, func(seed string) bool { return !s.isSelf(seed) })
}

func has(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

// foreignFiles lists what redis-server left in a directory that is not ours.
func foreignFiles(dir string) (found []string) {
	if has(dir, lastMove) {
		return nil
	}
	for _, name := range foreignNames {
		if list, err := os.ReadDir(filepath.Join(dir, name)); has(dir, name) && (err != nil || len(list) > 0) {
			found = append(found, name)
		}
	}
	return found
}

// takeOver reads the files, writes the journal, decides and finishes.
func (s *Server) takeOver(a adoption, name string) error {
	began := time.Now()
	src, err := redisfile.Open(filepath.Join(a.dir, name))
	if err != nil {
		return err
	}
	defer src.Close()
	ctx, now := context.Background(), began.UnixMilli()
	sum, err := src.Check(ctx, now)
	if err != nil {
		return err
	}
	if n := sum.Total() - sum.Keys[0]; n > 0 {
		return fmt.Errorf("%s holds %d keys in other databases than 0: choose one with 'hypercache restore --db'", src.Path, n)
	}
	if err := src.Each(ctx, 0, now, s.put); err != nil {
		return err
	}
	if err := s.checkFunctions(sum.Functions); err != nil {
		return err
	}
	err = s.writeJournal(filepath.Join(a.dir, adopting))
	s.flush()
	if err != nil {
		return fmt.Errorf("write a journal: %w", err)
	}
	if err := s.proveJournal(filepath.Join(a.dir, adopting), sum.Total()); err != nil {
		return fmt.Errorf("read the journal back: %w", err)
	}
	if err := writeFunctions(filepath.Join(a.dir, adopting), sum.Functions); err != nil {
		return fmt.Errorf("write the libraries of functions: %w", err)
	}
	if err := a.move(adopting, adopted); err != nil {
		return err
	}
	s.log.Info("imported what redis-server left; the original is kept", "original", name, "kept_as", name+aside, "keys", sum.Total(),
		"expired", sum.Expired, "libraries", len(sum.Functions), "took", time.Since(began).Round(time.Millisecond))
	if err := a.finish(); err != nil {
		return fmt.Errorf("the import is complete but not in place, the next start goes on with it: %w", err)
	}
	return nil
}

func (s *Server) put(k *rdb.Key, v *rdb.Value) error {
	shard := s.db.Shard(int(ring.GroupOf(ring.Slot(k.Name))))
	if err := command.PutValue(shard, k.Name, v); err != nil {
		return fmt.Errorf("key %.100q: %w", k.Name, err)
	}
	if k.ExpireAt != 0 {
		shard.SetExpire(k.Name, k.ExpireAt)
	}
	return nil
}

// adoptedAt is the position of imported groups: any real primary's term is higher, and no replica without data is there.
var adoptedAt = journal.Position{Term: 1, Seq: 1}

// writeJournal writes the store's content as a journal that misses nothing, and closes it.
func (s *Server) writeJournal(dir string) error {
	j, err := journal.Open(journal.Options{Dir: dir, Fsync: journal.No, Logger: s.log})
	if err != nil {
		return err
	}
	_, err = j.Replay(func(journal.Record) error { return nil })
	for g := 0; g < ring.Groups && err == nil; g++ {
		err = s.writeGroup(j, uint16(g))
	}
	return errors.Join(err, j.Close(err == nil))
}

// proveJournal recovers from the journal as the next start would: once the directory is ours there is no way back.
func (s *Server) proveJournal(dir string, want int) error {
	defer s.flush() // the recovery that follows fills the store
	j, err := journal.Open(journal.Options{Dir: dir, Fsync: journal.No, Logger: s.log})
	if err != nil {
		return err
	}
	r := &restored{}
	found, err := j.Replay(func(rec journal.Record) error { return s.replay(r, rec) })
	if err = errors.Join(err, j.Close(err == nil)); err != nil {
		return err
	}
	have := 0
	for i := range ring.Groups {
		have += s.db.Shard(i).Len()
	}
	if have != want || !found.Voter || len(found.Damaged) > 0 {
		return fmt.Errorf("it holds %d keys, not %d (complete: %t)", have, want, found.Voter && len(found.Damaged) == 0)
	}
	return nil
}

func (s *Server) flush() {
	for i := range ring.Groups {
		s.db.Shard(i).Flush()
	}
}

// groupRecord is how many bytes of effects a record of an imported group has, about.
const groupRecord = 128 << 10

func (s *Server) writeGroup(j *journal.Journal, group uint16) error {
	j.Append(journal.Record{Group: group, Kind: journal.SyncBegin})
	var fx command.Effects
	flush := func() {
		if len(fx.Buf) > 0 {
			j.Append(journal.Record{Group: group, Kind: journal.Effects, Data: fx.Buf})
			fx.Reset()
		}
	}
	s.db.Shard(int(group)).Range(func(r store.Ref) bool {
		command.EncodeEntry(&fx, r, flush)
		if len(fx.Buf) > groupRecord {
			flush()
		}
		return true
	})
	flush()
	return j.Commit(j.Append(journal.Record{Group: group, Kind: journal.SyncEnd, Term: adoptedAt.Term, Seq: adoptedAt.Seq}))
}

// adoption is the part that changes the directory.
type adoption struct {
	dir    string
	rename func(from, to string) error
}

// move renames within the directory, durably.
func (a adoption) move(from, to string) error {
	from, to = filepath.Join(a.dir, from), filepath.Join(a.dir, to)
	if err := a.rename(from, to); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(to)), syncDir(filepath.Dir(from)))
}

// finish moves the originals aside and the complete journal into their place. Each step can be repeated: an appendonlydir
// is the original for as long as the journal's own has not been moved.
func (a adoption) finish() error {
	from := filepath.Join(a.dir, adopted)
	for _, name := range foreignNames {
		if !has(a.dir, name) || name == "appendonlydir" && !has(from, name) {
			continue
		}
		if err := a.move(name, a.aside(name)); err != nil {
			return err
		}
	}
	list, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int {
		return cmp.Or(boolInt(a.Name() == lastMove)-boolInt(b.Name() == lastMove), strings.Compare(a.Name(), b.Name()))
	})
	for _, e := range list {
		if e.Name() == lockFile {
			err = os.Remove(filepath.Join(from, lockFile))
		} else {
			err = a.move(filepath.Join(adopted, e.Name()), e.Name())
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(os.Remove(from), syncDir(a.dir))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// aside is a name for an original that says what became of it, and that nothing has.
func (a adoption) aside(name string) string {
	to := name + aside
	for n := 2; has(a.dir, to); n++ {
		to = name + aside + "-" + strconv.Itoa(n)
	}
	return to
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
