package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// recovery reads a directory and decides what can be trusted. DESIGN.md has its rules under "Recovery".
type recovery struct {
	dir  *dir
	log  *slog.Logger
	fn   func(Record) error
	prev state
	boot string
	out  Recovery
	look bool              // change nothing: a torn tail is left where it is
	fail func(error) error // makes an error final

	groups  [ring.Groups]replayed
	ended   int // groups whose content in the base is complete
	sizes   map[string]int64
	corrupt map[string]bool // files with spots
}

// replayed is what recovery knows of one group.
type replayed struct {
	last     Position
	open     bool // between SyncBegin and SyncEnd
	begun    bool // in the base
	ended    bool // in the base
	skipping bool // records up to the base's position are to be skipped
	damaged  bool // for good, as far as this recovery goes
	suspect  bool // a record may have been in an unreadable range
	muted    bool // fn refused a record of this damaged group
	incr     uint64
	floor    int64 // skip everything before this offset of increment incr
	base     Position
}

// run reads all files of m in order.
func (r *recovery) run(m manifest) error {
	if m.base != 0 {
		if err := r.file(baseName(m.base), func(rd *reader) error { return r.readBase(rd, baseName(m.base)) }); err != nil {
			return err
		}
	}
	for i, seq := range m.incrs {
		later := m.incrs[i+1:]
		if err := r.file(incrName(seq), func(rd *reader) error { return r.readIncr(rd, seq, later) }); err != nil {
			return err
		}
	}
	for g := range r.groups {
		st := &r.groups[g]
		r.out.Positions[g] = st.last
		if st.damaged || st.suspect || st.open {
			r.out.Damaged = append(r.out.Damaged, uint16(g))
			r.out.Holes = append(r.out.Holes, uint16(g))
		}
	}
	return nil
}

