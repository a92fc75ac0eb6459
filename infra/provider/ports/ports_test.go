package ports

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

func TestTakenPortNamesItsHolder(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	tcp, udp := l.Addr().(*net.TCPAddr).Port, u.LocalAddr().(*net.UDPAddr).Port
	err = Check([]Use{
		{Network: "tcp", Address: "127.0.0.1", Port: tcp, For: "RESP of node-1"},
		{Network: "udp", Address: "127.0.0.1", Port: udp, For: "gossip of node-1"},
	})
	if err == nil {
		t.Fatal("two taken ports were called free")
	}
	for _, want := range []string{
		fmt.Sprintf("port %d (RESP of node-1) is taken by", tcp), fmt.Sprintf("port %d (gossip of node-1) is taken by", udp),
		fmt.Sprintf("(pid %d)", os.Getpid()),
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
}

func TestFreePortIsNoError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check([]Use{{Network: "tcp", Address: "127.0.0.1", Port: port, For: "x"}}); err != nil {
		t.Error(err)
	}
	if h := FindHolder("tcp", port); h != (Holder{}) {
		t.Errorf("a free port has the holder %+v", h)
	}
}
