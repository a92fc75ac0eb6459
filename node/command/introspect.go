package command

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"hypercache/node/resp"
)

// factsBlob is the COMMAND INFO and COMMAND DOCS of every command, as redis-server sent them.
//
//go:embed facts.resp3
var factsBlob string

// document is what COMMAND tells about one command or subcommand.
type document struct{ info, docs value }

// documents is decoded when COMMAND is first asked, by full name; without the commands that nothing is bound to.
var documents = sync.OnceValue(func() map[string]*document {
	all := map[string]*document{}
	for rest := factsBlob; rest != ""; {
		var name value
		d := &document{}
		name, rest = parseValue(rest)
		d.info, rest = parseValue(rest)
		d.docs, rest = parseValue(rest)
		if byName[name.text] == nil {
			continue
		}
		all[name.text] = d
		docs := d.docs.field("subcommands")
		d.keepBound(docs)
		for _, info := range d.info.kids[infoSubcommands].kids {
			sub := info.kids[0].text
			all[sub] = &document{info, *docs.field(sub)}
		}
	}
	return all
})

// keepBound drops the subcommands that nothing is bound to; docs is the field subcommands of the documentation, nil if
// there are none.
func (d *document) keepBound(docs *value) {
	subs := &d.info.kids[infoSubcommands]
	subs.kids = slices.DeleteFunc(subs.kids, func(v value) bool { return byName[v.kids[0].text] == nil })
	if docs == nil {
		return
	}
	var kept []value
	for i := 0; i < len(docs.kids); i += 2 {
		if byName[docs.kids[i].text] != nil {
			kept = append(kept, docs.kids[i], docs.kids[i+1])
		}
	}
	docs.kids = kept
}

// The fields of one COMMAND INFO entry.
const (
	infoACL         = 6
	infoKeySpecs    = 8
	infoSubcommands = 9
)

func introspectCommands() []binding {
	return []binding{
		{name: "command", conn: runCommand},
		{name: "command|count", conn: func(c *ConnCtx) { c.W.Int(int64(len(specs))) }},
		{name: "command|docs", conn: runCommandDocs},
		{name: "command|getkeys", conn: func(c *ConnCtx) { c.commandKeys(false) }},
		{name: "command|getkeysandflags", conn: func(c *ConnCtx) { c.commandKeys(true) }},
		{name: "command|help", conn: helpFunc("COMMAND", commandHelp)},
		{name: "command|info", conn: runCommandInfo},
		{name: "command|list", conn: runCommandList},
	}
}

func runCommand(c *ConnCtx) {
	c.W.Array(len(specs))
	for _, s := range specs {
		documents()[s.Name].info.write(c.W)
	}
}

// named finds a command by what COMMAND INFO and DOCS accept: a name, or container|subcommand.
func named(arg []byte) *document { return documents()[strings.ToLower(string(arg))] }

