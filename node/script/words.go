package script

import "strings"

const (
	spaces  = " \t\n\v\f\r"
	endings = " \t\n\r" // of words outside of quotes
)

// splitWords takes a line apart as Redis' sdssplitargs does: words may be quoted, with escapes in double quotes. It returns
// false if a quote isn't closed, or something follows it at once.
func splitWords(s string) (words []string, ok bool) {
	for {
		if s = strings.TrimLeft(s, spaces); s == "" {
			return words, true
		}
		word, rest, ok := splitWord(s)
		if !ok {
			return nil, false
		}
		words, s = append(words, word), rest
	}
}

func splitWord(s string) (word, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case strings.IndexByte(endings, c) >= 0:
			return b.String(), s[i:], true
		case c == '"' || c == '\'':
			n := quoted(&b, s[i+1:], c)
			if n < 0 {
				return "", "", false
			}
			rest = s[i+1+n:]
			return b.String(), rest, rest == "" || strings.IndexByte(spaces, rest[0]) >= 0
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", true
}

// quoted adds what is quoted, and returns how long that is with the closing quote, -1 without one.
func quoted(b *strings.Builder, s string, quote byte) int {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return i + 1
		case c == '\\' && i+1 < len(s) && quote == '"':
			i += escaped(b, s[i+1:])
		case c == '\\' && i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			b.WriteByte(c)
		}
	}
	return -1
}

// escaped adds what stands for it behind a backslash, and returns its length.
func escaped(b *strings.Builder, s string) int {
	if len(s) >= 3 && s[0] == 'x' {
		if high, low := hexDigit(s[1]), hexDigit(s[2]); high >= 0 && low >= 0 {
			b.WriteByte(byte(high<<4 | low))
			return 3
		}
	}
	c := s[0]
	if at := strings.IndexByte("nrtba", c); at >= 0 {
		c = "\n\r\t\b\a"[at]
	}
	b.WriteByte(c)
	return 1
}

func hexDigit(c byte) int {
	if c >= 'A' && c <= 'F' {
		c |= 0x20
	}
	return strings.IndexByte("0123456789abcdef", c)
}
