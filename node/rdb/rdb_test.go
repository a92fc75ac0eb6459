package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

func TestChecksumIsTheJonesCRC(t *testing.T) {
	if got := checksum(0, []byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("%#x", got)
	}
	long := bytes.Repeat([]byte("0123456789"), 1000)
	whole := checksum(0, long)
	if parts := checksum(checksum(0, long[:37]), long[37:]); parts != whole {
		t.Errorf("%#x in parts, %#x in one", parts, whole)
	}
}

func TestCompressionGivesBackWhatWentIn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		src := make([]byte, rng.IntN(30000))
		alphabet := 1 + rng.IntN(256)
		for i := range src {
			src[i] = byte(rng.IntN(alphabet))
			if i > 40 && rng.IntN(3) > 0 {
				src[i] = src[i-1-rng.IntN(40)]
			}
		}
		out, ok := compress([]byte("lead"), src, len(src))
		if !ok {
			continue
		}
		back, err := decompress([]byte("lead"), out[4:], uint64(len(src)))
		if err != nil || !bytes.Equal(back[4:], src) {
			t.Fatalf("%d bytes: %v", len(src), err)
		}
	}
}

// sample is a file with a value of every type.
func sample() []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	_ = w.Aux("redis-ver", "7.0.15")
	_ = w.Function([]byte("#!lua name=lib"))
	_ = w.SelectDB(0, 6, 1)
	bytesOf := func(words ...string) (out [][]byte) {
		for _, s := range words {
			out = append(out, []byte(s))
		}
		return out
	}
	for _, v := range []Value{
		{Type: String, Items: bytesOf(strings.Repeat("compress me ", 20))},
		{Type: List, Items: bytesOf("a", "1", "-70000", strings.Repeat("b", 100))},
		{Type: Set, Items: bytesOf("1", "2", "100000")},
		{Type: Set, Items: bytesOf("1", "x")},
		{Type: Hash, Items: bytesOf("f", "v", "g", "7")},
		{Type: ZSet, Items: bytesOf("m", "n"), Scores: []float64{-1.5, 3}},
		{Type: Stream, Stream: &StreamValue{
			Entries: []StreamEntry{{StreamID{1, 1}, bytesOf("f", "v")}, {StreamID{1, 2}, bytesOf("f", "w")}, {StreamID{2, 0}, bytesOf("g", "1")}},
			State:   StreamState{Length: 3, LastID: StreamID{2, 0}, FirstID: StreamID{1, 1}, Added: 4},
			Groups: []StreamGroup{{Name: []byte("g"), LastID: StreamID{1, 2}, Read: 2,
				Consumers: []StreamConsumer{{Name: []byte("c"), SeenAt: 1}},
				Pending:   []StreamPending{{ID: StreamID{1, 1}, DeliveredAt: 1, Deliveries: 1}}}},
		}},
	} {
		_ = w.Entry([]byte("key of "+v.Type.String()), 1700000000000, v.Append(nil))
	}
	_ = w.Close()
	return b.Bytes()
}

func TestEveryTruncationAndEveryFlippedBitIsFound(t *testing.T) {
	b := sample()
	if err := NewReader(bytes.NewReader(b)).Read(&Collector{}); err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if err := NewReader(bytes.NewReader(b[:n])).Read(&Collector{}); err == nil {
			t.Errorf("cut at %d of %d: no error", n, len(b))
		}
	}
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			r := NewReader(bytes.NewReader(c))
			if err := r.Read(&Collector{}); err == nil {
				t.Errorf("bit %d of byte %d flipped: no error", bit, i)
			}
		}
	}
}

