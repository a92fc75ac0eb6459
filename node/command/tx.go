package command

import "slices"

// txCommands are those that begin, end and guard a transaction. The caller, who knows where keys live, carries them out.
func txCommands() []binding {
	return []binding{
		{name: "multi", scope: ScopeNode},
		{name: "exec", scope: ScopeNode},
		{name: "discard", scope: ScopeNode},
		{name: "watch", scope: ScopeNode},
		{name: "unwatch", scope: ScopeNode},
	}
}

// Bracket makes the effects one transaction, if there are several: MULTI before them and EXEC behind, so
// that a redis-server that loads them as its append-only file has all or none. Apply passes over both, since a record is
// applied as a whole anyway.
func (e *Effects) Bracket() {
	if e == nil || e.N < 2 {
		return
	}
	const begin, end = "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n"
	n := len(e.Buf)
	e.Buf = append(e.Buf, begin...)
	copy(e.Buf[len(begin):], e.Buf[:n])
	copy(e.Buf, begin)
	e.Buf = append(e.Buf, end...)
}

// bracket says whether an effect is one that Bracket added.
func bracket(name []byte) bool { return string(name) == "MULTI" || string(name) == "EXEC" }

// EffectKeys calls yield for every key that WATCH counts as changed by the effects: all that they write, but for those whose
// consumer groups alone changed, which Redis does not count either. It returns false when it can't tell: everything may have
// changed.
func EffectKeys(effects []byte, yield func(key []byte)) bool {
	d := decoder{buf: effects}
	var args [][]byte
	var at []int
	for d.pos < len(d.buf) {
		n, ok := d.header('*')
		if !ok || n < 1 || n > maxEffectWords {
			return false
		}
		args = args[:0]
		for range n {
			arg, ok := d.bulk()
			if !ok {
				return false
			}
			args = append(args, arg)
		}
		if n == 1 && bracket(args[0]) {
			continue
		}
		spec, problem := Resolve(args)
		if problem != "" {
			return false
		}
		if groupsOnly(spec, args) {
			continue
		}
		if at = Keys(spec, args, at[:0]); len(at) == 0 {
			return false
		}
		for _, i := range destination(spec, at) {
			yield(args[i])
		}
	}
	return true
}

// groupsOnly says that an effect changes consumer groups of a stream, or where its IDs go on, and nothing else.
func groupsOnly(s *Spec, args [][]byte) bool {
	switch s.Name {
	case "xclaim", "xack", "xsetid", "xgroup|setid", "xgroup|destroy", "xgroup|createconsumer", "xgroup|delconsumer":
		return true
	case "xgroup|create":
		return !slices.ContainsFunc(args, func(a []byte) bool { return option(a, "mkstream") })
	}
	return false
}

// destination is which of a command's keys it changes, where the others are only read.
func destination(s *Spec, keys []int) []int {
	switch s.Name {
	case "bitop", "pfmerge", "sinterstore", "sunionstore", "sdiffstore", "zinterstore", "zunionstore", "zdiffstore", "zrangestore",
		"geosearchstore":
		return keys[:1]
	case "copy":
		return keys[1:]
	}
	return keys
}
