package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"syscall"
	"time"

	"hypercache/node/ring"
	"hypercache/node/spare"
)

const (
	chunkSize = 256 << 10
	// freeChunks bounds the memory that an idle journal keeps.
	freeChunks = 16
	// wideChunks of up to maxWide bytes are kept for records above chunkSize while such records come.
	wideChunks = 2
	maxWide    = 8 << 20
)

// buffer holds whole records in chunks, so that growing never copies and a large record costs its own size once.
type buffer struct {
	chunks [][]byte // only the last is appended to
	free   [][]byte
	idle   [][]byte // backing of the list that is not in use
	wide   *spare.Buffers
}

// room returns the chunk to append up to n bytes to, at most chunkSize.
func (b *buffer) room(n int) *[]byte {
	if last := len(b.chunks) - 1; last >= 0 && cap(b.chunks[last])-len(b.chunks[last]) >= n {
		return &b.chunks[last]
	}
	var c []byte
	if len(b.free) > 0 {
		c = b.free[len(b.free)-1]
		b.free = b.free[:len(b.free)-1]
	} else {
		c = make([]byte, 0, chunkSize)
	}
	b.chunks = append(b.chunks, c)
	return &b.chunks[len(b.chunks)-1]
}

// take removes all chunks.
func (b *buffer) take() [][]byte {
	taken := b.chunks
	b.chunks, b.idle = b.idle[:0], nil
	return taken
}

// giveBack returns taken chunks: those from done on were not written and go first again.
func (b *buffer) giveBack(taken [][]byte, done int) {
	for _, c := range taken[:done] {
		switch {
		case cap(c) == chunkSize && len(b.free) < freeChunks:
			b.free = append(b.free, c[:0])
		case cap(c) > chunkSize:
			b.wide.Put(c)
		}
	}
	if done < len(taken) {
		b.chunks = append(taken[done:len(taken):len(taken)], b.chunks...)
		return
	}
	clear(taken)
	b.idle = taken[:0]
}

// Append copies r into the buffer and returns the position behind it, for Commit. The order of calls is the order in
// the file. It waits for the disk only while Options.BufferLimit bytes are unwritten. After a failure it returns a
// position that no Commit reaches. While the disk is full the buffer may grow to twice the limit, then the journal
// fails: a caller stops writing on the first ErrDiskFull.
func (j *Journal) Append(r Record) (pos int64) {
	if r.Group >= ring.Groups || r.Kind < Effects || r.Kind > SyncEnd || r.Kind != Effects && len(r.Data) > 0 {
		panic(fmt.Sprintf("journal: invalid record: group %d kind %d with %d bytes", r.Group, r.Kind, len(r.Data)))
	}
	sum := j.dir.seal.sum(r.Data)
	var own []byte
	if len(r.Data)+maxHeader > chunkSize { // without holding anybody up
		own = j.dir.seal.appendHeader(j.wide.Get(maxHeader+len(r.Data)), &r, sum)
		own = append(own, r.Data...)
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil && j.err == nil {
		panic("journal: Append before Replay")
	}
	if j.appended-j.written >= int64(j.o.BufferLimit) {
		j.makeRoom()
	}
	if j.err != nil || j.closing {
		return math.MaxInt64
	}
	if own != nil {
		j.buf.chunks = append(j.buf.chunks, own)
		j.appended += int64(len(own))
	} else {
		c := j.buf.room(maxHeader + len(r.Data))
		start := len(*c)
		*c = append(j.dir.seal.appendHeader(*c, &r, sum), r.Data...)
		j.appended += int64(len(*c) - start)
	}
	j.track(&r)
	return j.appended
}

// makeRoom waits until the buffer is below its bound, or the journal has failed, or the disk is full and there is still
// some reserve.
func (j *Journal) makeRoom() {
	for j.err == nil && j.appended-j.written >= int64(j.o.BufferLimit) {
		if j.flushing {
			j.moved.Wait()
			continue
		}
		if err := j.flushLocked(); err == nil || j.err != nil {
			continue
		}
		if j.appended-j.written >= 2*int64(j.o.BufferLimit) {
			_ = j.failLocked(fmt.Errorf("buffer exhausted: %w", j.full))
		}
		return
	}
}

// track keeps the end of the group's log.
func (j *Journal) track(r *Record) {
	h := &j.heads[r.Group]
	h.count++
	switch {
	case r.Kind == SyncBegin:
		h.open = true
	case r.Kind == SyncEnd:
		if h.open {
			j.incomplete.remove(int(r.Group))
		}
		h.open, h.endedAt = false, j.appended
		h.last = Position{r.Term, r.Seq}
	case !h.open:
		h.last = Position{r.Term, r.Seq}
	}
}

// Commit returns when everything up to pos was given to write(2), and was synced under Always. The first caller does the
// work, callers that come meanwhile share the next round. Errors: ErrFailed and ErrClosed are final; ErrDiskFull means
// that the records wait in memory and may be tried again.
func (j *Journal) Commit(pos int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		switch {
		case j.err != nil:
			return j.err
		case j.closing:
			return ErrClosed
		case j.done(pos):
			return j.throttle()
		case !j.flushing:
			if err := j.flushLocked(); err != nil {
				return err
			}
		default:
			attempt := j.attempts
			j.moved.Wait()
			if j.attempts != attempt && j.full != nil && !j.done(pos) && j.err == nil {
				return j.full
			}
		}
		if pos > j.appended && j.err == nil {
			panic("journal: Commit of a position that was never appended")
		}
	}
}

