package rdb

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// ziplistOf builds what Redis wrote before 7.0.
func ziplistOf(elements ...string) []byte {
	b := make([]byte, 10)
	prev, last := 0, 10
	for _, e := range elements {
		at := len(b)
		last = at
		if prev < 254 {
			b = append(b, byte(prev))
		} else {
			b = binary.LittleEndian.AppendUint32(append(b, 254), uint32(prev))
		}
		n, isInt := canonicalInt([]byte(e))
		switch {
		case isInt && n >= 0 && n <= 12:
			b = append(b, 0xf1+byte(n))
		case isInt && n == int64(int8(n)):
			b = append(b, 0xfe, byte(n))
		case isInt && n == int64(int16(n)):
			b = binary.LittleEndian.AppendUint16(append(b, 0xc0), uint16(n))
		case isInt && n >= -1<<23 && n < 1<<23:
			b = append(b, 0xf0, byte(n), byte(n>>8), byte(n>>16))
		case isInt && n == int64(int32(n)):
			b = binary.LittleEndian.AppendUint32(append(b, 0xd0), uint32(n))
		case isInt:
			b = binary.LittleEndian.AppendUint64(append(b, 0xe0), uint64(n))
		case len(e) < 64:
			b = append(append(b, byte(len(e))), e...)
		case len(e) < 1<<14:
			b = append(append(b, 0x40|byte(len(e)>>8), byte(len(e))), e...)
		default:
			b = append(binary.BigEndian.AppendUint32(append(b, 0x80), uint32(len(e))), e...)
		}
		prev = len(b) - at
	}
	b = append(b, 0xff)
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], uint32(last))
	binary.LittleEndian.PutUint16(b[8:], uint16(len(elements)))
	return b
}

func listpackOf(elements ...string) []byte {
	lp := newListpack(nil)
	for _, e := range elements {
		lp.element([]byte(e))
	}
	return lp.finish()
}

func strs(words ...string) []byte {
	b := appendLength(nil, uint64(len(words)))
	for _, w := range words {
		b = appendString(b, []byte(w))
	}
	return b
}

// flat is a value as one list of words.
func flat(v *Value) string {
	var words []string
	for i, e := range v.Items {
		words = append(words, string(e))
		if v.Scores != nil {
			words = append(words, fmt.Sprint(v.Scores[i]))
		}
	}
	return fmt.Sprintf("%v %q", v.Type, words)
}

// oldForms are values as earlier versions wrote them, or the next one.
func oldForms() map[string]struct {
	value []byte
	words []string
	late  bool // redis-server 7.0 does not know it
} {
	edge := []string{"", "a", "0", "12", "13", "-1", "127", "-128", "128", "32767", "-32769", "8388607", "-8388609", "2147483648",
		"9223372036854775807", "-9223372036854775808", "007", strings.Repeat("x", 63), strings.Repeat("y", 64),
		strings.Repeat("z", 253), strings.Repeat("z", 300), strings.Repeat("w", 16384), "end", "."}
	blob := func(kind byte, b []byte) []byte { return appendString([]byte{kind}, b) }
	scores := []string{"m", "1", "n", "2.5", "o", "inf"}
	old := slices.Concat([]byte{typeZSet, 3}, []byte("\x01m\x011"), []byte("\x01n\x032.5"), []byte("\x01o\xfe"))
	new := []byte{typeZSet2, 3}
	for i, f := range []float64{1, 2.5, math.Inf(1)} {
		new = binary.LittleEndian.AppendUint64(append(new, 1, "mno"[i]), math.Float64bits(f))
	}
	return map[string]struct {
		value []byte
		words []string
		late  bool
	}{
		"list":            {append([]byte{typeList}, strs(edge...)...), edge, false},
		"list ziplist":    {blob(typeListZiplist, ziplistOf(edge...)), edge, false},
		"list quicklist":  {slices.Concat([]byte{typeListQuicklist}, strs(string(ziplistOf(edge[:9]...)), string(ziplistOf(edge[9:]...)))), edge, false},
		"list quicklist2": {slices.Concat([]byte{typeListQuicklist2, 2}, []byte{nodePlain}, appendString(nil, []byte("plain")), []byte{nodePacked}, appendString(nil, listpackOf(edge...))), append([]string{"plain"}, edge...), false},
		"hash":            {slices.Concat([]byte{typeHash, byte(len(edge) / 2)}, strs(edge...)[1:]), edge, false},
		"hash ziplist":    {blob(typeHashZiplist, ziplistOf(edge...)), edge, false},
		"hash listpack":   {blob(typeHashListpack, listpackOf(edge...)), edge, false},
		"set":             {append([]byte{typeSet}, strs(edge...)...), edge, false},
		"set listpack":    {blob(typeSetListpack, listpackOf(edge...)), edge, true},
		"zset":            {old, scores, false},
		"zset ziplist":    {blob(typeZSetZiplist, ziplistOf(scores...)), scores, false},
		"zset listpack":   {blob(typeZSetListpack, listpackOf(scores...)), scores, false},
		"zset double":     {new, scores, false},
		"set intset 16":   {blob(typeSetIntset, intset([]int64{-5, 0, 300})), []string{"-5", "0", "300"}, false},
		"set intset 32":   {blob(typeSetIntset, intset([]int64{-70000, 0, 300})), []string{"-70000", "0", "300"}, false},
		"set intset 64":   {blob(typeSetIntset, intset([]int64{-1 << 63, 0, 1<<63 - 1})), []string{"-9223372036854775808", "0", "9223372036854775807"}, false},
	}
}

