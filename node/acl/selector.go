package acl

import (
	"bytes"
	"math/bits"
	"slices"
	"strings"

	"hypercache/node/command"
)

// selector is one set of permissions: commands, on keys, on channels. A user has one, and may have further ones in
// parentheses; a command is allowed when one of them allows all of it. It is immutable once its Rights are handed out.
type selector struct {
	allKeys, allChannels bool
	keys                 []keyPattern
	channels             []string
	// rules are the command rules as they were given, without those that later ones made void: what ACL LIST shows. What
	// follows is made of them. The first is +@all or -@all.
	rules     []string
	commands  bitmap
	firstArgs map[int][]string // by command: first arguments with which it is allowed though it is not
}

type keyPattern struct {
	pattern string
	access  command.Access
}

// bitmap is a set of commands by their numbers.
type bitmap [16]uint64

func (b *bitmap) set(s *command.Spec, on bool) {
	if on {
		b[s.Number()/64] |= 1 << (s.Number() % 64)
	} else {
		b[s.Number()/64] &^= 1 << (s.Number() % 64)
	}
}

func (b *bitmap) has(s *command.Spec) bool { return b[s.Number()/64]&(1<<(s.Number()%64)) != 0 }

func (b *bitmap) len() (n int) {
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

func newSelector() selector { return selector{rules: []string{"-@all"}} }

func (s *selector) clone() selector {
	c := *s
	c.keys, c.channels, c.rules = slices.Clone(s.keys), slices.Clone(s.channels), slices.Clone(s.rules)
	return c
}

// everything says that there is nothing that it refuses.
func (s *selector) everything() bool { return s.allKeys && s.allChannels && s.allCommands() }

func (s *selector) allCommands() bool { return len(s.rules) == 1 && s.rules[0] == "+@all" }

// apply changes the selector by one rule. The error is what Redis says of it.
func (s *selector) apply(rule string) error {
	lower := strings.ToLower(rule)
	switch {
	case lower == "allkeys", rule == "~*":
		s.allKeys, s.keys = true, nil
	case lower == "resetkeys":
		s.allKeys, s.keys = false, nil
	case lower == "allchannels", rule == "&*":
		s.allChannels, s.channels = true, nil
	case lower == "resetchannels":
		s.allChannels, s.channels = false, nil
	case lower == "allcommands", lower == "+@all":
		s.rules = []string{"+@all"}
	case lower == "nocommands", lower == "-@all":
		s.rules = []string{"-@all"}
	case strings.HasPrefix(rule, "~"), strings.HasPrefix(rule, "%"):
		return s.addKeys(rule)
	case strings.HasPrefix(rule, "&"):
		return s.addChannel(rule[1:])
	case len(rule) > 1 && (rule[0] == '+' || rule[0] == '-'):
		return s.addCommand(lower)
	default:
		return errSyntax
	}
	return nil
}

// addKeys is ~pattern, or %R~, %W~ and %RW~pattern.
func (s *selector) addKeys(rule string) error {
	if s.allKeys {
		return errAfterAllKeys
	}
	access, pattern := command.AccessRead|command.AccessWrite, strings.TrimPrefix(rule, "~")
	if rule[0] == '%' {
		kinds, rest, found := strings.Cut(rule[1:], "~")
		access = 0
		for _, kind := range strings.ToLower(kinds) {
			switch {
			case kind == 'r' && access&command.AccessRead == 0:
				access |= command.AccessRead
			case kind == 'w' && access&command.AccessWrite == 0:
				access |= command.AccessWrite
			default:
				return errSyntax
			}
		}
		if !found || access == 0 {
			return errSyntax
		}
		pattern = rest
	}
	if spaced(pattern) {
		return errSyntax
	}
	if i := slices.IndexFunc(s.keys, func(k keyPattern) bool { return k.pattern == pattern }); i >= 0 {
		s.keys[i].access |= access
		return nil
	}
	s.keys = append(s.keys, keyPattern{pattern, access})
	return nil
}

func (s *selector) addChannel(pattern string) error {
	switch {
	case s.allChannels:
		return errAfterAllChannels
	case spaced(pattern):
		return errSyntax
	case !slices.Contains(s.channels, pattern):
		s.channels = append(s.channels, pattern)
	}
	return nil
}

// spaced says that a word could not be told from its neighbours in ACL LIST.
func spaced(s string) bool { return strings.ContainsAny(s, " \t\n\v\f\r\x00") }

// addCommand is +name, -name, +container|sub, +command|first-argument, +@category and -@category, in lower case. settle takes
// out what it makes void.
func (s *selector) addCommand(rule string) error {
	if err := known(rule); err != nil {
		return err
	}
	s.rules = append(s.rules, rule)
	return nil
}

// settle keeps the command rules that have an effect, and makes what Check asks of them. Of those about the same name the last
// counts, and one about a container or a command counts for what is below it; what then changes nothing where it stands is taken
// out: Redis shows none. Rules about commands that this build does not know stay.
func (s *selector) settle() {
	last := map[string]bool{}
	var backwards []string
	for _, rule := range slices.Backward(s.rules[1:]) {
		name := rule[1:]
		container, _, _ := strings.Cut(name, "|")
		if !last[name] && !last[container] {
			last[name] = true
			backwards = append(backwards, rule)
		}
	}
	made := selector{}
	made.follow(s.rules[0])
	kept := []string{s.rules[0]}
	for _, rule := range slices.Backward(backwards) {
		if made.follow(rule) || known(rule) != nil {
			kept = append(kept, rule)
		}
	}
	s.rules, s.commands, s.firstArgs = kept, made.commands, made.firstArgs
}

// known refuses what is the name of nothing. Commands that Redis has and we do not are accepted: the lists of users that people
// bring name them.
func known(rule string) error {
	name := rule[1:]
	if category, ok := strings.CutPrefix(name, "@"); ok {
		if !slices.Contains(command.Categories, category) {
			return errUnknown
		}
		return nil
	}
	if command.Named(name) != nil || command.InRedis(name) {
		return nil
	}
	container, rest, sub := strings.Cut(name, "|")
	base := command.Named(container)
	switch {
	case !sub || rest == "" || base == nil && !command.InRedis(container):
		return errUnknown
	case strings.Contains(rest, "|"):
		return errDeepArg
	case rule[0] == '-', base == nil, base.Container:
		return errUnknown
	}
	return nil
}

// follow changes what is allowed by one command rule, and reports whether that is a change.
func (s *selector) follow(rule string) (changed bool) {
	on, name := rule[0] == '+', rule[1:]
	before, args := s.commands, len(s.firstArgs)
	if category, ok := strings.CutPrefix(name, "@"); ok {
		at := slices.Index(command.Categories, category)
		if at < 0 && category != "all" {
			return false // of a later build
		}
		s.permitCategory(at, on)
		return s.commands != before || len(s.firstArgs) != args
	}
	if c := command.Named(name); c != nil {
		s.permit(c, on)
		return s.commands != before || len(s.firstArgs) != args
	}
	base, arg, ok := strings.Cut(name, "|")
	c := command.Named(base)
	if !ok || !on || c == nil || c.Container || s.commands.has(c) {
		return false
	}
	if s.firstArgs == nil {
		s.firstArgs = map[int][]string{}
	}
	s.firstArgs[c.Number()] = append(s.firstArgs[c.Number()], arg)
	return true
}

func (s *selector) permit(c *command.Spec, on bool) {
	s.commands.set(c, on)
	delete(s.firstArgs, c.Number())
	for _, sub := range c.Subs() {
		s.commands.set(sub, on)
	}
}

// permitCategory takes containers with all their subcommands, and subcommands that are in the category by themselves. Below 0 is
// the category of all.
func (s *selector) permitCategory(category int, on bool) {
	for _, c := range command.All() {
		if category < 0 || c.In(category) {
			s.permit(c, on)
			continue
		}
		for _, sub := range c.Subs() {
			if sub.In(category) {
				s.permit(sub, on)
			}
		}
	}
}

// check says whether the selector allows a command, and if not, why: at is the argument that it was about.
func (s *selector) check(r *Request) (reason Reason, at int) {
	if !s.mayCall(r) {
		return DeniedCommand, 0
	}
	if !s.allKeys {
		for i, key := range r.keys() {
			if !s.allowsKey(r.Args[key], command.KeyAccess(r.Spec, r.Args, i)) {
				return DeniedKey, key
			}
		}
	}
	if !s.allChannels {
		channels, patterns := command.Channels(r.Spec, r.Args)
		for _, at := range channels {
			if !s.allowsChannel(r.Args[at], patterns) {
				return DeniedChannel, at
			}
		}
	}
	return Allowed, 0
}

func (s *selector) mayCall(r *Request) bool {
	return s.allCommands() || r.Spec.Flags&command.FlagNoAuth != 0 || s.commands.has(r.Spec) || s.byFirstArg(r)
}

func (s *selector) byFirstArg(r *Request) bool {
	if len(r.Args) < 2 {
		return false
	}
	return slices.ContainsFunc(s.firstArgs[r.Spec.Number()], func(arg string) bool { return strings.EqualFold(arg, string(r.Args[1])) })
}

func (s *selector) allowsKey(key []byte, access command.Access) bool {
	return slices.ContainsFunc(s.keys, func(k keyPattern) bool {
		return k.access&access == access && command.Match([]byte(k.pattern), key)
	})
}

// allowsChannel wants a pattern to be named as it is: which channels it stands for can't be told.
func (s *selector) allowsChannel(channel []byte, pattern bool) bool {
	return slices.ContainsFunc(s.channels, func(c string) bool {
		if pattern {
			return c == string(channel)
		}
		return command.Match([]byte(c), channel)
	})
}

// allowsSubscription is allowsChannel for a subscription that a connection has already.
func (s *selector) allowsSubscription(channel string, pattern bool) bool {
	return s.allChannels || s.allowsChannel([]byte(channel), pattern)
}

// describe writes the selector as rules.
func (s *selector) describe(b *bytes.Buffer) {
	if keys := s.describeKeys(); keys != "" {
		b.WriteString(keys + " ")
	}
	switch {
	case s.allChannels:
		b.WriteString("&* ")
	default:
		b.WriteString("resetchannels ")
		for _, c := range s.channels {
			b.WriteString("&" + c + " ")
		}
	}
	b.WriteString(strings.Join(s.rules, " "))
}

func (s *selector) describeKeys() string {
	if s.allKeys {
		return "~*"
	}
	words := make([]string, len(s.keys))
	for i, k := range s.keys {
		switch k.access {
		case command.AccessRead:
			words[i] = "%R~" + k.pattern
		case command.AccessWrite:
			words[i] = "%W~" + k.pattern
		default:
			words[i] = "~" + k.pattern
		}
	}
	return strings.Join(words, " ")
}

func (s *selector) describeChannels() string {
	if s.allChannels {
		return "&*"
	}
	words := make([]string, len(s.channels))
	for i, c := range s.channels {
		words[i] = "&" + c
	}
	return strings.Join(words, " ")
}
