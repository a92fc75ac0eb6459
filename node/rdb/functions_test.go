package rdb

import (
	"bytes"
	"errors"
	"testing"
)

func TestFunctionsAreDumpedAndOpened(t *testing.T) {
	long := bytes.Repeat([]byte("redis.call "), 10000)
	for _, libraries := range [][][]byte{nil, {[]byte("#!lua name=a\n")}, {long, {}, []byte("12"), []byte("\x00\xff")}} {
		got, err := OpenFunctions(SealFunctions(libraries))
		if err != nil || len(got) != len(libraries) {
			t.Fatalf("%d of %d, %v", len(got), len(libraries), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], libraries[i]) {
				t.Errorf("library %d: %.100q", i, got[i])
			}
		}
	}
}

func TestPayloadsOfSomethingElseAreRefused(t *testing.T) {
	good := SealFunctions([][]byte{[]byte("#!lua name=a\n")})
	broken := bytes.Clone(good)
	broken[3] ^= 1
	for _, b := range [][]byte{nil, []byte("x"), broken, good[1:]} {
		if _, err := OpenFunctions(b); !errors.Is(err, ErrPayload) {
			t.Errorf("%q: %v", b, err)
		}
	}
	for _, b := range [][]byte{AppendString(nil, []byte("v")), {opFunction2}, {opFunction2, 5, 'a'}, {opFunctionPreGA}} {
		var e *Error
		if _, err := OpenFunctions(Seal(b, 0)); !errors.As(err, &e) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func FuzzOpenFunctions(f *testing.F) {
	f.Add([]byte{opFunction2, 1, 'a'})
	f.Add([]byte{opFunction2, 0xc3, 4, 0x40, 0x40, 1, 'a', 'a', 0xe0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := OpenFunctions(Seal(b, 0))
		if err != nil {
			return
		}
		again, err := OpenFunctions(SealFunctions(list))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d libraries, again %d, %v", len(list), len(again), err)
		}
	})
}
