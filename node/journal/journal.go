package journal

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
	"hypercache/node/spare"
	"hypercache/node/underway"
)

// Journal is one node's journal. Methods are safe for concurrent use unless they say otherwise.
//
// Locks, in the order in which they are taken: rewriteMu (one rewrite), stateMu (the state file), syncMu (one fsync of
// the increment; the file is switched and closed under it), mu (everything else). No I/O happens under mu.
type Journal struct {
	o    Options
	dir  *dir
	log  *slog.Logger
	lock io.Closer

	fresh        bool
	prev         state // what the last run left
	promisesLost bool

	stop     context.CancelFunc
	stopped  context.Context
	unsaved  chan struct{} // wakes tickLoop to save the state; holds one
	unbegun  chan struct{} // wakes writeBackLoop; holds one
	ticker   sync.WaitGroup
	replayed atomic.Bool

	rewriteMu sync.Mutex
	rewriting atomic.Bool
	rewrites  atomic.Uint64

	stateMu sync.Mutex
	state   state // as written last

	promiseMu sync.Mutex
	promises  [ring.Groups]uint64

	syncMu sync.Mutex

	wide *spare.Buffers

	mu       sync.Mutex
	moved    *sync.Cond // progress, failure, closing
	buf      buffer
	file     vfs.File // the increment that is written to
	fileSeq  uint64
	filePos  int64 // the position and
	fileOff  int64 // the offset in file at which file took over
	flushing bool
	syncing  time.Time     // start of the running fsync of EverySec, zero if none runs
	appended int64         // positions: in the buffer,
	written  int64         // given to write(2),
	begun    int64         // told the disk to begin with,
	synced   int64         // on the disk itself
	marked   int64         // synced as the last mark says
	full     error         // the disk is full
	attempts uint64        // flushes that have ended
	err      error         // final
	noted    bool          // the directory says that err happened
	noting   chan struct{} // closed once it does, or cannot
	live     bool          // Replay succeeded
	closing  bool

	manifest   manifest // changed under rewriteMu only
	otherSize  int64    // bytes in the append-only directory besides file
	baseSize   int64    // Size() after the last rewrite or Open
	corrupt    []string
	incomplete groupSet // as it should be in the state file
	heads      [ring.Groups]head

	writes, syncs uint64

	writing, fsyncing underway.Operation
}

// Stalled is how long the disk has taken so far for the write or fsync of records that is under way, 0 if none is. It waits for
// nothing. What a rewrite writes does not count: that may take its time.
func (j *Journal) Stalled() time.Duration { return max(j.writing.Lasts(), j.fsyncing.Lasts()) }

// head is the end of a group's log in the buffer.
type head struct {
	last    Position
	count   uint64 // records appended by this process
	open    bool   // between SyncBegin and SyncEnd
	endedAt int64  // position behind the last SyncEnd of this process, 0 if none
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BootID == "" {
		// Missing anywhere but on Linux: every restart counts as a power loss there.
		b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
		o.BootID = strings.TrimSpace(string(b))
	}
	if o.BufferLimit <= 0 {
		o.BufferLimit = 64 << 20
	}
	if o.SyncInterval <= 0 {
		o.SyncInterval = time.Second
	}
	if o.RewritePercent == 0 {
		o.RewritePercent = 100
	}
	if o.RewriteMinSize == 0 {
		o.RewriteMinSize = 64 << 20
	}
	return o
}

