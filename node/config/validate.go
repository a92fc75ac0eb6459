package config

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EvictionPolicies are Redis' names for what happens at max_memory.
var EvictionPolicies = []string{
	"noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
	"volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
}

const maxTagBytes = 63 // node id, zone and names travel in 512 bytes of gossip tags

// Validate reports every impossible value at once, as an *InvalidError. It looks
// at the values alone and never at the machine.
func (c Config) Validate() error {
	if p := c.problems(nil); len(p) > 0 {
		return &InvalidError{p}
	}
	return nil
}

// check gathers problems; origin tells where each key was set.
type check struct {
	origin   map[string]string
	problems []Problem
}

func (k *check) fail(path, format string, args ...any) {
	k.problems = append(k.problems, Problem{Path: path, Origin: k.origin[path], Message: fmt.Sprintf(format, args...)})
}

func (c Config) problems(origin map[string]string) []Problem {
	k := &check{origin: origin}
	c.checkIdentity(k)
	c.checkNetwork(k)
	c.checkTLS(k)
	c.checkCluster(k)
	c.checkTimings(k)
	c.checkStorage(k)
	c.checkLimits(k)
	k.oneOf("logging.level", strings.ToLower(c.Logging.Level), "debug", "info", "warn", "warning", "error")
	k.oneOf("logging.format", c.Logging.Format, "text", "json")
	return k.problems
}

func (c Config) checkIdentity(k *check) {
	k.name("server.node_id", c.Server.NodeID, true)
	k.name("cluster.name", c.Cluster.Name, false)
	if len(c.Cluster.Zone) > maxTagBytes || strings.ContainsFunc(c.Cluster.Zone, isControl) {
		k.fail("cluster.zone", "want at most %d bytes of printable text", maxTagBytes)
	}
}

func (c Config) checkNetwork(k *check) {
	type listener struct {
		key, bind string
		port      int
	}
	respBind := c.Network.RESPBindAddr
	or := func(bind string) string {
		if bind == "" {
			return respBind
		}
		return bind
	}
	listeners := []listener{
		{"resp", respBind, c.Network.RESPPort},
		{"http", or(c.Network.HTTPBindAddr), c.Network.HTTPPort},
		{"gossip", or(c.Network.GossipBindAddr), c.Network.GossipPort},
		{"rpc", or(c.Network.RPCBindAddr), c.Network.RPCPort},
	}
	for i, l := range listeners {
		port := "network." + l.key + "_port"
		if l.port < 1 || l.port > 65535 {
			k.fail(port, "%d is not a port; want 1 to 65535", l.port)
			continue
		}
		for _, other := range listeners[:i] {
			if l.port == other.port && overlap(l.bind, other.bind) {
				k.fail(port, "%d is taken by network.%s_port; every listener needs a port of its own", l.port, other.key)
			}
		}
	}
	k.bind("network.resp_bind_addr", c.Network.RESPBindAddr)
	k.bind("network.http_bind_addr", c.Network.HTTPBindAddr)
	k.bind("network.gossip_bind_addr", c.Network.GossipBindAddr)
	k.bind("network.rpc_bind_addr", c.Network.RPCBindAddr)
	if a := c.Network.AdvertiseAddr; a != "" {
		if why := badHost(a); why != "" {
			k.fail("network.advertise_addr", "%s; want the address or name that other nodes reach this one by, like 10.0.1.4", why)
		}
	}
}

func (c Config) checkTLS(k *check) {
	n := c.Network
	user := ""
	switch {
	case n.TLSEnabled:
		user = "network.tls_enabled"
	case c.Cluster.InterNodeTLS:
		user = "cluster.inter_node_tls"
	}
	if user != "" {
		if n.CertFile == "" {
			k.fail("network.cert_file", "is missing, and %s needs it: the path of a PEM certificate", user)
		}
		if n.KeyFile == "" {
			k.fail("network.key_file", "is missing, and %s needs it: the path of the certificate's PEM key", user)
		}
	}
	if c.Cluster.InterNodeTLS && n.CAFile == "" {
		k.fail("network.ca_file", "is missing, and cluster.inter_node_tls needs it: the path of the PEM bundle that signs the nodes")
	}
}

