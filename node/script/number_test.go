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

// TestTheRemainderIsThatOfLua51 in zeros, in what is too large to be exact, and for values that are no numbers.
func TestTheRemainderIsThatOfLua51(t *testing.T) {
	answersAs(t, map[string]string{
		"local x = -6 % 3 return tostring(x)..' '..tostring(1/x)":                                     "0 inf",
		"local x = -0 % 3 return tostring(x)..' '..tostring(1/x)":                                     "0 inf",
		"return tostring(1e20 % 3)":                                                                   "0",
		"return tostring(-7 % 0.3)":                                                                   "0.2",
		"return tostring(1e300 % 1e-10)":                                                              "-inf",
		"return tostring(7 % -4)..' '..tostring(-7 % 4)..' '..tostring('7' % '4')":                    "-1 1 3",
		"return (2 + 7 % 4 * 2)..''":                                                                  "8",
		"return tostring(2^3 % 5 - -7 % 4)":                                                           "2",
		"local function two() return 7, 4 end return tostring(two() % two())":                         "0",
		"return tostring(setmetatable({}, {__mod = function(a, b) return 'm'..tostring(b) end}) % 4)": "m4",
		"return tostring(4 % setmetatable({}, {__mod = function(a, b) return 'm'..tostring(a) end}))": "m4",
		"return nil % 4": "-attempt to perform arithmetic on a nil value",
		"return 4 % {}":  "-attempt to perform arithmetic on a table value",
	})
}