func (j *Journal) done(pos int64) bool {
	if j.o.Fsync == Always {
		return j.synced >= pos
	}
	return j.written >= pos
}

// throttle holds writers up while the fsync of EverySec lags two intervals behind: otherwise a slow disk would let the
// loss of a power cut grow without bound.
func (j *Journal) throttle() error {
	for j.err == nil && !j.syncing.IsZero() && time.Since(j.syncing) > 2*j.o.SyncInterval {
		j.moved.Wait()
	}
	return j.err
}

// flushLocked writes all that is buffered, and syncs it under Always. Called with mu, which it releases meanwhile, and
// with flushing false.
func (j *Journal) flushLocked() error {
	j.flushing = true
	j.mark()
	taken, target := j.buf.take(), j.appended
	off := j.fileOff + j.written - j.filePos
	file := j.file
	j.mu.Unlock()

	done, wrote, err := 0, int64(0), error(nil)
	for _, c := range taken {
		j.writing.Begin() // for each: much data is not a slow disk
		if err = j.writeChunk(c, off+wrote); err != nil {
			break
		}
		wrote += int64(len(c))
		done++
	}
	j.writing.End()

	j.mu.Lock()
	j.buf.giveBack(taken, done)
	j.written += wrote
	if wrote > 0 {
		j.writes++
		j.beginWriteBack()
	}
	if err == nil {
		j.cleared()
	}
	if err == nil && j.o.Fsync == Always && j.synced < target && file != nil {
		j.mu.Unlock()
		err = j.syncTo(target)
		j.mu.Lock()
	}
	j.flushing = false
	j.attempts++
	if err != nil {
		err = j.writeFailed(err)
	}
	j.moved.Broadcast()
	return err
}

// mark appends the offset that is known to be synced, if it has moved and something is to be written anyway.
func (j *Journal) mark() {
	if j.appended == j.written || j.synced <= j.marked || j.synced < j.filePos {
		return
	}
	r := Record{Kind: kindMark, Seq: uint64(j.fileOff + j.synced - j.filePos)}
	c := j.buf.room(maxHeader)
	start := len(*c)
	*c = j.dir.seal.appendRecord(*c, &r)
	j.appended += int64(len(*c) - start)
	j.marked = j.synced
}

