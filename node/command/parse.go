package command

import "math"

// The errors by which a caller refuses to run a command at all, as Redis words them.
const (
	// ErrCrossSlot answers a ScopeKey command whose keys are in several slots.
	ErrCrossSlot = "CROSSSLOT Keys in request don't hash to the same slot"
	// ErrOOM answers a DenyOOM command while nothing can be evicted.
	ErrOOM = "OOM command not allowed when used memory > 'maxmemory'."
)

// The error texts that several commands share, as Redis words them.
const (
	errSyntax     = "ERR syntax error"
	errNotInt     = "ERR value is not an integer or out of range"
	errIntRange   = "ERR value is out of range, value must between -2147483648 and 2147483647"
	errNotFloat   = "ERR value is not a valid float"
	errWrongType  = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errNoSuchKey  = "ERR no such key"
	errTooLong    = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
	errDBIndex    = "ERR DB index is out of range"
	errExpireTime = "ERR invalid expire time in '"
)

// parseInt reads a signed 64-bit integer in the one form that Redis accepts: no blanks, no plus sign, no leading zeros,
// no "-0".
func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	if len(b) == 1 && b[0] == '0' {
		return 0, true
	}
	digits, neg := b, b[0] == '-'
	if neg {
		digits = b[1:]
	}
	if len(digits) == 0 || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	var n uint64
	for _, c := range digits {
		d := c - '0'
		if d > 9 || n > (math.MaxUint64-9)/10 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	switch {
	case neg && n <= 1<<63:
		return -int64(n), true
	case !neg && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// intArg reads an argument as an integer, or replies with Redis' error.
func (c *Ctx) intArg(i int) (int64, bool) {
	n, ok := parseInt(c.Args[i])
	if !ok {
		c.W.Error(errNotInt)
	}
	return n, ok
}

func expireTimeError(s *Spec) string { return errExpireTime + s.Name + "' command" }
