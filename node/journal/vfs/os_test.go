package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sparse makes a file of that size which takes no room.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(name, []byte("content"), 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

func gone(t *testing.T, name string) {
	t.Helper()
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestALargeFileGoesBitByBit(t *testing.T) {
	const bits = 5
	name := sparse(t, bits*removeBit+1)
	open, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	begin := time.Now()
	if err := (OS{}).RemoveBitByBit(name, nil); err != nil {
		t.Fatal(err)
	}
	gone(t, name)
	if took := time.Since(begin); took < (bits-1)*removePause {
		t.Errorf("it took %v: without pauses", took)
	}
	if st, err := open.Stat(); err != nil || st.Size() > removeBit {
		t.Errorf("%d bytes were left to the end, want at most %d; %v", st.Size(), removeBit, err)
	}
}

func TestAFileOfAnotherNameKeepsItsContent(t *testing.T) {
	name := sparse(t, 3*removeBit)
	other := name + "-linked"
	if err := os.Link(name, other); err != nil {
		t.Fatal(err)
	}
	if err := (OS{}).RemoveBitByBit(name, nil); err != nil {
		t.Fatal(err)
	}
	gone(t, name)
	if st, err := os.Stat(other); err != nil || st.Size() != 3*removeBit {
		t.Errorf("%v, %v", st, err)
	}
}

func TestRemovingHurriesAtTheEnd(t *testing.T) {
	name := sparse(t, 10_000*removeBit)
	stop := make(chan struct{})
	close(stop)
	begin := time.Now()
	if err := (OS{}).RemoveBitByBit(name, stop); err != nil {
		t.Fatal(err)
	}
	gone(t, name)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := (OS{}).RemoveBitByBit(name, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
