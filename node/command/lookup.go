package command

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// binding joins the name of a command with the functions that we wrote for it; Redis' facts about it (arity, flags,
// keys) are in facts_gen.go.
type binding struct {
	name  string
	scope Scope
	merge Merge
	run   func(*Ctx)
	conn  func(*ConnCtx)
	// keys finds the keys where their places depend on other arguments. It finds none in malformed arguments, which run
	// then refuses.
	keys func(args [][]byte, dst []int) []int
	// effect says that the command may be among the effects of a write and is repeated by running it: it depends on
	// nothing but its arguments and the keys that it names, and answers with no error when it follows the same history.
	effect bool
	script bool
}

// bindings lists every command and subcommand there is, group by group.
func bindings() []binding {
	var all []binding
	for _, group := range [][]binding{
		dumpCommands(),
		stringCommands(), keyCommands(), expireCommands(), scanCommands(),
		listCommands(),
		hashCommands(), setCommands(), bitmapCommands(), sortCommands(), memoryCommands(), debugCommands(),
		zsetCommands(), geoCommands(), hyperLogLogCommands(), streamCommands(),
		connCommands(), clientCommands(), introspectCommands(), infoCommands(), configCommands(), clusterCommands(), txCommands(),
		scriptCommands(), functionCommands(), pubsubCommands(), trackingCommands(), serverCommands(), recordCommands(),
		hotKeysCommands(), accessCommands(),
	} {
		all = append(all, group...)
	}
	return all
}

// maxInline is the longest name that the hash table holds; a name fits two overlapping 8-byte words. Longer ones are in
// longNames.
const maxInline = 16

const tableBits = 9

type slot struct {
	lo, hi uint64
	n      int
	spec   *Spec
	check  bool // fold takes other names for this one: it has a _ or a -
}

var (
	table     [1 << tableBits]slot // open addressing by folded name
	specs     []*Spec              // top level, in order of name
	longNames []*Spec
	byName    = map[string]*Spec{} // every spec, subcommands too
)

// The table is filled here and not by an initializer because COMMAND's own function reads it.
func init() {
	known := map[string]fact{}
	for _, f := range facts {
		known[f.name] = f
	}
	for _, b := range bindings() {
		f, ok := known[b.name]
		if !ok {
			panic("command: no facts about " + b.name + "; run go generate ./node/command")
		}
		s := &Spec{
			Name: b.name, Arity: f.arity, Flags: f.flags, FirstKey: f.first, LastKey: f.last, KeyStep: f.step,
			Scope: b.scope, Merge: b.merge, OneKey: f.first > 0 && f.first == f.last && b.keys == nil,
			Write: f.flags&FlagWrite != 0, DenyOOM: f.flags&FlagDenyOOM != 0,
			run: b.run, conn: b.conn, keys: b.keys, effect: b.effect, Script: b.script,
		}
		s.number = len(byName)
		s.Quick = (s.Flags&FlagFast != 0 || b.name == "set") && b.scope != ScopeScatter && b.scope != ScopeCluster
		byName[b.name] = s
		if container, _, sub := strings.Cut(b.name, "|"); sub {
			parent := byName[container]
			parent.Container = true
			parent.subs = append(parent.subs, s)
			continue
		}
		specs = append(specs, s)
		insert(s)
	}
	debugSpecs(byName["debug"])
}

func insert(s *Spec) {
	if len(s.Name) > maxInline {
		longNames = append(longNames, s)
		return
	}
	lo, hi := fold([]byte(s.Name))
	i := hash(lo, hi, len(s.Name))
	for table[i].spec != nil {
		i = (i + 1) & (1<<tableBits - 1)
	}
	table[i] = slot{lo, hi, len(s.Name), s, strings.ContainsAny(s.Name, "_-")}
}

// Lookup finds a command by its name in any case, nil if there is none. It does not allocate.
func Lookup(name []byte) *Spec {
	if len(name) == 0 {
		return nil
	}
	if len(name) > maxInline {
		return lookupLong(name)
	}
	lo, hi := fold(name)
	for i := hash(lo, hi, len(name)); ; i = (i + 1) & (1<<tableBits - 1) {
		e := &table[i]
		if e.spec == nil {
			return nil
		}
		if e.lo == lo && e.hi == hi && e.n == len(name) && (!e.check || equalFold(name, e.spec.Name)) {
			return e.spec
		}
	}
}

func lookupLong(name []byte) *Spec {
	for _, s := range longNames {
		if equalFold(name, s.Name) {
			return s
		}
	}
	return nil
}

