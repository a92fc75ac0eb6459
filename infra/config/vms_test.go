package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func cloud(name string, keys map[string]string) Lookup {
	all := map[string]string{"cloud": name, "region": map[string]string{AWS: "eu-west-1", Azure: "westeurope"}[name]}
	for k, v := range keys {
		all[k] = v
	}
	return lookup(all)
}

var clouds = []string{"local", AWS, Azure}

func TestACloudNeedsOnlyItsRegion(t *testing.T) {
	for name, zone := range map[string]string{AWS: "eu-west-1b", Azure: "2"} {
		c, err := Parse(cloud(name, nil), clouds)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Zones) != 3 || c.Zones[1] != zone || c.Network.Subnet != netip.MustParsePrefix("10.0.1.0/24") || c.Network.NAT != NATOne ||
			c.VM.HealthGate != GatePrivate || c.VM.DataDiskGB != 32 || c.VM.ProtectData || c.Network.Public {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestClientsOfMachinesNeedAPasswordUnlessTheStackSaysNone(t *testing.T) {
	for _, tt := range []struct {
		cloud, set string
		want       bool
	}{
		{AWS, "", true}, {AWS, "none", false}, {AWS, "generated", true}, {Azure, "", true}, {Azure, "none", false},
		{"local", "", false}, {"local", "none", false}, {"local", "generated", true},
	} {
		c, err := Parse(cloud(tt.cloud, map[string]string{"password": tt.set}), clouds)
		if err != nil || c.Password != tt.want {
			t.Errorf("%s with %q: a password %v, %v, want %v", tt.cloud, tt.set, c.Password, err, tt.want)
		}
	}
}

func TestTheGateFollowsTheAddresses(t *testing.T) {
	c, err := Parse(cloud(AWS, map[string]string{"publicAddresses": "true"}), clouds)
	if err != nil || c.VM.HealthGate != GatePublic {
		t.Errorf("%q, %v", c.VM.HealthGate, err)
	}
}

func TestMistakesOfACloudAreNamedWithTheirKeyAndWhatWouldBeRight(t *testing.T) {
	for _, tt := range []struct{ cloud, key, value, want string }{
		{AWS, "region", "", "region: is not set"},
		{AWS, "region", "westeurope", `region: "westeurope" is not a region of aws, like eu-west-1`},
		{Azure, "region", "eu-west-1", `region: "eu-west-1" is not a region of azure`},
		{Azure, "region", "westus", "region: westus has no availability zones"},
		{AWS, "zones", `["us-east-1a"]`, `zones: "us-east-1a" is not a zone of eu-west-1, like eu-west-1a`},
		{AWS, "zones", `["1"]`, `zones: "1" is not a zone of eu-west-1`},
		{Azure, "zones", `["4"]`, `zones: "4" is not a zone of Azure`},
		{AWS, "networkCidr", "10.0.0.0", `networkCidr: "10.0.0.0" is not an IPv4 range`},
		{AWS, "subnetCidr", "10.0.1.4/24", "subnetCidr: 10.0.1.4/24 has bits set behind its prefix; the range is 10.0.1.0/24"},
		{AWS, "clientCidrs", `["fd00::/8"]`, "clientCidrs:"},
		{AWS, "clientCidrs", `"10.0.0.0/8"`, "clientCidrs:"},
		{AWS, "clusterCidrs", `["0.0.0.0/0"]`, "clusterCidrs: 0.0.0.0/0 is not a private range"},
		{AWS, "clusterCidrs", `["203.0.113.0/24"]`, "clusterCidrs: 203.0.113.0/24 is not a private range"},
		{AWS, "sshCidrs", `["0.0.0.0/0"]`, "sshCidrs: 0.0.0.0/0 lets nearly everybody"},
		{AWS, "nat", "some", "nat:"},
		{AWS, "loadBalancer", "true", "loadBalancer: needs the same ports on every node"},
		{AWS, "dnsZone", "Hyper Cache", "dnsZone:"},
		{AWS, "subnetIds", `["subnet-1"]`, "networkId: is empty"},
		{AWS, "networkId", "vpc-1", "subnetIds: has 0 entries"},
		{AWS, "vmSize", "Standard_D2s_v5", `vmSize: "Standard_D2s_v5" is not a size of aws, like m7i.large`},
		{AWS, "vmSize", "m7g.large", "vmSize: m7g.large is arm64 and architecture is amd64"},
		{Azure, "vmSize", "m7i.large", `vmSize: "m7i.large" is not a size of azure, like Standard_D2s_v5`},
		{Azure, "vmSize", "Standard_D2ps_v5", "vmSize: Standard_D2ps_v5 is arm64"},
		{Azure, "architecture", "riscv", "architecture:"},
		{Azure, "os", "windows", "os:"},
		{Azure, "dataDiskGb", "1", "dataDiskGb:"},
		{Azure, "snapshotDays", "3", "snapshotDays: 3 is too few"},
		{Azure, "alarmEmail", "me", "alarmEmail:"},
		{Azure, "tags", `{"a b":"c"}`, `tags: "a b"`},
		{Azure, "sshPublicKey", "-----BEGIN", "sshPublicKey:"},
		{Azure, "binaryUrl", "https://example.com/x", "binarySha256: binaryUrl and binarySha256 go together"},
		{Azure, "binarySha256", strings.Repeat("a", 63), "binarySha256:"},
		{Azure, "healthGate", "public", "healthGate: public needs publicAddresses: true"},
		{Azure, "healthGateProxy", "127.0.0.1:1080", "healthGateProxy:"},
	} {
		_, err := Parse(cloud(tt.cloud, map[string]string{tt.key: tt.value}), clouds)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s=%s: got %v, want %q", tt.cloud, tt.key, tt.value, err, tt.want)
		}
	}
}

func TestTheLocalCloudReadsNothingOfTheOthers(t *testing.T) {
	if _, err := Parse(lookup(map[string]string{"vmSize": "large", "loadBalancer": "true", "alarmEmail": "me"}), clouds); err != nil {
		t.Error(err)
	}
}

func TestSizesTellTheirArchitecture(t *testing.T) {
	for size, want := range map[string]string{
		"m7i.large": "amd64", "m7g.large": "arm64", "c6gn.16xlarge": "arm64", "g5.xlarge": "amd64", "g5g.xlarge": "arm64", "t4g.micro": "arm64",
		"t3.micro": "amd64", "a1.large": "arm64", "r8gd.metal-24xl": "arm64", "u-6tb1.metal": "amd64", "im4gn.large": "arm64",
	} {
		if got := sizeArchitecture(AWS, size); got != want {
			t.Errorf("%s is %s, want %s", size, got, want)
		}
	}
	for size, want := range map[string]string{
		"Standard_D2s_v5": "amd64", "Standard_D2ps_v5": "arm64", "Standard_D4pds_v6": "arm64", "Standard_B2pls_v2": "arm64", "Standard_E8bds_v5": "amd64",
	} {
		if got := sizeArchitecture(Azure, size); got != want {
			t.Errorf("%s is %s, want %s", size, got, want)
		}
	}
}

func TestMistakesOfSeveralAreOneSortedList(t *testing.T) {
	err := Mistakes(&Error{Problems: []string{"b: x", "a: y"}}, nil, &Error{Problems: []string{"a: y", "c: z"}})
	var all *Error
	if !errors.As(err, &all) || strings.Join(all.Problems, ",") != "a: y,b: x,c: z" {
		t.Errorf("got %v", err)
	}
	if err := Mistakes(nil, nil); err != nil {
		t.Errorf("nothing wrong: %v", err)
	}
	if other := errors.New("x"); !errors.Is(Mistakes(&Error{Problems: []string{"a"}}, other), other) {
		t.Error("an error of another kind was lost")
	}
}
