package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// network is a namespace that routes between its subnets, each a bridge with the gateway's address.
type network struct {
	id, namespace string
	cidr          netip.Prefix

	mu      sync.Mutex
	subnets map[string]*subnet
	made    int // interfaces made so far: their names are never used again
	gone    bool
}

type subnet struct {
	id, bridge string
	cidr       netip.Prefix
	gateway    netip.Addr
	taken      map[netip.Addr]string // by which machine or host
}

// port is one interface on a subnet: a name in the network's namespace, and the address at its other end.
type port struct {
	network *network
	subnet  *subnet
	name    string
	address netip.Addr
}

// CreateNetwork makes a network without subnets.
func (l *Lab) CreateNetwork(ctx context.Context, id string, cidr netip.Prefix) error {
	if !cidr.IsValid() || !cidr.Addr().Is4() || cidr != cidr.Masked() {
		return fmt.Errorf("network %q: range %v: want an IPv4 prefix without host bits", id, cidr)
	}
	n := &network{id: id, namespace: l.objectName("net", id), cidr: cidr, subnets: map[string]*subnet{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := claim(l, l.networks, "network", id, n); err != nil {
		return err
	}
	if err := n.create(ctx); err != nil {
		n.gone = true
		forget(l, l.networks, id)
		_, undo := run(context.WithoutCancel(ctx), "ip", "netns", "delete", n.namespace)
		return errors.Join(fmt.Errorf("create network %s: %w", id, err), undo)
	}
	return nil
}

func (n *network) create(ctx context.Context) error {
	if err := ipBatch(ctx, "", "netns add "+n.namespace); err != nil {
		return err
	}
	if err := ipBatch(ctx, n.namespace, "link set lo up"); err != nil {
		return err
	}
	// Frames on a bridge are not this network's to filter, and a guest has one way to its gateway only.
	return sysctl(n.namespace, map[string]string{
		"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1",
		"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.default.send_redirects": "0",
		"net.bridge.bridge-nf-call-iptables": "0", "net.bridge.bridge-nf-call-arptables": "0",
	})
}

// lock returns a network that exists, locked.
func (l *Lab) lockNetwork(id string) (*network, error) {
	n, err := find(l, l.networks, "network", id)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	if n.gone {
		n.mu.Unlock()
		return nil, fmt.Errorf("network %q: not in lab %s", id, l.name)
	}
	return n, nil
}

// DeleteNetwork removes a network. It refuses while there are subnets in it, which hold its machines and hosts.
func (l *Lab) DeleteNetwork(ctx context.Context, id string) error {
	n, err := l.lockNetwork(id)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	if len(n.subnets) > 0 {
		return fmt.Errorf("delete network %s: it has %d subnets: delete them first", id, len(n.subnets))
	}
	if _, err := run(ctx, "ip", "netns", "delete", n.namespace); err != nil {
		return fmt.Errorf("delete network %s: %w", id, err)
	}
	n.gone = true
	forget(l, l.networks, id)
	return nil
}

// CreateSubnet adds a range of addresses to a network. The first one after the range's own is the gateway's.
func (l *Lab) CreateSubnet(ctx context.Context, network, id string, cidr netip.Prefix) error {
	if err := checkID("subnet", id); err != nil {
		return err
	}
	n, err := l.lockNetwork(network)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	if err := n.admits(id, cidr); err != nil {
		return fmt.Errorf("create subnet %s in network %s: %w", id, network, err)
	}
	n.made++
	bridge := fmt.Sprintf("br%d", n.made)
	s := &subnet{id: id, bridge: bridge, cidr: cidr, gateway: cidr.Addr().Next(), taken: map[netip.Addr]string{}}
	err = ipBatch(ctx, n.namespace,
		"link add "+s.bridge+" type bridge",
		fmt.Sprintf("addr add %s/%d dev %s", s.gateway, cidr.Bits(), s.bridge),
		"link set "+s.bridge+" up")
	if err != nil {
		return fmt.Errorf("create subnet %s in network %s: %w", id, network, err)
	}
	n.subnets[id] = s
	return nil
}

// admits tells what speaks against a new subnet.
func (n *network) admits(id string, cidr netip.Prefix) error {
	if !cidr.IsValid() || !cidr.Addr().Is4() || cidr != cidr.Masked() || cidr.Bits() > 30 {
		return fmt.Errorf("range %v: want an IPv4 prefix of at most 30 bits without host bits", cidr)
	}
	if !n.cidr.Contains(cidr.Addr()) || cidr.Bits() < n.cidr.Bits() {
		return fmt.Errorf("range %v is not inside the network's %v", cidr, n.cidr)
	}
	if n.subnets[id] != nil {
		return errors.New("there is one already")
	}
	for _, other := range n.subnets {
		if other.cidr.Overlaps(cidr) {
			return fmt.Errorf("range %v overlaps %v of subnet %s", cidr, other.cidr, other.id)
		}
	}
	return nil
}

// DeleteSubnet removes a subnet. It refuses while a machine or host is in it.
func (l *Lab) DeleteSubnet(ctx context.Context, network, id string) error {
	n, err := l.lockNetwork(network)
	if err != nil {
		return err
	}
	defer n.mu.Unlock()
	s := n.subnets[id]
	if s == nil {
		return fmt.Errorf("subnet %q: not in network %s", id, network)
	}
	if len(s.taken) > 0 {
		return fmt.Errorf("delete subnet %s: in use by %s", id, s.users())
	}
	if err := ipBatch(ctx, n.namespace, "link delete "+s.bridge); err != nil {
		return fmt.Errorf("delete subnet %s: %w", id, err)
	}
	delete(n.subnets, id)
	return nil
}

func (s *subnet) users() string {
	var users []string
	for addr, user := range s.taken {
		users = append(users, fmt.Sprintf("%s (%s)", user, addr))
	}
	return strings.Join(users, ", ")
}

// subnetOf returns the subnet of that name, or the one that holds the address if the name is "".
func (n *network) subnetOf(id string, address netip.Addr) (*subnet, error) {
	for _, s := range n.subnets {
		if s.id == id || id == "" && s.cidr.Contains(address) {
			return s, nil
		}
	}
	if id == "" {
		return nil, fmt.Errorf("address %v: in no subnet of network %s", address, n.id)
	}
	return nil, fmt.Errorf("subnet %q: not in network %s", id, n.id)
}

// connect makes a namespace with an interface eth0 on a subnet, which is down until powerOn.
func (l *Lab) connect(ctx context.Context, networkID, subnetID, owner, namespace string, address netip.Addr) (*port, error) {
	n, err := l.lockNetwork(networkID)
	if err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	s, err := n.subnetOf(subnetID, address)
	if err != nil {
		return nil, err
	}
	if !s.cidr.Contains(address) || address == s.gateway || address == s.cidr.Addr() {
		return nil, fmt.Errorf("address %v: want one of subnet %s, %v, other than the range's own and the gateway's", address,
			s.id, s.cidr)
	}
	if user, taken := s.taken[address]; taken {
		return nil, fmt.Errorf("address %v is taken by %s", address, user)
	}
	n.made++
	p := &port{network: n, subnet: s, name: fmt.Sprintf("p%d", n.made), address: address}
	if err := p.create(ctx, namespace); err != nil {
		_, undo := run(context.WithoutCancel(ctx), "ip", "netns", "delete", namespace)
		return nil, errors.Join(err, undo)
	}
	s.taken[address] = owner
	return p, nil
}

func (p *port) create(ctx context.Context, namespace string) error {
	if err := ipBatch(ctx, "", "netns add "+namespace); err != nil {
		return err
	}
	// ::1 stays: programs listen there. eth0 is IPv4 only, before it exists.
	if err := sysctl(namespace, map[string]string{"net.ipv6.conf.default.disable_ipv6": "1"}); err != nil {
		return err
	}
	a := p.address.As4()
	err := ipBatch(ctx, "", fmt.Sprintf("link add %s netns %s type veth peer name eth0 address 02:00:%02x:%02x:%02x:%02x netns %s",
		p.name, p.network.namespace, a[0], a[1], a[2], a[3], namespace))
	if err != nil {
		return err
	}
	if err := ipBatch(ctx, p.network.namespace, "link set "+p.name+" master "+p.subnet.bridge+" up"); err != nil {
		return err
	}
	return ipBatch(ctx, namespace, "link set lo up", fmt.Sprintf("addr add %s/%d dev eth0", p.address, p.subnet.cidr.Bits()))
}

// powerOn lets the interface take part; powerOff makes it deaf, as that of a machine without power.
func (p *port) powerOn(ctx context.Context, namespace string) error {
	return ipBatch(ctx, namespace, "link set eth0 up", "route replace default via "+p.subnet.gateway.String())
}

func (p *port) powerOff(ctx context.Context, namespace string) error {
	return ipBatch(ctx, namespace, "link set eth0 down")
}

// disconnect removes the namespace and frees the address. The interface goes first: a namespace ends only when the kernel
// gets to it.
func (p *port) disconnect(ctx context.Context, namespace string) error {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	if err := ipBatch(ctx, p.network.namespace, "link delete "+p.name); err != nil {
		return fmt.Errorf("remove interface: %w", err)
	}
	if _, err := run(ctx, "ip", "netns", "delete", namespace); err != nil {
		return fmt.Errorf("remove namespace: %w", err)
	}
	delete(p.subnet.taken, p.address)
	return nil
}
