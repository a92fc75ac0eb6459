package spare

import (
	"testing"
	"unsafe"
)

func at(p []byte) *byte { return unsafe.SliceData(p[:1]) }

func TestWhatIsPutBackComesAgain(t *testing.T) {
	b := New(2, 1000)
	first := append(b.Get(100), "something"...)
	b.Put(first)
	again := b.Get(100)
	if at(again) != at(first) || len(again) != 0 {
		t.Errorf("another buffer, or one with %d bytes", len(again))
	}
	b.Put(again)
	if more := b.Get(500); cap(more) < 510 || cap(more) > 700 || len(more) != 0 {
		t.Errorf("%d bytes of room, want a few more than 500; %d in use", cap(more), len(more))
	}
}

func TestNoMoreAreKeptThanWereAskedFor(t *testing.T) {
	b := New(2, 1000)
	for range 3 {
		b.Put(make([]byte, 10))
	}
	b.Put(make([]byte, 1001))
	if n := len(b.free); n != 2 {
		t.Errorf("%d are kept, want 2", n)
	}
	b = New(2, 1000)
	b.Put(make([]byte, 1001))
	if n := len(b.free); n != 0 {
		t.Error("one is kept that is too large")
	}
	if p := b.Get(1001); cap(p) >= 1100 {
		t.Errorf("room for %d bytes, of 1001 that are not kept", cap(p))
	}
}

func TestWhatNobodyUsesIsGivenUp(t *testing.T) {
	b := New(2, 10*page)
	b.Warm(3 * page)
	b.Age()
	if n := len(b.free); n != 1 {
		t.Errorf("%d are kept of one that was just made", n)
	}
	b.Age()
	if n := len(b.free); n != 0 {
		t.Errorf("%d are kept that nobody used", n)
	}
	b.Warm(100 * page)
	if p := b.Get(1); cap(p) != 10*page {
		t.Errorf("room for %d bytes, want %d", cap(p), 10*page)
	} else {
		b.Put(p)
	}
	b.Age()
	if n := len(b.free); n != 1 {
		t.Errorf("%d are kept of one that was in use", n)
	}
	b.Age()
	if n := len(b.free); n != 0 {
		t.Errorf("%d are kept that nobody used since", n)
	}
}