func runCommandInfo(c *ConnCtx) {
	if len(c.Args) == 2 {
		runCommand(c)
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, arg := range c.Args[2:] {
		if d := named(arg); d != nil {
			d.info.write(c.W)
			continue
		}
		c.W.Null()
	}
}

func runCommandDocs(c *ConnCtx) {
	names := make([]string, 0, len(specs))
	if len(c.Args) == 2 {
		for _, s := range specs {
			names = append(names, s.Name)
		}
	}
	for _, arg := range c.Args[2:] {
		if name := strings.ToLower(string(arg)); documents()[name] != nil {
			names = append(names, name)
		}
	}
	c.W.Map(len(names))
	for _, name := range names {
		c.W.BulkString(name)
		documents()[name].docs.write(c.W)
	}
}

// commandKeys is COMMAND GETKEYS and GETKEYSANDFLAGS.
func (c *ConnCtx) commandKeys(withFlags bool) {
	args := c.Args[2:]
	s := Lookup(args[0])
	if s != nil && s.Container && len(args) > 1 {
		s = s.Sub(args[1])
	}
	switch {
	case s == nil:
		c.W.Error("ERR Invalid command specified")
		return
	case s.FirstKey == 0 && s.Flags&FlagMovableKeys == 0, s.Name == "ssubscribe", s.Name == "spublish", s.Name == "sunsubscribe":
		// DEBUG has keys, but not for Redis; shard channels are none.
		c.W.Error("ERR The command has no key arguments")
		return
	case !s.CheckArity(len(args)):
		c.W.Error("ERR Invalid number of arguments specified for command")
		return
	}
	keys := Keys(s, args, nil)
	if len(keys) == 0 && s.Flags&FlagNoMandatoryKeys == 0 {
		c.W.Error("ERR Invalid arguments specified for command")
		return
	}
	c.W.Array(len(keys))
	for i, k := range keys {
		if !withFlags {
			c.W.Bulk(args[k])
			continue
		}
		c.W.Array(2)
		c.W.Bulk(args[k])
		writeKeyFlags(c.W, s, args, i)
	}
}

// writeKeyFlags writes what a command does with its i-th key. What SET and BITFIELD do depends on their options.
func writeKeyFlags(w *resp.Writer, s *Spec, args [][]byte, i int) {
	if s.Name == "set" && !hasOption(args[3:], "get") {
		w.Set(2)
		w.SimpleString("OW")
		w.SimpleString("update")
		return
	}
	if s.Name == "bitfield" && !hasOption(args[2:], "set") && !hasOption(args[2:], "incrby") {
		w.Set(2)
		w.SimpleString("RO")
		w.SimpleString("access")
		return
	}
	keySpecs := documents()[s.Name].info.kids[infoKeySpecs].kids
	flags := keySpecs[keySpecOf(s, i, len(keySpecs))].field("flags")
	kept := make([]string, 0, len(flags.kids))
	for _, f := range flags.kids {
		if f.text != "variable_flags" {
			kept = append(kept, f.text)
		}
	}
	w.Set(len(kept))
	for _, f := range kept {
		w.SimpleString(f)
	}
}

func hasOption(args [][]byte, name string) bool {
	for _, a := range args {
		if option(a, name) {
			return true
		}
	}
	return false
}

// runCommandList lists commands and subcommands.
func runCommandList(c *ConnCtx) {
	keep := func(string) bool { return true }
	switch {
	case len(c.Args) == 2:
	case len(c.Args) != 5 || !option(c.Args[2], "filterby"):
		c.W.Error(errSyntax)
		return
	case option(c.Args[3], "module"):
		keep = func(string) bool { return false }
	case option(c.Args[3], "aclcat"):
		keep = func(name string) bool { return inCategory(name, c.Args[4]) }
	case option(c.Args[3], "pattern"):
		pattern := []byte(strings.ToLower(string(c.Args[4])))
		keep = func(name string) bool { return matchGlob(pattern, []byte(name)) }
	default:
		c.W.Error(errSyntax)
		return
	}
	var names []string
	for _, s := range specs {
		if keep(s.Name) {
			names = append(names, s.Name)
		}
		for _, sub := range s.subs {
			if keep(sub.Name) {
				names = append(names, sub.Name)
			}
		}
	}
	c.W.Array(len(names))
	for _, n := range names {
		c.W.BulkString(n)
	}
}

func inCategory(name string, category []byte) bool {
	for _, cat := range documents()[name].info.kids[infoACL].kids {
		if option(category, strings.TrimPrefix(cat.text, "@")) {
			return true
		}
	}
	return false
}

var commandHelp = []string{
	"(no subcommand)",
	"    Return details about all Redis commands.",
	"COUNT",
	"    Return the total number of commands in this Redis server.",
	"LIST",
	"    Return a list of all commands in this Redis server.",
	"INFO [<command-name> ...]",
	"    Return details about multiple Redis commands.",
	"    If no command names are given, documentation details for all",
	"    commands are returned.",
	"DOCS [<command-name> ...]",
	"    Return documentation details about multiple Redis commands.",
	"    If no command names are given, documentation details for all",
	"    commands are returned.",
	"GETKEYS <full-command>",
	"    Return the keys from a full Redis command.",
	"GETKEYSANDFLAGS <full-command>",
	"    Return the keys and the access flags from a full Redis command.",
}
