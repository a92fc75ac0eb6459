package command

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

func configCommands() []binding {
	return []binding{
		{name: "config", conn: runContainer},
		{name: "config|get", conn: runConfigGet},
		{name: "config|help", conn: helpFunc("CONFIG", configHelp)},
		{name: "config|resetstat", conn: runConfigResetStat},
		{name: "config|set", conn: runConfigSet},
	}
}

// Config is a node's table of parameters under Redis' names: CONFIG GET and SET read and change it. It knows which
// values Redis would take; what a change does is up to the hooks. It is safe for concurrent use.
type Config struct {
	mu     sync.Mutex
	values map[string]string
	hooks  map[string]func(value string) error
}

// NewConfig returns a table with Redis' defaults.
func NewConfig() *Config {
	c := &Config{values: map[string]string{}, hooks: map[string]func(string) error{}}
	for _, p := range params {
		c.values[p.name] = p.value
	}
	return c
}

// Get returns a parameter's value in the form that CONFIG GET shows, "" if there is no such parameter.
func (c *Config) Get(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return shown(name, c.values[name])
}

// Put sets a parameter, also one that CONFIG SET may not change, without calling its hook. The value has the form that
// CONFIG GET shows. It panics on a name that Redis does not know.
func (c *Config) Put(name, value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.values[name]; !ok {
		panic("command: no parameter " + name)
	}
	c.values[name] = value
}

