package journal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

const (
	// baseBuffer is how much of one group is kept in memory before the base file is written under that group's lock.
	baseBuffer = 32 << 20
	// baseSyncEvery spreads the base's fsync over the rewrite: whoever writes to the journal meanwhile waits for what the
	// file system has in hand.
	baseSyncEvery = 8 << 20
	// baseWrite is how much one write to the base hands over. The kernel copies it without giving up the processor.
	baseWrite = 256 << 10
	// A rewrite that reads records works for copyWork and sleeps for copyRest. It would keep a processor, and the scheduler would
	// interrupt it only after ten milliseconds. Snapshot has to see to that itself.
	copyWork = time.Millisecond
	copyRest = time.Millisecond
	// busyPause is the time between two looks at a group that is being resynced.
	busyPause = 20 * time.Millisecond
)

// Snapshot hands out one group's content as RESP commands: that of the returned position, which is the group's at the first call of
// emit. That call comes under the group's lock, so that nothing is appended for the group meanwhile, and may be without
// commands. What was appended later is not in what the later calls give. emit copies.
type Snapshot func(group int, emit func(cmds []byte) error) (term, seq uint64, err error)

var errBusy = errors.New("group is being resynced")

// ShouldRewrite reports whether the directory has outgrown its last base (Options.RewritePercent, RewriteMinSize), or
// holds corrupt files that a rewrite would set aside.
func (j *Journal) ShouldRewrite() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil || j.closing || j.rewriting.Load() {
		return false
	}
	if len(j.corrupt) > 0 {
		return true
	}
	size := j.sizeLocked()
	if j.o.RewritePercent < 0 || size < j.o.RewriteMinSize {
		return false
	}
	return float64(size-j.baseSize) >= float64(max(j.baseSize, 1))*float64(j.o.RewritePercent)/100
}

// RewriteAt changes Options.RewritePercent and RewriteMinSize: a percentage below 0 is never, a size of 0 is none. Safe from any
// goroutine.
func (j *Journal) RewriteAt(percent int, minSize int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.o.RewritePercent, j.o.RewriteMinSize = percent, minSize
}