// Open locks and opens the data directory, and creates it if it is empty. Follow with Replay. Errors: ErrLocked,
// ErrForeign, ErrDamaged, or the file system's.
func Open(o Options) (*Journal, error) {
	o = o.withDefaults()
	j := &Journal{o: o, log: o.Logger, dir: &dir{fs: o.FS, root: o.Dir}}
	j.moved = sync.NewCond(&j.mu)
	j.wide = spare.New(wideChunks, maxWide)
	j.buf.wide = j.wide
	j.stopped, j.stop = context.WithCancel(context.Background())
	j.unsaved, j.unbegun = make(chan struct{}, 1), make(chan struct{}, 1)
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock, err := o.FS.Lock(path.Join(o.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.lock = lock
	if err := j.open(); err != nil {
		j.stop()
		_ = lock.Close() // the error that counts is the first
		return nil, fmt.Errorf("open journal in %s: %w", o.Dir, err)
	}
	return j, nil
}

// open reads everything that is small. It creates what a new directory needs and changes nothing in an old one.
func (j *Journal) open() error {
	d := j.dir
	if err := j.openFormat(); err != nil {
		return err
	}
	d.seal = newSeal(d.salt)
	if err := j.openManifest(); err != nil {
		return err
	}
	return j.readSmall()
}

// readSmall reads what the last run left beside the append-only files.
func (j *Journal) readSmall() error {
	d := j.dir
	b, err := d.read(path.Join(d.root, promisesName))
	if err == nil {
		j.promises, err = parsePromises(d.seal, b)
	}
	if err != nil && !lostFile(err) {
		return err
	}
	j.promisesLost = err != nil
	b, err = d.read(path.Join(d.root, stateName))
	if err == nil {
		j.prev, err = parseState(d.seal, b)
	}
	if err != nil && !lostFile(err) {
		return err
	}
	if err != nil {
		if !j.fresh {
			j.log.Error("journal: state unknown, rejoining as a learner", "err", err)
		}
		j.prev = state{fsync: No, incomplete: allGroups()}
	}
	return nil
}

// lostFile reports whether a small file is missing or damaged: recovery has an answer to that, not to I/O errors.
func lostFile(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) }

// openFormat finds the directory's salt, or makes one for a directory that holds nothing of any journal.
func (j *Journal) openFormat() error {
	d := j.dir
	b, err := d.read(path.Join(d.root, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		if err := j.refuseForeign(); err != nil {
			return err
		}
		var salt [8]byte
		if _, err := rand.Read(salt[:]); err != nil {
			return err
		}
		d.salt = cmp.Or(j.o.Salt, binary.BigEndian.Uint64(salt[:]))
		return d.replace(d.root, formatName, formatFile(d.salt))
	}
	if err != nil {
		return err
	}
	if d.salt, err = parseFormat(b); !errors.Is(err, ErrDamaged) {
		return err
	}
	salt, found := j.saltFromFiles()
	if !found {
		return err
	}
	j.log.Error("journal: format file damaged, taken from the append-only files", "err", err)
	d.salt = salt
	return d.replace(d.root, formatName, formatFile(salt))
}

// refuseForeign fails if the directory holds data that is not ours.
func (j *Journal) refuseForeign() error {
	for _, name := range []string{"dump.rdb", "appendonly.aof"} {
		found, err := exists(j.dir.fs, j.dir.root, name)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("holds %s, import it with 'hypercache restore': %w", name, ErrForeign)
		}
	}
	names, err := j.dir.fs.List(path.Join(j.dir.root, aofDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("holds an %s of redis-server, import it with 'hypercache restore': %w", aofDir, ErrForeign)
	}
	return nil
}

func (j *Journal) saltFromFiles() (salt uint64, found bool) {
	names, _ := j.dir.fs.List(path.Join(j.dir.root, aofDir)) // an unreadable directory has no salt
	for _, name := range names {
		f, err := j.dir.fs.Open(j.dir.aof(name))
		if err != nil {
			continue
		}
		var b [128]byte
		n, _ := f.ReadAt(b[:], 0) // a short file is no file of ours
		_ = f.Close()             // only read
		if salt, ok := parseFileHeader(b[:n]); ok {
			return salt, true
		}
	}
	return 0, false
}

// openManifest reads the manifest, and makes the first one where there is nothing yet.
func (j *Journal) openManifest() error {
	if err := j.lookManifest(); err != nil || !j.fresh {
		return err
	}
	d := j.dir
	folder := path.Join(d.root, aofDir)
	if err := d.fs.MkdirAll(folder); err != nil {
		return err
	}
	if err := d.replace(d.root, promisesName, encodePromises(d.seal, &j.promises)); err != nil {
		return err
	}
	m := manifest{incrs: []uint64{1}}
	if err := d.create(d.aof(incrName(1)), appendFileHeader(nil, d.salt)); err != nil {
		return err
	}
	if err := d.fs.SyncDir(d.root); err != nil {
		return err
	}
	if err := d.fs.SyncDir(folder); err != nil {
		return err
	}
	if err := d.writeManifest(m); err != nil {
		return err
	}
	j.manifest = m
	return nil
}

// Replay hands every record to fn in the order of the file, once, before the first Append. Data is valid until fn
// returns. It delivers what was appended, so a caller that dropped uncommitted records sees them again: a record whose
// term is higher and whose Seq is not higher than the last one's replaces the records from its Seq on.
//
// An error of fn ends Replay, unless the group is known to be damaged. Replay ends with the directory ready for Append.
func (j *Journal) Replay(fn func(Record) error) (Recovery, error) {
	if j.replayed.Swap(true) {
		panic("journal: Replay called twice")
	}
	start := time.Now()
	r := &recovery{
		dir: j.dir, log: j.log, fn: fn, prev: j.prev, boot: j.o.BootID, fail: j.fail,
		sizes: map[string]int64{}, corrupt: map[string]bool{},
	}
	if err := r.run(j.manifest); err != nil {
		return r.out, fmt.Errorf("replay journal: %w", err)
	}
	j.judge(r)
	if err := j.ready(r); err != nil {
		return r.out, fmt.Errorf("replay journal: %w", err)
	}
	r.out.Duration = time.Since(start)
	j.log.Info("journal: replayed", "records", r.out.Records, "bytes", r.out.Bytes, "skipped", r.out.Skipped,
		"voter", r.out.Voter, "damaged", len(r.out.Damaged), "truncated", r.out.Truncated, "took", r.out.Duration)
	return r.out, nil
}

// judge applies the restart rule to what was read.
func (j *Journal) judge(r *recovery) {
	out := &r.out
	out.Fresh, out.PromisesLost = j.fresh, j.promisesLost
	out.Voter = !j.fresh && !j.promisesLost && j.prev.intact(j.o.BootID)
	incomplete := j.prev.incomplete
	for _, g := range out.Damaged {
		incomplete.add(int(g))
	}
	if out.Voter {
		out.Damaged = incomplete.list()
	} else {
		incomplete = allGroups()
	}
	j.incomplete = incomplete
	if j.promisesLost {
		// The log is a lower bound; a node that does not vote needs no better one.
		for g, pos := range out.Positions {
			j.promises[g] = max(j.promises[g], pos.Term)
		}
		j.log.Error("journal: promises lost, rejoining as a learner")
	}
	for name := range r.corrupt {
		j.corrupt = append(j.corrupt, name)
	}
	slices.Sort(j.corrupt)
	for g := range j.heads {
		j.heads[g].last, j.heads[g].open = out.Positions[g], r.groups[g].open
	}
}

// ready opens the last increment for appending. The state is written last: until then a crash leaves the directory to
// be judged by what the run before left.
func (j *Journal) ready(r *recovery) error {
	d := j.dir
	if j.promisesLost {
		if err := d.replace(d.root, promisesName, encodePromises(d.seal, &j.promises)); err != nil {
			return err
		}
	}
	last := j.manifest.incrs[len(j.manifest.incrs)-1]
	f, err := j.syncIncrements()
	if err != nil {
		return err
	}
	j.file, j.fileSeq, j.fileOff = f, last, r.sizes[incrName(last)]
	j.marked = -1
	for name, size := range r.sizes {
		if name != incrName(last) {
			j.otherSize += size
		}
	}
	j.sweep()
	if len(r.out.Spots) > 0 {
		// Nothing goes into a file behind corrupt bytes: whether those are a torn tail must not change any more.
		if err := j.rotate(); err != nil {
			return err
		}
	}
	j.baseSize = j.Size()
	j.state = state{boot: j.o.BootID, fsync: j.o.Fsync, incomplete: j.incomplete}
	if err := d.replace(d.root, stateName, j.state.encode(d.seal)); err != nil {
		return err
	}
	j.live = true
	if !j.o.Manual {
		j.ticker.Go(j.tickLoop)
		j.ticker.Go(j.writeBackLoop)
	}
	return nil
}

// syncIncrements returns the last increment. What a killed process wrote is in the page cache only; from here on it counts as synced.
// That process may have been about to go on in a new increment, so that of the one before it not everything is on the disk either.
// If a sync fails, the next start must not take what the page cache shows for what the disk has.
func (j *Journal) syncIncrements() (last vfs.File, err error) {
	for _, seq := range j.manifest.incrs {
		if last != nil {
			if err := last.Close(); err != nil {
				return nil, err
			}
		}
		if last, err = j.dir.fs.Open(j.dir.aof(incrName(seq))); err != nil {
			return nil, err
		}
		if err := last.Sync(); err != nil {
			return nil, errors.Join(j.fail(fmt.Errorf("fsync: %w", err)), last.Close())
		}
	}
	return last, nil
}

// sweep removes what a crash during a rotation or a rewrite left: temporary files, increments without records, bases
// above the manifest's. Anything else that the manifest does not name stays.
func (j *Journal) sweep() {
	d := j.dir
	for _, folder := range []string{d.root, path.Join(d.root, aofDir)} {
		names, err := d.fs.List(folder)
		if err != nil {
			j.log.Warn("journal: sweep", "err", err)
			continue
		}
		for _, name := range names {
			full := path.Join(folder, name)
			if strings.HasPrefix(name, tempPrefix) || folder != d.root && j.leftover(name) {
				j.log.Info("journal: removing a leftover", "file", name, "err", d.fs.Remove(full))
			}
		}
	}
}

func (j *Journal) leftover(name string) bool {
	var seq uint64
	if n, _ := fmt.Sscanf(name, aofPrefix+".%d.", &seq); n != 1 {
		return false
	}
	switch name {
	case baseName(seq):
		return seq != j.manifest.base
	case incrName(seq):
		size, err := fileSize(j.dir.fs, j.dir.aof(name))
		return !slices.Contains(j.manifest.incrs, seq) &&
			(seq < j.manifest.incrs[0] && j.manifest.base != 0 || err == nil && size <= int64(fileHeaderLen))
	}
	return false
}

// Err returns the final failure (ErrFailed, ErrClosed), or ErrDiskFull while the disk is full, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return j.err
	case j.closing:
		return ErrClosed
	}
	return j.full
}

