package acl

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hypercache/node/command"
)

// What Redis says of rules that can't be.
var (
	errSyntax       = errors.New("Syntax error")                                                                                      //nolint:staticcheck // clients see it
	errUnknown      = errors.New("Unknown command or category name in ACL")                                                           //nolint:staticcheck // likewise
	errDeepArg      = errors.New("Allowing first-arg of a subcommand is not supported")                                               //nolint:staticcheck // likewise
	errHash         = errors.New("The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters") //nolint:staticcheck // likewise
	errNoPassword   = errors.New("The password you are trying to remove from the user does not exist")                                //nolint:staticcheck // likewise
	errAfterAllKeys = errors.New("Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any " + //nolint:staticcheck // likewise
		"effect. Try 'resetkeys' to start with an empty list of patterns")
	errAfterAllChannels = errors.New("Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any " + //nolint:staticcheck // likewise
		"effect. Try 'resetchannels' to start with an empty list of channels")
)

// sanitizing is what a user's RESTORE is checked for; here it always is, and the rule is only kept.
type sanitizing uint8

const (
	sanitizeUnsaid sanitizing = iota
	sanitizeYes
	sanitizeNo
)

// Rights are what the rules of one user say. They are immutable: Change returns others.
type Rights struct {
	on, noPass bool
	sanitize   sanitizing
	passwords  []string // SHA-256, hexadecimal
	root       selector
	others     []selector
	everything bool
}

// None are the rights of a user that has just been made: disabled, and nothing is allowed.
func None() *Rights { return (&Rights{root: newSelector()}).finish() }

// Full are the rights of the user default of a cluster that nobody has given a password.
func Full() *Rights {
	r, err := None().Change([]string{"on", "nopass", "~*", "&*", "+@all"})
	if err != nil {
		panic(err) // these rules are always right
	}
	return r
}

// Parse reads what String wrote. What does not exist in this build, a command of a later one, is kept and allows nothing.
func Parse(rules string) (*Rights, error) {
	r := None().clone()
	words, err := merge(strings.Fields(rules))
	if err != nil {
		return nil, err
	}
	for _, word := range words {
		if err := r.apply(word, true); err != nil {
			return nil, fmt.Errorf("rule %.100q: %w", word, err)
		}
	}
	return r.finish(), nil
}

// RuleError is a rule that Change refused, as Redis tells it.
type RuleError struct {
	Rule string
	Err  error
}

func (e *RuleError) Error() string {
	return "Error in ACL SETUSER modifier '" + e.Rule + "': " + e.Err.Error()
}

func (e *RuleError) Unwrap() error { return e.Err }

// Change returns the rights after the rules of an ACL SETUSER, all or none of them. An error is what Redis answers, without
// ERR.
func (r *Rights) Change(rules []string) (*Rights, error) {
	words, err := merge(rules)
	if err != nil {
		return nil, err
	}
	c := r.clone()
	for _, word := range words {
		if err := c.apply(word, false); err != nil {
			return nil, &RuleError{word, err}
		}
	}
	return c.finish(), nil
}

// merge joins the words of a selector that were given apart.
func merge(rules []string) (words []string, err error) {
	open := -1
	for i, rule := range rules {
		switch {
		case open >= 0 && strings.HasPrefix(rule, "(") && !strings.HasSuffix(rule, ")"): // Redis forgets the first one then, without a word
			return nil, unmatched(rules[open])
		case open < 0 && strings.HasPrefix(rule, "(") && !strings.HasSuffix(rule, ")"):
			open = i
		case open < 0:
			words = append(words, rule)
		case strings.HasSuffix(rule, ")"):
			words = append(words, strings.Join(rules[open:i+1], " "))
			open = -1
		}
	}
	if open >= 0 {
		return nil, unmatched(rules[open])
	}
	return words, nil
}

func unmatched(rule string) error {
	return fmt.Errorf("Unmatched parenthesis in acl selector starting at '%s'.", rule) //nolint:staticcheck // clients see it
}

func (r *Rights) clone() *Rights {
	c := *r
	c.passwords = slices.Clone(r.passwords)
	c.root = r.root.clone()
	c.others = slices.Clone(r.others) // selectors in it do not change
	return &c
}

func (r *Rights) finish() *Rights {
	r.root.settle()
	r.everything = r.root.everything()
	return r
}

// apply changes the rights by one rule. lenient accepts names of commands that do not exist.
func (r *Rights) apply(rule string, lenient bool) error {
	switch strings.ToLower(rule) {
	case "":
	case "on":
		r.on = true
	case "off":
		r.on = false
	case "nopass":
		r.noPass, r.passwords = true, nil
	case "resetpass":
		r.noPass, r.passwords = false, nil
	case "skip-sanitize-payload":
		r.sanitize = sanitizeNo
	case "sanitize-payload":
		r.sanitize = sanitizeYes
	case "clearselectors":
		r.others = nil
	case "reset":
		*r = Rights{root: newSelector(), sanitize: sanitizeYes}
	default:
		switch rule[0] {
		case '>', '<', '#', '!':
			return r.applyPassword(rule[0], rule[1:])
		case '(':
			return r.applySelector(rule, lenient)
		}
		return r.root.applyWord(rule, lenient)
	}
	return nil
}