// writeChunk writes c at off, or leaves the file as it was.
func (j *Journal) writeChunk(c []byte, off int64) error {
	n, err := j.file.WriteAt(c, off)
	if err == nil && n == len(c) {
		return nil
	}
	if err == nil {
		err = syscall.ENOSPC // a short write without a reason: the next one would say why
	}
	if n > 0 {
		if terr := j.file.Truncate(off); terr != nil {
			return fmt.Errorf("write: %v, truncate: %v", err, terr) // no longer "disk full": the file is in doubt
		}
	}
	return err
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// writeFailed turns the error of a write into what Commit returns. Called with mu.
func (j *Journal) writeFailed(err error) error {
	if j.err != nil || !diskFull(err) {
		return j.failLocked(err)
	}
	if j.full == nil {
		j.log.Error("journal: disk full, keeping records in memory", "pending", j.appended-j.written, "err", err)
	}
	j.full = fmt.Errorf("write journal: %w: %w", ErrDiskFull, err)
	return j.full
}

func (j *Journal) cleared() {
	if j.full != nil {
		j.full = nil
		j.log.Info("journal: disk has space again")
	}
}

// ioError sorts an error of a small file: no space is for the caller to try again, anything else is final.
func (j *Journal) ioError(err error) error {
	if diskFull(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failLocked(err)
}

// fail makes err final, whatever it was.
func (j *Journal) fail(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failLocked(err)
}

// failLocked makes err final. Called with mu. The page cache may have dropped acknowledged bytes, so the state file must
// say so before a restart under the same boot trusts it.
func (j *Journal) failLocked(err error) error {
	if j.err != nil {
		return j.err
	}
	j.err = fmt.Errorf("%w: %w", ErrFailed, err)
	j.buf = buffer{wide: j.wide}
	j.log.Error("journal: failed, the node must stop", "err", err)
	j.moved.Broadcast()
	if !j.o.Manual { // else Tick notes it
		j.noting = make(chan struct{})
		go j.noteFailure()
	}
	return j.err
}

// How long the end of a process that has failed is held up for a disk that takes no note of it: that it came back before the next
// process starts, which would trust the page cache then, is the danger.
const (
	noteFor   = 10 * time.Second
	notePause = 100 * time.Millisecond
)

// noteFailure holds up nobody but Close.
func (j *Journal) noteFailure() {
	defer close(j.noting)
	for start := time.Now(); !j.note(); time.Sleep(notePause) {
		if time.Since(start) >= noteFor {
			j.log.Error("journal: failure not noted: a restart under this boot would trust the page cache, remove " + stateName + " first")
			return
		}
	}
}

// note has the state file say that the journal has failed, or removes it: without one nothing is trusted either. Neither need be
// on the disk itself, since a power loss takes no page cache for whole.
func (j *Journal) note() bool {
	j.stateMu.Lock()
	defer j.stateMu.Unlock()
	if j.Noted() {
		return true
	}
	j.state.failed, j.state.clean = true, false
	err := j.dir.replace(j.dir.root, stateName, j.state.encode(j.dir.seal))
	if err != nil {
		j.log.Error("journal: failure not written down", "err", err)
		if err = j.dir.fs.Remove(path.Join(j.dir.root, stateName)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.noted = err == nil
	return j.noted
}

// Noted tells whether the directory says that the journal has failed, if it has. Only with Options.Manual, where Tick writes that
// down, does it matter to anybody else.
func (j *Journal) Noted() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err == nil || j.noted
}

// syncTo syncs the increment up to position target. Called without mu.
func (j *Journal) syncTo(target int64) error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	if j.err != nil || j.synced >= target {
		defer j.mu.Unlock()
		return j.err
	}
	target = max(target, j.written)
	file := j.file
	j.mu.Unlock()
	j.fsyncing.Begin()
	err := file.Sync()
	j.fsyncing.End()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.syncs++
	if err != nil {
		// Also when it says ENOSPC: after a failed fsync nobody knows what is on the disk.
		return j.failLocked(fmt.Errorf("fsync: %w", err))
	}
	j.synced = max(j.synced, target)
	return nil
}

// tickLoop is a goroutine of the journal: it syncs for EverySec, tries again after a full disk, and records groups that
// became complete.
func (j *Journal) tickLoop() {
	t := time.NewTicker(j.o.SyncInterval)
	defer t.Stop()
	for {
		select {
		case <-j.stopped.Done():
			return
		case <-t.C:
			j.Tick()
		case <-j.unsaved:
			j.trySave()
		}
	}
}

// Tick does what is due once per Options.SyncInterval. Only with Options.Manual is it anybody else's to call.
func (j *Journal) Tick() {
	j.mu.Lock()
	if j.err == nil && !j.flushing && j.appended > j.written && (j.full != nil || j.o.Fsync == EverySec) {
		_ = j.flushLocked() // it is in j.err or j.full
	}
	target := j.written
	due := j.err == nil && j.o.Fsync == EverySec && j.synced < target
	if due {
		j.syncing = time.Now()
	}
	j.mu.Unlock()
	if due {
		_ = j.syncTo(target) // it is in j.err
		j.mu.Lock()
		j.syncing = time.Time{}
		j.moved.Broadcast()
		j.mu.Unlock()
	}
	j.wide.Age()
	j.trySave()
}

// trySave saves the state, or says why not: the next Tick tries again.
func (j *Journal) trySave() {
	err := j.saveState()
	switch {
	case errors.Is(err, ErrFailed) && j.o.Manual:
		j.note()
	case err != nil && !errors.Is(err, ErrFailed):
		j.log.Warn("journal: state not saved", "err", err)
	}
}
