package command

import (
	"fmt"
	"strconv"
)

// DEBUG POPULATE is a command of the connection's node, which makes SETs of it: each goes the way of any client's.

const (
	// maxPopulate is the largest count of DEBUG POPULATE: some 10 GB of the smallest keys. A slip of the finger ends here and not
	// in all the memory that there is.
	maxPopulate = 100_000_000
	// maxPopulateSize is the largest size of its values, where the node does not take smaller ones only.
	maxPopulateSize = 64 << 20
)

// Population is what DEBUG POPULATE <count> [<prefix>] [<size>] asks for.
type Population struct {
	Count  int
	prefix []byte
	size   int // 0: as long as their text
}

// ParsePopulation reads the arguments, for a node that takes values of up to maxValue bytes; problem is what is wrong with them, "" if
// nothing is. It keeps none of them.
func ParsePopulation(args [][]byte, maxValue int) (p Population, problem string) {
	p.prefix = []byte("key")
	if len(args) > 3 {
		p.prefix = append([]byte(nil), args[3]...)
	}
	for _, limited := range []struct {
		at, most int
		what     string
		to       *int
	}{
		{2, maxPopulate, "keys at a time", &p.Count},
		{4, min(maxPopulateSize, maxValue), "bytes for each value", &p.size},
	} {
		if limited.at >= len(args) {
			continue
		}
		n, ok := parseInt(args[limited.at])
		switch {
		case !ok || n < 0:
			return p, "ERR value is out of range, must be positive"
		case n > int64(limited.most):
			return p, fmt.Sprintf("ERR DEBUG POPULATE makes up to %d %s, not %d", limited.most, limited.what, n)
		}
		*limited.to = int(n)
	}
	return p, ""
}

// Key appends the i-th key to b.
func (p *Population) Key(b []byte, i int) []byte {
	return strconv.AppendInt(append(append(b, p.prefix...), ':'), int64(i), 10)
}

// Value appends the value of the i-th key to b: its text, cut or padded with zero bytes to the size that was asked for.
func (p *Population) Value(b []byte, i int) []byte {
	start := len(b)
	b = strconv.AppendInt(append(b, "value:"...), int64(i), 10)
	switch text := len(b) - start; {
	case p.size == 0:
		return b
	case p.size <= text:
		return b[:start+p.size]
	default:
		return append(b, make([]byte, p.size-text)...)
	}
}

// Bytes is about how much a key and its value take on their way.
func (p *Population) Bytes() int { return len(p.prefix) + p.size + 32 }
