package fabric

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

const golden = `table inet cloud
delete table inet cloud
table inet cloud {
	counter c0000 { packets 0 bytes 0 }
	counter c0001 { packets 0 bytes 0 }
	counter c0002 { packets 0 bytes 0 }
	counter c0003 { packets 7 bytes 0 }
	counter c0004 { packets 0 bytes 0 }
	counter c0005 { packets 0 bytes 0 }
	counter c0006 { packets 0 bytes 0 }
	chain input {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		ct state established,related accept
		ip saddr 10.0.9.0/24 counter name "c0002" drop
		ip saddr 10.0.0.0/16 tcp dport 8080-8082 counter name "c0003" accept
		ip saddr 192.0.2.1/32 tcp dport 8080-8082 counter name "c0003" accept
		ip saddr 10.0.0.0/16 meta l4proto icmp counter name "c0004" accept
		counter name "c0000" drop
	}
	chain output {
		type filter hook output priority filter; policy drop;
		oifname "lo" accept
		ct state established,related accept
		ip daddr 10.0.1.0/24 udp dport 7946 counter name "c0006" accept
		ip6 daddr ::/0 counter name "c0006" accept
		counter name "c0001" drop
	}
}
`

func sample() Filter {
	return Filter{
		Ingress: []FilterRule{
			{Name: "deny", Protocol: "all", Peers: prefixes("10.0.9.0/24"), Deny: true},
			{Name: "resp; drop", Protocol: "tcp", FirstPort: 8080, LastPort: 8082, Peers: prefixes("10.0.0.0/16", "192.0.2.1/32")},
			{Name: "ping", Protocol: "icmp", Peers: prefixes("10.0.0.0/16")},
			{Name: "nobody", Protocol: "tcp", FirstPort: 1, LastPort: 1},
		},
		Egress: []FilterRule{
			{Name: "gossip", Protocol: "udp", FirstPort: 7946, LastPort: 7946, Peers: prefixes("10.0.1.0/24")},
			{Name: "gossip", Protocol: "all", Peers: prefixes("::/0")},
		},
	}
}

func TestFilterBecomesOneTransactionThatKeepsCounts(t *testing.T) {
	if got := compile(sample(), true, map[string]uint64{"resp; drop": 7, "gone": 3}).text.String(); got != golden {
		t.Errorf("got:\n%s\nwant:\n%s", got, golden)
	}
}

func TestWithoutConnectionTrackingAnswersPassByTheirLooks(t *testing.T) {
	got := compile(sample(), false, nil).text.String()
	for _, want := range []string{
		"tcp flags & (syn | ack) != syn accept",
		"ip saddr 10.0.1.0/24 udp sport 7946 accept",
		"icmp type { echo-reply, destination-unreachable, time-exceeded } accept",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "ct state") {
		t.Error("a stateless filter asks for connection tracking")
	}
}

func TestEveryMistakeInAFilterIsReported(t *testing.T) {
	err := Filter{
		Ingress: []FilterRule{{Name: "a", Protocol: "sctp"}, {Name: "b", Protocol: "tcp", FirstPort: 9, LastPort: 8}},
		Egress: []FilterRule{
			{Protocol: "all"}, {Name: DefaultEgress, Protocol: "all"}, {Name: "c", Protocol: "icmp", Peers: make([]netip.Prefix, 1)},
		},
	}.check()
	if err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("want five mistakes, got %v", err)
	}
	if err := sample().check(); err != nil {
		t.Errorf("a good filter: %v", err)
	}
}

func TestCountersAreReportedByTheRulesOwnNames(t *testing.T) {
	r := compile(sample(), true, nil)
	counts, err := r.read([]byte(`{"nftables": [{"metainfo": {"version": "1.0.6"}},
		{"counter": {"family": "inet", "name": "c0003", "table": "cloud", "handle": 2, "packets": 5, "bytes": 9}},
		{"counter": {"family": "inet", "name": "c0003", "table": "guest", "handle": 2, "packets": 99, "bytes": 9}},
		{"counter": {"family": "inet", "name": "c0001", "table": "cloud", "handle": 3, "packets": 1, "bytes": 9}}]}`))
	if err != nil || len(counts) != 2 || counts["resp; drop"] != 5 || counts[DefaultEgress] != 1 {
		t.Errorf("counts %v, %v", counts, err)
	}
}

// Whatever names and order rules have, the text has a line per rule and peer, in order, and never a rule's own name.
func TestNoRuleIsLostOrReordered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) FilterRule {
			first := rapid.IntRange(0, 65535).Draw(t, "first")
			return FilterRule{
				Name: "!" + rapid.String().Draw(t, "name"), Protocol: "tcp", FirstPort: first,
				LastPort: rapid.IntRange(first, 65535).Draw(t, "last"), Deny: rapid.Bool().Draw(t, "deny"),
				Peers: prefixes("10.0.0.0/8", "192.0.2.0/24")[:rapid.IntRange(0, 2).Draw(t, "peers")],
			}
		}), 0, 8).Draw(t, "rules")
		r := compile(Filter{Ingress: rules}, true, nil)
		var got []string
		for line := range strings.Lines(r.text.String()) {
			if strings.Contains(line, "saddr") {
				got = append(got, strings.TrimSpace(line))
			}
			if strings.Contains(line, "!") {
				t.Fatalf("a rule's name is in %q", line)
			}
		}
		i := 0
		for _, rule := range rules {
			for _, peer := range rule.Peers {
				if i >= len(got) || !strings.Contains(got[i], peer.String()) || !strings.Contains(got[i], r.names[rule.Name]) ||
					strings.HasSuffix(got[i], "drop") != rule.Deny {
					t.Fatalf("line %d of %q is not of %+v", i, got, rule)
				}
				i++
			}
		}
		if i != len(got) {
			t.Fatalf("%d lines for %d peers: %q", len(got), i, got)
		}
	})
}
