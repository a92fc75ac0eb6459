package command

import (
	"strconv"

	"hypercache/node/resp"
)

// value is a decoded RESP3 reply: the recorded facts are kept as such and written again for RESP2 or RESP3.
type value struct {
	kind byte // the RESP3 type byte
	text string
	kids []value // map: key, value, key, value …
}

// parseValue reads one RESP3 value; the facts are ours, so it does not check them.
func parseValue(s string) (v value, rest string) {
	end := 1
	for s[end] != '\r' {
		end++
	}
	v.kind = s[0]
	line := s[1:end]
	rest = s[end+2:]
	switch v.kind {
	case '$', '*', '~', '%':
	default:
		v.text = line
		return v, rest
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		panic("command: bad facts: " + line)
	}
	if v.kind == '$' {
		v.text = rest[:n]
		return v, rest[n+2:]
	}
	if v.kind == '%' {
		n *= 2
	}
	v.kids = make([]value, n)
	for i := range v.kids {
		v.kids[i], rest = parseValue(rest)
	}
	return v, rest
}

func (v *value) write(w *resp.Writer) {
	switch v.kind {
	case '*':
		w.Array(len(v.kids))
	case '~':
		w.Set(len(v.kids))
	case '%':
		w.Map(len(v.kids) / 2)
	case '$':
		w.BulkString(v.text)
	case '+':
		w.SimpleString(v.text)
	case ':':
		w.Raw([]byte(":" + v.text + "\r\n"))
	case '_':
		w.Null()
	default:
		panic("command: unexpected type in facts: " + string(v.kind))
	}
	for i := range v.kids {
		v.kids[i].write(w)
	}
}

// field is the value of a map's key.
func (v *value) field(name string) *value {
	for i := 0; i+1 < len(v.kids); i += 2 {
		if v.kids[i].text == name {
			return &v.kids[i+1]
		}
	}
	return nil
}
