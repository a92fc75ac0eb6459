package config

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
)

// Names of the clouds that make machines.
const (
	AWS   = "aws"
	Azure = "azure"
)

// Network is where the nodes of a cloud are and who may talk to them. The local cloud reads none of it.
type Network struct {
	// Region is the cloud's name for where everything is, like eu-west-1 or westeurope.
	Region string
	// CIDR is the whole network; Subnet the part that nodes get their addresses from, cut into one subnet per zone where a
	// subnet cannot span zones. Edge is for what is no node: NAT gateways, load balancers, endpoints (AWS).
	CIDR, Subnet, Edge netip.Prefix
	// ID is a network that exists already, with the subnets SubnetIDs and their ranges SubnetCIDRs in the order of the zones.
	// Empty: the stack makes a network of its own.
	ID          string
	SubnetIDs   []string
	SubnetCIDRs []netip.Prefix
	// NAT is how nodes without public addresses reach out: none, one gateway, or one per zone.
	NAT string
	// Public gives every node a public address on top of its private one.
	Public bool
	// Clients may reach RESP and HTTP, Operators SSH, Cluster gossip and the internal port. Empty Clients: the
	// network itself. Empty Operators: nobody. Empty Cluster: the nodes' subnets.
	Clients, Operators, Cluster []netip.Prefix
	// PortLayout is guide (8080, 8081, 8082 and round again) or uniform (8080 everywhere).
	PortLayout string
	// LoadBalancer puts an internal one before RESP and HTTP. It needs uniform ports.
	LoadBalancer bool
	// DNSZone is a private zone with a name for every node. Empty: none.
	DNSZone string
}

// The values of Network.NAT.
const (
	NATNone   = "none"
	NATOne    = "one"
	NATByZone = "zone"
)

// The values of Network.PortLayout.
const (
	GuidePorts   = "guide"
	UniformPorts = "uniform"
)

// VM is what the machines of a cloud are like. The local cloud reads none of it.
type VM struct {
	// Size is the cloud's name for an amount of CPU and memory. Empty: the cloud's default for Architecture.
	Size string
	// Architecture is amd64 or arm64; the node program must be built for it.
	Architecture string
	// OS is ubuntu-24.04 or debian-12; ImageID is one image exactly, in the cloud's own notation, in place of the newest.
	OS, ImageID string
	// SSHPublicKey is for the image's default user. Empty: nobody logs in over SSH.
	SSHPublicKey string
	// DataDiskGB is the size of each node's data disk in GiB. It can grow, never shrink.
	DataDiskGB int
	// KeepData leaves the data disks in place when their nodes are destroyed. ProtectData makes Pulumi refuse to destroy them.
	KeepData, ProtectData bool
	// Spread keeps nodes of one zone on different hardware.
	Spread bool
	// SnapshotDays is for how many days a daily snapshot of each data disk is kept. 0: none are made.
	SnapshotDays int
	// AlarmEmail gets the alarms for a sick VM and a full disk. Empty: there are none.
	AlarmEmail string
	// Tags are on everything that can have tags.
	Tags map[string]string
	// BinaryURL and BinarySHA256 are the node program at an address that VMs reach, in place of Binary.
	BinaryURL, BinarySHA256 string
	// HealthGate is how this program reaches nodes to see whether they are well: by their private or their public
	// addresses, or not at all (off). Proxy is a SOCKS or HTTP proxy on the way.
	HealthGate, HealthGateProxy string
}

// The values of VM.HealthGate.
const (
	GatePrivate = "private"
	GatePublic  = "public"
	GateOff     = "off"
)

// What both clouds offer as one disk.
const (
	minDiskGB = 4
	maxDiskGB = 16384
)

