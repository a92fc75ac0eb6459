package command

import "strconv"

// partScan is a step of HSCAN, SSCAN or ZSCAN: what was asked for, and the reply's elements so far.
type partScan struct {
	count   int
	pattern []byte // nil for everything
	body    []byte
	n       int
}

// parseScan reads COUNT and MATCH from Args[first:] on.
func (c *Ctx) parseScan(first int) (s partScan, ok bool) {
	s.count = 10
	for i := first; i < len(c.Args); i += 2 {
		more := i+1 < len(c.Args)
		switch {
		case more && option(c.Args[i], "count"):
			n, ok := c.intArg(i + 1)
			if !ok {
				return s, false
			}
			if n < 1 {
				c.W.Error(errSyntax)
				return s, false
			}
			s.count = int(min(n, maxScanCount))
		case more && option(c.Args[i], "match"):
			if s.pattern = c.Args[i+1]; len(s.pattern) == 1 && s.pattern[0] == '*' {
				s.pattern = nil
			} else if s.pattern == nil {
				s.pattern = []byte{}
			}
		default:
			c.W.Error(errSyntax)
			return s, false
		}
	}
	return s, true
}

func (s *partScan) matches(element []byte) bool {
	return s.pattern == nil || matchGlob(s.pattern, element)
}

func (s *partScan) add(word []byte) {
	s.body = appendBulk(s.body, word)
	s.n++
}

func (c *Ctx) replyScan(next uint64, s *partScan) {
	c.W.Array(2)
	c.W.Bulk(strconv.AppendUint(c.scratch[:0], next, 10))
	c.W.Array(s.n)
	c.W.Raw(s.body)
}

// emptyScan is the scan of a key that does not exist.
func (c *Ctx) emptyScan() { c.replyScan(0, &partScan{}) }
