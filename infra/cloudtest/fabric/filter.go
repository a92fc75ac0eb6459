package fabric

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// DefaultIngress and DefaultEgress are the names under which Counters reports packets that no rule matched.
const (
	DefaultIngress = "default ingress"
	DefaultEgress  = "default egress"
)

// table is the nftables table of a machine's filter. The guest's own tables, if any, work beside it.
const table = "inet cloud"

// check reports everything that is wrong with a filter.
func (f Filter) check() error {
	var errs []error
	for direction, rules := range map[string][]FilterRule{"ingress": f.Ingress, "egress": f.Egress} {
		for _, r := range rules {
			if err := r.check(); err != nil {
				errs = append(errs, fmt.Errorf("%s rule %q: %w", direction, r.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (r FilterRule) check() error {
	var errs []error
	switch r.Protocol {
	case "icmp", "all":
	case "tcp", "udp":
		if r.FirstPort < 0 || r.LastPort > 65535 || r.FirstPort > r.LastPort {
			errs = append(errs, fmt.Errorf("ports %d to %d: want 0 <= first <= last <= 65535", r.FirstPort, r.LastPort))
		}
	default:
		errs = append(errs, fmt.Errorf(`protocol %q: want "tcp", "udp", "icmp" or "all"`, r.Protocol))
	}
	for _, p := range r.Peers {
		if !p.IsValid() {
			errs = append(errs, errors.New("a peer is not a valid prefix"))
		}
	}
	if r.Name == "" || r.Name == DefaultIngress || r.Name == DefaultEgress {
		errs = append(errs, errors.New("want a name, other than those of the defaults"))
	}
	return errors.Join(errs...)
}

// ruleset is a filter in nft's language, and the counters that it has by their nft names.
type ruleset struct {
	text     strings.Builder
	counters map[string]string // nft name -> FilterRule.Name
	names    map[string]string // the other way
	stateful bool
}

// compile translates a filter. before are the counts to go on from, so that a new set of rules does not lose those of the
// rules that stay.
func compile(f Filter, stateful bool, before map[string]uint64) *ruleset {
	r := &ruleset{counters: map[string]string{}, names: map[string]string{}, stateful: stateful}
	for _, rules := range [][]FilterRule{{{Name: DefaultIngress}, {Name: DefaultEgress}}, f.Ingress, f.Egress} {
		for _, rule := range rules {
			r.name(rule.Name)
		}
	}
	// Adding a table that may be there and deleting it makes the change one transaction in either case.
	r.printf("table %s\ndelete table %s\ntable %s {\n", table, table, table)
	for _, id := range slices.Sorted(maps.Keys(r.counters)) {
		r.printf("\tcounter %s { packets %d bytes 0 }\n", id, before[r.counters[id]])
	}
	r.chain("input", "iifname", "saddr", "sport", f.Ingress, f.Egress, DefaultIngress)
	r.chain("output", "oifname", "daddr", "sport", f.Egress, f.Ingress, DefaultEgress)
	r.printf("}\n")
	return r
}

func (r *ruleset) printf(format string, args ...any) { fmt.Fprintf(&r.text, format, args...) }

// name gives a rule's counter a name that nft takes: cloud names may hold anything.
func (r *ruleset) name(rule string) string {
	id, known := r.names[rule]
	if !known {
		id = fmt.Sprintf("c%04d", len(r.names))
		r.names[rule], r.counters[id] = id, rule
	}
	return id
}

func (r *ruleset) chain(hook, iface, peer, answerPort string, rules, opposite []FilterRule, rest string) {
	r.printf("\tchain %s {\n\t\ttype filter hook %s priority filter; policy drop;\n", hook, hook)
	// The lab's services live on the loopback interface.
	r.printf("\t\t%s \"lo\" accept\n", iface)
	if r.stateful {
		r.printf("\t\tct state established,related accept\n")
	} else {
		r.answers(peer, answerPort, opposite)
	}
	for _, rule := range rules {
		verdict := "accept"
		if rule.Deny {
			verdict = "drop"
		}
		for _, p := range rule.Peers {
			r.printf("\t\t%s%scounter name %q %s\n", address(peer, p), rule.match("dport"), r.name(rule.Name), verdict)
		}
	}
	r.printf("\t\tcounter name %q drop\n\t}\n", r.name(rest))
}

// answers lets packets through that look like answers, for a kernel that does not track connections: every TCP segment but
// one that opens a connection, datagrams from a port that the opposite direction may send to, and answers to ICMP. It is
// weaker than the real thing in that a peer can send such packets unasked.
func (r *ruleset) answers(peer, port string, opposite []FilterRule) {
	r.printf("\t\ttcp flags & (syn | ack) != syn accept\n")
	r.printf("\t\ticmp type { echo-reply, destination-unreachable, time-exceeded } accept\n")
	for _, rule := range opposite {
		if rule.Deny || rule.Protocol != "udp" && rule.Protocol != "all" {
			continue
		}
		rule.Protocol = "udp"
		if rule.FirstPort == 0 && rule.LastPort == 0 {
			rule.LastPort = 65535
		}
		for _, p := range rule.Peers {
			r.printf("\t\t%s%saccept\n", address(peer, p), rule.match(port))
		}
	}
}

func address(side string, p netip.Prefix) string {
	family := "ip"
	if p.Addr().Is6() && !p.Addr().Is4In6() {
		family = "ip6"
	}
	return fmt.Sprintf("%s %s %s ", family, side, p.Masked())
}

func (r FilterRule) match(port string) string {
	switch {
	case r.Protocol == "all":
		return ""
	case r.Protocol == "icmp":
		return "meta l4proto icmp "
	case r.FirstPort == r.LastPort:
		return fmt.Sprintf("%s %s %d ", r.Protocol, port, r.FirstPort)
	}
	return fmt.Sprintf("%s %s %d-%d ", r.Protocol, port, r.FirstPort, r.LastPort)
}

// SetFilter replaces a machine's filter in one step, whether it runs or not. Connections that the old one let through go on,
// as they do in the clouds. Counts of rules that keep their name go on too.
func (l *Lab) SetFilter(ctx context.Context, machine string, f Filter) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("set filter of %s: %w", machine, err)
	}
	m, err := l.readyMachine(machine)
	if err != nil {
		return err
	}
	if err := m.setFilter(ctx, f, l.stateful); err != nil {
		return fmt.Errorf("set filter of %s: %w", machine, err)
	}
	return nil
}

func (m *machine) setFilter(ctx context.Context, f Filter, stateful bool) error {
	m.filterMu.Lock()
	defer m.filterMu.Unlock()
	before, err := m.counts(ctx)
	if err != nil {
		return err
	}
	r := compile(f, stateful, before)
	if err := loadRules(ctx, m.namespace, r.text.String()); err != nil {
		return err
	}
	m.filter = r
	return nil
}

func loadRules(ctx context.Context, namespace, text string) error {
	_, err := feed(ctx, text, "nsenter", "--net="+namespacePath(namespace), "--", "nft", "-f", "-")
	if err != nil {
		return fmt.Errorf("load rules: %w", err)
	}
	return nil
}

// Counters returns how many packets each rule of a machine's filter has matched, by its name. With connection tracking, as
// here, a rule counts what opens a connection or an exchange; what follows is not counted. DefaultIngress and DefaultEgress
// count what no rule matched.
func (l *Lab) Counters(ctx context.Context, machine string) (map[string]uint64, error) {
	m, err := l.readyMachine(machine)
	if err != nil {
		return nil, err
	}
	m.filterMu.Lock()
	defer m.filterMu.Unlock()
	counts, err := m.counts(ctx)
	if err != nil {
		return nil, fmt.Errorf("count packets of %s: %w", machine, err)
	}
	return counts, nil
}

// counts reads the counters of the rules in force.
func (m *machine) counts(ctx context.Context) (map[string]uint64, error) {
	if m.filter == nil {
		return nil, nil
	}
	out, err := run(ctx, "nsenter", "--net="+namespacePath(m.namespace), "--", "nft", "-j", "list", "counters")
	if err != nil {
		return nil, fmt.Errorf("list counters: %w", err)
	}
	return m.filter.read([]byte(out))
}

// read takes the packets by rule from nft's JSON.
func (r *ruleset) read(data []byte) (map[string]uint64, error) {
	var list struct {
		Nftables []struct {
			Counter *struct {
				Family, Table, Name string
				Packets             uint64
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	counts := map[string]uint64{}
	for _, item := range list.Nftables {
		if c := item.Counter; c != nil && c.Family+" "+c.Table == table && r.counters[c.Name] != "" {
			counts[r.counters[c.Name]] = c.Packets
		}
	}
	return counts, nil
}

// tracksConnections tries, in a namespace for that alone, whether this kernel has connection tracking for nftables.
func (l *Lab) tracksConnections(ctx context.Context) (bool, error) {
	probe := l.objectName("probe", "conntrack")
	if err := ipBatch(ctx, "", "netns add "+probe); err != nil {
		return false, fmt.Errorf("make a network namespace: %w", err)
	}
	statefulErr := loadRules(ctx, probe, compile(Filter{}, true, nil).text.String())
	var err error
	if statefulErr != nil {
		err = loadRules(ctx, probe, compile(Filter{}, false, nil).text.String())
	}
	_, remove := run(context.WithoutCancel(ctx), "ip", "netns", "delete", probe)
	if err := errors.Join(err, remove); err != nil {
		return false, fmt.Errorf("try nftables: %w", err)
	}
	return statefulErr == nil, nil
}