// networkKnobs reads the keys of Network, and vmKnobs those of VM.
func (p *parser) networkKnobs(cloud string) Network {
	n := Network{
		Region:      p.text("region", ""),
		CIDR:        p.cidr("networkCidr", "10.0.0.0/16"),
		Subnet:      p.cidr("subnetCidr", "10.0.1.0/24"),
		Edge:        p.cidr("edgeCidr", "10.0.0.0/24"),
		ID:          p.text("networkId", ""),
		SubnetIDs:   p.list("subnetIds"),
		SubnetCIDRs: p.cidrs("subnetCidrs"),
		NAT:         p.oneOf("nat", NATOne, NATNone, NATOne, NATByZone),
		Public:      p.flag("publicAddresses"),
		Clients:     p.cidrs("clientCidrs"),
		Operators:   p.cidrs("sshCidrs"),
		Cluster:     p.cidrs("clusterCidrs"),
		PortLayout:  p.oneOf("portLayout", GuidePorts, GuidePorts, UniformPorts), LoadBalancer: p.flag("loadBalancer"),
		DNSZone: p.text("dnsZone", ""),
	}
	if cloud != AWS && cloud != Azure {
		return n
	}
	p.region(cloud, n.Region)
	p.networkRelations(n)
	return n
}

func (p *parser) networkRelations(n Network) {
	for _, c := range n.Operators {
		if c.Bits() < 8 {
			p.fail("sshCidrs", "%s lets nearly everybody try to log in; name the networks that operators come from", c)
		}
	}
	for _, c := range n.Cluster {
		if !c.Addr().IsPrivate() || c.Bits() < 8 {
			p.fail("clusterCidrs", "%s is not a private range: gossip and the internal port are for the nodes alone, "+
				"like 10.0.1.0/24", c)
		}
	}
	if n.LoadBalancer && n.PortLayout != UniformPorts {
		p.fail("loadBalancer", "needs the same ports on every node: set portLayout to %s", UniformPorts)
	}
	if n.DNSZone != "" && !dnsZone.MatchString(n.DNSZone) {
		p.fail("dnsZone", "%q is not a domain name, like hypercache.internal", n.DNSZone)
	}
	if n.ID == "" && (len(n.SubnetIDs) > 0 || len(n.SubnetCIDRs) > 0) {
		p.fail("networkId", "is empty: subnetIds and subnetCidrs are subnets of an existing network, name that too")
	}
	if n.ID != "" && (len(n.SubnetIDs) == 0 || len(n.SubnetIDs) != len(n.SubnetCIDRs)) {
		p.fail("subnetIds", "has %d entries and subnetCidrs %d: an existing network needs both, one entry for each subnet",
			len(n.SubnetIDs), len(n.SubnetCIDRs))
	}
}

func (p *parser) vmKnobs(cloud string, public bool) VM {
	v := VM{
		Size: p.text("vmSize", ""), Architecture: p.oneOf("architecture", "amd64", "amd64", "arm64"),
		OS:           p.oneOf("os", "ubuntu-24.04", "ubuntu-24.04", "debian-12"),
		ImageID:      p.text("imageId", ""),
		SSHPublicKey: strings.TrimSpace(p.text("sshPublicKey", "")),
		DataDiskGB:   p.number("dataDiskGb", 32, minDiskGB, maxDiskGB),
		KeepData:     p.flag("keepData"), ProtectData: p.flag("protectData"), Spread: p.flag("spread"),
		SnapshotDays: p.number("snapshotDays", 0, 0, 365),
		AlarmEmail:   p.text("alarmEmail", ""),
		Tags:         p.settings("tags"),
		BinaryURL:    p.text("binaryUrl", ""), BinarySHA256: strings.ToLower(p.text("binarySha256", "")),
		HealthGate:      p.oneOf("healthGate", "auto", "auto", GatePrivate, GatePublic, GateOff),
		HealthGateProxy: p.text("healthGateProxy", ""),
	}
	if v.HealthGate == "auto" {
		v.HealthGate = map[bool]string{true: GatePublic, false: GatePrivate}[public]
	}
	if cloud != AWS && cloud != Azure {
		return v
	}
	p.vmRelations(cloud, v, public)
	return v
}

