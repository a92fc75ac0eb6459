package plan

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hypercache/infra/config"
)

// cloudOf is a stack of a cloud with some keys set.
func cloudOf(t interface{ Fatal(...any) }, cloud string, keys map[string]string) config.Config {
	region := map[string]string{config.AWS: "eu-west-1", config.Azure: "westeurope"}[cloud]
	c, err := config.Parse(func(key string) (string, bool) {
		v, ok := map[string]string{"cloud": cloud, "region": region}[key]
		if own, set := keys[key]; set {
			v, ok = own, set
		}
		return v, ok
	}, []string{config.AWS, config.Azure})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addresses(p Plan) []string {
	var out []string
	for _, n := range p.Nodes {
		out = append(out, n.Address)
	}
	return out
}

func TestAddressesAreTheGuidesOnAzureAndOnePerZoneOnAWS(t *testing.T) {
	azure := build(t, cloudOf(t, config.Azure, nil), "prod")
	if want := []string{"10.0.1.4", "10.0.1.5", "10.0.1.6"}; !slices.Equal(addresses(azure), want) {
		t.Errorf("azure: %v, want %v", addresses(azure), want)
	}
	if want := []string{"10.0.1.4:7946", "10.0.1.5:7946", "10.0.1.6:7946"}; !slices.Equal(azure.Seeds, want) {
		t.Errorf("seeds %v, want %v", azure.Seeds, want)
	}
	aws := build(t, cloudOf(t, config.AWS, map[string]string{"nodeCount": "4"}), "prod")
	if want := []string{"10.0.1.4", "10.0.1.68", "10.0.1.132", "10.0.1.5"}; !slices.Equal(addresses(aws), want) {
		t.Errorf("aws: %v, want %v", addresses(aws), want)
	}
	if got := aws.Network.Subnets[1]; got.Zone != "eu-west-1b" || got.CIDR != netip.MustParsePrefix("10.0.1.64/26") {
		t.Errorf("second subnet: %+v", got)
	}
}

func TestPortsFollowTheLayout(t *testing.T) {
	guide := build(t, cloudOf(t, config.Azure, map[string]string{"nodeCount": "4"}), "s")
	uniform := build(t, cloudOf(t, config.Azure, map[string]string{"nodeCount": "4", "portLayout": "uniform"}), "s")
	for i, want := range []int{8080, 8081, 8082, 8080} {
		if n := guide.Nodes[i]; n.RESP != want || n.HTTP != want+1000 || n.Gossip != 7946 || n.RPC != 7373 {
			t.Errorf("guide: %+v", n)
		}
		if n := uniform.Nodes[i]; n.RESP != 8080 || n.HTTP != 9080 {
			t.Errorf("uniform: %+v", n)
		}
	}
}

func TestTheCloudsFirewallTableIsTheGuidesWhateverTheSize(t *testing.T) {
	want := []Rule{
		{"resp", "tcp", 8080, 8082, FromClients}, {"http", "tcp", 9080, 9082, FromClients},
		{"gossip-tcp", "tcp", 7946, 7946, FromCluster}, {"gossip-udp", "udp", 7946, 7946, FromCluster},
		{"rpc", "tcp", 7373, 7373, FromCluster},
	}
	for _, nodes := range []string{"1", "3", "9"} {
		p := build(t, cloudOf(t, config.AWS, map[string]string{"nodeCount": nodes}), "s")
		if !reflect.DeepEqual(p.Rules, want) {
			t.Errorf("%s nodes: %v, want %v", nodes, p.Rules, want)
		}
	}
	p := build(t, cloudOf(t, config.AWS, map[string]string{
		"sshCidrs": `["198.51.100.0/24"]`, "clientCidrs": `["203.0.113.0/24"]`, "portLayout": "uniform", "loadBalancer": "true",
	}), "s")
	want = []Rule{
		{"resp", "tcp", 8080, 8080, FromClients}, {"http", "tcp", 9080, 9080, FromClients},
		{"gossip-tcp", "tcp", 7946, 7946, FromCluster}, {"gossip-udp", "udp", 7946, 7946, FromCluster},
		{"rpc", "tcp", 7373, 7373, FromCluster}, {"ssh", "tcp", 22, 22, FromOperators},
		{"balancer-resp", "tcp", 8080, 8080, FromBalancer}, {"balancer-http", "tcp", 9080, 9080, FromBalancer},
	}
	if !reflect.DeepEqual(p.Rules, want) {
		t.Errorf("all extras: %v, want %v", p.Rules, want)
	}
	sources := map[Source][]netip.Prefix{
		FromClients: {netip.MustParsePrefix("203.0.113.0/24")}, FromCluster: {netip.MustParsePrefix("10.0.1.0/24")},
		FromOperators: {netip.MustParsePrefix("198.51.100.0/24")},
		FromBalancer:  {netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("10.0.0.69/32"), netip.MustParsePrefix("10.0.0.133/32")},
	}
	if !reflect.DeepEqual(p.Network.Sources, sources) {
		t.Errorf("sources %v, want %v", p.Network.Sources, sources)
	}
}

func TestAnExistingNetworkIsTakenAsItIs(t *testing.T) {
	p := build(t, cloudOf(t, config.AWS, map[string]string{
		"networkId": "vpc-1", "networkCidr": "172.20.0.0/16", "subnetIds": `["subnet-a","subnet-b"]`,
		"subnetCidrs": `["172.20.4.0/24","172.20.9.0/24"]`, "zones": `["eu-west-1a","eu-west-1b"]`,
	}), "s")
	if want := []string{"172.20.4.4", "172.20.9.4", "172.20.4.5"}; !slices.Equal(addresses(p), want) {
		t.Errorf("%v, want %v", addresses(p), want)
	}
	if len(p.Network.Edges) != 0 || p.Network.Subnets[1].ID != "subnet-b" || len(p.Network.Sources[FromCluster]) != 2 {
		t.Errorf("%+v", p.Network)
	}
}

func TestRangesThatDoNotFitAreRefusedTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		cloud string
		keys  map[string]string
		want  []string
	}{
		"outside and overlapping": {config.AWS, map[string]string{"subnetCidr": "10.1.0.0/24", "edgeCidr": "10.1.0.0/24"},
			[]string{"subnetCidr: 10.1.0.0/24 is not inside networkCidr 10.0.0.0/16", "edgeCidr: 10.1.0.0/24 is not inside", "edgeCidr: 10.1.0.0/24 overlaps subnetCidr"}},
		"too many nodes":         {config.Azure, map[string]string{"subnetCidr": "10.0.1.0/28", "nodeCount": "11"}, []string{"nodeCount: 11 puts 11 nodes into 10.0.1.0/28, which has addresses for 10"}},
		"too many for one zone":  {config.AWS, map[string]string{"subnetCidr": "10.0.1.0/26", "nodeCount": "31"}, []string{"nodeCount: 31 puts 11 nodes into 10.0.1.0/28"}},
		"cut too small":          {config.AWS, map[string]string{"subnetCidr": "10.0.1.0/27"}, []string{"subnetCidr: 10.0.1.0/27 cut for 3 zones gives subnets of /29"}},
		"a public network":       {config.Azure, map[string]string{"networkCidr": "8.8.0.0/16", "subnetCidr": "8.8.1.0/24"}, []string{"networkCidr: 8.8.0.0/16 is not a private range"}},
		"existing ones overlap":  {config.AWS, map[string]string{"networkId": "vpc-1", "zones": `["eu-west-1a","eu-west-1b"]`, "subnetIds": `["a","b"]`, "subnetCidrs": `["10.0.1.0/24","10.0.1.128/25"]`}, []string{"subnetCidrs: 10.0.1.0/24 and 10.0.1.128/25 overlap"}},
		"a subnet for each zone": {config.AWS, map[string]string{"networkId": "vpc-1", "subnetIds": `["a"]`, "subnetCidrs": `["10.0.1.0/24"]`}, []string{"subnetIds: 1 subnets for 3 zones"}},
		"one subnet on azure":    {config.Azure, map[string]string{"networkId": "/x", "subnetIds": `["a","b"]`, "subnetCidrs": `["10.0.1.0/24","10.0.2.0/24"]`}, []string{"subnetIds: 2 subnets"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(cloudOf(t, tt.cloud, tt.keys), "s")
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("missing %q in\n%v", want, err)
				}
			}
		})
	}
}

