package script

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxCaptures = 32
	// maxPatternDepth bounds the items of a pattern that are open at once: matching goes down recursively.
	maxPatternDepth = 100_000
	// patternSteps is how many steps of matching pass between two calls of Host.Tick.
	patternSteps = 1 << 14

	specials = "^$*+?.([%-"
)

// Sizes of captures that have none.
const (
	captureOpen     = -1
	capturePosition = -2
)

type capture struct{ at, size int }

// matcher finds a pattern of Lua 5.1 in a text. The interpreter's own knows no %f, is not interrupted and gives replacements in
// its own way. Indexes that are -1 say that nothing matches.
type matcher struct {
	r            *Run
	l            *lua.LState
	text         string
	pattern      string
	captures     []capture
	depth, steps int
}

// newMatcher has a pattern end where a C string does.
func (r *Run) newMatcher(l *lua.LState, text, pattern string) *matcher {
	return &matcher{r: r, l: l, text: text, pattern: cString(pattern)}
}

// anchored cuts off a leading ^.
func (m *matcher) anchored() (yes bool) {
	m.pattern, yes = strings.CutPrefix(m.pattern, "^")
	return yes
}

// at matches the whole pattern with what begins at s, and returns where that ends.
func (m *matcher) at(s int) int {
	m.captures, m.depth = m.captures[:0], 0
	return m.match(s, 0)
}

func (m *matcher) spend(steps int) {
	if m.steps += steps; m.steps >= patternSteps {
		m.steps = 0
		m.r.pause(m.l)
	}
}

// item is the pattern's byte at p, 0 at its end.
func (m *matcher) item(p int) byte {
	if p < len(m.pattern) {
		return m.pattern[p]
	}
	return 0
}

func (m *matcher) match(s, p int) (end int) {
	if m.depth++; m.depth > maxPatternDepth {
		m.l.RaiseError("pattern too complex")
	}
	for next := 0; ; p = next {
		m.spend(1)
		var done bool
		if s, next, done = m.step(s, p); done {
			m.depth--
			return s
		}
	}
}

// step matches one item of the pattern, or all that is left of it: then it is done.
func (m *matcher) step(s, p int) (end, next int, done bool) {
	switch c := m.item(p); {
	case p == len(m.pattern):
		return s, p, true
	case c == '(' && m.item(p+1) == ')':
		return m.open(s, p+2, capturePosition), p, true
	case c == '(':
		return m.open(s, p+1, captureOpen), p, true
	case c == ')':
		return m.close(s, p+1), p, true
	case c == '$' && p+1 == len(m.pattern):
		if s != len(m.text) {
			s = -1
		}
		return s, p, true
	case c == '%' && m.item(p+1) == 'b':
		s = m.balance(s, p+2)
		return s, p + 4, s < 0
	case c == '%' && m.item(p+1) == 'f':
		next, ok := m.frontier(s, p+2)
		if !ok {
			s = -1
		}
		return s, next, !ok
	case c == '%' && m.item(p+1) >= '0' && m.item(p+1) <= '9':
		s = m.again(s, m.item(p+1))
		return s, p + 2, s < 0
	}
	return m.single(s, p)
}

// single matches a character, a class or a set, as often as the sign behind it says.
func (m *matcher) single(s, p int) (end, next int, done bool) {
	behind := m.classEnd(p)
	fits := m.fits(s, p, behind)
	switch m.item(behind) {
	case '?':
		if fits {
			if end := m.match(s+1, behind+1); end >= 0 {
				return end, 0, true
			}
		}
		return s, behind + 1, false
	case '*':
		return m.most(s, p, behind), 0, true
	case '+':
		if !fits {
			return -1, 0, true
		}
		return m.most(s+1, p, behind), 0, true
	case '-':
		return m.fewest(s, p, behind), 0, true
	}
	if !fits {
		return -1, 0, true
	}
	return s + 1, behind, false
}

func (m *matcher) most(s, p, behind int) int {
	n := 0
	for m.fits(s+n, p, behind) {
		n++
	}
	for m.spend(n); n >= 0; n-- {
		if end := m.match(s+n, behind+1); end >= 0 {
			return end
		}
	}
	return -1
}

func (m *matcher) fewest(s, p, behind int) int {
	for ; ; s++ {
		if end := m.match(s, behind+1); end >= 0 {
			return end
		}
		if !m.fits(s, p, behind) {
			return -1
		}
	}
}

func (m *matcher) open(s, p, size int) int {
	if len(m.captures) == maxCaptures {
		m.l.RaiseError("too many captures")
	}
	m.captures = append(m.captures, capture{s, size})
	n := len(m.captures)
	end := m.match(s, p)
	if end < 0 {
		m.captures = m.captures[:n-1]
	}
	return end
}