// OnSet calls hook, one call at a time, when CONFIG SET gives name a new value, in the form that CONFIG GET shows. An
// error refuses the change and is the text that the client sees. A later hook replaces an earlier one.
func (c *Config) OnSet(name string, hook func(value string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.values[name]; !ok {
		panic("command: no parameter " + name)
	}
	c.hooks[name] = hook
}

// match returns the parameters that an argument of CONFIG GET names: by a pattern, or by one name, which is returned as
// it was written.
func (c *Config) match(pattern string) []string {
	var names []string
	if !strings.ContainsAny(pattern, "[*?") {
		if findParam(strings.ToLower(pattern)) != nil { // an alias too
			names = append(names, pattern)
		}
		return names
	}
	pattern = strings.ToLower(pattern)
	for _, p := range params {
		if matchGlob([]byte(pattern), []byte(p.name)) {
			names = append(names, p.name)
		}
	}
	for _, alias := range aliases {
		if matchGlob([]byte(pattern), []byte(alias[0])) {
			names = append(names, alias[0])
		}
	}
	return names
}

// set changes several parameters or none. The error has Redis' words for the client.
func (c *Config) set(pairs [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes, err := parseChanges(pairs, c.values)
	if err != nil {
		return err
	}
	for i, ch := range changes {
		hook := c.hooks[ch.name]
		if hook == nil || ch.value == c.values[ch.name] {
			continue
		}
		if err := hook(ch.value); err != nil {
			for _, undo := range slices.Backward(changes[:i]) {
				if hook := c.hooks[undo.name]; hook != nil {
					_ = hook(c.values[undo.name]) // it took this value before
				}
			}
			return changeError(ch.name, err)
		}
	}
	for _, ch := range changes {
		c.values[ch.name] = ch.value
	}
	return nil
}

type change struct{ name, value string }

func changeError(name string, err error) error {
	return fmt.Errorf("CONFIG SET failed (possibly related to argument '%s') - %w", name, err)
}

// parseChanges reads names and values. values are the present ones.
func parseChanges(pairs [][]byte, values map[string]string) ([]change, error) {
	var changes []change
	var found []*param
	var refused error
	for i := 0; i < len(pairs); i += 2 {
		p := findParam(strings.ToLower(string(pairs[i])))
		switch {
		case refused != nil:
		case p == nil:
			return nil, fmt.Errorf("Unknown option or number of arguments for CONFIG SET - '%s'", cstring(pairs[i], len(pairs[i])))
		case p.immutable:
			refused = changeError(p.name, fmt.Errorf("can't set immutable config"))
		case slices.Contains(found, p):
			refused = changeError(p.name, fmt.Errorf("duplicate parameter"))
		}
		found = append(found, p)
	}
	if refused != nil {
		return nil, refused
	}
	for i, p := range found {
		value, err := p.parse(string(pairs[2*i+1]))
		if err == nil && p.fixed != "" && value != values[p.name] {
			err = fmt.Errorf("it is %q for good: %s", values[p.name], p.fixed)
		}
		if err != nil {
			return nil, changeError(p.name, err)
		}
		changes = append(changes, change{p.name, value})
	}
	return changes, nil
}

func runConfigGet(c *ConnCtx) {
	config := c.Server.Config()
	var names []string
	for _, pattern := range c.Args[2:] {
		for _, name := range config.match(string(pattern)) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	c.W.Map(len(names))
	for _, name := range names {
		c.W.BulkString(name)
		c.W.BulkString(config.Get(unaliased(strings.ToLower(name))))
	}
}

func runConfigSet(c *ConnCtx) {
	if len(c.Args)%2 != 0 {
		c.W.Error(errSyntax)
		return
	}
	if err := c.Server.Config().set(c.Args[2:]); err != nil {
		c.W.Error("ERR " + err.Error())
		return
	}
	c.W.OK()
}

func runConfigResetStat(c *ConnCtx) {
	c.Server.ResetStats()
	c.W.OK()
}

type paramKind uint8

const (
	kindString paramKind = iota
	kindInt
	kindMemory
	kindBool
	kindEnum
	kindSave
	kindNotify
)

// param is one parameter of CONFIG: what values it takes and Redis' default.
type param struct {
	name      string
	kind      paramKind
	value     string
	min, max  int64
	choices   string // separated by blanks
	immutable bool
	fixed     string // why CONFIG SET takes no other value; "" if it does
}

// parse checks a value and gives it the form that CONFIG GET shows.
func (p *param) parse(s string) (string, error) {
	switch p.kind {
	case kindInt:
		n, ok := parseInt([]byte(s))
		if !ok {
			return "", fmt.Errorf("argument couldn't be parsed into an integer")
		}
		return p.bounded(n)
	case kindMemory:
		n, ok := parseMemory(s)
		if !ok {
			return "", fmt.Errorf("argument must be a memory value")
		}
		return p.bounded(n)
	case kindBool:
		if s = strings.ToLower(s); s != "yes" && s != "no" {
			return "", fmt.Errorf("argument must be 'yes' or 'no'")
		}
	case kindEnum:
		s = strings.ToLower(s)
		if choices := strings.Fields(p.choices); !slices.Contains(choices, s) {
			return "", fmt.Errorf("argument(s) must be one of the following: %s", strings.Join(choices, ", "))
		}
	case kindSave:
		return parseSave(s)
	case kindNotify:
		return parseNotifyParam(s)
	}
	return s, nil
}

func (p *param) bounded(n int64) (string, error) {
	if n < p.min || n > p.max {
		return "", fmt.Errorf("argument must be between %d and %d inclusive", p.min, p.max)
	}
	return strconv.FormatInt(n, 10), nil
}

// parseSave reads pairs of seconds and changes.
func parseSave(s string) (string, error) {
	fields := strings.Fields(s)
	bad := len(fields)%2 != 0
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		bad = bad || err != nil || n < 0 || i%2 == 0 && n < 1
	}
	if bad {
		return "", fmt.Errorf("Invalid save parameters")
	}
	return strings.Join(fields, " "), nil
}

var memoryUnits = []struct {
	suffix string
	factor int64
}{
	{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"k", 1000}, {"m", 1e6}, {"g", 1e9}, {"b", 1},
}

// parseMemory reads a number of bytes with Redis' units, decimal (1k) or binary (1kb). What is larger than an int64
// reads as -1.
func parseMemory(s string) (int64, bool) {
	s, factor := strings.ToLower(s), int64(1)
	for _, u := range memoryUnits {
		if number, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = number, u.factor
			break
		}
	}
	if s == "" {
		return 0, true // as strtoull has it
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) && s[0] != '-' || n > math.MaxInt64/factor {
		return -1, true // out of every parameter's bounds
	}
	return n * factor, err == nil && n >= 0
}

// unaliased is the name of the parameter that an alias stands for.
func unaliased(name string) string {
	for _, alias := range aliases {
		if alias[0] == name {
			return alias[1]
		}
	}
	return name
}

func findParam(name string) *param {
	name = unaliased(name)
	for i := range params {
		if params[i].name == name {
			return &params[i]
		}
	}
	return nil
}

var configHelp = []string{
	"GET <pattern>",
	"    Return parameters matching the glob-like <pattern> and their values.",
	"SET <directive> <value>",
	"    Set the configuration <directive> to <value>.",
	"RESETSTAT",
	"    Reset statistics reported by the INFO command.",
}
