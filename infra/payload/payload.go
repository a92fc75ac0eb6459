// Package payload prepares what the VMs of a cloud are given: the node program, each node's configuration, and the user data
// that installs both.
//
// It owns the checks that need the program's file and the node's rules, so that a wrong one is refused before any resource
// exists. Where the program is uploaded to and where secrets are kept is the clouds' business; they fill that into Boot.
package payload

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hypercache/infra/config"
	"hypercache/infra/plan"
	"hypercache/provisioning/cloudinit"
	"hypercache/provisioning/nodeconf"
)

// DataDir is where the node keeps its data: the data disk's mount point.
const DataDir = "/opt/hypercache/data"

// Payload is what all VMs of a cluster are given.
type Payload struct {
	Program Program
	// Configs are the nodes' configuration files, in the order of the plan, without secrets.
	Configs []string
}

// Program is the node program: a file to upload, or an address to fetch it from.
type Program struct {
	Path, URL string // one of them is empty
	SHA256    string // of its bytes, hexadecimal
}

// Key is the program's name in a store, different for different bytes, so that an upload never changes what a running VM
// was told to fetch.
func (p Program) Key() string { return "hypercache-" + p.SHA256[:16] }

// Resource is the name of the upload's resource. It differs with the bytes, too: the old program stays while a roll is under
// way or has failed, and going back to it then finds it where it was. One resource that were replaced would wait for its
// deletion in the state, and that deletion would take away what the way back had uploaded again under the same key.
func (p Program) Resource() string { return "program-" + p.SHA256[:16] }

// Prepare looks at everything that can be wrong with a payload. Relative paths start at root.
func Prepare(c config.Config, p plan.Plan, root string) (Payload, error) {
	program, programErr := program(c, root)
	configs, configErr := configs(c, p)
	if err := errors.Join(programErr, configErr); err != nil {
		return Payload{}, err
	}
	return Payload{Program: program, Configs: configs}, nil
}

func program(c config.Config, root string) (Program, error) {
	if c.VM.BinaryURL != "" {
		return Program{URL: c.VM.BinaryURL, SHA256: c.VM.BinarySHA256}, nil
	}
	path := c.Binary
	if !filepath.IsAbs(path) {
		path = filepath.Join(root, path)
	}
	build := fmt.Sprintf("`GOOS=linux GOARCH=%s make bin/hypercache` makes it", c.VM.Architecture)
	f, err := os.Open(path)
	if err != nil {
		return Program{}, fmt.Errorf("binary: %w; %s", err, build)
	}
	defer f.Close() //nolint:errcheck // only read
	if err := runsOn(f, c.VM.Architecture); err != nil {
		return Program{}, fmt.Errorf("binary: %s %w; %s", c.Binary, err, build)
	}
	sum := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Program{}, fmt.Errorf("binary: read %s: %w", path, err)
	}
	if _, err := io.Copy(sum, f); err != nil {
		return Program{}, fmt.Errorf("binary: read %s: %w", path, err)
	}
	return Program{Path: path, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// runsOn tells whether a file is a Linux program for the architecture.
func runsOn(f io.ReaderAt, architecture string) error {
	header, err := elf.NewFile(f)
	if err != nil {
		return errors.New("is not a Linux program")
	}
	want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[architecture]
	if header.Machine != want {
		return fmt.Errorf("is built for %s and the VMs are %s", header.Machine, architecture)
	}
	return nil
}

// configs renders every node's configuration. What is wrong with the settings of one is wrong with all, so its error names the
// mistakes of the first.
func configs(c config.Config, p plan.Plan) ([]string, error) {
	for _, key := range []string{"network.tls_enabled", "cluster.inter_node_tls"} {
		if c.Settings[key] == "true" {
			return nil, fmt.Errorf("settings: %s: the VMs are given no certificates yet; leave it out", key)
		}
	}
	var out []string
	for _, n := range p.Nodes {
		text, err := nodeconf.Render(nodeconf.Node{
			ID: n.Name, Zone: n.Zone, ClusterName: p.Cluster, BindAddr: "0.0.0.0", AdvertiseAddr: n.Address,
			RESPPort: n.RESP, HTTPPort: n.HTTP, GossipPort: n.Gossip, RPCPort: n.RPC,
			Seeds: p.Seeds, BootstrapExpect: p.BootstrapExpect, DataDir: DataDir, Settings: c.Settings,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// UserData is a VM's user data, gzip in base64, as both clouds take it.
func UserData(m cloudinit.Machine) (string, error) {
	data, err := cloudinit.Render(m)
	if err != nil {
		return "", fmt.Errorf("render user data of %s: %w", m.Hostname, err)
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

// Trigger condenses everything whose change replaces or restarts a VM, for package rollout.
func Trigger(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%d:%s", len(part), part) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil))[:32]
}