// applyWord is apply, but that it keeps rules about commands that do not exist.
func (s *selector) applyWord(rule string, lenient bool) error {
	err := s.apply(rule)
	if lenient && (errors.Is(err, errUnknown) || errors.Is(err, errDeepArg)) && !strings.ContainsAny(rule, "()") {
		s.rules = append(s.rules, strings.ToLower(rule))
		return nil
	}
	return err
}

func (r *Rights) applyPassword(kind byte, word string) error {
	hash := word
	if kind == '>' || kind == '<' {
		hash = HashPassword(word)
	} else if len(hash) != 2*sha256.Size || strings.Trim(hash, "0123456789abcdef") != "" {
		return errHash
	}
	at := slices.Index(r.passwords, hash)
	if kind == '<' || kind == '!' {
		if at < 0 {
			return errNoPassword
		}
		r.passwords = slices.Delete(r.passwords, at, at+1)
		return nil
	}
	if at < 0 {
		r.passwords = append(r.passwords, hash)
	}
	r.noPass = false
	return nil
}

func (r *Rights) applySelector(rule string, lenient bool) error {
	if !strings.HasSuffix(rule, ")") {
		return errSyntax
	}
	s := newSelector()
	for _, word := range strings.Fields(rule[1 : len(rule)-1]) {
		if strings.HasSuffix(word, ")") {
			return errSyntax // it would end the selector where it is read back, as Redis finds out too late
		}
		if err := s.applyWord(word, lenient); err != nil {
			return err
		}
	}
	s.settle()
	r.others = append(r.others, s)
	return nil
}

