package command

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDoublesReadAsStrtodReadsThem(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(9, 10))
	texts := []string{"", " ", " 1", "1 ", "+1", "+-1", "0x", "0x1", "0x1p", "0x1p4", "0x.8", "0x_1", "1_0", "inf", "-Infinity", "nan",
		"0e-999", "0x0p-9999", "2.2250738585072014e-308", "1\x002", "\x00", "e5", ".", "1.", ".5", "1e", "in"}
	for range 2000 {
		texts = append(texts, randomString(rng, "0019.e+-x aif", 7))
	}
	// What is out of range is left out: redis-server, which does not clear errno, would refuse every number after it.
	long := regexp.MustCompile("e[+-]?0*[1-9][0-9]{2}")
	texts = slices.DeleteFunc(texts, long.MatchString)
	var requests [][]string
	for _, s := range texts {
		requests = append(requests, []string{"DEL", "s"}, []string{"SADD", "s", s}, []string{"SORT", "s"})
	}
	replies := pipeline(t, redis, requests)
	for i, s := range texts {
		_, got := parseCDouble([]byte(s))
		if want := replies[3*i+2][0] == '*'; got != want {
			t.Errorf("%q is a number: %v, redis-server says %v", s, got, want)
		}
	}
	for _, s := range []string{"1e400", "1e-400", "-1e309", "5e-324", "1e-310", "0x1p2000"} {
		if _, ok := parseCDouble([]byte(s)); ok {
			t.Errorf("%q is no double", s)
		}
	}
}

func TestSortFollowsPatternsOfItsSlotOnly(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	do := func(line string) string { return string(h.exec(self, bytesOf(strings.Fields(line)))) }
	do("SADD {k}s 1 2 3")
	do("MSET {k}w1 30 {k}w2 20 {k}w3 10")
	if got, want := do("SORT {k}s BY {k}w*"), "*3\r\n$1\r\n3\r\n$1\r\n2\r\n$1\r\n1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, pattern := range []string{"w*", "*", "{k*}", "{}*", "{other}*", "*{k}", "{k*"} {
		for _, word := range []string{"BY", "GET"} {
			want := fmt.Sprintf("-ERR %s option of SORT denied in cluster mode.\r\n", word)
			if got := do(fmt.Sprintf("SORT {k}s %s %s", word, pattern)); got != want {
				t.Errorf("%s %s: %q", word, pattern, got)
			}
		}
	}
}