func (c Config) checkCluster(k *check) {
	for i, seed := range c.Cluster.Seeds {
		if why := badSeed(seed); why != "" {
			k.fail("cluster.seeds", "item %d, %s", i+1, why)
		}
	}
	if rf := c.Cluster.ReplicationFactor; rf < 1 || rf > 7 {
		k.fail("cluster.replication_factor", "%d is impossible; want 1 to 7, usually 3", rf)
	}
	k.oneOf("cluster.write_acks", c.Cluster.WriteAcks, "one", "quorum", "all")
	k.oneOf("cluster.reads", c.Cluster.Reads, "lease", "quorum")
	if n := c.Cluster.BootstrapExpect; n < 0 || n > 7 {
		k.fail("cluster.bootstrap_expect", "%d is impossible; want 1 to 7, usually 3, or 0 to derive it from the seeds", n)
	}
	if n := c.Cluster.MaxMoves; n < 1 || n > 256 {
		k.fail("cluster.max_moves", "%d is impossible; want 1 to 256, usually 8", n)
	}
	if _, err := c.Cluster.GossipKey(); err != nil {
		k.fail("cluster.gossip_encrypt_key", "%v", err)
	}
}

func (c Config) checkTimings(k *check) {
	cl := c.Cluster
	for _, d := range []struct {
		path       string
		value      time.Duration
		low, high  time.Duration
		zeroIsNone bool
	}{
		{"cluster.heartbeat_interval", cl.HeartbeatInterval, 10 * time.Millisecond, time.Minute, false},
		{"cluster.suspect_after", cl.SuspectAfter, 50 * time.Millisecond, 10 * time.Minute, false},
		{"cluster.lease", cl.Lease, 50 * time.Millisecond, 10 * time.Minute, false},
		{"cluster.max_staleness", cl.MaxStaleness, 500 * time.Millisecond, 10 * time.Minute, true},
		{"cluster.ack_timeout", cl.AckTimeout, 50 * time.Millisecond, 10 * time.Minute, false},
		{"cluster.handover_timeout", cl.HandoverTimeout, 100 * time.Millisecond, time.Hour, false},
		{"cluster.linger", cl.Linger, 100 * time.Millisecond, time.Hour, true},
		{"persistence.stall_timeout", c.Persistence.StallTimeout, time.Second, time.Hour, true},
		{"limits.idle_timeout", c.Limits.IdleTimeout, time.Second, 365 * 24 * time.Hour, true},
	} {
		if d.value == 0 && d.zeroIsNone {
			continue
		}
		if d.value < d.low || d.value > d.high {
			k.fail(d.path, "%s is out of range; want %s to %s", shortDuration(d.value), shortDuration(d.low), shortDuration(d.high))
		}
	}
	if cl.HeartbeatInterval > 0 && cl.SuspectAfter >= 50*time.Millisecond && cl.SuspectAfter < 3*cl.HeartbeatInterval {
		k.fail("cluster.suspect_after", "%s is shorter than three heartbeats of %s, so one lost packet would look like a death",
			shortDuration(cl.SuspectAfter), shortDuration(cl.HeartbeatInterval))
	}
}

func (c Config) checkStorage(k *check) {
	p := c.Persistence
	if p.Enabled && p.DataDir == "" {
		k.fail("persistence.data_dir", "is empty; want a directory, or persistence.enabled: false")
	}
	if strings.ContainsRune(p.DataDir, 0) {
		k.fail("persistence.data_dir", "contains a zero byte; want the path of a directory")
	}
	k.oneOf("persistence.fsync", p.Fsync, "always", "everysec", "no")
	k.size("persistence.rewrite_min_size", p.RewriteMinSize, 0, 1<<50)
	if p.RewritePercentage < 0 || p.RewritePercentage > 1_000_000 {
		k.fail("persistence.rewrite_percentage", "%d is impossible; want 0 (never) or a growth in percent, usually 100", p.RewritePercentage)
	}
	if c.Cache.MaxMemory != 0 {
		k.size("cache.max_memory", c.Cache.MaxMemory, 1<<20, 1<<50)
	}
	k.oneOf("cache.eviction_policy", c.Cache.EvictionPolicy, EvictionPolicies...)
	if n := c.Cache.EvictionSamples; n < 1 || n > 64 {
		k.fail("cache.eviction_samples", "%d is impossible; want 1 to 64, usually 5", n)
	}
	k.size("cache.max_value_bytes", c.Cache.MaxValueBytes, 1<<10, 512<<20)
	if d := c.Cache.ScriptLimit; d < 100*time.Millisecond || d > 24*time.Hour {
		k.fail("cache.script_limit", "%s is impossible; want 100ms to 24h, usually 1m0s", d)
	}
}

