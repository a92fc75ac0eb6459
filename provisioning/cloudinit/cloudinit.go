package cloudinit

import (
	"bytes"
	"compress/gzip"
	_ "embed" // scripts
	"fmt"

	"gopkg.in/yaml.v3"

	"hypercache/provisioning/systemd"
)

const (
	// DiskMetric is the name under which a node reports how full its data disk is, in percent; its dimension is Node.
	DiskMetric = "DataDiskUsedPercent"
	// Limit is how many bytes of user data a machine can have; AWS sets it.
	Limit = 16384
)

// Where things are on the machine. The units and the scripts name the same places.
const (
	binDir    = "/opt/hypercache/bin/"
	configDir = "/opt/hypercache/configs/"
	unitDir   = "/etc/systemd/system/"
	user      = "hypercache"
)

//go:embed setup.sh
var setupScript string

//go:embed cloud.py
var cloudScript string

// Machine is what the infrastructure decides about one VM.
type Machine struct {
	Cloud    string // "aws" or "azure"
	Region   string // where the services are that the machine asks
	Hostname string // node-1
	Config   string // the node's configuration file, of nodeconf.Render, without secrets
	Binary   Binary
	Secrets  Secrets
	// DataDevices are paths under which the data disk may show up; the first that appears is used. Empty: data is on
	// the OS disk.
	DataDevices []string
	Metric      *Metric // nil: how full the data disk is, is not reported
	SSHKey      string  // public key for the image's default user; empty: none
}

// Binary is where the node program is. A signed request carries the machine's identity: on AWS for an object of S3,
// on Azure for a blob. Other requests carry none, and the address must answer everybody who can reach it.
type Binary struct {
	URL    string
	SHA256 string // of its bytes, hexadecimal
	Signed bool
}

// Secrets are where the cluster's secrets are: on AWS names or ARNs of Secrets Manager, on Azure addresses like
// https://VAULT.vault.azure.net/secrets/NAME. An empty Password is none: clients need none.
type Secrets struct{ GossipKey, ClusterSecret, Password string }

// Metric is under what names a node reports how full its data disk is: on AWS as a metric of the namespace, on Azure
// as a custom metric of the resource, the VM.
type Metric struct{ Namespace, Node, ResourceID string }

// document is a cloud-config.
type document struct {
	Hostname          string      `yaml:"hostname"`
	PreserveHostname  bool        `yaml:"preserve_hostname"`
	ManageEtcHosts    string      `yaml:"manage_etc_hosts"`
	SSHPasswords      bool        `yaml:"ssh_pwauth"`
	SSHAuthorizedKeys []string    `yaml:"ssh_authorized_keys,omitempty"`
	Users             []any       `yaml:"users"`
	WriteFiles        []writeFile `yaml:"write_files"`
	RunCmd            []string    `yaml:"runcmd"`
}

// account is a user of the system. Its group has its name: Debian and Ubuntu make one with it.
type account struct {
	Name         string `yaml:"name"`
	Gecos        string `yaml:"gecos"`
	System       bool   `yaml:"system"`
	HomeDir      string `yaml:"homedir"`
	NoCreateHome bool   `yaml:"no_create_home"`
	Shell        string `yaml:"shell"`
	LockPassword bool   `yaml:"lock_passwd"`
}

// writeFile is a file that cloud-init writes. Without Defer it does so before users exist, and Owner must be empty.
type writeFile struct {
	Path        string    `yaml:"path"`
	Permissions string    `yaml:"permissions"`
	Owner       string    `yaml:"owner,omitempty"`
	Defer       bool      `yaml:"defer,omitempty"`
	Content     yaml.Node `yaml:"content"`
}

// Text returns the machine's cloud-config. The same Machine always gives the same bytes: each difference would
// replace a VM.
func Text(m Machine) (string, error) {
	if err := m.check(); err != nil {
		return "", err
	}
	d := document{
		Hostname: m.Hostname, ManageEtcHosts: "localhost",
		Users: []any{"default", account{
			Name: user, Gecos: "HyperCache node", System: true, HomeDir: "/opt/hypercache", NoCreateHome: true,
			Shell: "/usr/sbin/nologin", LockPassword: true,
		}},
		WriteFiles: files(m),
		RunCmd:     []string{start(m)},
	}
	if m.SSHKey != "" {
		d.SSHAuthorizedKeys = []string{m.SSHKey}
	}
	var b bytes.Buffer
	b.WriteString("#cloud-config\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(d); err != nil {
		return "", fmt.Errorf("write cloud-config of %s: %w", m.Hostname, err)
	}
	if err := e.Close(); err != nil {
		return "", fmt.Errorf("write cloud-config of %s: %w", m.Hostname, err)
	}
	return b.String(), nil
}

func files(m Machine) []writeFile {
	out := []writeFile{
		{Path: binDir + "setup", Permissions: "0755", Content: literal(setupScript)},
		{Path: binDir + "cloud", Permissions: "0755", Content: literal(cloudScript)},
		{Path: configDir + "machine.env", Permissions: "0644", Content: literal(environment(m))},
		// Readable by the node alone, whose group is there only when deferred files are written.
		{Path: configDir + "hypercache.yaml", Permissions: "0640", Owner: "root:" + user, Defer: true, Content: literal(m.Config)},
		{Path: unitDir + "hypercache.service", Permissions: "0644", Content: literal(systemd.Service())},
		{Path: unitDir + "hypercache-setup.service", Permissions: "0644", Content: literal(systemd.Setup())},
	}
	if m.Metric != nil {
		out = append(out,
			writeFile{Path: unitDir + "hypercache-disk.service", Permissions: "0644", Content: literal(systemd.Disk())},
			writeFile{Path: unitDir + "hypercache-disk.timer", Permissions: "0644", Content: literal(systemd.DiskTimer())})
	}
	return out
}

// start is what the first boot ends with. It waits until the node is ready, and its failure is cloud-init's.
func start(m Machine) string {
	timer := ""
	if m.Metric != nil {
		timer = "systemctl enable --now hypercache-disk.timer && "
	}
	return "systemctl daemon-reload && " + timer + "systemctl enable --now hypercache.service"
}

// literal is a text that people can read in the document.
func literal(text string) yaml.Node {
	return yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.LiteralStyle}
}

// Render returns the user data: Text, compressed, as both clouds and cloud-init take it. It fails above Limit.
func Render(m Machine) ([]byte, error) {
	text, err := Text(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress user data: %w", err)
	}
	if b.Len() > Limit {
		return nil, fmt.Errorf("user data of %s: %d bytes compressed, the clouds take %d; fewer settings make it smaller",
			m.Hostname, b.Len(), Limit)
	}
	return b.Bytes(), nil
}
