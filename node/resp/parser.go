package resp

import (
	"bytes"
	"fmt"
)

// parser reads commands, RESP arrays of bulk strings or inline lines, out of a buffer that grows at its end.
//
// It remembers how far it got in an incomplete command, as offsets from that command's first byte, so bytes are looked
// at once however thinly they trickle in, and the buffer may move between calls. Nothing it allocates follows a declared
// count or length: spans grow with elements that have arrived. What it accepts and how it words a refusal is Redis'
// (7.0), but never dependent on where the network cut the stream.
type parser struct {
	maxArgs, maxBulk, maxInline int
	restricted                  bool // unauthenticated: Redis' far smaller bounds

	left    int    // elements of the current array still to come; 0 = between commands
	bulk    int    // length of the element being read, -1 = its length line is still to come
	pos     int    // how much of the command is understood
	scan    int    // up to where the line at pos was searched for its end
	spans   []span // the elements so far
	args    [][]byte
	scratch []byte // unquoted inline arguments
}

type span struct{ off, n int }

const (
	restrictedArgs = 10
	restrictedBulk = 16 << 10
	keptArgs       = 1024 // more are given back to the collector after use
	keptScratch    = 4 << 10
)

var (
	errMultibulkLength     = fmt.Errorf("%w: invalid multibulk length", ErrProtocol)
	errMultibulkLine       = fmt.Errorf("%w: too big mbulk count string", ErrProtocol)
	errMultibulkRestricted = fmt.Errorf("%w: unauthenticated multibulk length", ErrProtocol)
	errBulkLength          = fmt.Errorf("%w: invalid bulk length", ErrProtocol)
	errBulkLine            = fmt.Errorf("%w: too big bulk count string", ErrProtocol)
	errBulkRestricted      = fmt.Errorf("%w: unauthenticated bulk length", ErrProtocol)
	errInlineLine          = fmt.Errorf("%w: too big inline request", ErrProtocol)
	errQuotes              = fmt.Errorf("%w: unbalanced quotes in request", ErrProtocol)
)

// next parses the command at the start of buf, which must not be empty. n is its length in bytes, 0 when it is still
// incomplete: call again with the same bytes and more behind them. args, which alias buf or the parser and are valid
// until the next call, are empty for the commands that mean nothing (an empty line or array). An error is final.
func (p *parser) next(buf []byte) (args [][]byte, n int, err error) {
	if p.left == 0 {
		if buf[0] != '*' {
			return p.inline(buf)
		}
		count, after := number(buf, 1)
		if after == 0 {
			count, after, err = p.lengthLine(buf, errMultibulkLine, errMultibulkLength)
			if after == 0 {
				return nil, 0, err
			}
		}
		switch {
		case count > p.maxArgs:
			return nil, 0, errMultibulkLength
		case count > restrictedArgs && p.restricted:
			return nil, 0, errMultibulkRestricted
		case count <= 0:
			p.pos, p.scan = 0, 0
			return nil, after, nil
		}
		p.left, p.bulk, p.pos = count, -1, after
		p.spans = p.spans[:0]
	}
	return p.elements(buf)
}

// elements reads on in an array whose count is known.
func (p *parser) elements(buf []byte) (args [][]byte, n int, err error) {
	pos, bulk := p.pos, p.bulk
	for p.left > 0 {
		if bulk < 0 {
			var after int
			if pos < len(buf) && buf[pos] == '$' {
				bulk, after = number(buf, pos+1)
			}
			if after == 0 {
				p.pos = pos
				bulk, after, err = p.lengthLine(buf, errBulkLine, errBulkLength)
				if after == 0 {
					p.bulk = -1
					return nil, 0, err
				}
			}
			switch {
			case bulk < 0 || bulk > p.maxBulk:
				return nil, 0, errBulkLength
			case bulk > restrictedBulk && p.restricted:
				return nil, 0, errBulkRestricted
			}
			pos = after
		}
		if len(buf)-pos < bulk+2 {
			p.pos, p.bulk = pos, bulk
			return nil, 0, nil
		}
		p.spans = append(p.spans, span{pos, bulk})
		pos += bulk + 2
		bulk = -1
		p.left--
	}
	p.pos, p.scan = 0, 0
	return p.cut(buf), pos, nil
}

// need says how many bytes the incomplete command has at least, counted from its start: what its current element
// declares. It is a hint for growing a buffer, never a reason to allocate ahead of what has arrived.
func (p *parser) need() int {
	if p.left == 0 || p.bulk < 0 {
		return 0
	}
	return p.pos + p.bulk + 2
}

// cut turns the spans into slices of buf. Each has no spare capacity, so that appending to one cannot touch the next.
func (p *parser) cut(buf []byte) [][]byte {
	args := p.args[:0]
	for _, s := range p.spans {
		args = append(args, buf[s.off:s.off+s.n:s.off+s.n])
	}
	p.args = args
	return args
}

