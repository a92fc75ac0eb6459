package command

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
)

// Categories are the names of ACL categories, in the order in which Redis lists them.
var Categories = []string{
	"keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream", "pubsub",
	"admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
}

// Access is what a command does with a key or a channel.
type Access uint8

// The kinds of access. A command may have several.
const (
	AccessRead  Access = 1 << iota // of a key's value, or of something about it
	AccessWrite                    // insert, update or delete
)

// accessFacts is what ACLs need to know of a spec.
type accessFacts struct {
	categories uint32   // bit i is Categories[i]
	keys       []Access // by key specification
}

// allAccess is decoded when an ACL first asks, by Spec.number.
var allAccess = sync.OnceValue(func() []accessFacts {
	all := make([]accessFacts, len(byName))
	for name, s := range byName {
		d := documents()[name]
		f := &all[s.number]
		for _, cat := range d.info.kids[infoACL].kids {
			f.categories |= 1 << slices.Index(Categories, strings.TrimPrefix(cat.text, "@"))
		}
		for i := range d.info.kids[infoKeySpecs].kids {
			f.keys = append(f.keys, accessOf(d.info.kids[infoKeySpecs].kids[i].field("flags")))
		}
	}
	return all
})

func accessOf(flags *value) (a Access) {
	for _, f := range flags.kids {
		switch f.text {
		case "access":
			a |= AccessRead
		case "insert", "delete", "update":
			a |= AccessWrite
		}
	}
	return a
}

// Count is how many commands and subcommands there are. Their numbers are below it.
func Count() int { return len(byName) }

// Number is the command's own, below Count. It lasts as long as the process.
func (s *Spec) Number() int { return s.number }

// In says whether the command belongs to the category of Categories with that index.
func (s *Spec) In(category int) bool { return allAccess()[s.number].categories&(1<<category) != 0 }

// Subs are the subcommands of a container. The caller does not modify them.
func (s *Spec) Subs() []*Spec { return s.subs }

// All are the commands in order of name, without subcommands. The caller does not modify them.
func All() []*Spec { return specs }

// Named finds a command by its name, or a subcommand by container|subcommand, in any case; nil if there is none.
func Named(name string) *Spec { return byName[strings.ToLower(name)] }

// InRedis says whether Redis 7.0 has a command or subcommand of that name, in any case, whether we have it or not.
func InRedis(name string) bool {
	_, found := slices.BinarySearchFunc(facts, strings.ToLower(name), func(f fact, name string) int { return strings.Compare(f.name, name) })
	return found
}

// KeyAccess is what a command does with the i-th of the keys that Keys finds in args. What SET and BITFIELD do depends on
// their options.
func KeyAccess(s *Spec, args [][]byte, i int) Access {
	switch {
	case s.Name == "set" && !hasOption(args[3:], "get"):
		return AccessWrite
	case s.Name == "bitfield" && !hasOption(args[2:], "set") && !hasOption(args[2:], "incrby"):
		return AccessRead
	}
	keys := allAccess()[s.number].keys
	if len(keys) == 0 {
		return AccessRead | AccessWrite // Redis knows of no key there: OBJECT of DEBUG
	}
	return keys[keySpecOf(s, i, len(keys))]
}

// keySpecOf is which of a command's n key specifications is about its i-th key. SORT has one for keys that its arguments do not
// name, between the others.
func keySpecOf(s *Spec, i, n int) int {
	if s.Name == "sort" && i > 0 {
		return n - 1
	}
	return min(i, n-1)
}

// Channels returns the places of the channels in args that a command publishes to or subscribes to, and whether they are
// patterns. Leaving one is everybody's.
func Channels(s *Spec, args [][]byte) (at []int, patterns bool) {
	last := 0
	switch s.Name {
	case "publish", "spublish":
		last = 1
	case "subscribe", "psubscribe", "ssubscribe":
		last = len(args) - 1
	}
	for i := 1; i <= last; i++ {
		at = append(at, i)
	}
	return at, s.Name == "psubscribe"
}

// ForeignKeys is the option of SORT in args by which it reads keys that its arguments do not name: BY or GET; "" if there is
// none.
func ForeignKeys(s *Spec, args [][]byte) string {
	if s.Name != "sort" && s.Name != "sort_ro" {
		return ""
	}
	for i := 2; i < len(args); i++ {
		switch more := len(args) - 1 - i; {
		case option(args[i], "limit"):
			i += 2
		case option(args[i], "by") && more >= 1:
			if i++; slices.Contains(args[i], '*') {
				return "BY"
			}
		case option(args[i], "get") && more >= 1:
			return "GET"
		case option(args[i], "store"):
			i++
		}
	}
	return ""
}