// oneZone is how many nodes fit into one zone's subnet by default, a /26.
const oneZone = 58

// drawCloud draws a stack of either cloud that fits its ranges.
func drawCloud(t *rapid.T) config.Config {
	cloud := rapid.SampledFrom([]string{config.AWS, config.Azure}).Draw(t, "cloud")
	c := cloudOf(t, cloud, map[string]string{"portLayout": rapid.SampledFrom([]string{"guide", "uniform"}).Draw(t, "layout")})
	c.Zones = c.Zones[:rapid.IntRange(1, 3).Draw(t, "zones")]
	c.NodeCount = rapid.IntRange(1, oneZone).Draw(t, "nodes")
	c.Network.LoadBalancer = rapid.Bool().Draw(t, "balancer")
	return c
}

func TestEveryAddressIsInItsSubnetAndNobodyElsesToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := build(t, drawCloud(t), "s")
		taken := map[netip.Addr]string{}
		take := func(who string, a netip.Addr, in netip.Prefix) {
			offset := 0
			for x := in.Addr(); x != a; x = x.Next() {
				offset++
			}
			if !in.Contains(a) || offset < 4 || offset == size(in)-1 {
				t.Fatalf("%s has %s, number %d of %s: reserved or outside", who, a, offset, in)
			}
			if other, ok := taken[a]; ok {
				t.Fatalf("%s and %s both have %s", who, other, a)
			}
			taken[a] = who
		}
		in := map[string]netip.Prefix{}
		for _, s := range p.Network.Subnets {
			in[s.Name] = s.CIDR
		}
		for _, e := range p.Network.Edges {
			in[e.Name] = e.CIDR
			take("nat of "+e.Name, e.NAT, e.CIDR)
			take("secrets of "+e.Name, e.SecretsEndpoint, e.CIDR)
			take("monitors of "+e.Name, e.Monitors, e.CIDR)
		}
		for _, f := range p.Network.Frontends {
			take("frontend of "+f.Subnet, f.Address, in[f.Subnet])
		}
		for _, n := range p.Nodes {
			take(n.Name, netip.MustParseAddr(n.Address), p.Network.Subnets[n.Subnet].CIDR)
			if zone := p.Network.Subnets[n.Subnet].Zone; zone != "" && zone != n.Zone {
				t.Fatalf("%s is of zone %s in a subnet of zone %s", n.Name, n.Zone, zone)
			}
		}
	})
}

func TestACloudGrowsWithoutAChangeToWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCloud(t)
		c.NodeCount = max(c.NodeCount, firstVoters)
		small := build(t, c, "s")
		c.NodeCount = rapid.IntRange(c.NodeCount, oneZone).Draw(t, "grown")
		big := build(t, c, "s")
		big.Nodes = big.Nodes[:len(small.Nodes)]
		if !reflect.DeepEqual(small, big) {
			t.Fatalf("growing changed what is there:\n%+v\n%+v", small, big)
		}
	})
}