// Size returns the bytes of the append-only directory.
func (j *Journal) Size() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sizeLocked()
}

func (j *Journal) sizeLocked() int64 { return j.otherSize + j.fileOff + j.written - j.filePos }

// Stats returns figures for metrics.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Stats{
		Size: j.sizeLocked(), BaseSize: j.baseSize, Pending: j.appended - j.written,
		Appended: j.appended, Synced: j.synced, Writes: j.writes, Syncs: j.syncs, Rewrites: j.rewrites.Load(),
		DiskFull: j.full != nil, Rewriting: j.rewriting.Load(),
	}
}

// Promises returns the promised term of every group.
func (j *Journal) Promises() [ring.Groups]uint64 {
	j.promiseMu.Lock()
	defer j.promiseMu.Unlock()
	return j.promises
}

// SetPromises raises promised terms, never lowers one; they are on the disk itself when it returns nil.
func (j *Journal) SetPromises(terms map[uint16]uint64) error {
	j.promiseMu.Lock()
	defer j.promiseMu.Unlock()
	if err := j.failure(); err != nil {
		return err
	}
	next := j.promises
	for g, term := range terms {
		next[g] = max(next[g], term)
	}
	if next == j.promises {
		return nil
	}
	if err := j.dir.replace(j.dir.root, promisesName, encodePromises(j.dir.seal, &next)); err != nil {
		return fmt.Errorf("write promises: %w", j.ioError(err))
	}
	j.promises = next
	return nil
}

