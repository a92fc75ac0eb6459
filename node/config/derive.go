package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// derive fills in the addresses that depend on other keys or on the machine.
func (c *Config) derive(addresses func() []netip.Addr) {
	n := &c.Network
	if n.RESPBindAddr == "" {
		n.RESPBindAddr = "127.0.0.1"
		if n.AdvertiseAddr != "" || len(c.Cluster.Seeds) > 0 {
			n.RESPBindAddr = "0.0.0.0"
		}
	}
	for _, bind := range []*string{&n.HTTPBindAddr, &n.GossipBindAddr, &n.RPCBindAddr} {
		if *bind == "" {
			*bind = n.RESPBindAddr
		}
	}
	if n.AdvertiseAddr == "" {
		n.AdvertiseAddr = advertised(n.RESPBindAddr, addresses)
	}
	c.Logging.Level = strings.ToLower(c.Logging.Level)
	if c.Logging.Level == "warning" {
		c.Logging.Level = "warn"
	}
}

func advertised(bind string, addresses func() []netip.Addr) string {
	if ip, err := netip.ParseAddr(bind); err == nil && !ip.IsUnspecified() {
		return bind
	}
	for _, a := range addresses() {
		if a.IsPrivate() && !a.IsLoopback() {
			return a.String()
		}
	}
	return "127.0.0.1"
}

func systemAddresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		// A sandbox may hide the interfaces; loopback is what is left.
		return nil
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// nodeIDFile keeps the identity beside the data it belongs to.
const nodeIDFile = "node-id"

// Identify settles server.node_id for good. A configured id wins. Otherwise the
// one kept in data_dir, so that a container that comes back with a new host name
// is still the same node; otherwise the host name, or a random id where the host
// name says nothing. With persistence the choice is written to data_dir, which
// is created if need be.
func (c *Config) Identify() error { return c.identify(os.Hostname) }

func (c *Config) identify(hostname func() (string, error)) error {
	if c.Server.NodeID != "" {
		return nil
	}
	file := filepath.Join(c.Persistence.DataDir, nodeIDFile)
	if c.Persistence.Enabled {
		kept, err := os.ReadFile(file)
		switch id := string(bytes.TrimSpace(kept)); {
		case err == nil && validID(id):
			c.Server.NodeID = id
			return nil
		case err == nil:
			return fmt.Errorf("read node id: %s does not hold one; restore it or set server.node_id", file)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("read node id: %w", err)
		}
	}
	id, err := hostname()
	if err != nil || !validID(id) || strings.HasPrefix(id, "localhost") {
		var random [8]byte
		_, _ = rand.Read(random[:]) // crypto/rand never fails: it ends the process instead
		id = "node-" + hex.EncodeToString(random[:])
	}
	c.Server.NodeID = id
	if !c.Persistence.Enabled {
		return nil
	}
	if err := os.MkdirAll(c.Persistence.DataDir, 0o700); err != nil {
		return fmt.Errorf("keep node id: %w", err)
	}
	if err := writeDurably(file, id+"\n"); err != nil {
		return fmt.Errorf("keep node id: %w", err)
	}
	return nil
}

// writeDurably puts text into file so that a power cut leaves all of it or nothing.
func writeDurably(file, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".node-id-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already after the rename
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func validID(id string) bool {
	k := &check{}
	k.name("", id, false)
	return len(k.problems) == 0
}

// Secret reads cluster.secret_file, without surrounding white space; nil when no
// file is set. A secret shorter than 16 bytes is refused: it could be guessed.
func (c Cluster) Secret() ([]byte, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	data, err := readBounded(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("read cluster secret: %w", err)
	}
	data = bytes.TrimSpace(data)
	if len(data) < 16 {
		return nil, fmt.Errorf("read cluster secret: %s holds %d bytes; want at least 16, `hypercache keygen` makes one", c.SecretFile, len(data))
	}
	return data, nil
}

const (
	maxPasswords   = 32
	minPassword    = 8
	maxPasswordLen = 4096
)

// Passwords reads auth.password_file: one password on each line, without white space around it; nil when no file is set.
// A file without any is refused, and so are passwords shorter than 8 bytes, which can be guessed, and longer than 4,096.
func (a Auth) Passwords() ([]string, error) {
	if a.PasswordFile == "" {
		return nil, nil
	}
	data, err := readBounded(a.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("read passwords: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		switch password := strings.TrimSpace(line); {
		case password == "":
		case len(password) < minPassword || len(password) > maxPasswordLen:
			return nil, fmt.Errorf("read passwords: %s has one of %d bytes; want %d to %d", a.PasswordFile, len(password), minPassword, maxPasswordLen)
		default:
			out = append(out, password)
		}
	}
	if len(out) == 0 || len(out) > maxPasswords {
		return nil, fmt.Errorf("read passwords: %s holds %d; want 1 to %d, each on a line of its own", a.PasswordFile, len(out), maxPasswords)
	}
	return out, nil
}

// SlogLevel is logging.level for slog.
func (l Logging) SlogLevel() slog.Level {
	switch strings.ToLower(l.Level) {
	case "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Warnings are things that work and that an operator should know, one sentence each.
func (c Config) Warnings() []string {
	var out []string
	warn := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	gossip, err := netip.ParseAddr(c.Network.GossipBindAddr)
	reachable := err == nil && !gossip.IsLoopback()
	if reachable && c.Cluster.GossipEncryptKey == "" {
		warn("gossip on %s is not encrypted: whoever reaches the port can pose as a member; set cluster.gossip_encrypt_key (hypercache keygen makes one)", c.Network.GossipAddr())
	}
	if reachable && c.Cluster.SecretFile == "" && !c.Cluster.InterNodeTLS {
		warn("nodes do not authenticate each other on %s; set cluster.secret_file or cluster.inter_node_tls", c.Network.RPCAddr())
	}
	resp, err := netip.ParseAddr(c.Network.RESPBindAddr)
	if err == nil && !resp.IsLoopback() && c.Auth.PasswordFile == "" {
		warn("clients on %s need no password unless ACL SETUSER default gave it one; set auth.password_file", c.Network.RESPAddr())
	}
	if e := c.Cluster.Expect(); e == 2 {
		warn("a cluster of 2 stops accepting writes when either node is away; 3 is the smallest that survives a failure")
	}
	if c.Cache.MaxMemory == 0 {
		warn("cache.max_memory is 0: the cache grows until the system stops it")
	}
	return out
}