func TestErrorsNameTheKeyAndThePlace(t *testing.T) {
	b := sample()
	at := bytes.Index(b, []byte("key of hash")) + len("key of hash") + 4
	b[at] ^= 0xff
	err := NewReader(bytes.NewReader(b)).Read(&Collector{})
	var e *Error
	if !errors.As(err, &e) || string(e.Key) != "key of hash" || e.Offset < int64(at) || !errors.Is(err, errListpack) {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	head := "REDIS0010"
	module := string(binary.BigEndian.AppendUint64([]byte{length64}, 0b001001_010010_001110_001101_010010_100101_000100_000000_000001<<10|3))
	for want, file := range map[string]string{
		"no RDB file":                             "hello",
		"version 12 of the format":                "REDIS0012",
		"version 5 of the format":                 "REDIS0005",
		"a value of the module \"JSON":            head + "\x07\x01k" + module,
		"data of the module \"JSON":               head + "\xf7" + module,
		"a hash as zipmap":                        head + "\x09\x01k",
		"preview of Redis 7.0":                    head + "\xf6",
		"unknown type 20":                         head + "\x14\x01k",
		"key \"k\": a score is not a number":      head + "\x03\x01k\x01\x01m\xfd",
		"a string of 536870913 bytes is too long": head + "\x00\x01k\x80\x20\x00\x00\x01",
		"key \"k\": the file ends too early":      head + "\x00\x01k\x05abc",
		"compressed string is corrupt":            head + "\x00\x01k\xc3\x01\x80\x10\x00\x00\x00a",
		"expiry at 0":                             head + "\xfc\x00\x00\x00\x00\x00\x00\x00\x00",
		"unknown type 100":                        head + "\x64",
	} {
		err := NewReader(strings.NewReader(file)).Read(&Collector{})
		if want = strings.ReplaceAll(want, "JSON", moduleName(0b001001_010010_001110_001101_010010_100101_000100_000000_000001<<10 | 3)[1:5]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

func TestAZiplistWhoseLengthsDoNotFitIsRefused(t *testing.T) {
	whole := ziplistOf("a", "b", "300")
	for i := range whole[:len(whole)-1] {
		if i >= 4 && i < 8 || i >= 12 && whole[i] >= 'a' && whole[i] <= 'b' || i == len(whole)-2 || i == len(whole)-3 {
			continue // the offset of the last element, which is not used, and the elements themselves
		}
		b := bytes.Clone(whole)
		b[i]++
		value := appendString([]byte{typeListZiplist}, b)
		if err := ReadValue(value, &Collector{}); err == nil {
			t.Errorf("byte %d: no error", i)
		}
	}
}

// TestMemoryGrowsWithTheFileNotWithItsClaims: lengths of gigabytes with nothing behind them.
func TestMemoryGrowsWithTheFileNotWithItsClaims(t *testing.T) {
	huge := "\x80\x1f\xff\xff\xff"
	for _, value := range []string{"\x00\x01k" + huge, "\x01\x01k" + huge + huge, "\x04\x01k" + huge, "\x05\x01k" + huge,
		"\x0f\x01k" + huge, "\x12\x01k" + huge, "\x10\x01k" + huge, "\x00\x01k\xc3" + huge + huge, "\xfa" + huge} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := NewReader(strings.NewReader("REDIS0010" + value)).Read(&Collector{})
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%q: no error", value)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%q: %d bytes allocated", value, n)
		}
	}
}

// FuzzReader: what can be read can be written and is the same when it is read again.
func FuzzReader(f *testing.F) {
	f.Add(sample())
	for _, o := range oldForms() {
		f.Add(append(append([]byte("REDIS0011"), o.value[0], 1, 'k'), append(o.value[1:], opEOF, 0, 0, 0, 0, 0, 0, 0, 0)...))
	}
	rewrite := func(b []byte) ([]byte, error) {
		var out bytes.Buffer
		w := NewWriter(&out)
		c := &Collector{Done: func(k *Key, v *Value) error {
			if v.Empty() {
				return nil
			}
			return w.Entry(k.Name, k.ExpireAt, v.Append(nil))
		}}
		err := errors.Join(NewReader(bytes.NewReader(b)).Read(c), w.Close())
		return out.Bytes(), err
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(b) - 8; n > 0 {
			clear(b[n:]) // hardly anything has the right checksum; none passes
		}
		once, err := rewrite(b)
		if err != nil {
			return
		}
		twice, err := rewrite(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q\n%q\n%v", once, twice, err)
		}
	})
}