// fold packs a name of 1 to 16 bytes into two words, all of its bytes in at least one, with bit 5 set in each. That
// lowers ASCII letters, and no byte but a letter turns into one, so equal words of equal length are equal names, but for
// those with a _ or a -, which a DEL and a carriage return turn into as well.
func fold(name []byte) (lo, hi uint64) {
	const lower8, lower4 = 0x2020202020202020, 0x20202020
	n := len(name)
	switch {
	case n >= 8:
		lo = binary.LittleEndian.Uint64(name) | lower8
		hi = binary.LittleEndian.Uint64(name[n-8:]) | lower8
	case n >= 4:
		lo = uint64(binary.LittleEndian.Uint32(name) | lower4)
		hi = uint64(binary.LittleEndian.Uint32(name[n-4:]) | lower4)
	default:
		lo = uint64(name[0]|0x20) | uint64(name[n/2]|0x20)<<8 | uint64(name[n-1]|0x20)<<16
	}
	return lo, hi
}

func hash(lo, hi uint64, n int) uint64 {
	return ((lo^hi<<7^uint64(n))*0x9E3779B97F4A7C15 ^ hi*0xC2B2AE3D27D4EB4F) >> (64 - tableBits)
}

// Sub finds a subcommand by its name in any case, nil if there is none.
func (s *Spec) Sub(name []byte) *Spec {
	for _, sub := range s.subs {
		if equalFold(name, sub.Name[len(s.Name)+1:]) {
			return sub
		}
	}
	return nil
}

// CheckArity says whether a request of n arguments, the command's name included, has the right length.
func (s *Spec) CheckArity(n int) bool {
	if s.Arity > 0 {
		return n == s.Arity
	}
	return n >= -s.Arity
}

// Resolve finds the command or subcommand that args name and checks everything about args that does not depend on
// data or on the place of execution: that it exists and its arity. errText is Redis' error, "" if all is well. With an error, spec is nil unless Redis finds the
// error only when the command runs (a key without a value).
func Resolve(args [][]byte) (spec *Spec, errText string) {
	spec = Lookup(args[0])
	if spec == nil {
		return nil, UnknownError(args)
	}
	if spec.Container && len(args) > 1 {
		sub := spec.Sub(args[1])
		if sub == nil {
			return nil, UnknownError(args)
		}
		spec = sub
	}
	if !spec.CheckArity(len(args)) {
		return nil, ArityError(spec)
	}
	if spec.special != nil {
		if other := spec.special(args); other != nil {
			spec = other
		}
	}
	if spec.KeyStep > 1 && len(args)%spec.KeyStep != 1 {
		return spec, ArityError(spec)
	}
	return spec, ""
}

// UnknownError is Redis' answer to a command or subcommand that does not exist.
func UnknownError(args [][]byte) string {
	name := cstring(args[0], 128)
	if s := Lookup(args[0]); s != nil && s.Container && len(args) > 1 {
		return "ERR unknown subcommand '" + cstring(args[1], 128) + "'. Try " + strings.ToUpper(name) + " HELP."
	}
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		b.WriteString("'" + cstring(a, 128-b.Len()) + "' ")
	}
	return "ERR unknown command '" + name + "', with args beginning with: " + b.String()
}

// ArityError is Redis' answer to a wrong number of arguments.
func ArityError(s *Spec) string {
	return "ERR wrong number of arguments for '" + s.Name + "' command"
}

// Keys appends to dst the indexes of the keys in args, whose arity has been checked.
func Keys(s *Spec, args [][]byte, dst []int) []int {
	if s.keys != nil {
		return s.keys(args, dst)
	}
	if s.FirstKey == 0 {
		return dst
	}
	last := s.LastKey
	if last < 0 {
		last += len(args)
	}
	for i := s.FirstKey; i <= last && i < len(args); i += s.KeyStep {
		dst = append(dst, i)
	}
	return dst
}

// countedKeys finds the keys behind their number, which is the argument at place count: EVAL, ZUNION, LMPOP. Those at
// before, if any, are keys as well: ZUNIONSTORE's destination.
func countedKeys(count int, before ...int) func(args [][]byte, dst []int) []int {
	return func(args [][]byte, dst []int) []int {
		if count >= len(args) {
			return dst
		}
		n, ok := parseInt(args[count])
		if !ok || n < 0 || n > int64(len(args)-count-1) {
			return dst
		}
		dst = append(dst, before...)
		for i := range int(n) {
			dst = append(dst, count+1+i)
		}
		return dst
	}
}

// cstring is b as C prints it: up to the first NUL, at most max bytes.
func cstring(b []byte, max int) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if len(b) > max {
		b = b[:max]
	}
	return string(b)
}

// equalFold compares ASCII case-insensitively; lower must be lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// option compares an argument with the name of an option as Redis does: in any case, and only up to a NUL.
func option(arg []byte, lower string) bool {
	if len(arg) > len(lower) && arg[len(lower)] == 0 {
		arg = arg[:len(lower)]
	}
	return equalFold(arg, lower)
}
