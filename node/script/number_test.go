package script

import (
	"math"
	"testing"
)

func TestNumbersAreReadAsCDoes(t *testing.T) {
	for s, want := range map[string]float64{
		"10": 10, " 7 ": 7, "0x10": 16, "0x1p4": 16, "-0x1.8": -1.5, "1e3": 1000, ".5": 0.5, "5.": 5, "inf": math.Inf(1), "-Infinity": math.Inf(-1),
		"1e400": math.Inf(1), "+1": 1, "12\x00x": 12, "\t1\n": 1,
	} {
		if f, ok := parseNumber(s); !ok || f != want {
			t.Errorf("%q: %v, %v", s, f, ok)
		}
	}
	for _, s := range []string{"", " ", "x", "1x", "--1", "+-1", "0x", "1e", "1_0", "0x1_0", "1 2", "\x001"} {
		if f, ok := parseNumber(s); ok {
			t.Errorf("%q: %v", s, f)
		}
	}
}

func TestIntegersOfAnyBaseAreReadAsCDoes(t *testing.T) {
	for _, tt := range []struct {
		s    string
		base int
		want float64
	}{
		{"ff", 16, 255}, {"0xFF", 16, 255}, {"zz", 36, 1295}, {" 101 ", 2, 5}, {"-1", 16, 1 << 64}, {"+7", 8, 7}, {"a\x00b", 16, 10},
		{"77777777777777777777777777", 8, 1 << 64},
	} {
		if f, ok := parseUnsigned(tt.s, tt.base); !ok || f != tt.want {
			t.Errorf("%q of base %d: %v, %v", tt.s, tt.base, f, ok)
		}
	}
	for _, s := range []string{"", "-", "8", "1.5", "--1", "-+1"} {
		if f, ok := parseUnsigned(s, 8); ok {
			t.Errorf("%q: %v", s, f)
		}
	}
}