// HashPassword is how passwords are kept: SHA-256, in hexadecimal, as Redis does. They should be long and random: ACL GENPASS
// makes one.
func HashPassword(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// Accepts says whether a user with these rights may come in with the password. How long that takes tells nothing about the
// passwords.
func (r *Rights) Accepts(password string) bool {
	if !r.on {
		return false
	}
	if r.noPass {
		return true
	}
	hash, right := []byte(HashPassword(password)), 0
	for _, p := range r.passwords {
		right |= subtle.ConstantTimeCompare(hash, []byte(p))
	}
	return right == 1
}

// Open says that the user needs no password.
func (r *Rights) Open() bool { return r.on && r.noPass }

// NeedsNone says that the user is without passwords to check, whether it is enabled or not.
func (r *Rights) NeedsNone() bool { return r.noPass }

// Everything says that nothing is refused, so that nobody need ask about single commands.
func (r *Rights) Everything() bool { return r.everything }

// SamePasswords says whether both let in the same passwords.
func (r *Rights) SamePasswords(o *Rights) bool {
	return r.noPass == o.noPass && slices.Equal(r.passwords, o.passwords)
}

// WithPasswords returns rights with these hashes as passwords, and no others.
func (r *Rights) WithPasswords(hashes []string) *Rights {
	c := r.clone()
	c.noPass, c.passwords = false, slices.Clone(hashes)
	return c.finish()
}

// String writes the rights as rules: what ACL LIST shows behind the name.
func (r *Rights) String() string {
	var b bytes.Buffer
	for _, flag := range r.Flags() {
		b.WriteString(flag + " ")
	}
	for _, p := range r.passwords {
		b.WriteString("#" + p + " ")
	}
	r.root.describe(&b)
	for i := range r.others {
		b.WriteString(" (")
		r.others[i].describe(&b)
		b.WriteString(")")
	}
	return b.String()
}

// Flags are what ACL GETUSER shows as such.
func (r *Rights) Flags() []string {
	flags := []string{map[bool]string{true: "on", false: "off"}[r.on]}
	if r.noPass {
		flags = append(flags, "nopass")
	}
	switch r.sanitize {
	case sanitizeYes:
		flags = append(flags, "sanitize-payload")
	case sanitizeNo:
		flags = append(flags, "skip-sanitize-payload")
	}
	return flags
}

// Passwords are the hashes. The caller does not modify them.
func (r *Rights) Passwords() []string { return r.passwords }

// Permissions are the rules of one selector, as ACL GETUSER shows them.
type Permissions struct{ Commands, Keys, Channels string }

// Selectors returns the permissions of the user itself, and behind them those in parentheses.
func (r *Rights) Selectors() []Permissions {
	var all []Permissions
	for _, s := range append([]selector{r.root}, r.others...) {
		all = append(all, Permissions{strings.Join(s.rules, " "), s.describeKeys(), s.describeChannels()})
	}
	return all
}

// Reason says why something was refused.
type Reason uint8

// The reasons, in the order in which the refusals of several selectors outdo each other.
const (
	Allowed Reason = iota
	DeniedCommand
	DeniedKey
	DeniedAuth // the password was wrong, or the user is disabled
	DeniedChannel
)

func (r Reason) String() string { return [...]string{"", "command", "key", "auth", "channel"}[r] }

// Request is a command that somebody wants to run. Its arity has been checked.
type Request struct {
	Spec *command.Spec
	Args [][]byte

	at    []int
	found bool
}

// keys are the places of the keys in Args. Shard channels, which have a slot as keys do, are none.
func (r *Request) keys() []int {
	if !r.found && r.Spec.Flags&command.FlagPubSub == 0 {
		r.at = command.Keys(r.Spec, r.Args, r.at[:0])
	}
	r.found = true
	return r.at
}

// Denial is a refusal. The zero value is none.
type Denial struct {
	Reason Reason
	// Object is what was refused: the command's name, the key or the channel.
	Object string
}

// Check says whether a command may run. The refusal is that of the selector that came furthest, as in Redis.
func (r *Rights) Check(spec *command.Spec, args [][]byte) Denial {
	if r.everything {
		return Denial{}
	}
	q := Request{Spec: spec, Args: args}
	reason, at := r.root.check(&q)
	for i := range r.others {
		if reason == Allowed {
			break
		}
		why, where := r.others[i].check(&q)
		if why == Allowed || why > reason || why == reason && where > at {
			reason, at = why, where
		}
	}
	switch reason {
	case Allowed:
		return Denial{}
	case DeniedCommand:
		return Denial{reason, nameOf(spec)}
	}
	return Denial{reason, string(args[at])}
}

// nameOf is the command's name for people: what DEBUG does by its arguments has none of its own.
func nameOf(spec *command.Spec) string {
	if strings.HasPrefix(spec.Name, "debug|") {
		return "debug"
	}
	return spec.Name
}

// MayCall says whether a command may run on some keys.
func (r *Rights) MayCall(spec *command.Spec, args [][]byte) bool {
	q := Request{Spec: spec, Args: args}
	return slices.ContainsFunc(append([]selector{r.root}, r.others...), func(s selector) bool { return s.mayCall(&q) })
}

// ReadsEverything says whether a command may read keys that its arguments do not name: some selector allows it, and to read
// all keys.
func (r *Rights) ReadsEverything(spec *command.Spec, args [][]byte) bool {
	q := Request{Spec: spec, Args: args}
	for _, s := range append([]selector{r.root}, r.others...) {
		if !s.mayCall(&q) {
			continue
		}
		if s.allKeys || slices.ContainsFunc(s.keys, func(k keyPattern) bool { return k.pattern == "*" && k.access&command.AccessRead != 0 }) {
			return true
		}
	}
	return false
}

// Hears says whether a connection may keep a subscription that it has.
func (r *Rights) Hears(channel string, pattern bool) bool {
	if r.root.allowsSubscription(channel, pattern) {
		return true
	}
	return slices.ContainsFunc(r.others, func(s selector) bool { return s.allowsSubscription(channel, pattern) })
}

// Message is the denial as Redis tells a client.
func (d Denial) Message() string {
	switch d.Reason {
	case DeniedCommand:
		return "NOPERM this user has no permissions to run the '" + d.Object + "' command"
	case DeniedKey:
		return "NOPERM this user has no permissions to access one of the keys used as arguments"
	case DeniedChannel:
		return "NOPERM this user has no permissions to access one of the channels used as arguments"
	}
	return ""
}

// InScript is the denial as Redis tells a script.
func (d Denial) InScript() string {
	switch d.Reason {
	case DeniedCommand:
		return "ERR The user executing the script can't run this command or subcommand"
	case DeniedKey:
		return "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"
	case DeniedChannel:
		return "ERR The user executing the script can't publish to the channel mentioned in the command"
	}
	return ""
}

// DryRun is the denial as ACL DRYRUN tells it: in C, where a name ends with a zero byte.
func (d Denial) DryRun() string {
	d.Object, _, _ = strings.Cut(d.Object, "\x00")
	switch d.Reason {
	case DeniedCommand:
		return "This user has no permissions to run the '" + d.Object + "' command"
	case DeniedKey:
		return "This user has no permissions to access the '" + d.Object + "' key"
	case DeniedChannel:
		return "This user has no permissions to access the '" + d.Object + "' channel"
	}
	return ""
}

// Later is the denial of a command of a transaction that was allowed when it was queued.
func (d Denial) Later() string {
	why := map[Reason]string{
		DeniedCommand: "no permission to execute the command or subcommand",
		DeniedKey:     "no permission to touch the specified keys",
		DeniedChannel: "no permission to access one of the channels used as arguments",
	}[d.Reason]
	return "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no " +
		"longer allowed for the following reason: " + why
}
