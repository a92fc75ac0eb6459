package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
)

// Op names an operation of Mem.
type Op string

// The mutating operations, which a Mem reports to its hook, and those that only read.
const (
	OpCreate   Op = "create"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpSyncDir  Op = "syncdir"
	OpOpen     Op = "open"
	OpRead     Op = "read"
)

// ShortWrite is an injected error of a write that gets N bytes done before it fails with Err.
type ShortWrite struct {
	N   int
	Err error
}

func (e *ShortWrite) Error() string { return fmt.Sprintf("short write of %d bytes: %v", e.N, e.Err) }

// Unwrap returns the cause.
func (e *ShortWrite) Unwrap() error { return e.Err }

// FailedSync is an injected error of a file's sync that leaves the file as Linux does. What was written since the last sync counts as
// clean, so that no later one writes it, though the disk got only what a power loss would have left of it. Evicted: the page cache
// has given those bytes up as well, and whoever reads sees what the disk has. With Err nil the sync says that it worked.
type FailedSync struct {
	Err     error
	RNG     *rand.Rand
	Evicted bool
}

func (e *FailedSync) Error() string { return fmt.Sprintf("failed sync: %v", e.Err) }

// Mem is a file system in memory that remembers what has been synced, so that it can be cloned as a power loss would
// leave it. Directories themselves are always durable; their entries are not before SyncDir.
type Mem struct {
	mu      sync.Mutex
	entries map[string]*inode // what a process sees
	durable map[string]*inode // what a power loss surely leaves
	changes []change          // directory operations since, in order
	locks   map[string]bool
	hook    func(op Op, name string) error
	reading func(op Op, name string) error
}

// change sets (or with a nil inode removes) entries of one directory, atomically.
type change struct {
	dir string
	set map[string]*inode
}

type inode struct {
	data    []byte
	durable []byte
	pending []edit // since the last sync
}

// edit is a write of data at off, or with data nil a truncation to off.
type edit struct {
	off  int64
	data []byte
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	return &Mem{entries: map[string]*inode{}, durable: map[string]*inode{}, locks: map[string]bool{}}
}

