package fabric

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaceDir is where iproute2 keeps named network namespaces.
const namespaceDir = "/run/netns"

func namespacePath(name string) string { return filepath.Join(namespaceDir, name) }

// within runs f on a thread that is in a named network namespace: sockets that f makes belong to it for good, whoever uses
// them later. f must not leave work to other goroutines, which would run elsewhere. The thread ends with f, so that nothing
// else ever runs on a thread in the wrong namespace.
func within(namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		done <- enter(namespace, f)
	}()
	return <-done
}

func enter(namespace string, f func() error) error {
	ns, err := os.Open(namespacePath(namespace))
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", namespace, err)
	}
	return f()
}

// listen makes a listener inside a namespace; address is literal.
func listen(namespace, network, address string) (ln net.Listener, err error) {
	err = within(namespace, func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

func listenPacket(namespace, network, address string) (conn net.PacketConn, err error) {
	err = within(namespace, func() error {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// sysctl sets kernel parameters of a namespace. Those that this kernel does not have are passed over.
func sysctl(namespace string, values map[string]string) error {
	return within(namespace, func() error {
		for key, value := range values {
			path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
			err := os.WriteFile(path, []byte(value), 0o644)
			if err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("set %s in %s: %w", key, namespace, err)
			}
		}
		return nil
	})
}

// ipBatch runs commands of the ip program in a namespace, or in this process's own for "".
func ipBatch(ctx context.Context, namespace string, lines ...string) error {
	argv := []string{"ip"}
	if namespace != "" {
		argv = append(argv, "-n", namespace)
	}
	_, err := feed(ctx, strings.Join(lines, "\n")+"\n", append(argv, "-batch", "-")...)
	if err != nil {
		return fmt.Errorf("%w (the batch was %q)", err, lines)
	}
	return nil
}

// namespaces lists the named network namespaces of a lab.
func namespaces(lab string) ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if belongs(lab, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