// Redacted are the arguments of a command as others may see them: without passwords.
func Redacted(s *Spec, args [][]byte) [][]byte {
	from := len(args)
	switch s.Name {
	case "auth":
		from = 1
	case "acl|setuser":
		from = 2
	case "hello":
		for i := 2; i+2 < len(args); i++ {
			if option(args[i], "auth") {
				shown := slices.Clone(args)
				shown[i+1], shown[i+2] = redacted, redacted
				return shown
			}
		}
	}
	if from >= len(args) {
		return args
	}
	shown := slices.Clone(args)
	for i := from; i < len(shown); i++ {
		shown[i] = redacted
	}
	return shown
}

var redacted = []byte("(redacted)")

func accessCommands() []binding {
	return []binding{
		{name: "acl", scope: ScopeNode},
		{name: "acl|cat", conn: runACLCat},
		{name: "acl|deluser", scope: ScopeNode},
		{name: "acl|dryrun", scope: ScopeNode},
		{name: "acl|genpass", conn: runGenPass},
		{name: "acl|getuser", scope: ScopeNode},
		{name: "acl|help", conn: helpFunc("ACL", aclHelp)},
		{name: "acl|list", scope: ScopeNode},
		{name: "acl|log", scope: ScopeNode},
		{name: "acl|save", scope: ScopeNode},
		{name: "acl|setuser", scope: ScopeNode},
		{name: "acl|users", scope: ScopeNode},
		{name: "acl|whoami", conn: func(c *ConnCtx) { c.W.BulkString(c.Conn.Client().User()) }},
	}
}

// runACLCat lists the categories, or the commands of one.
func runACLCat(c *ConnCtx) {
	if len(c.Args) > 3 {
		c.W.Error("ERR unknown subcommand or wrong number of arguments for '" + cstring(c.Args[1], 128) + "'. Try ACL HELP.")
		return
	}
	if len(c.Args) == 2 {
		c.W.Array(len(Categories))
		for _, name := range Categories {
			c.W.BulkString(name)
		}
		return
	}
	category := slices.IndexFunc(Categories, func(name string) bool { return option(c.Args[2], name) })
	if category < 0 {
		c.W.Error("ERR Unknown category '" + cstring(c.Args[2], len(c.Args[2])) + "'")
		return
	}
	var names []string
	for _, s := range specs {
		for _, each := range append([]*Spec{s}, s.subs...) {
			if each.In(category) {
				names = append(names, each.Name)
			}
		}
	}
	c.W.Array(len(names))
	for _, name := range names {
		c.W.BulkString(name)
	}
}

// maxPassBits bounds what ACL GENPASS makes.
const maxPassBits = 4096

func runGenPass(c *ConnCtx) {
	bits := int64(256)
	if len(c.Args) > 3 {
		c.W.Error("ERR unknown subcommand or wrong number of arguments for '" + cstring(c.Args[1], 128) + "'. Try ACL HELP.")
		return
	}
	if len(c.Args) == 3 {
		var ok bool
		if bits, ok = parseInt(c.Args[2]); !ok {
			c.W.Error(errNotInt)
			return
		}
		if bits < 1 || bits > maxPassBits {
			c.W.Error("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
			return
		}
	}
	random := make([]byte, (bits+7)/8)
	_, _ = rand.Read(random) // crypto/rand never fails: it ends the process instead
	c.W.BulkString(hex.EncodeToString(random)[:(bits+3)/4])
}

var aclHelp = []string{
	"CAT [<category>]",
	"    List all commands that belong to <category>, or all command categories",
	"    when no category is specified.",
	"DELUSER <username> [<username> ...]",
	"    Delete a list of users.",
	"DRYRUN <username> <command> [<arg> ...]",
	"    Returns whether the user can execute the given command without executing the command.",
	"GETUSER <username>",
	"    Get the user's details.",
	"GENPASS [<bits>]",
	"    Generate a secure 256-bit user password. The optional `bits` argument can",
	"    be used to specify a different size.",
	"LIST",
	"    Show users details in config file format.",
	"LOG [<count> | RESET]",
	"    Show the ACL log entries.",
	"SAVE",
	"    Do nothing: users are saved with the cluster's topology.",
	"SETUSER <username> <attribute> [<attribute> ...]",
	"    Create or modify a user with the specified attributes.",
	"USERS",
	"    List all the registered usernames.",
	"WHOAMI",
	"    Return the current connection username.",
}
