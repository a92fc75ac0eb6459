package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In files it is a plain number or one with a unit,
// by Redis' rule: kb, mb, gb, tb (and KiB, MiB …) are powers of 1024; k, m, g, t
// powers of 1000; any case.
type Size int64

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	// Longest suffix first: "kib" ends in "b" as well.
	{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"tb", 1 << 40},
	{"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"t", 1e12}, {"b", 1},
}

// ParseSize reads "512MB", "1.5GiB" or "1048576".
func ParseSize(s string) (Size, error) {
	text, factor := strings.ToLower(strings.TrimSpace(s)), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			text, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/factor {
			return 0, fmt.Errorf("size %q is out of range", s)
		}
		return Size(n * factor), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f*float64(factor) >= math.MaxInt64 || strings.ContainsAny(text, "xpein_") {
		return 0, fmt.Errorf("size %q is not like 512MB or 1048576", s)
	}
	return Size(f * float64(factor)), nil
}

// String writes the size with the largest unit that keeps it exact.
func (s Size) String() string {
	for _, u := range []struct {
		name   string
		factor Size
	}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if s >= u.factor && s%u.factor == 0 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