func (c Config) checkLimits(k *check) {
	l := c.Limits
	if l.MaxClients < 1 || l.MaxClients > 1_000_000 {
		k.fail("limits.max_clients", "%d is impossible; want 1 to 1000000, usually 10000", l.MaxClients)
	}
	if l.HTTPMaxConns < 1 || l.HTTPMaxConns > 1_000_000 {
		k.fail("limits.http_max_conns", "%d is impossible; want 1 to 1000000, usually 1024", l.HTTPMaxConns)
	}
	k.size("limits.max_query_buffer", l.MaxQueryBuffer, 64<<10, 1<<40)
	k.size("limits.max_output_buffer", l.MaxOutputBuffer, 64<<10, 1<<40)
	if v := c.Cache.MaxValueBytes; v <= 512<<20 {
		if l.MaxQueryBuffer >= 64<<10 && l.MaxQueryBuffer < v {
			k.fail("limits.max_query_buffer", "%s could never hold a value of cache.max_value_bytes, %s", l.MaxQueryBuffer, v)
		}
		if l.MaxOutputBuffer >= 64<<10 && l.MaxOutputBuffer < v {
			k.fail("limits.max_output_buffer", "%s could never hold a value of cache.max_value_bytes, %s", l.MaxOutputBuffer, v)
		}
	}
}

func (k *check) oneOf(path, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	hint := ""
	if guess := nearest(strings.ToLower(value), allowed); guess != "" {
		hint = "; did you mean " + guess + "?"
	}
	k.fail(path, "%s is unknown; want %s%s", strings.TrimPrefix(describe(value), "the text "), strings.Join(allowed, ", "), hint)
}

func (k *check) size(path string, v, low, high Size) {
	if v < low || v > high {
		k.fail(path, "%s is out of range; want %s to %s", v, low, high)
	}
}

// name checks what becomes a member name: it appears in host:port lists, metric
// labels, file names and CLUSTER NODES, so the alphabet is small.
func (k *check) name(path, s string, mayBeEmpty bool) {
	if s == "" && mayBeEmpty {
		return
	}
	if s == "" || len(s) > maxTagBytes || strings.ContainsFunc(s, func(r rune) bool { return !isNameRune(r) }) {
		k.fail(path, "%s; want 1 to %d of a-z A-Z 0-9 . _ -", describe(s), maxTagBytes)
	}
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (k *check) bind(path, s string) {
	if s == "" {
		return
	}
	if _, err := netip.ParseAddr(s); err != nil {
		k.fail(path, "%s is not an IP address; want one of this machine's, 0.0.0.0 for all, or 127.0.0.1 for this machine only",
			strings.TrimPrefix(describe(s), "the text "))
	}
}

// overlap says whether two listeners on one port would collide.
func overlap(a, b string) bool {
	wild := func(s string) bool { return s == "" || s == "0.0.0.0" || s == "::" }
	return wild(a) || wild(b) || a == b
}

// badHost says what is wrong with an address or host name without port.
func badHost(s string) string {
	if ip, err := netip.ParseAddr(s); err == nil {
		if ip.IsUnspecified() {
			return strconv.Quote(s) + " means every address and cannot be connected to"
		}
		return ""
	}
	if host, _, err := net.SplitHostPort(s); err == nil && host != "" {
		return fmt.Sprintf("%q has a port; write %q", s, host)
	}
	if !isHostName(s) {
		return fmt.Sprintf("%.60q is neither an IP address nor a host name", s)
	}
	return ""
}

// isHostName accepts DNS names, and the underscore that container networks use.
// All digits and dots is a mistyped IP address.
func isHostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isNameRune(r) }) {
			return false
		}
	}
	return true
}

func badSeed(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if badHost(s) == "" {
			return fmt.Sprintf("%q has no port; write %q", s, net.JoinHostPort(s, "7946"))
		}
		return fmt.Sprintf("%.60q is not host:port, like \"10.0.1.4:7946\"", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Sprintf("%.60q: %.20q is not a port; want 1 to 65535, usually 7946", s, port)
	}
	if why := badHost(host); why != "" {
		return why + "; want the gossip address of another node, like \"10.0.1.4:7946\""
	}
	return ""
}

// GossipKey decodes gossip_encrypt_key; nil when gossip is in clear.
func (c Cluster) GossipKey() ([]byte, error) {
	if c.GossipEncryptKey == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(c.GossipEncryptKey)
	if err != nil {
		return nil, fmt.Errorf("is not base64; `hypercache keygen` makes one")
	}
	if n := len(key); n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("holds %d bytes; want 16, 24 or 32, `hypercache keygen` makes one", n)
	}
	return key, nil
}
