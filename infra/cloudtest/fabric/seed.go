package fabric

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFiles makes the folder that the guest sees read-only as /lab/machine: its seed for cloud-init, its first /etc, the
// lab's authority. The list of disks is written anew at every start.
func (c *machine) writeFiles(ca []byte) error {
	meta, err := json.Marshal(map[string]string{"instance-id": c.InstanceID, "local-hostname": c.Hostname})
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	files := map[string][]byte{
		"seed/user-data":  c.UserData,
		"seed/meta-data":  append(meta, '\n'),
		"etc/hostname":    []byte(c.shortHostname() + "\n"),
		"etc/hosts":       []byte(c.hosts()),
		"etc/resolv.conf": []byte("nameserver " + c.Resolver.String() + "\noptions timeout:2 attempts:2\n"),
		"ca.pem":          ca,
	}
	for name, data := range files {
		path := filepath.Join(c.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write the machine's files: %w", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write the machine's files: %w", err)
		}
	}
	return nil
}

func (c *machine) hosts() string {
	names := c.Hostname
	if short := c.shortHostname(); short != names {
		names += " " + short
	}
	return "127.0.0.1 localhost\n127.0.1.1 " + names + "\n::1 localhost ip6-localhost ip6-loopback\n"
}

func (c *machine) writeDisks() error {
	var text strings.Builder
	for _, v := range c.volumes {
		text.WriteString(v.line())
	}
	if err := os.WriteFile(filepath.Join(c.dir, "disks"), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write list of disks: %w", err)
	}
	return nil
}

// capability is a Linux capability by its name and number.
type capability struct {
	name   string
	number int
}

// wantedCapabilities are what systemd needs over Docker's own set to do for its services what it does in a VM: SYS_ADMIN and
// NET_ADMIN for everything, SYS_PTRACE for PrivateUsers together with ProtectProc, IPC_LOCK and SYS_NICE for limits and scheduling,
// SYS_RESOURCE for raising limits and for growing a mounted file system.
func wantedCapabilities() []capability {
	return []capability{
		{"SYS_ADMIN", unix.CAP_SYS_ADMIN}, {"NET_ADMIN", unix.CAP_NET_ADMIN}, {"SYS_PTRACE", unix.CAP_SYS_PTRACE},
		{"IPC_LOCK", unix.CAP_IPC_LOCK}, {"SYS_NICE", unix.CAP_SYS_NICE}, {"SYS_RESOURCE", unix.CAP_SYS_RESOURCE},
	}
}

// machineCapabilities returns those that this machine can give: in a container or a confined VM it may not have all of them
// itself, and Docker refuses to start a container with more.
func machineCapabilities() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bounding, err := strconv.ParseUint(strings.TrimSpace(hex), 16, bits.UintSize)
			if err != nil {
				return nil, fmt.Errorf("read own capabilities: %w", err)
			}
			return grantable(bounding), nil
		}
	}
	return nil, errors.New("read own capabilities: no CapBnd in /proc/self/status")
}

func grantable(bounding uint64) []string {
	var names []string
	for _, c := range wantedCapabilities() {
		if bounding&(1<<c.number) != 0 {
			names = append(names, c.name)
		}
	}
	return names
}