func (p *parser) vmRelations(cloud string, v VM, public bool) {
	if v.Size != "" && !sizes[cloud].MatchString(v.Size) {
		p.fail("vmSize", "%q is not a size of %s, like %s", v.Size, cloud, DefaultSize(cloud, v.Architecture))
	} else if a := sizeArchitecture(cloud, v.Size); v.Size != "" && a != v.Architecture {
		p.fail("vmSize", "%s is %s and architecture is %s; the default for that is %s", v.Size, a, v.Architecture,
			DefaultSize(cloud, v.Architecture))
	}
	if v.SnapshotDays > 0 && v.SnapshotDays < 7 {
		p.fail("snapshotDays", "%d is too few: 0 for none, or 7 to 365", v.SnapshotDays)
	}
	if (v.BinaryURL == "") != (v.BinarySHA256 == "") {
		p.fail("binarySha256", "binaryUrl and binarySha256 go together: what comes over the network is checked")
	}
	if v.BinaryURL != "" && !strings.HasPrefix(v.BinaryURL, "https://") {
		p.fail("binaryUrl", "%q does not begin with https://", v.BinaryURL)
	}
	if v.BinarySHA256 != "" && !sha256Hex.MatchString(v.BinarySHA256) {
		p.fail("binarySha256", "%q is not 64 hexadecimal digits", v.BinarySHA256)
	}
	if v.HealthGate == GatePublic && !public {
		p.fail("healthGate", "public needs publicAddresses: true")
	}
	if v.HealthGateProxy != "" && !proxyURL.MatchString(v.HealthGateProxy) {
		p.fail("healthGateProxy", "%q is not like socks5://127.0.0.1:1080 or http://127.0.0.1:3128", v.HealthGateProxy)
	}
	if v.SSHPublicKey != "" && !sshKey.MatchString(v.SSHPublicKey) {
		p.fail("sshPublicKey", "is not one line of a public key file, like `ssh-ed25519 AAAA… name`")
	}
	if v.AlarmEmail != "" && !email.MatchString(v.AlarmEmail) {
		p.fail("alarmEmail", "%q is not an address, like oncall@example.com", v.AlarmEmail)
	}
	for key, value := range v.Tags {
		if !tagKey.MatchString(key) || len(value) > 256 || strings.HasPrefix(strings.ToLower(key), "aws:") {
			p.fail("tags", "%q: keys are 1 to 128 letters, digits and _.:=+-@, not beginning with aws:; values at most 256", key)
		}
	}
}

var (
	dnsZone   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
	proxyURL  = regexp.MustCompile(`^(socks5|socks5h|http|https)://[^/\s]+$`)
	sshKey    = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n"]*)?$`)
	email     = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
	tagKey    = regexp.MustCompile(`^[A-Za-z0-9_.:=+@-]{1,128}$`)
)

// cidr reads one IPv4 range.
func (p *parser) cidr(key, otherwise string) netip.Prefix {
	text := p.text(key, otherwise)
	c, ok := p.prefix(key, text)
	if !ok {
		return netip.MustParsePrefix(otherwise)
	}
	return c
}

func (p *parser) prefix(key, text string) (netip.Prefix, bool) {
	c, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !c.Addr().Is4():
		p.fail(key, "%q is not an IPv4 range, like 10.0.0.0/16", text)
		return c, false
	case c != c.Masked():
		p.fail(key, "%s has bits set behind its prefix; the range is %s", c, c.Masked())
		return c, false
	}
	return c, true
}

func (p *parser) cidrs(key string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range p.list(key) {
		if c, ok := p.prefix(key, text); ok {
			out = append(out, c)
		}
	}
	return out
}

// list reads a list of strings.
func (p *parser) list(key string) []string {
	text, ok := p.get(key)
	if !ok || text == "" {
		return nil
	}
	var out []string
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		p.fail(key, "%s is not a list of strings, like [\"10.0.0.0/16\"]", text)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
