package fabric

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"time"
)

// Host is a client in a network: a namespace with an address, without a container, a filter or services.
type Host struct {
	lab           *Lab
	id, namespace string
	address       netip.Addr

	mu   sync.Mutex
	port *port // nil once closed
}

// CreateHost makes a host with an address of one of the network's subnets.
func (l *Lab) CreateHost(ctx context.Context, network, id string, addr netip.Addr) (*Host, error) {
	h := &Host{lab: l, id: id, namespace: l.objectName("host", id), address: addr}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := claim(l, l.hosts, "host", id, h); err != nil {
		return nil, err
	}
	if err := h.create(ctx, network, addr); err != nil {
		forget(l, l.hosts, id)
		return nil, fmt.Errorf("create host %s: %w", id, err)
	}
	return h, nil
}

func (h *Host) create(ctx context.Context, network string, addr netip.Addr) error {
	p, err := h.lab.connect(ctx, network, "", "host "+h.id, h.namespace, addr)
	if err != nil {
		return err
	}
	if err := p.powerOn(ctx, h.namespace); err != nil {
		return errors.Join(err, p.disconnect(context.WithoutCancel(ctx), h.namespace))
	}
	h.port = p
	return nil
}

// Address is the host's address.
func (h *Host) Address() netip.Addr { return h.address }

// Command is a program of this machine that runs in the host's network; it sees this machine's files and processes.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespacePath(h.namespace), "--", name}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Listen makes a listener in the host's network; address is literal. It belongs to the caller and works until the caller
// closes it, whatever becomes of the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	ln, err := listen(h.namespace, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen on host %s: %w", h.id, err)
	}
	return ln, nil
}

// Do runs f in the host's network: sockets that f makes on this goroutine are there, those that it has others make are
// not. What a package dials in the background is for Dial.
func (h *Host) Do(f func() error) error { return within(h.namespace, f) }

// Dial connects from the host's network; it fits http.Transport.DialContext. The address is literal, since names are
// looked up elsewhere.
func (h *Host) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial from host %s: %q: want a literal address and port: %w", h.id, address, err)
	}
	err = h.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial from host %s: %w", h.id, err)
	}
	return conn, nil
}

// Close removes the host. Programs that still run there keep its namespace alive but have no network any more.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.port == nil || h.lab.isClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if err := h.port.disconnect(ctx, h.namespace); err != nil {
		return fmt.Errorf("close host %s: %w", h.id, err)
	}
	h.port = nil
	forget(h.lab, h.lab.hosts, h.id)
	return nil
}

func (l *Lab) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}
