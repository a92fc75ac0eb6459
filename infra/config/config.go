// Package config reads the configuration of a stack.
//
// It owns the stack's knobs, their defaults and their limits. Parse looks at every key before any resource exists and
// reports all mistakes at once, each with its key and what would be right. What the values mean for names, addresses
// and ports is package plan's business. The same knobs stand in Pulumi.yaml, where the Pulumi CLI types and describes them;
// a test holds the two together.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is a stack's configuration. Parse returns one that is complete and possible.
type Config struct {
	// Cloud is where nodes run: a name that the program has an implementation for.
	Cloud string
	// NodeCount is how many nodes the cluster has, 1 to MaxNodes. Three survive the loss of any one.
	NodeCount int
	// PortOffset is added to every port of the local cloud, so that a second cluster fits on the machine. 0 gives
	// the ports of the documentation; clusters need offsets at least NodeCount apart.
	PortOffset int
	// Zones are the failure domains, dealt to the nodes in turn.
	Zones []string
	// Settings are keys of the node's own configuration that every node gets, like "cache.max_memory": "1gb".
	Settings map[string]string
	// Password has the stack make a password that clients must give, of the user default. Without one, whoever reaches a node's
	// ports may read and write.
	Password bool
	// Binary is the path of the node program; relative paths are relative to the project.
	Binary string
	// ReadyTimeout bounds how long a started node may take to serve its share. Too short fails healthy starts with much
	// data to load; longer only delays bad news.
	ReadyTimeout time.Duration
	// DrainTimeout bounds how long a node that leaves may take to hand its data over. It grows with the data per node.
	DrainTimeout time.Duration
	// StopTimeout is how long a node may take to end after SIGTERM before it is killed.
	StopTimeout time.Duration
	// ForceDelete removes a node even when its data could not be handed over. Keys without another copy are lost.
	ForceDelete bool
	// Network and VM are for clouds that make machines.
	Network Network
	VM      VM
}

// The values of the key password.
const (
	passwordGenerated = "generated"
	passwordNone      = "none"
)

// defaultPassword is none where nodes listen on loopback only.
func defaultPassword(cloud string) string {
	if cloud == AWS || cloud == Azure {
		return passwordGenerated
	}
	return passwordNone
}

// MaxNodes bounds the cluster: RESP ports count up from 8080 and must stay below HTTP's at 9080 with room to spare, and
// gossip and the internal port below those.
const MaxNodes = 64

// MaxPortOffset keeps the highest port, 9080 + offset + MaxNodes, below 65536.
const MaxPortOffset = 50000

// Lookup returns a key's value as Pulumi stores it (lists and objects as JSON) and whether it is set.
type Lookup func(key string) (string, bool)

// Error lists every mistake of a stack's configuration.
type Error struct{ Problems []string }

// Error gives one problem a line.
func (e *Error) Error() string {
	return fmt.Sprintf("the stack's configuration has %d mistake(s):\n  - %s",
		len(e.Problems), strings.Join(e.Problems, "\n  - "))
}

// Mistakes joins the lists of several *Error into one; nil ones count for nothing. Any other error is returned as it is.
func Mistakes(errs ...error) error {
	var all Error
	for _, err := range errs {
		var list *Error
		switch {
		case err == nil:
		case errors.As(err, &list):
			all.Problems = append(all.Problems, list.Problems...)
		default:
			return err
		}
	}
	if len(all.Problems) == 0 {
		return nil
	}
	slices.Sort(all.Problems)
	all.Problems = slices.Compact(all.Problems)
	return &all
}

// parser collects mistakes while keys are read.
type parser struct {
	get      Lookup
	problems []string
}

func (p *parser) fail(key, format string, args ...any) {
	p.problems = append(p.problems, key+": "+fmt.Sprintf(format, args...))
}

func (p *parser) text(key, otherwise string) string {
	if v, ok := p.get(key); ok && v != "" {
		return v
	}
	return otherwise
}

func (p *parser) number(key string, otherwise, low, high int) int {
	text, ok := p.get(key)
	if !ok || text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		p.fail(key, "%q is not a whole number from %d to %d", text, low, high)
		return otherwise
	}
	return n
}

func (p *parser) seconds(key string, otherwise, high int) time.Duration {
	return time.Duration(p.number(key, otherwise, 1, high)) * time.Second
}