func (m *matcher) close(s, p int) int {
	i := len(m.captures) - 1
	for i >= 0 && m.captures[i].size != captureOpen {
		i--
	}
	if i < 0 {
		m.l.RaiseError("invalid pattern capture")
	}
	m.captures[i].size = s - m.captures[i].at
	end := m.match(s, p)
	if end < 0 {
		m.captures[i].size = captureOpen
	}
	return end
}

// again matches what a capture did.
func (m *matcher) again(s int, digit byte) int {
	i := int(digit) - '1'
	if i < 0 || i >= len(m.captures) || m.captures[i].size == captureOpen {
		m.l.RaiseError("invalid capture index")
	}
	c := m.captures[i]
	if c.size < 0 || !strings.HasPrefix(m.text[s:], m.text[c.at:c.at+c.size]) {
		return -1
	}
	m.spend(c.size)
	return s + c.size
}

// balance is %b.
func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pattern) {
		m.l.RaiseError("unbalanced pattern")
	}
	first, last := m.pattern[p], m.pattern[p+1]
	if s == len(m.text) || m.text[s] != first {
		return -1
	}
	for at, open := s+1, 1; at < len(m.text); at++ {
		m.spend(1)
		switch m.text[at] {
		case last:
			if open--; open == 0 {
				return at + 1
			}
		case first:
			open++
		}
	}
	return -1
}

// frontier is %f, and returns what follows its set. Beyond the text's ends is a zero byte.
func (m *matcher) frontier(s, p int) (next int, ok bool) {
	if m.item(p) != '[' {
		m.l.RaiseError("%s", "missing '[' after '%f' in pattern")
	}
	var before, here byte
	if s > 0 {
		before = m.text[s-1]
	}
	if s < len(m.text) {
		here = m.text[s]
	}
	next = m.classEnd(p)
	return next, !m.inSet(before, p, next-1) && m.inSet(here, p, next-1)
}

func (m *matcher) classEnd(p int) int {
	switch m.pattern[p] {
	case '%':
		if p+1 == len(m.pattern) {
			m.l.RaiseError("%s", "malformed pattern (ends with '%')")
		}
		return p + 2
	case '[':
		p++
		if m.item(p) == '^' {
			p++
		}
		for first := true; first || m.item(p) != ']'; first = false {
			if p >= len(m.pattern) {
				m.l.RaiseError("malformed pattern (missing ']')")
			}
			if m.pattern[p] == '%' && p+1 < len(m.pattern) {
				p++
			}
			p++
		}
	}
	return p + 1
}

func (m *matcher) fits(s, p, behind int) bool {
	if s >= len(m.text) {
		return false
	}
	switch c := m.text[s]; m.pattern[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.pattern[p+1])
	case '[':
		return m.inSet(c, p, behind-1)
	default:
		return m.pattern[p] == c
	}
}

// inSet says whether c is in the set that begins at p and has its ] at last.
func (m *matcher) inSet(c byte, p, last int) bool {
	in := true
	if p++; m.pattern[p] == '^' {
		in = false
		p++
	}
	for ; p < last; p++ {
		switch x := m.pattern[p]; {
		case x == '%':
			if p++; inClass(c, m.pattern[p]) {
				return in
			}
		case m.pattern[p+1] == '-' && p+2 < last:
			if p += 2; x <= c && c <= m.pattern[p] {
				return in
			}
		case x == c:
			return in
		}
	}
	return !in
}