func TestFormsOfEveryVersionAreRead(t *testing.T) {
	r := startRedis(t, t.TempDir(), "--sanitize-dump-payload", "yes")
	for name, f := range oldForms() {
		c := &Collector{}
		rd := &Reader{s: newSource(strings.NewReader(string(f.value[1:]))), sink: c, version: MaxVersion}
		if err := rd.known(f.value[0]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := rd.value(f.value[0]); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := fmt.Sprintf("%v %q", c.Value.Type, f.words); strings.ReplaceAll(flat(&c.Value), "+Inf", "inf") != want {
			t.Errorf("%s: %s\nwant %s", name, flat(&c.Value), want)
		}
		r.do("RESTORE", "mine", "0", string(Seal(c.Value.Append(nil), 0)), "REPLACE")
		if !f.late {
			r.do("RESTORE", "theirs", "0", string(Seal(slices.Clone(f.value), 0)), "REPLACE")
			if got, want := state(r, "mine"), state(r, "theirs"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

// TestStreamsOf72AreRead: the third form adds the time of a consumer's last success.
func TestStreamsOf72AreRead(t *testing.T) {
	s := &StreamValue{
		Entries: []StreamEntry{{StreamID{1, 1}, [][]byte{[]byte("f"), []byte("v")}}},
		State:   StreamState{Length: 1, LastID: StreamID{1, 1}, FirstID: StreamID{1, 1}, Added: 3},
		Groups: []StreamGroup{{Name: []byte("g"), LastID: StreamID{1, 1}, Read: EntriesReadUnknown,
			Consumers: []StreamConsumer{{Name: []byte("c"), SeenAt: 7, ActiveAt: 7}},
			Pending:   []StreamPending{{ID: StreamID{1, 1}, DeliveredAt: 5, Deliveries: 2}}}},
	}
	b := AppendStream(nil, s)
	seen := binary.LittleEndian.AppendUint64([]byte("\x01c"), 7)
	at := strings.Index(string(b), string(seen)) + len(seen)
	b = slices.Insert(b, at, binary.LittleEndian.AppendUint64(nil, 9)...)
	c := &Collector{}
	rd := &Reader{s: newSource(strings.NewReader(string(b[1:]))), sink: c, version: MaxVersion}
	if err := rd.value(typeStream3); err != nil {
		t.Fatal(err)
	}
	s.Groups[0].Consumers[0].ActiveAt = 9
	if got, want := fmt.Sprint(*c.Value.Stream), fmt.Sprint(*s); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