func (p *parser) flag(key string) bool {
	text, ok := p.get(key)
	if !ok || text == "" {
		return false
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		p.fail(key, "%q is not true or false", text)
	}
	return b
}

func (p *parser) oneOf(key, otherwise string, allowed ...string) string {
	v := p.text(key, otherwise)
	if !slices.Contains(allowed, v) {
		p.fail(key, "%q is not one of %s", v, strings.Join(allowed, ", "))
	}
	return v
}

var zoneName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (p *parser) zones(key string, otherwise []string) []string {
	text, ok := p.get(key)
	if !ok || text == "" {
		return otherwise
	}
	var zones []string
	if err := json.Unmarshal([]byte(text), &zones); err != nil {
		p.fail(key, "%s is not a list of zone names, like [\"zone-a\", \"zone-b\"]", text)
		return otherwise
	}
	if len(zones) == 0 {
		return otherwise
	}
	for i, z := range zones {
		if !zoneName.MatchString(z) {
			p.fail(key, "%q is not a zone name: letters, digits, '.', '_' and '-', at most 63", z)
		}
		if slices.Contains(zones[:i], z) {
			p.fail(key, "%q is there twice", z)
		}
	}
	return zones
}

// settings reads the free-form node keys. Their names and values are checked by the node's rules when they are rendered.
func (p *parser) settings(key string) map[string]string {
	out := map[string]string{}
	text, ok := p.get(key)
	if !ok || text == "" {
		return out
	}
	var raw map[string]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&raw); err != nil {
		p.fail(key, "%s is not an object of node keys, like {\"cache.max_memory\": \"1gb\"}", text)
		return out
	}
	for k, v := range raw {
		switch v := v.(type) {
		case string, bool, json.Number:
			out[k] = fmt.Sprint(v)
		default:
			p.fail(key, "%q needs a string, number or boolean", k)
		}
	}
	return out
}

// Parse reads a stack's configuration. clouds are the names that the key cloud may have. Its error is an *Error with
// every mistake; what it returns then has defaults in their place, so that relations between values can be looked at too.
func Parse(get Lookup, clouds []string) (Config, error) {
	p := &parser{get: get}
	cloud := p.oneOf("cloud", "local", clouds...)
	network := p.networkKnobs(cloud)
	c := Config{
		Cloud:        cloud,
		Network:      network,
		VM:           p.vmKnobs(cloud, network.Public),
		NodeCount:    p.number("nodeCount", 3, 1, MaxNodes),
		PortOffset:   p.number("portOffset", 0, 0, MaxPortOffset),
		Zones:        p.zones("zones", defaultZones(cloud, network.Region)),
		Settings:     p.settings("settings"),
		Password:     p.oneOf("password", defaultPassword(cloud), passwordGenerated, passwordNone) == passwordGenerated,
		Binary:       p.text("binary", "bin/hypercache"),
		ReadyTimeout: p.seconds("readyTimeout", 120, 3600),
		DrainTimeout: p.seconds("drainTimeout", 600, 24*3600),
		StopTimeout:  p.seconds("stopTimeout", 30, 3600),
		ForceDelete:  p.flag("forceDelete"),
	}
	p.typedSettings(c.Settings)
	if network.Region != "" {
		p.zonesOf(cloud, network.Region, c.Zones)
	}
	slices.Sort(p.problems)
	if len(p.problems) > 0 {
		return c, &Error{Problems: p.problems}
	}
	return c, nil
}

// typedSettings adds the node keys that have a knob of their own. Setting one both ways is a mistake.
func (p *parser) typedSettings(settings map[string]string) {
	add := func(nodeKey, value string) {
		if _, ok := settings[nodeKey]; ok {
			p.fail("settings", "%q has a knob of its own, leave it out here", nodeKey)
		}
		if value != "" {
			settings[nodeKey] = value
		}
	}
	add("cluster.replication_factor", strconv.Itoa(p.number("replicationFactor", 3, 1, 7)))
	add("cluster.write_acks", p.oneOf("writeAcks", "quorum", "one", "quorum", "all"))
	add("cache.max_memory", p.text("maxMemory", "0"))
	add("cache.eviction_policy", p.oneOf("evictionPolicy", "noeviction", "noeviction", "allkeys-lru", "allkeys-lfu",
		"allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"))
	add("persistence.fsync", p.oneOf("fsync", "everysec", "always", "everysec", "no"))
	add("logging.level", p.oneOf("logLevel", "info", "debug", "info", "warn", "error"))
}