// Complete records that the groups miss nothing any more: they caught up with their primary, or the cluster is new, or
// an operator accepted the loss. Without it, and without a full resync, they are in Recovery.Damaged after a restart.
//
// It is on the disk within milliseconds, or once Settle has returned: the caller reads a stream or serves clients, and must not wait for
// the disk. A process that is killed before has fewer votes after its restart, and loses nothing. With Options.Manual it is there
// after the next Tick.
func (j *Journal) Complete(groups ...uint16) error {
	j.mu.Lock()
	for _, g := range groups {
		j.incomplete.remove(int(g))
	}
	j.mu.Unlock()
	select {
	case j.unsaved <- struct{}{}:
	default:
	}
	return j.failure()
}

// Settle has on the disk what Complete recorded when it returns nil.
func (j *Journal) Settle() error { return j.saveState() }

// Doubt records that the groups may miss something that was acknowledged: the opposite of Complete.
// It is on the disk itself when it returns nil.
func (j *Journal) Doubt(groups ...uint16) error {
	j.mu.Lock()
	for _, g := range groups {
		j.incomplete.add(int(g))
	}
	j.mu.Unlock()
	return j.saveState()
}

// saveState writes the set of incomplete groups if it has changed.
func (j *Journal) saveState() error {
	j.stateMu.Lock()
	defer j.stateMu.Unlock()
	if err := j.failure(); err != nil {
		return err
	}
	next := j.state
	j.mu.Lock()
	next.incomplete = j.incomplete
	j.mu.Unlock()
	if next == j.state {
		return nil
	}
	if err := j.dir.replace(j.dir.root, stateName, next.encode(j.dir.seal)); err != nil {
		return fmt.Errorf("write journal state: %w", j.ioError(err))
	}
	j.state = next
	return nil
}

