package journal

import (
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// hinted notes which bytes of which file the disk was told to begin with.
type hinted struct {
	*vfs.Mem
	mu   sync.Mutex
	upTo map[string]int64
	t    *testing.T
}

type hintedFile struct {
	vfs.File
	fs   *hinted
	name string
}

func (h *hinted) Open(name string) (vfs.File, error) {
	f, err := h.Mem.Open(name)
	return hintedFile{f, h, name}, err
}

func (h *hinted) Create(name string) (vfs.File, error) {
	f, err := h.Mem.Create(name)
	return hintedFile{f, h, name}, err
}

func (f hintedFile) WriteBack(off, n int64) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	size, _ := f.Size() // of a file in memory
	if end := f.fs.upTo[f.name]; off > end+4096 || n <= 0 || off+n > size {
		f.fs.t.Errorf("%s: %d bytes from %d on, of %d that are written, and the last ended at %d", f.name, n, off, size, end)
	}
	f.fs.upTo[f.name] = off + n
}

func (h *hinted) end(name string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.upTo[name]
}

// Otherwise the fsync of every second has all of it to write, and who writes meanwhile waits.
func TestTheDiskBeginsBeforeTheFsync(t *testing.T) {
	for _, policy := range []Policy{EverySec, Always, No} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := &hinted{Mem: vfs.NewMem(), upTo: map[string]int64{}, t: t}
				o := options(fs, policy)
				o.SyncInterval = time.Hour
				j, _, _ := mustOpen(t, o)
				value := string(make([]byte, 100<<10))
				write := func(from uint64) (name string, written int64) {
					for seq := from; seq < from+50; seq++ {
						put(t, j, 1, 1, seq, "k", value)
						synctest.Wait()
					}
					name = path.Join("data", aofDir, incrName(j.fileSeq))
					b, _ := fs.ReadFile(name)
					return name, int64(len(b))
				}
				for round := range uint64(2) { // the second in the next file
					name, written := write(1 + 50*round)
					switch got := fs.end(name); {
					case policy != EverySec && got != 0:
						t.Errorf("%s: told to begin with %d bytes", name, got)
					case policy == EverySec && (got < written-writeBackEvery-200<<10 || got%4096 != 0):
						t.Errorf("%s: told to begin with %d of %d bytes", name, got, written)
					}
					if err := j.rotate(); err != nil {
						t.Fatal(err)
					}
				}
				if err := j.Close(true); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// removals notes what goes bit by bit.
type removals struct {
	*vfs.Mem
	names []string
}

func (r *removals) RemoveBitByBit(name string, stop <-chan struct{}) error {
	r.names = append(r.names, path.Base(name))
	return r.Mem.RemoveBitByBit(name, stop)
}

// A base of 850 MB that went at once kept an fsync for 33 ms, and a write of the journal for 14.
func TestOldFilesGoBitByBit(t *testing.T) {
	fs := &removals{Mem: vfs.NewMem()}
	j, _, d := mustOpen(t, options(fs, Always))
	var pos [ring.Groups]Position
	for range 2 {
		if err := j.Rewrite(t.Context(), d.snapshot(&pos)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{incrName(1), incrName(2), baseName(1), incrName(3), incrName(4)}
	if !slices.Equal(fs.names, want) {
		t.Errorf("%q went bit by bit, want %q", fs.names, want)
	}
}
