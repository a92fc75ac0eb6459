package resp

import "strconv"

// maxNesting is how deep the aggregates are that Size measures.
const maxNesting = 64

// Size is the length of the complete RESP value that b begins with, with the attributes in front of it, 0 if it does not begin
// with one.
func Size(b []byte) int { return size(b, maxNesting) }

func size(b []byte, depth int) int {
	at := 1
	for at+1 < len(b) && b[at] != '\r' {
		at++
	}
	if depth == 0 || at+1 >= len(b) {
		return 0
	}
	n, err := strconv.Atoi(string(b[1:at]))
	at += 2
	switch b[0] {
	case '$', '=', '!':
		if n < 0 || err != nil {
			return at
		}
		if n > len(b)-at-2 {
			return 0
		}
		return at + n + 2
	case '%':
		n *= 2
	case '|':
		n = 2*n + 1
	case '*', '~', '>':
	default:
		return at
	}
	for range max(n, 0) {
		s := size(b[at:], depth-1)
		if s == 0 {
			return 0
		}
		at += s
	}
	return at
}
