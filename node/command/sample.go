package command

import "math/rand/v2"

// maxRepeats bounds the elements of a reply with repetitions (HRANDFIELD, SRANDMEMBER, ZRANDMEMBER with a negative
// count), maxSampleBytes their bytes; Redis sends as many as the client's buffer limit allows. More is refused.
const (
	maxRepeats     = 1 << 20
	maxSampleBytes = 64 << 20
)

const errTooMany = "ERR value is out of range"

// randomCount reads the count of HRANDFIELD and its kin: negative for elements that may repeat.
func (c *Ctx) randomCount(i int) (n int64, ok bool) {
	n, ok = c.intArg(i)
	if ok && n == -1<<63 {
		c.W.Error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
		return 0, false
	}
	return n, ok
}

// chooser decides, element by element of a collection of known size, which n of them are in a random sample; each subset
// has the same chance.
type chooser struct{ need, left int }

func (s *chooser) take(rng *rand.Rand) bool {
	take := rng.IntN(s.left) < s.need
	s.left--
	if take {
		s.need--
	}
	return take
}

// dense says that a sample of n out of size is better chosen in one pass than by drawing until n are distinct.
func dense(n, size int) bool { return n > size/3 }