// inClass is C's ctype: bytes above 127 are in no class.
func inClass(c, class byte) (in bool) {
	letter := c|0x20 >= 'a' && c|0x20 <= 'z'
	digit := c >= '0' && c <= '9'
	switch class | 0x20 {
	case 'a':
		in = letter
	case 'c':
		in = c < ' ' || c == 127
	case 'd':
		in = digit
	case 'l':
		in = letter && c >= 'a'
	case 'p':
		in = c > ' ' && c < 127 && !letter && !digit
	case 's':
		in = strings.IndexByte(spaces, c) >= 0
	case 'u':
		in = letter && c < 'a'
	case 'w':
		in = letter || digit
	case 'x':
		in = digit || c|0x20 >= 'a' && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if class < 'a' {
		return !in
	}
	return in
}

// capture is what the ith capture has; the first is the whole match if there are none.
func (m *matcher) capture(i, start, end int) lua.LValue {
	if i >= len(m.captures) {
		if i > 0 {
			m.l.RaiseError("invalid capture index")
		}
		return lua.LString(m.text[start:end])
	}
	switch c := m.captures[i]; c.size {
	case captureOpen:
		m.l.RaiseError("unfinished capture")
		return lua.LNil
	case capturePosition:
		return lua.LNumber(c.at + 1)
	default:
		return lua.LString(m.text[c.at : c.at+c.size])
	}
}

// push gives the script all captures.
func (m *matcher) push(start, end int) int {
	n := max(len(m.captures), 1)
	for i := range n {
		m.l.Push(m.capture(i, start, end))
	}
	return n
}

func (r *Run) stringFind(l *lua.LState) int  { return r.search(l, true) }
func (r *Run) stringMatch(l *lua.LState) int { return r.search(l, false) }

func (r *Run) search(l *lua.LState, find bool) int {
	text, pattern := checkString(l, 1), checkString(l, 2)
	from := min(max(fromEnd(optInteger(l, 3, 1), len(text))-1, 0), int64(len(text)))
	m := r.newMatcher(l, text, pattern)
	if find && (lua.LVAsBool(l.Get(4)) || !strings.ContainsAny(m.pattern, specials)) {
		at := strings.Index(text[from:], pattern)
		if at < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(int(from) + at + 1))
		l.Push(lua.LNumber(int(from) + at + len(pattern)))
		return 2
	}
	anchored := m.anchored()
	for s := int(from); s <= len(text); s++ {
		if end := m.at(s); end >= 0 {
			if !find {
				return m.push(s, end)
			}
			l.Push(lua.LNumber(s + 1))
			l.Push(lua.LNumber(end))
			if len(m.captures) == 0 {
				return 2
			}
			return m.push(s, end) + 2
		}
		if anchored {
			break
		}
	}
	l.Push(lua.LNil)
	return 1
}

func (r *Run) stringGmatch(l *lua.LState) int {
	m, s := r.newMatcher(l, checkString(l, 1), checkString(l, 2)), 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		m.l = l
		for ; s <= len(m.text); s++ {
			if end := m.at(s); end >= 0 {
				start := s
				if s = end; end == start {
					s++
				}
				return m.push(start, end)
			}
		}
		return 0
	}))
	return 1
}

func (r *Run) stringGsub(l *lua.LState) int {
	text, pattern := checkString(l, 1), checkString(l, 2)
	switch l.Get(3).Type() {
	case lua.LTNumber, lua.LTString, lua.LTFunction, lua.LTTable:
	default:
		l.ArgError(3, "string/function/table expected")
	}
	most := int32(optInteger(l, 4, int64(len(text)+1)))
	m := r.newMatcher(l, text, pattern)
	anchored := m.anchored()
	var b strings.Builder
	s, n := 0, int32(0)
	for n < most {
		end := m.at(s)
		if end >= 0 {
			n++
			m.replace(&b, l.Get(3), s, end)
		}
		if end > s {
			s = end
		} else if s < len(text) {
			b.WriteByte(text[s])
			s++
		} else {
			break
		}
		if b.Len() > maxString {
			l.RaiseError(errLength)
		}
		if anchored {
			break
		}
	}
	b.WriteString(text[min(s, len(text)):])
	l.Push(lua.LString(b.String()))
	l.Push(lua.LNumber(n))
	return 2
}

// replace writes what by makes of a match.
func (m *matcher) replace(b *strings.Builder, by lua.LValue, start, end int) {
	var v lua.LValue
	switch by := by.(type) {
	case *lua.LFunction:
		m.l.Push(by)
		m.l.Call(m.push(start, end), 1)
		v = m.l.Get(-1)
		m.l.Pop(1)
	case *lua.LTable:
		v = m.l.GetTable(by, m.capture(0, start, end))
	default:
		m.fill(b, valueText(by), start, end)
		return
	}
	switch {
	case lua.LVIsFalse(v):
		b.WriteString(m.text[start:end])
	case joinable(v):
		b.WriteString(valueText(v))
	default:
		m.l.RaiseError("invalid replacement value (a %s)", v.Type().String())
	}
}

// fill writes a text with captures in it.
func (m *matcher) fill(b *strings.Builder, by string, start, end int) {
	for i := 0; i < len(by); i++ {
		if by[i] != '%' {
			b.WriteByte(by[i])
			continue
		}
		i++
		switch {
		case i == len(by):
			b.WriteByte(0) // the end of a C string
		case by[i] == '0':
			b.WriteString(m.text[start:end])
		case by[i] > '0' && by[i] <= '9':
			b.WriteString(valueText(m.capture(int(by[i]-'1'), start, end)))
		default:
			b.WriteByte(by[i])
		}
		if b.Len() > maxString {
			m.l.RaiseError(errLength)
		}
	}
}
