package command

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// parseDouble reads an argument that is a score, a weight or a coordinate as Redis does: all that strtod reads, decimal,
// hexadecimal or infinite, but no blanks, no NaN, and nothing that overflows or vanishes.
func parseDouble(b []byte) (float64, bool) {
	if n, ok := smallInt(b); ok {
		return n, true
	}
	if len(b) == 0 || isSpace(b[0]) {
		return 0, false
	}
	f, exact, ok := strtod(string(b))
	return f, ok && exact
}

// smallInt reads the integers of up to 15 digits, which most scores are.
func smallInt(b []byte) (float64, bool) {
	if len(b) > 15 {
		return 0, false
	}
	n, ok := parseInt(b)
	return float64(n), ok
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// strtod reads the whole of s as C does, without leading blanks. exact is false for what overflowed to an infinity or is
// too small to differ from zero.
func strtod(s string) (f float64, exact, ok bool) {
	if strings.ContainsRune(s, '_') {
		return 0, false, false
	}
	unsigned := strings.TrimLeft(s, "+-")
	hex := len(unsigned) > 2 && unsigned[0] == '0' && unsigned[1]|0x20 == 'x'
	if hex && !strings.ContainsAny(s, "pP") {
		s += "p0"
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, false, false
	}
	if f == 0 {
		mantissa, _, _ := strings.Cut(unsigned, map[bool]string{true: "p", false: "e"}[hex])
		return f, strings.Trim(strings.ToLower(mantissa), "0x.") == "", true
	}
	return f, err == nil, true
}

// parseBound reads the limit of a range of scores, as strtod does: blanks may come first, nothing is zero, a number that
// is too large is infinite, and a NUL ends it.
func parseBound(b []byte) (float64, bool) {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if len(b) == 0 {
		return 0, true
	}
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	f, _, ok := strtod(string(b))
	return f, ok
}

// appendScore is a score as the effects carry it: exact.
func appendScore(b []byte, score float64) []byte {
	switch {
	case math.IsInf(score, 1):
		return append(b, "inf"...)
	case math.IsInf(score, -1):
		return append(b, "-inf"...)
	}
	return strconv.AppendFloat(b, score, 'g', 17, 64)
}

// unsigned is the score that is kept: Redis' small sorted sets know no negative zero, so ours do not either.
func unsigned(score float64) float64 {
	if score == 0 {
		return 0
	}
	return score
}

// scoreRange is a range of scores, its ends included or not.
type scoreRange struct {
	min, max     float64
	minEx, maxEx bool
}

func parseScoreRange(min, max []byte) (r scoreRange, ok bool) {
	if r.min, r.minEx, ok = parseScoreLimit(min); !ok {
		return r, false
	}
	r.max, r.maxEx, ok = parseScoreLimit(max)
	return r, ok
}

func parseScoreLimit(b []byte) (limit float64, exclusive, ok bool) {
	if len(b) > 0 && b[0] == '(' {
		b, exclusive = b[1:], true
	}
	limit, ok = parseBound(b)
	return limit, exclusive, ok
}

func (r *scoreRange) belowMin(score float64) bool {
	return score < r.min || r.minEx && score == r.min
}

func (r *scoreRange) notAboveMax(score float64) bool {
	return score < r.max || !r.maxEx && score == r.max
}

// lexLimit is one end of a range of members: a member that is included or not, or an end of the order (-, +).
type lexLimit struct {
	member    []byte
	exclusive bool
	end       int // -1 before every member, 1 behind
}

func parseLexLimit(b []byte) (l lexLimit, ok bool) {
	switch {
	case len(b) == 0:
		return l, false
	case b[0] == '(':
		return lexLimit{member: b[1:], exclusive: true}, true
	case b[0] == '[':
		return lexLimit{member: b[1:]}, true
	case len(b) > 1 && b[1] != 0:
		return l, false
	case b[0] == '-':
		return lexLimit{end: -1}, true
	case b[0] == '+':
		return lexLimit{end: 1}, true
	}
	return l, false
}

// compare is the order of a member and the limit's.
func (l *lexLimit) compare(member []byte) int {
	if l.end != 0 {
		return -l.end
	}
	return bytes.Compare(member, l.member)
}

// lexRange is a range of members of equal score.
type lexRange struct{ min, max lexLimit }

func parseLexRange(min, max []byte) (r lexRange, ok bool) {
	if r.min, ok = parseLexLimit(min); !ok {
		return r, false
	}
	r.max, ok = parseLexLimit(max)
	return r, ok
}

func (r *lexRange) belowMin(member []byte) bool {
	n := r.min.compare(member)
	return n < 0 || n == 0 && r.min.exclusive
}

func (r *lexRange) notAboveMax(member []byte) bool {
	n := r.max.compare(member)
	return n < 0 || n == 0 && !r.max.exclusive
}