// Rewrite replaces the base and the increments by a new base and a new increment. Appends go on meanwhile. snapshot is
// called once per group, again only if it came while the group was being resynced, which Rewrite waits out. A group's
// records that its snapshot does not contain yet are kept, whether they were appended before or after.
//
// When it fails or is cancelled the directory is as good as before. Files with corrupt bytes are not deleted but
// renamed to damaged-<name>. Errors: ErrRewriting, ErrDiskFull, ErrFailed, ErrClosed, ctx's, snapshot's.
func (j *Journal) Rewrite(ctx context.Context, snapshot func(group int, emit func(cmds []byte) error) (term, seq uint64, err error)) error {
	if !j.rewriteMu.TryLock() {
		return ErrRewriting
	}
	defer j.rewriteMu.Unlock()
	j.rewriting.Store(true)
	defer j.rewriting.Store(false)
	if j.stopped.Err() != nil {
		return ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(j.stopped, cancel)()
	start := time.Now()
	before := j.Size()
	if err := j.rewrite(ctx, snapshot); err != nil {
		if j.stopped.Err() != nil {
			return ErrClosed
		}
		return fmt.Errorf("rewrite journal: %w", err)
	}
	j.rewrites.Add(1)
	j.log.Info("journal: rewritten", "before", before, "after", j.Size(), "took", time.Since(start))
	return nil
}

func (j *Journal) rewrite(ctx context.Context, snapshot Snapshot) error {
	if err := j.failure(); err != nil {
		return err
	}
	if err := j.rotate(); err != nil {
		return err
	}
	old := j.manifest
	w := &baseWriter{j: j, snapshot: snapshot, during: j.fileSeq, incr: j.fileSeq + 1, oldIncrs: old.incrs[:len(old.incrs)-1], oldBase: old.base}
	j.mu.Lock()
	w.heads = j.heads // at the switch or later: records in between are in the new increment, which is kept
	j.mu.Unlock()
	next := manifest{base: old.base + 1, incrs: []uint64{w.incr}}
	temp := j.dir.aof(tempPrefix + baseName(next.base))
	size, err := w.write(ctx, temp, j.rotate)
	old = j.manifest
	if err != nil {
		_ = j.dir.fs.Remove(temp) // Open removes it otherwise
		return j.rewriteError(err)
	}
	if err := j.install(temp, next); err != nil {
		return j.rewriteError(err)
	}
	j.mu.Lock()
	j.otherSize = size
	j.baseSize = j.sizeLocked()
	corrupt := j.corrupt
	j.corrupt = nil
	j.mu.Unlock()
	j.discard(old, w.incr, corrupt)
	return nil
}

// rewriteError lets a disk that fails stop the journal; the rest concerns the rewrite only.
func (j *Journal) rewriteError(err error) error {
	if _, ours := errors.AsType[*diskError](err); ours {
		return j.ioError(err)
	}
	return err
}

// diskError marks errors of the file system among those of callbacks.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

func onDisk(err error) error {
	if err == nil {
		return nil
	}
	return &diskError{err}
}

// install makes the new base durable under its name, and then the manifest.
func (j *Journal) install(temp string, next manifest) error {
	if err := j.dir.fs.Rename(temp, j.dir.aof(baseName(next.base))); err != nil {
		return onDisk(err)
	}
	if err := j.dir.fs.SyncDir(path.Join(j.dir.root, aofDir)); err != nil {
		return onDisk(err)
	}
	if err := j.dir.writeManifest(next); err != nil {
		return onDisk(err)
	}
	j.manifest = next
	return nil
}

// discard deletes what the manifest no longer names. What stays because of an error is removed by the next Open.
func (j *Journal) discard(old manifest, keep uint64, corrupt []string) {
	var names []string
	if old.base != 0 {
		names = append(names, baseName(old.base))
	}
	for _, seq := range old.incrs {
		if seq != keep {
			names = append(names, incrName(seq))
		}
	}
	for _, name := range names {
		var err error
		if slices.Contains(corrupt, name) {
			aside := path.Join(j.dir.root, aofDir, "damaged-"+name)
			j.log.Warn("journal: corrupt file set aside", "file", aside)
			err = j.dir.fs.Rename(j.dir.aof(name), aside)
		} else {
			err = j.dir.fs.RemoveBitByBit(j.dir.aof(name), j.stopped.Done())
		}
		if err != nil {
			j.log.Warn("journal: old file stays", "file", name, "err", err)
		}
	}
	if err := j.dir.fs.SyncDir(path.Join(j.dir.root, aofDir)); err != nil {
		j.log.Warn("journal: old files may come back", "err", err)
	}
}

// rotate starts a new increment. The manifest names it before anything is written to it, and the old one is synced
// before: a record in a file says that the files before it are complete. Called with rewriteMu, or before the journal
// is in use.
func (j *Journal) rotate() error {
	d := j.dir
	next := j.manifest
	seq := next.incrs[len(next.incrs)-1] + 1
	next.incrs = append(slices.Clone(next.incrs), seq)
	name := d.aof(incrName(seq))
	if err := d.create(name, appendFileHeader(nil, d.salt)); err != nil {
		return j.ioError(err)
	}
	if err := d.fs.SyncDir(path.Join(d.root, aofDir)); err != nil {
		return j.ioError(err)
	}
	file, err := d.fs.Open(name)
	if err != nil {
		return j.ioError(err)
	}
	if err := d.writeManifest(next); err != nil {
		return j.ioError(errors.Join(err, file.Close()))
	}
	j.manifest = next
	j.mu.Lock()
	written := j.written
	j.mu.Unlock()
	// The bulk is synced while others still write, so that they wait for a short fsync only.
	if err := j.syncTo(written); err != nil {
		return errors.Join(err, file.Close())
	}
	return j.switchTo(file, seq)
}

func (j *Journal) switchTo(file vfs.File, seq uint64) error {
	j.mu.Lock()
	for j.flushing {
		j.moved.Wait()
	}
	j.flushing = true // nobody writes meanwhile
	written := j.written
	j.mu.Unlock()

	err := j.syncTo(written)

	j.syncMu.Lock() // nobody syncs the old file
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.flushing = false
	j.moved.Broadcast()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := j.file
	j.otherSize += j.fileOff + j.written - j.filePos
	j.file, j.fileSeq, j.filePos, j.fileOff = file, seq, j.written, int64(fileHeaderLen)
	if err := old.Close(); err != nil {
		return j.failLocked(err)
	}
	return nil
}

// baseWriter writes one base.
type baseWriter struct {
	j        *Journal
	snapshot Snapshot
	incr     uint64 // the increment that goes with the base
	during   uint64 // the increment before it, to which is appended while the snapshots are taken
	oldBase  uint64
	oldIncrs []uint64
	heads    [ring.Groups]head
	behind   map[int]Position // groups whose snapshot lacks records of the old files, and its position
	cuts     [ring.Groups]snapshotCut

	f        vfs.File
	buf      []byte
	off      int64
	begun    int64 // up to where the disk was told to begin
	unsynced int64
	since    time.Time // work without a rest
}

// snapshotCut is what a group's snapshot contains of the increment during which it was taken: everything before floor, and
// then what has no higher position.
type snapshotCut struct {
	pos   Position
	floor int64
}

// write writes the base. rotate begins the increment that goes with it, once all snapshots are taken.
func (w *baseWriter) write(ctx context.Context, temp string, rotate func() error) (size int64, err error) {
	w.f, err = w.j.dir.fs.Create(temp)
	if err != nil {
		return 0, onDisk(err)
	}
	defer func() {
		if cerr := w.f.Close(); err == nil {
			err = onDisk(cerr)
		}
	}()
	w.behind = map[int]Position{}
	w.buf = appendFileHeader(nil, w.j.dir.salt)
	todo := make([]int, ring.Groups)
	for g := range todo {
		todo[g] = g
	}
	for len(todo) > 0 {
		var busy []int
		for _, g := range todo {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if err := w.group(g); errors.Is(err, errBusy) {
				busy = append(busy, g)
			} else if err != nil {
				return 0, err
			}
		}
		if len(busy) > 0 {
			if err := pause(ctx, busyPause); err != nil {
				return 0, fmt.Errorf("group %d is being resynced: %w", busy[0], err)
			}
		}
		todo = busy
	}
	if err := w.tail(ctx); err != nil {
		return 0, err
	}
	// What is still in memory would go to the next file, where a snapshot may contain it.
	if err := w.j.Commit(w.j.Stats().Appended); err != nil {
		return 0, err
	}
	if err := rotate(); err != nil {
		return 0, err
	}
	if err := w.follow(ctx); err != nil {
		return 0, err
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.off, onDisk(w.f.Sync())
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// rest is for every record that is read: now and then it sleeps.
func (w *baseWriter) rest(ctx context.Context) error {
	if w.j.o.Manual || time.Since(w.since) < copyWork {
		return nil
	}
	err := pause(ctx, copyRest)
	w.since = time.Now()
	return err
}

// cut is where the log of a group stands while its snapshot is taken.
type cut struct {
	count uint64
	open  bool
	floor int64 // offset in the new increment behind the last resync, 0 if none ended there
}

func (j *Journal) cutOf(g int) cut {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := &j.heads[g]
	c := cut{count: h.count, open: h.open}
	if h.endedAt > j.filePos {
		c.floor = j.fileOff + h.endedAt - j.filePos
	}
	return c
}

// group writes one bracket. SyncBegin carries the increment that goes with the base. The floor must be read under the
// group's lock: inside the first emit, or, for a group without content, between two looks that saw the same.
func (w *baseWriter) group(g int) error {
	for range 1000 {
		c := w.j.cutOf(g)
		if c.open {
			return errBusy
		}
		emitted, busy := false, false
		emit := func(cmds []byte) error {
			if !emitted {
				emitted = true
				c = w.j.cutOf(g)
				busy = c.open
				w.record(&Record{Group: uint16(g), Kind: SyncBegin, Term: w.incr})
			}
			if busy {
				return errBusy
			}
			if len(cmds) == 0 {
				return nil
			}
			w.record(&Record{Group: uint16(g), Kind: Effects, Data: cmds})
			if len(w.buf) >= baseBuffer {
				return w.flush()
			}
			return nil
		}
		start := len(w.buf)
		term, seq, err := w.snapshot(g, emit)
		if busy {
			w.buf = w.buf[:start]
			return errBusy
		}
		if err != nil {
			return err
		}
		if !emitted {
			if w.j.cutOf(g) != c {
				continue // something was appended meanwhile, before or after the snapshot
			}
			w.record(&Record{Group: uint16(g), Kind: SyncBegin, Term: w.incr})
		}
		w.record(&Record{Group: uint16(g), Kind: SyncEnd, Term: term, Seq: seq})
		w.cuts[g] = snapshotCut{Position{term, seq}, c.floor}
		if pos := (Position{term, seq}); c.floor == 0 && pos.Less(w.heads[g].last) {
			w.behind[g] = pos
		}
		return w.progress()
	}
	return errBusy
}

func (w *baseWriter) record(r *Record) {
	w.buf = w.j.dir.seal.appendRecord(w.buf, r)
}

// progress writes and syncs now and then, outside of any group's lock.
func (w *baseWriter) progress() error {
	if len(w.buf) >= 1<<20 {
		return w.flush()
	}
	return nil
}

func (w *baseWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	for piece := range slices.Chunk(w.buf, baseWrite) {
		if _, err := w.f.WriteAt(piece, w.off); err != nil {
			return onDisk(err)
		}
		w.off += int64(len(piece))
		w.unsynced += int64(len(piece))
		if n := w.off - w.begun; n >= writeBackEvery {
			w.f.WriteBack(w.begun, n)
			w.begun = w.off
		}
		if w.unsynced >= baseSyncEvery {
			w.unsynced = 0
			if err := w.f.Sync(); err != nil {
				return onDisk(err)
			}
		}
	}
	w.buf = w.buf[:0]
	return nil
}

// tail copies records of the old files that a group's snapshot does not contain: a replica applies only what is
// committed, but it has acknowledged more. They follow the brackets as ordinary records.
func (w *baseWriter) tail(ctx context.Context) error {
	if len(w.behind) == 0 {
		return nil
	}
	var found []place
	scan := func(name string) error {
		f, err := w.j.dir.fs.Open(w.j.dir.aof(name))
		if err != nil {
			return onDisk(err)
		}
		defer f.Close()
		found, err = w.scan(ctx, name, f, found)
		return err
	}
	if w.oldBase != 0 {
		if err := scan(baseName(w.oldBase)); err != nil {
			return err
		}
	}
	for _, seq := range w.oldIncrs {
		if err := scan(incrName(seq)); err != nil {
			return err
		}
	}
	return w.copy(ctx, found)
}

// follow copies what was appended while the snapshots were taken and is not in them. So the base and its increment have
// each record once, and a reader that knows nothing of positions, as redis-server is, counts none twice.
func (w *baseWriter) follow(ctx context.Context) error {
	name := incrName(w.during)
	f, err := w.j.dir.fs.Open(w.j.dir.aof(name))
	if err != nil {
		return onDisk(err)
	}
	defer f.Close()
	rd, err := newReader(w.j.dir.seal, f)
	if err != nil {
		return onDisk(err)
	}
	var beyond [ring.Groups]bool // the snapshot: whatever comes counts
	for off := int64(fileHeaderLen); off < rd.size; {
		if err := w.rest(ctx); err != nil {
			return err
		}
		h, v, err := rd.headerAt(off)
		switch {
		case err != nil:
			return onDisk(err)
		case v != headerOK || h.end(off) > rd.size:
			return fmt.Errorf("%s, offset %d: what was just written cannot be read: %w", name, off, ErrDamaged)
		}
		cut, pos := &w.cuts[h.Group], Position{h.Term, h.Seq}
		if h.Kind != kindMark && off >= cut.floor && (beyond[h.Group] || h.Kind == SyncBegin || cut.pos.Less(pos)) {
			beyond[h.Group] = true
			b, err := rd.window(off, h.end(off)-off)
			if err != nil {
				return onDisk(err)
			}
			w.buf = append(w.buf, b...)
			if err := w.progress(); err != nil {
				return err
			}
		}
		off = h.end(off)
	}
	return nil
}

// raw copies bytes of another file of this directory.
func (w *baseWriter) raw(f vfs.File, off, n int64) error {
	start := len(w.buf)
	w.buf = slices.Grow(w.buf, int(n))[:start+int(n)]
	if got, err := f.ReadAt(w.buf[start:], off); int64(got) < n {
		return onDisk(err)
	}
	return w.progress()
}

// place is a record in an old file.
type place struct {
	file     string
	off, len int64
	group    uint16
}

func (w *baseWriter) scan(ctx context.Context, name string, f vfs.File, found []place) ([]place, error) {
	rd, err := newReader(w.j.dir.seal, f)
	if err != nil {
		return nil, onDisk(err)
	}
	open := map[uint16]bool{}
	for off := int64(fileHeaderLen); off < rd.size; {
		if err := w.rest(ctx); err != nil {
			return nil, err
		}
		h, v, err := rd.headerAt(off)
		if err != nil {
			return nil, onDisk(err)
		}
		if v != headerOK {
			// Recovery has reported it, and a group that lost records there is incomplete.
			if off, err = rd.resync(off + 1); err != nil {
				return nil, onDisk(err)
			}
			continue
		}
		pos, behind := w.behind[int(h.Group)]
		switch {
		case !behind || h.Kind == kindMark:
		case h.Kind == SyncBegin:
			open[h.Group] = true
		case h.Kind == SyncEnd:
			open[h.Group] = false
			found = slices.DeleteFunc(found, func(p place) bool { return p.group == h.Group })
		case !open[h.Group] && pos.Less(Position{h.Term, h.Seq}):
			found = append(found, place{name, off, h.size + h.length, h.Group})
		}
		off = h.end(off)
	}
	return found, nil
}

func (w *baseWriter) copy(ctx context.Context, found []place) error {
	var f vfs.File
	defer func() {
		if f != nil {
			_ = f.Close() // only read
		}
	}()
	for i, p := range found {
		if err := w.rest(ctx); err != nil {
			return err
		}
		if i == 0 || found[i-1].file != p.file {
			if f != nil {
				_ = f.Close() // only read
			}
			var err error
			if f, err = w.j.dir.fs.Open(w.j.dir.aof(p.file)); err != nil {
				return onDisk(err)
			}
		}
		if err := w.raw(f, p.off, p.len); err != nil {
			return err
		}
	}
	return nil
}