func (r *recovery) file(name string, read func(*reader) error) error {
	f, err := r.dir.fs.Open(r.dir.aof(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s, which the manifest names, is missing: %w", name, ErrDamaged)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	rd, err := newReader(r.dir.seal, f)
	if err != nil {
		return err
	}
	if err := read(rd); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.sizes[name] = rd.size
	return nil
}

// walker reads the records of one file one after the other.
type walker struct {
	r      *recovery
	rd     *reader
	name   string
	record func(h *header, off int64, data []byte) error
	// torn reports whether the bad bytes at off are a tail that was never acknowledged.
	torn func(off int64, h *header, v verdict) (bool, error)
	// covered reports whether a record of g at off does not count, because the base holds what came after it.
	covered func(g int, off int64) bool
	// unknown is called for a range with an unreadable header, before the record that follows it.
	unknown func(end int64)
}

func (w *walker) run() error {
	off, err := w.start()
	for err == nil && off < w.rd.size {
		off, err = w.next(off)
	}
	return err
}

// start checks the file's first line.
func (w *walker) start() (int64, error) {
	b, err := w.rd.window(0, int64(fileHeaderLen))
	if err != nil {
		return 0, err
	}
	salt, ok := parseFileHeader(b)
	switch {
	case ok && salt == w.r.dir.salt:
		return int64(fileHeaderLen), nil
	case ok:
		return 0, fmt.Errorf("belongs to another directory: %w", ErrForeign)
	}
	what, err := w.rd.foreignAt(0)
	if err != nil {
		return 0, err
	}
	if what != "" {
		return 0, fmt.Errorf("starts with %s, import it with 'hypercache restore': %w", what, ErrForeign)
	}
	return w.corrupt(0, &header{}, headerBad, "damaged first line")
}

func (w *walker) next(off int64) (int64, error) {
	h, v, err := w.rd.headerAt(off)
	if err != nil {
		return 0, err
	}
	if v != headerOK {
		what, err := w.rd.foreignAt(off)
		if err != nil {
			return 0, err
		}
		if what != "" {
			return 0, fmt.Errorf("offset %d holds %s: redis-server wrote to this directory, import it with 'hypercache restore': %w",
				off, what, ErrForeign)
		}
		return w.bad(off, &h, v, "unreadable record header")
	}
	if h.end(off) > w.rd.size {
		return w.bad(off, &h, v, "record is cut off")
	}
	data, ok, err := w.rd.dataOf(&h, off)
	if err != nil {
		return 0, err
	}
	if !ok {
		return w.bad(off, &h, v, "record fails its checksum")
	}
	return h.end(off), w.record(&h, off, data)
}

// bad deals with the bytes at off and returns where to go on.
func (w *walker) bad(off int64, h *header, v verdict, reason string) (int64, error) {
	torn, err := w.torn(off, h, v)
	if err != nil {
		return 0, err
	}
	if torn { // rd.size shrinks to off: the walk ends
		return off, w.r.truncate(w.name, w.rd, off, reason)
	}
	return w.corrupt(off, h, v, reason)
}

// corrupt leaves out the bytes at off and returns where to go on.
func (w *walker) corrupt(off int64, h *header, v verdict, reason string) (int64, error) {
	if v == headerOK && h.end(off) <= w.rd.size {
		g := int(h.Group)
		w.r.spot(Spot{File: w.name, Offset: off, Length: h.size + h.length, Group: g, Reason: reason})
		if !w.covered(g, off) {
			w.r.groups[g].damaged = true
		}
		return h.end(off), nil
	}
	end, err := w.rd.resync(off + 1)
	if err != nil {
		return 0, err
	}
	w.r.spot(Spot{File: w.name, Offset: off, Length: end - off, Group: -1, Reason: reason})
	if v == headerOK && !w.covered(int(h.Group), off) {
		w.r.groups[h.Group].damaged = true
	}
	w.unknown(end)
	return end, nil
}

func (r *recovery) spot(s Spot) {
	r.out.Spots = append(r.out.Spots, s)
	r.corrupt[s.File] = true
	r.log.Error("journal: corrupt bytes left out", "file", s.File, "offset", s.Offset, "length", s.Length,
		"group", s.Group, "reason", s.Reason)
}

func (r *recovery) truncate(name string, rd *reader, off int64, reason string) error {
	lost := rd.size - off
	if r.look {
		rd.size = off
		r.out.Truncated, r.out.TruncatedFile = lost, name
		return nil
	}
	if err := rd.f.Truncate(off); err != nil {
		return err
	}
	if err := rd.f.Sync(); err != nil {
		return r.fail(fmt.Errorf("fsync: %w", err)) // it was of what the last process wrote, too: see Journal.ready
	}
	rd.size = off
	r.out.Truncated, r.out.TruncatedFile = lost, name
	r.log.Warn("journal: torn tail truncated", "file", name, "offset", off, "bytes", lost, "reason", reason)
	return nil
}

// readIncr reads one increment; later are the increments after it.
func (r *recovery) readIncr(rd *reader, seq uint64, later []uint64) error {
	name := incrName(seq)
	w := &walker{r: r, rd: rd, name: name}
	w.covered = func(g int, off int64) bool {
		st := &r.groups[g]
		return seq < st.incr || seq == st.incr && off < st.floor
	}
	w.torn = func(off int64, h *header, v verdict) (bool, error) { return r.torn(rd, later, off, h, v) }
	w.unknown = func(end int64) {
		for g := range r.groups {
			if !w.covered(g, end-1) {
				st := &r.groups[g]
				st.suspect = true
				st.damaged = st.damaged || st.open // content of a resync has no positions that would show a gap
			}
		}
	}
	w.record = func(h *header, off int64, data []byte) error {
		if h.Kind == kindMark {
			return nil
		}
		if w.covered(int(h.Group), off) || r.skips(h) {
			r.out.Skipped++
			return nil
		}
		return r.logged(name, h, off, data)
	}
	return w.run()
}

// torn decides between a torn tail, which nobody was told about, and damage. A file is synced before the first record
// goes to the next one, so only the last with records can be torn. A killed process leaves a clean prefix of its last
// write; a power loss leaves anything behind the last synced byte, and marks tell where that was at least.
func (r *recovery) torn(rd *reader, later []uint64, off int64, h *header, v verdict) (bool, error) {
	if r.prev.clean || r.anyRecords(later) {
		return false, nil
	}
	if r.prev.sameBoot(r.boot) {
		return v == headerShort && rd.size-off < maxHeader || v == headerOK && h.end(off) > rd.size, nil
	}
	vouched, err := rd.vouched(off)
	return !vouched, err
}

func (r *recovery) anyRecords(incrs []uint64) bool {
	for _, seq := range incrs {
		size, err := fileSize(r.dir.fs, r.dir.aof(incrName(seq)))
		if err != nil || size > int64(fileHeaderLen) {
			return true // what can't be read is not known to be empty
		}
	}
	return false
}

func fileSize(fsys vfs.FS, name string) (int64, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Size()
}

// skips reports whether the base already contains the record: its position is not above the base's, and no resync
// began since, which may go back to a lower position.
func (r *recovery) skips(h *header) bool {
	st := &r.groups[h.Group]
	if !st.skipping {
		return false
	}
	if h.Kind != SyncBegin && !st.base.Less(Position{h.Term, h.Seq}) {
		return true
	}
	st.skipping = false
	return false
}

// logged takes a record of an increment, or of the base's tail.
func (r *recovery) logged(file string, h *header, off int64, data []byte) error {
	st := &r.groups[h.Group]
	pos := Position{h.Term, h.Seq}
	switch {
	case h.Kind == SyncBegin:
		st.open = true
	case h.Kind == SyncEnd:
		if !st.open {
			r.gap(st, file, h, off, "end of a resync without its beginning")
		}
		st.open, st.last = false, pos
	case st.open: // content of a resync has no positions of its own
	default:
		switch {
		case pos.Term < st.last.Term:
			r.gap(st, file, h, off, fmt.Sprintf("term %d after term %d", pos.Term, st.last.Term))
		case pos.Term == st.last.Term && pos.Seq != st.last.Seq+1:
			r.gap(st, file, h, off, fmt.Sprintf("sequence %d after %d in term %d", pos.Seq, st.last.Seq, pos.Term))
		case st.suspect && pos.Seq != st.last.Seq+1:
			// In another term, which need not go on where the last one ended for all that is read of it.
			r.gap(st, file, h, off, fmt.Sprintf("sequence %d after %d, with unreadable bytes between them", pos.Seq, st.last.Seq))
		case pos.Seq == st.last.Seq+1 && st.last != Position{}:
			st.suspect = false // contiguous: what is unreadable was not this group's
		}
		st.last = pos
	}
	return r.deliver(h, data)
}

func (r *recovery) gap(st *replayed, file string, h *header, off int64, reason string) {
	st.damaged = true
	r.spot(Spot{File: file, Offset: off, Group: int(h.Group), Reason: reason})
}

// deliver hands a record out. A damaged group's commands may no longer fit the data (an LPUSH on what became a string);
// the rest of that group is left out then, since it has to be fetched again anyway.
func (r *recovery) deliver(h *header, data []byte) error {
	st := &r.groups[h.Group]
	if st.muted {
		return nil
	}
	rec := h.Record
	rec.Data = data
	r.out.Records++
	r.out.Bytes += int64(len(data))
	err := r.fn(rec)
	if err != nil && (st.damaged || st.suspect) {
		st.muted = true
		r.log.Error("journal: the rest of a damaged group is left out", "group", h.Group, "err", err)
		return nil
	}
	return err
}

// readBase reads the base: a resync bracket for every group in order, then the tail (records that the stores did not
// contain yet). It was synced before the manifest named it, so nothing in it can be torn.
func (r *recovery) readBase(rd *reader, name string) error {
	w := &walker{r: r, rd: rd, name: name}
	w.covered = func(int, int64) bool { return false }
	w.torn = func(int64, *header, verdict) (bool, error) { return false, nil }
	w.unknown = func(end int64) {
		for g := range r.groups {
			if st := &r.groups[g]; st.open {
				st.damaged = true
			}
			// Brackets that are lost show as missing. In the tail, anybody's record may be lost.
			if r.baseComplete() || end >= rd.size {
				r.groups[g].suspect = true
			}
		}
	}
	w.record = func(h *header, off int64, data []byte) error { return r.baseRecord(name, h, off, data) }
	if err := w.run(); err != nil {
		return err
	}
	for g := range r.groups {
		st := &r.groups[g]
		if !st.begun || !st.ended {
			st.damaged, st.open = true, false
			r.spot(Spot{File: name, Offset: rd.size, Group: g, Reason: "the base lacks this group's content"})
		}
	}
	return nil
}

func (r *recovery) baseComplete() bool { return r.ended == ring.Groups }

func (r *recovery) baseRecord(name string, h *header, off int64, data []byte) error {
	st := &r.groups[h.Group]
	out := *h
	switch {
	case h.Kind == kindMark:
		return nil
	case h.Kind == SyncBegin && !st.begun:
		st.begun, st.open, st.incr, st.floor = true, true, h.Term, int64(h.Seq)
		out.Term, out.Seq = 0, 0
	case h.Kind == SyncEnd && st.open && !st.ended:
		st.ended, st.open, st.skipping = true, false, true
		r.ended++
		st.last = Position{h.Term, h.Seq}
		st.base = st.last
	case st.open && !st.ended: // content
	case st.ended:
		if !r.baseComplete() {
			r.suspectAll() // the way into the tail was lost
		}
		return r.logged(name, h, off, data)
	default:
		r.gap(st, name, h, off, "the beginning of the group's content is missing")
	}
	return r.deliver(&out, data)
}

func (r *recovery) suspectAll() {
	for g := range r.groups {
		r.groups[g].suspect = true
	}
}