// failure returns why nothing may be written any more.
func (j *Journal) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Close ends rewrites and the background goroutines, and writes and syncs what is pending. With clean set, and if all of
// that worked, it records that nothing is missing. It always releases the directory.
func (j *Journal) Close(clean bool) error {
	j.stop()
	j.rewriteMu.Lock() // a running rewrite sees stop
	defer j.rewriteMu.Unlock()
	j.ticker.Wait()
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		return nil
	}
	j.closing = true
	for j.flushing {
		j.moved.Wait()
	}
	failed := j.err
	j.mu.Unlock()
	var err error
	if failed == nil && j.live {
		err = j.finish(clean)
	}
	j.mu.Lock()
	noting := j.noting
	j.moved.Broadcast()
	j.mu.Unlock()
	if noting != nil {
		<-noting
	}
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
	}
	if err = errors.Join(err, j.lock.Close()); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// finish writes what is left. Nobody else does any more, since closing is set.
func (j *Journal) finish(clean bool) error {
	j.mu.Lock()
	for j.flushing { // an Append that found the buffer full
		j.moved.Wait()
	}
	err := j.flushLocked()
	target := j.written
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := j.syncTo(target); err != nil {
		return err
	}
	if err := j.saveState(); err != nil {
		return err
	}
	if !clean {
		return nil
	}
	j.stateMu.Lock()
	defer j.stateMu.Unlock()
	j.state.clean = true
	if err := j.dir.replace(j.dir.root, stateName, j.state.encode(j.dir.seal)); err != nil {
		return fmt.Errorf("write journal state: %w", err)
	}
	return nil
}