// trim gives back what only an unusually large command needed. It must not be called in the middle of one's use.
func (p *parser) trim() {
	if cap(p.args) > keptArgs || cap(p.scratch) > keptScratch {
		p.args, p.scratch = nil, nil
		if p.left == 0 {
			p.spans = nil
		}
	}
}

// forget drops the last command's arguments, which keep the buffer alive that they alias.
func (p *parser) forget() { clear(p.args[:cap(p.args)]) }

// number reads a plain number of up to nine digits and its line end; after is 0 for everything else, which lengthLine
// then judges at leisure.
func number(buf []byte, i int) (value, after int) {
	first := i
	for ; i < len(buf) && i-first < 10; i++ {
		c := buf[i] - '0'
		if c <= 9 {
			value = value*10 + int(c)
			continue
		}
		if buf[i] != '\r' || i == first || i+1 >= len(buf) || (buf[first] == '0' && i-first > 1) {
			return 0, 0
		}
		return value, i + 2
	}
	return 0, 0
}

// lengthLine reads the line at p.pos: a type byte and a number. after is 0 when it is incomplete or wrong.
func (p *parser) lengthLine(buf []byte, tooLong, invalid error) (value, after int, err error) {
	from := max(p.pos, p.scan)
	i := bytes.IndexByte(buf[from:], '\r')
	if i < 0 {
		if len(buf)-p.pos > p.maxInline {
			return 0, 0, tooLong
		}
		p.scan = len(buf)
		return 0, 0, nil
	}
	end := from + i
	if end-p.pos > p.maxInline {
		return 0, 0, tooLong
	}
	if end+1 >= len(buf) {
		p.scan = end
		return 0, 0, nil
	}
	p.scan = 0
	if p.left > 0 && buf[p.pos] != '$' {
		return 0, 0, fmt.Errorf("%w: expected '$', got '%s'", ErrProtocol, buf[p.pos:p.pos+1])
	}
	value, ok := decimal(buf[p.pos+1 : end])
	if !ok {
		return 0, 0, invalid
	}
	return value, end + 2, nil
}

// decimal reads a number as strictly as Redis: no sign but '-', no leading zeros, no spaces. Numbers beyond 18 digits
// are refused; every limit is far below.
func decimal(b []byte) (value int, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 || (b[0] == '0' && (negative || len(b) > 1)) {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		value = value*10 + int(c-'0')
	}
	if negative {
		value = -value
	}
	return value, true
}

// inline reads a command typed by a person: words on one line.
func (p *parser) inline(buf []byte) (args [][]byte, n int, err error) {
	i := bytes.IndexByte(buf[p.scan:], '\n')
	if i < 0 {
		if len(buf) > p.maxInline {
			return nil, 0, errInlineLine
		}
		p.scan = len(buf)
		return nil, 0, nil
	}
	end := p.scan + i
	if end > p.maxInline {
		return nil, 0, errInlineLine
	}
	p.scan = 0
	line := buf[:end]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	p.spans, p.scratch = p.spans[:0], p.scratch[:0]
	for {
		for len(line) > 0 && isSpace(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			break
		}
		start := len(p.scratch)
		line, err = p.word(line)
		if err != nil {
			return nil, 0, err
		}
		p.spans = append(p.spans, span{start, len(p.scratch) - start})
	}
	return p.cut(p.scratch), end + 1, nil
}

// word unquotes the word at the start of line into scratch and returns what follows it. A quote may begin inside a word
// but must end it.
func (p *parser) word(line []byte) (rest []byte, err error) {
	for len(line) > 0 {
		switch c := line[0]; c {
		case ' ', '\t', '\r', '\n':
			return line, nil
		case '"', '\'':
			line, err = p.quoted(line[1:], c)
			if err != nil || (len(line) > 0 && !isSpace(line[0])) {
				return nil, errQuotes
			}
			return line, nil
		default:
			p.scratch = append(p.scratch, c)
			line = line[1:]
		}
	}
	return line, nil
}

// quoted reads up to the closing quote. Double quotes know \n \r \t \b \a and \xHH, single quotes only \'.
func (p *parser) quoted(line []byte, quote byte) (rest []byte, err error) {
	for len(line) > 0 {
		c, width := line[0], 1
		switch {
		case c == quote:
			return line[1:], nil
		case c != '\\' || len(line) == 1:
		case quote == '\'':
			if line[1] == '\'' {
				c, width = '\'', 2
			}
		case line[1] == 'x' && len(line) >= 4 && isHex(line[2]) && isHex(line[3]):
			c, width = unhex(line[2])<<4|unhex(line[3]), 4
		default:
			c, width = unescape(line[1]), 2
		}
		p.scratch = append(p.scratch, c)
		line = line[width:]
	}
	return nil, errQuotes
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func isSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

func isHex(c byte) bool {
	return ('0' <= c && c <= '9') || ('a' <= c|0x20 && c|0x20 <= 'f')
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
