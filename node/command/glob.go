package command

// Match says whether s matches a glob pattern as Redis reads it.
func Match(pattern, s []byte) bool { return matchGlob(pattern, s) }

// matchGlob says whether s matches Redis' glob pattern: * ? [a-z] [^x] and \ to quote. It takes time proportional to
// the product of the lengths at worst, whatever the pattern: only the latest star ever needs a second try.
func matchGlob(pattern, s []byte) bool {
	if len(s) == 0 {
		return len(pattern) == 0 // in Redis not even a star matches the empty key, but for "*", which is not asked here
	}
	p, i := 0, 0
	star, mark := -1, 0 // where to go on when the rest does not match: pattern behind the star, string one further
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			if p == len(pattern) {
				return true
			}
			star, mark = p, i
			continue
		}
		if p < len(pattern) {
			if ok, next := matchOne(pattern, p, s[i]); ok {
				p, i = next, i+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches one byte with the pattern element at p, and returns where the next element begins.
func matchOne(pattern []byte, p int, c byte) (ok bool, next int) {
	switch pattern[p] {
	case '?':
		return true, p + 1
	case '[':
		return matchClass(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return pattern[p] == c, p + 1
}

// matchClass matches a class whose first byte, after the bracket, is at p. A class without an end reaches to the end of
// the pattern. Ranges compare bytes as signed numbers, as Redis does where char is signed.
func matchClass(pattern []byte, p int, c byte) (ok bool, next int) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			ok = ok || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			low, high := int8(pattern[p]), int8(pattern[p+2])
			if low > high {
				low, high = high, low
			}
			ok = ok || low <= int8(c) && int8(c) <= high
			p += 2
		default:
			ok = ok || pattern[p] == c
		}
	}
	return ok != not, min(p+1, len(pattern))
}
