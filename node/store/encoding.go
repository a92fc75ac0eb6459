package store

import "strconv"

// embstrMax is the longest string that Redis 7 keeps in one allocation with its object header, in bytes.
const embstrMax = 44

// isCanonicalInt reports whether b is a signed 64-bit integer in the only form that Redis keeps as a number: no plus
// sign, no leading zero, no "-0".
func isCanonicalInt(b []byte) bool {
	if len(b) == 0 || len(b) > 20 {
		return false
	}
	digits := b
	if b[0] == '-' {
		digits = b[1:]
	}
	if len(digits) == 0 || digits[0] == '0' && (len(digits) > 1 || b[0] == '-') {
		return false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	if len(digits) < 19 {
		return true
	}
	_, err := strconv.ParseInt(string(b), 10, 64)
	return err == nil
}
