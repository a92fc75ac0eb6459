package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"
)

// chunks gives what is in data in reads of the given sizes, then io.EOF.
type chunks struct {
	data  []byte
	sizes []int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := len(c.data)
	if len(c.sizes) > 0 {
		n, c.sizes = min(n, c.sizes[0]), c.sizes[1:]
	}
	n = copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

func TestReaderGivesWhatWasSentInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make([]byte, rapid.IntRange(0, 3*readBuffer).Draw(t, "bytes"))
		for i := range want {
			want[i] = byte(i * 131 >> 3)
		}
		sizes := rapid.SliceOf(rapid.IntRange(0, 50_000)).Draw(t, "reads")
		r := newReader(&chunks{want, sizes})
		var got []byte
		for len(got) < len(want) {
			n := min(rapid.IntRange(1, readBuffer).Draw(t, "n"), len(want)-len(got))
			if rapid.Bool().Draw(t, "stream") {
				b := make([]byte, n)
				if _, err := io.ReadFull(r, b); err != nil {
					t.Fatal(err)
				}
				got = append(got, b...)
				continue
			}
			b, err := r.peek(n)
			if err != nil || len(b) != n {
				t.Fatalf("peek(%d): %d bytes, %v", n, len(b), err)
			}
			got = append(got, b...)
			r.discard(n)
			if len(r.buf) > readBuffer {
				t.Fatalf("the buffer has %d bytes", len(r.buf))
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatal("not what was sent")
		}
		if _, err := r.peek(1); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func TestReaderFollowsTheTraffic(t *testing.T) {
	src := &chunks{data: make([]byte, 4*readBuffer)}
	r := newReader(src)
	if len(r.buf) != firstBuffer {
		t.Fatalf("begins with %d bytes", len(r.buf))
	}
	for len(src.data) > 0 {
		if _, err := r.peek(1); err != nil {
			t.Fatal(err)
		}
		r.discard(r.buffered())
	}
	if len(r.buf) != readBuffer {
		t.Fatalf("has %d bytes after reads that filled it", len(r.buf))
	}
	for range 4 * smallReads {
		src.data = make([]byte, 13) // a heartbeat
		if _, err := r.peek(13); err != nil {
			t.Fatal(err)
		}
		r.discard(13)
	}
	if len(r.buf) != firstBuffer {
		t.Errorf("has %d bytes after a long quiet", len(r.buf))
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func TestReaderGivesUpOnASourceThatGivesNothing(t *testing.T) {
	if _, err := newReader(nothing{}).peek(1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
}
