// Package ports finds out whether a port of this machine is free and, if not, who has it.
//
// It asks the kernel twice: by trying to listen, which is the truth, and by reading /proc for the holder's name, which is a
// courtesy that needs Linux and the right to look into the other process. It changes nothing.
package ports

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Use is one port that somebody wants to listen on.
type Use struct {
	Network string // "tcp" or "udp"
	Address string // IP address
	Port    int
	For     string // what it is wanted for, like "RESP of node-1"
}

// Holder is a process that has a port. PID 0: unknown.
type Holder struct {
	PID  int
	Name string
}

// Check returns an error that names every port of uses that is taken and, where it can be told, by which process.
func Check(uses []Use) error {
	var errs []error
	for _, u := range uses {
		if err := tryListen(u); errors.Is(err, syscall.EADDRINUSE) {
			errs = append(errs, fmt.Errorf("port %d (%s) is taken%s", u.Port, u.For, by(FindHolder(u.Network, u.Port))))
		} else if err != nil {
			errs = append(errs, fmt.Errorf("port %d (%s): %w", u.Port, u.For, err))
		}
	}
	return errors.Join(errs...)
}

func tryListen(u Use) error {
	addr := net.JoinHostPort(u.Address, strconv.Itoa(u.Port))
	if u.Network == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

func by(h Holder) string {
	if h.PID == 0 {
		return ""
	}
	return fmt.Sprintf(" by %s (pid %d)", h.Name, h.PID)
}

// tcpListen is the state LISTEN in /proc/net/tcp.
const tcpListen = "0A"

// FindHolder returns the process that listens on a port, or the zero Holder when that can't be told.
func FindHolder(network string, port int) Holder {
	inodes := map[string]bool{}
	for _, table := range []string{network, network + "6"} {
		socketInodes(filepath.Join("/proc/net", table), network, port, inodes)
	}
	if len(inodes) == 0 {
		return Holder{}
	}
	return ownerOf(inodes)
}

// socketInodes adds the inodes of the sockets bound to port in one of the kernel's tables.
func socketInodes(table, network string, port int, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	suffix := fmt.Sprintf(":%04X", port)
	for s := bufio.NewScanner(f); s.Scan(); {
		// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
		fields := strings.Fields(s.Text())
		if len(fields) < 10 || !strings.HasSuffix(fields[1], suffix) {
			continue
		}
		if network == "udp" || fields[3] == tcpListen {
			inodes[fields[9]] = true
		}
	}
}

// ownerOf looks through the open files of all processes it may see for one of the sockets.
func ownerOf(inodes map[string]bool) Holder {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return Holder{}
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if !isSocket || !inodes[strings.TrimSuffix(inode, "]")] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return Holder{PID: pid, Name: strings.TrimSpace(string(name))}
	}
	return Holder{}
}