// SetHook has every mutating operation call hook first; an error of hook becomes the operation's. The hook runs without
// the file system's lock, so it may clone.
func (m *Mem) SetHook(hook func(op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// SetReadHook is SetHook for opening and reading files.
func (m *Mem) SetReadHook(hook func(op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading = hook
}

func (m *Mem) before(op Op, name string) error {
	m.mu.Lock()
	hook := m.hook
	if op == OpOpen || op == OpRead {
		hook = m.reading
	}
	m.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(op, name)
}

// Clone copies the file system as a killed process leaves it: everything written is there, nothing is locked.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	copies := map[*inode]*inode{}
	dup := func(n *inode) *inode {
		if n == nil {
			return nil
		}
		if copies[n] == nil {
			copies[n] = &inode{slices.Clone(n.data), slices.Clone(n.durable), slices.Clone(n.pending)}
		}
		return copies[n]
	}
	for name, n := range m.entries {
		c.entries[name] = dup(n)
	}
	for name, n := range m.durable {
		c.durable[name] = dup(n)
	}
	for _, ch := range m.changes {
		set := map[string]*inode{}
		for name, n := range ch.set {
			set[name] = dup(n)
		}
		c.changes = append(c.changes, change{ch.dir, set})
	}
	return c
}

// PowerLoss copies the file system as a power loss leaves it. Of what was not synced, each directory keeps a random
// prefix of its operations, and each file a random choice of its 512-byte sectors, some of them torn at any byte.
// Bytes whose size change survived but whose content did not are zero.
func (m *Mem) PowerLoss(rng *rand.Rand) *Mem {
	c := m.Clone()
	keep := map[string]int{}
	total := map[string]int{}
	for _, ch := range c.changes {
		total[ch.dir]++
	}
	for _, dir := range slices.Sorted(mapKeys(total)) {
		keep[dir] = rng.IntN(total[dir] + 1)
	}
	out := NewMem()
	for name, n := range c.durable {
		out.entries[name] = n
	}
	for _, ch := range c.changes {
		if keep[ch.dir] == 0 {
			continue
		}
		keep[ch.dir]--
		apply(out.entries, ch.set)
	}
	done := map[*inode]bool{}
	for _, name := range slices.Sorted(mapKeys(out.entries)) {
		n := out.entries[name]
		if !done[n] {
			n.crash(rng)
			done[n] = true
		}
		out.durable[name] = n
	}
	return out
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func apply(entries, set map[string]*inode) {
	for name, n := range set {
		if n == nil {
			delete(entries, name)
		} else {
			entries[name] = n
		}
	}
}

const sector = 512

// crash replaces the inode's content by one that a power loss may leave.
func (n *inode) crash(rng *rand.Rand) {
	data := slices.Clone(n.durable)
	mode := rng.IntN(4) // 0 nothing, 1 everything, 2 a prefix torn at any byte, 3 scattered sectors
	pending := n.pending
	cut := -1
	if mode == 0 {
		pending = nil
	}
	if mode == 2 && len(pending) > 0 {
		last := rng.IntN(len(pending))
		pending = pending[:last+1]
		cut = rng.IntN(len(pending[last].data) + 1)
	}
	for i, e := range pending {
		switch {
		case e.data == nil:
			data = resize(data, e.off)
		case mode == 2 && i == len(pending)-1:
			data = write(data, e.off, e.data[:cut])
		case mode == 3:
			data = scatter(rng, data, e)
		default:
			data = write(data, e.off, e.data)
		}
	}
	n.data, n.durable, n.pending = data, slices.Clone(data), nil
}

// flush writes what is pending to the disk. What is not pending need not be there: a sync may have failed before.
func (n *inode) flush() {
	for _, e := range n.pending {
		if e.data == nil {
			n.durable = resize(n.durable, e.off)
		} else {
			n.durable = write(n.durable, e.off, e.data)
		}
	}
	n.pending = nil
}

// lose is a sync that failed: a part of what is pending is on the disk, and nothing is pending any more.
func (n *inode) lose(how *FailedSync) {
	cached := n.data
	n.crash(how.RNG)
	if how.Evicted {
		n.data = resize(n.data, int64(len(cached))) // the size is remembered
	} else {
		n.data = cached
	}
}

// scatter applies a write sector by sector: whole, torn or not at all.
func scatter(rng *rand.Rand, data []byte, e edit) []byte {
	if rng.IntN(2) == 0 {
		data = resize(data, max(int64(len(data)), e.off+int64(len(e.data))))
	}
	for off := int64(0); off < int64(len(e.data)); {
		end := min(int64(len(e.data)), (e.off+off)/sector*sector+sector-e.off)
		switch rng.IntN(4) {
		case 0:
		case 1:
			data = write(data, e.off+off, e.data[off:off+rng.Int64N(end-off+1)])
		default:
			data = write(data, e.off+off, e.data[off:end])
		}
		off = end
	}
	return data
}

func resize(b []byte, size int64) []byte {
	if int64(len(b)) >= size {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func write(b []byte, off int64, p []byte) []byte {
	if len(p) == 0 {
		return b
	}
	b = resize(b, max(int64(len(b)), off+int64(len(p))))
	copy(b[off:], p)
	return b
}

func (m *Mem) change(dir string, set map[string]*inode) {
	apply(m.entries, set)
	m.changes = append(m.changes, change{dir, set})
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	if err := m.before(OpOpen, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.entries[path.Clean(name)]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{m, n, name}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	if err := m.before(OpCreate, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clean := path.Clean(name)
	n := m.entries[clean]
	if n == nil {
		n = &inode{}
		m.change(path.Dir(clean), map[string]*inode{clean: n})
	} else {
		n.data, n.pending = nil, append(n.pending, edit{})
	}
	return &memFile{m, n, name}, nil
}

// Rename implements FS; both names must be in one directory.
func (m *Mem) Rename(from, to string) error {
	if err := m.before(OpRename, to); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = path.Clean(from), path.Clean(to)
	n := m.entries[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if path.Dir(from) != path.Dir(to) {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrInvalid}
	}
	m.change(path.Dir(to), map[string]*inode{from: nil, to: n})
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	if err := m.before(OpRemove, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = path.Clean(name)
	if m.entries[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	m.change(path.Dir(name), map[string]*inode{name: nil})
	return nil
}

// RemoveBitByBit implements FS: at once.
func (m *Mem) RemoveBitByBit(name string, _ <-chan struct{}) error { return m.Remove(name) }

// MkdirAll implements FS: every directory exists.
func (m *Mem) MkdirAll(string) error { return nil }

// List implements FS: files and the directories that hold some.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	prefix := path.Clean(dir) + "/"
	names := map[string]bool{}
	for name := range m.entries {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	return slices.Sorted(mapKeys(names)), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	if err := m.before(OpSyncDir, dir); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = path.Clean(dir)
	rest := m.changes[:0:0]
	for _, ch := range m.changes {
		if ch.dir == dir {
			apply(m.durable, ch.set)
		} else {
			rest = append(rest, ch)
		}
	}
	m.changes = rest
	return nil
}

// Lock implements FS within this Mem.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, &LockedError{Name: name}
	}
	m.locks[name] = true
	return closer(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.locks, name)
		return nil
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

// ReadFile returns a copy of the file's content.
func (m *Mem) ReadFile(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.entries[path.Clean(name)]
	if n == nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(n.data), nil
}

// WriteFile replaces the file's content durably and without the hook: how tests damage files.
func (m *Mem) WriteFile(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &inode{data: slices.Clone(data), durable: slices.Clone(data)}
	name = path.Clean(name)
	m.entries[name], m.durable[name] = n, n
}

// Flip inverts the bits of mask in the byte at off, on the disk and for whoever has the file open: how tests let bits rot.
// It tells whether there is such a byte.
func (m *Mem) Flip(name string, off int64, mask byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.entries[path.Clean(name)]
	if n == nil || off < 0 || off >= int64(len(n.durable)) || off >= int64(len(n.data)) {
		return false
	}
	n.durable, n.data = slices.Clone(n.durable), slices.Clone(n.data)
	n.durable[off] ^= mask
	n.data[off] ^= mask
	return true
}

// Files returns every name in order.
func (m *Mem) Files() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(mapKeys(m.entries))
}

type memFile struct {
	m    *Mem
	n    *inode
	name string
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.m.before(OpRead, f.name); err != nil {
		return 0, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.m.before(OpWrite, f.name)
	n := len(p)
	if err != nil {
		short, ok := err.(*ShortWrite)
		if !ok {
			return 0, err
		}
		n = min(n, short.N)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data = write(f.n.data, off, p[:n])
	if n > 0 {
		f.n.pending = append(f.n.pending, edit{off, slices.Clone(p[:n])})
	}
	return n, err
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Truncate(size int64) error {
	if err := f.m.before(OpTruncate, f.name); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.data = resize(f.n.data, size)
	f.n.pending = append(f.n.pending, edit{off: size})
	return nil
}

// WriteBack does nothing: what was written may survive a power loss with it or without it.
func (f *memFile) WriteBack(int64, int64) {}

func (f *memFile) Sync() error {
	err := f.m.before(OpSync, f.name)
	lost, failed := err.(*FailedSync)
	if err != nil && !failed {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if failed {
		f.n.lose(lost)
		return lost.Err
	}
	f.n.flush()
	return nil
}
