//go:build e2e

package fabric

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypercache/infra/cloudtest/image"
)

// hardened is a unit with everything that our own node's unit asks of systemd.
const hardened = `[Unit]
Description=hardened
[Service]
Type=exec
DynamicUser=yes
ExecStart=/usr/bin/python3 -u -m http.server --directory /var/lib/hardened 8080
StateDirectory=hardened
UMask=0077
LimitNOFILE=65536
MemoryMax=200M
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
DevicePolicy=closed
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
[Install]
WantedBy=multi-user.target
`

func userData(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := fmt.Fprintf(z, `#cloud-config
write_files:
- path: /etc/systemd/system/hardened.service
  content: |
%s
runcmd:
- [systemctl, enable, --now, hardened.service]
- "echo $(cloud-init query instance_id) >> /var/lib/first-boots"
`, "    "+strings.ReplaceAll(strings.TrimSpace(hardened), "\n", "\n    "))
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// leftovers is what a lab could leave on this machine.
func leftovers(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, argv := range [][]string{
		{"docker", "ps", "--all", "--format", "{{.Names}}"},
		{"ip", "netns", "list"}, {"losetup", "--all", "--output", "NAME,BACK-FILE"},
		{"sh", "-c", "ls -d /tmp/" + prefix + "* 2>/dev/null || true"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", argv, err, out)
		}
		for line := range strings.Lines(string(out)) {
			// Others may be at work here too.
			if strings.Contains(line, prefix+"fabric") {
				all.WriteString(line)
			}
		}
	}
	return all.String()
}

type world struct {
	*Lab
	t   *testing.T
	ctx context.Context
}

func openWorld(t *testing.T, name string) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	img, err := image.Build(ctx, logger)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(ctx, Options{Name: name, Image: img, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Lab: l, t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			for id := range l.machines {
				t.Log(l.Console(context.WithoutCancel(ctx), id))
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	w.must(l.CreateNetwork(ctx, "main", netip.MustParsePrefix("10.0.0.0/16")))
	w.must(l.CreateSubnet(ctx, "main", "a", netip.MustParsePrefix("10.0.1.0/24")))
	w.must(l.CreateSubnet(ctx, "main", "b", netip.MustParsePrefix("10.0.2.0/24")))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func anywhere() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }

// open lets everything out, and pings and the test's service in.
func openFilter() Filter {
	return Filter{
		Ingress: []FilterRule{
			{Name: "ping", Protocol: "icmp", Peers: anywhere()},
			{Name: "http", Protocol: "tcp", FirstPort: 8080, LastPort: 8080, Peers: anywhere()},
		},
		Egress: []FilterRule{{Name: "out", Protocol: "all", Peers: anywhere()}},
	}
}

func (w *world) machine(id, subnet, address string) Machine {
	return Machine{
		ID: id, Hostname: id, Network: "main", Subnet: subnet, Address: netip.MustParseAddr(address),
		InstanceID: "i-" + id, UserData: userData(w.t), Resolver: netip.MustParseAddr("169.254.169.253"),
		Resolve: func(name string) []netip.Addr {
			if name == "peer.internal" {
				return []netip.Addr{netip.MustParseAddr("10.0.2.4")}
			}
			return nil
		},
		Metadata: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(rw, "metadata of "+id+r.URL.Path)
		}),
		Services: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprint(rw, r.Host+" knows "+id)
		}),
		IsService: func(name string) bool { return strings.HasSuffix(name, ".cloud.example") },
		Filter:    openFilter(),
	}
}

func (w *world) exec(id string, args ...string) string {
	w.t.Helper()
	out, err := w.Exec(w.ctx, id, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// refuses is exec of something that must fail.
func (w *world) refuses(id string, args ...string) string {
	w.t.Helper()
	out, err := w.Exec(w.ctx, id, args...)
	if err == nil {
		w.t.Fatalf("%v succeeded on %s: %s", args, id, out)
	}
	return err.Error()
}

// booted waits for cloud-init and tells how long that took.
func (w *world) booted(id string) {
	w.t.Helper()
	started := time.Now()
	if out := w.exec(id, "cloud-init", "status", "--wait"); !strings.HasSuffix(out, "status: done") {
		w.t.Fatalf("cloud-init on %s: %s", id, out)
	}
	w.t.Logf("%s: cloud-init done %v after init", id, time.Since(started).Round(10*time.Millisecond))
}

// eventually polls for something that takes a moment.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	err := await(w.ctx, 20*time.Second, func() (bool, error) {
		if f() {
			return true, nil
		}
		return false, fmt.Errorf("never: %s", what)
	})
	w.must(err)
}

func (w *world) boot(machines ...Machine) {
	w.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(machines))
	started := time.Now()
	for i, m := range machines {
		wg.Go(func() {
			if errs[i] = w.CreateMachine(w.ctx, m); errs[i] == nil {
				_, errs[i] = w.Exec(w.ctx, m.ID, "cloud-init", "status", "--wait")
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		w.must(err)
	}
	w.t.Logf("%d machines from nothing to the end of cloud-init: %v", len(machines), time.Since(started).Round(10*time.Millisecond))
}

func TestMachinesBootAndReachEachOther(t *testing.T) {
	before := leftovers(t)
	t.Run("lab", func(t *testing.T) {
		w := openWorld(t, "fabric-pair")
		w.boot(w.machine("one", "a", "10.0.1.4"), w.machine("two", "b", "10.0.2.4"))

		if got := w.exec("one", "hostname"); got != "one" {
			t.Errorf("host name %q", got)
		}
		if got := w.exec("one", "systemctl", "is-system-running", "--wait"); got != "running" {
			t.Errorf("system is %s: %s", got, w.exec("one", "systemctl", "--failed", "--no-legend"))
		}
		if log := w.exec("one", "cat", "/var/log/cloud-init.log"); strings.Contains(log, "Invalid cloud-config") {
			t.Errorf("cloud-init finds the image's own configuration invalid")
		}
		if got := w.exec("one", "cat", "/var/lib/first-boots"); got != "i-one" {
			t.Errorf("first boots: %q", got)
		}
		w.exec("one", "ping", "-c", "1", "-W", "2", "10.0.2.4")
		w.exec("two", "ping", "-c", "1", "-W", "2", "10.0.1.4")
		w.exec("one", "curl", "-sSf", "-m", "5", "http://peer.internal:8080/")
		w.refuses("one", "curl", "-sSf", "-m", "2", "http://10.0.2.4:8081/")

		counts, err := w.Counters(w.ctx, "two")
		w.must(err)
		if counts["ping"] == 0 || counts["http"] == 0 || counts[DefaultIngress] == 0 {
			t.Errorf("counters of two: %v", counts)
		}

		closed := openFilter()
		not := FilterRule{Name: "no one", Protocol: "all", Deny: true, Peers: []netip.Prefix{netip.MustParsePrefix("10.0.1.4/32")}}
		closed.Ingress = append([]FilterRule{not}, closed.Ingress...)
		w.must(w.SetFilter(w.ctx, "two", closed))
		w.refuses("one", "ping", "-c", "1", "-W", "1", "10.0.2.4")
		after, err := w.Counters(w.ctx, "two")
		w.must(err)
		if after["no one"] == 0 || after["ping"] != counts["ping"] {
			t.Errorf("counters of two: %v, before %v", after, counts)
		}
		w.exec("two", "ping", "-c", "1", "-W", "2", "10.0.1.4") // the answer is let in

		w.must(w.SetFilter(w.ctx, "two", Filter{}))
		w.refuses("two", "ping", "-c", "1", "-W", "1", "10.0.1.4")
		w.exec("two", "curl", "-sSf", "-m", "5", "http://169.254.169.254/")
	})
	if after := leftovers(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestServicesAnswerInsideAMachine(t *testing.T) {
	w := openWorld(t, "fabric-services")
	w.boot(w.machine("one", "a", "10.0.1.4"))
	if got := w.exec("one", "curl", "-sSf", "-m", "5", "http://169.254.169.254/latest"); got != "metadata of one/latest" {
		t.Errorf("metadata: %q", got)
	}
	if got := w.exec("one", "curl", "-sSf", "-m", "5", "https://vault.cloud.example/x"); got != "vault.cloud.example knows one" {
		t.Errorf("service: %q", got)
	}
	w.exec("one", "python3", "-c", "import urllib.request; urllib.request.urlopen('https://vault.cloud.example/', timeout=5).read()")
	w.refuses("one", "curl", "-sS", "-m", "5", "--resolve", "else.example:443:"+ServiceAddress, "https://else.example/")
	if got := w.refuses("one", "curl", "-sS", "-m", "5", "https://else.example/"); !strings.Contains(got, "Could not resolve") {
		t.Errorf("unknown name: %s", got)
	}
	if got := w.exec("one", "dig", "+short", "+tcp", "peer.internal"); got != "10.0.2.4" {
		t.Errorf("name over TCP: %q", got)
	}
	out, err := run(w.ctx, "docker", "stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}} processes", w.machines["one"].name)
	w.must(err)
	t.Log("memory of one machine: " + strings.TrimSpace(out))
}

func TestDiskOutlivesItsMachine(t *testing.T) {
	w := openWorld(t, "fabric-disk")
	const byID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol123"
	w.must(w.CreateDisk(w.ctx, "vol-123", 1))
	m := w.machine("one", "a", "10.0.1.4")
	w.must(w.CreateMachine(w.ctx, m, Attachment{Disk: "vol-123", Links: []string{byID}}))
	w.booted("one")
	w.exec("one", "test", "-b", byID)
	w.exec("one", "mkfs.ext4", "-q", "-L", "hcdata", byID)
	w.eventually("link by label", func() bool {
		_, err := w.Exec(w.ctx, "one", "test", "-b", "/dev/disk/by-label/hcdata")
		return err == nil
	})
	w.exec("one", "sh", "-c", `mkdir /data && echo 'LABEL=hcdata /data ext4 defaults,nofail 0 2' >>/etc/fstab &&
		systemctl daemon-reload && systemctl start data.mount && echo kept >/data/file`)
	if err := w.DeleteDisk(w.ctx, "vol-123"); err == nil {
		t.Fatal("an attached disk was deleted")
	}
	if err := w.DetachDisk(w.ctx, "one", "vol-123"); err == nil {
		t.Fatal("a mounted disk was detached")
	}

	t.Log("a reboot keeps the root file system, and the mount and the service come up again")
	w.must(w.RebootMachine(w.ctx, "one"))
	w.booted("one")
	if got := w.exec("one", "cat", "/data/file", "/var/lib/first-boots"); got != "kept\ni-one" {
		t.Fatalf("after a reboot: %q", got)
	}
	w.exec("one", "systemctl", "is-active", "hardened.service", "data.mount")
	w.exec("one", "sh", "-c", "for i in 1 2 3 4 5; do curl -sSf -m 5 http://10.0.1.4:8080/ && exit; sleep 1; done; exit 1")
	w.exec("one", "curl", "-sSf", "-m", "5", "http://169.254.169.254/latest")

	t.Log("another machine finds what the first one wrote")
	w.must(w.DeleteMachine(w.ctx, "one"))
	w.must(w.CreateMachine(w.ctx, m))
	w.booted("one")
	w.must(w.AttachDisk(w.ctx, "one", "vol-123", []string{"/dev/disk/azure/scsi1/lun0"}))
	w.exec("one", "sh", "-c", "mkdir /data && mount /dev/disk/by-label/hcdata /data && grep kept /data/file && umount /data")
	w.must(w.GrowDisk(w.ctx, "vol-123", 2))
	if got := w.exec("one", "blockdev", "--getsize64", "/dev/disk/azure/scsi1/lun0"); got != fmt.Sprint(2<<30) {
		t.Errorf("grown disk has %s bytes", got)
	}
	w.exec("one", "sh", "-c", "e2fsck -fp /dev/disk/azure/scsi1/lun0 && resize2fs /dev/disk/azure/scsi1/lun0")
	w.must(w.DetachDisk(w.ctx, "one", "vol-123"))
	w.exec("one", "sh", "-c", "! ls /dev/disk/azure/scsi1/lun0 /dev/disk/by-label/hcdata 2>/dev/null | grep .")
	w.must(w.DeleteDisk(w.ctx, "vol-123"))
}

// reaches reports whether something at the address answers, be it with a refusal.
func (h *Host) reaches(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

func TestPowerAndHosts(t *testing.T) {
	w := openWorld(t, "fabric-power")
	h, err := w.CreateHost(w.ctx, "main", "client", netip.MustParseAddr("10.0.2.9"))
	w.must(err)
	w.boot(w.machine("one", "a", "10.0.1.4"))
	client := &http.Client{Transport: &http.Transport{DialContext: h.Dial}, Timeout: 5 * time.Second}
	get := func() bool {
		resp, err := client.Get("http://10.0.1.4:8080/")
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	w.eventually("the machine answers the host", get)
	client.CloseIdleConnections()

	w.must(w.KillMachine(w.ctx, "one"))
	if h.reaches(w.ctx, "10.0.1.4:8080") {
		t.Error("a machine without power answers")
	}
	if on, err := w.Running(w.ctx, "one"); err != nil || on {
		t.Errorf("running: %v, %v", on, err)
	}
	if !strings.Contains(w.Console(w.ctx, "one"), "cloud-init") {
		t.Error("the console of a dead machine says nothing")
	}
	w.must(w.StartMachine(w.ctx, "one"))
	w.must(w.StartMachine(w.ctx, "one"))
	w.booted("one")
	w.eventually("the service is back", get)
	client.CloseIdleConnections()

	_, _ = w.Exec(w.ctx, "one", "systemctl", "poweroff")
	w.eventually("a machine that switched itself off is off and deaf", func() bool {
		on, err := w.Running(w.ctx, "one")
		return err == nil && !on && !h.reaches(w.ctx, "10.0.1.4:8080")
	})
	w.must(w.StartMachine(w.ctx, "one"))
	w.booted("one")

	ln, err := h.Listen("tcp", "127.0.0.1:80")
	w.must(err)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	conn, err := h.Dial(w.ctx, "tcp", "127.0.0.1:80")
	w.must(err)
	said, err := io.ReadAll(conn)
	if err != nil || string(said) != "hello" {
		t.Errorf("host's loopback said %q, %v", said, err)
	}
	_ = conn.Close()
	_ = ln.Close()
	if err := w.DeleteSubnet(w.ctx, "main", "b"); err == nil {
		t.Error("a subnet with a host was deleted")
	}
	w.must(h.Close())
	w.must(w.DeleteSubnet(w.ctx, "main", "b"))
	if err := w.DeleteNetwork(w.ctx, "main"); err == nil {
		t.Error("a network with a machine was deleted")
	}
	w.must(w.DeleteMachine(w.ctx, "one"))
	w.must(w.DeleteSubnet(w.ctx, "main", "a"))
	w.must(w.DeleteNetwork(w.ctx, "main"))
}

func TestNetworksAreIsolated(t *testing.T) {
	w := openWorld(t, "fabric-apart")
	w.must(w.CreateNetwork(w.ctx, "other", netip.MustParsePrefix("10.9.0.0/16")))
	w.must(w.CreateSubnet(w.ctx, "other", "a", netip.MustParsePrefix("10.9.1.0/24")))
	here, err := w.CreateHost(w.ctx, "main", "here", netip.MustParseAddr("10.0.1.9"))
	w.must(err)
	there, err := w.CreateHost(w.ctx, "other", "there", netip.MustParseAddr("10.9.1.9"))
	w.must(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	defer func() { _ = ln.Close() }()
	if conn, err := here.Dial(w.ctx, "tcp", ln.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("a host reaches this machine's loopback")
	}
	if here.reaches(w.ctx, "10.9.1.9:1") || here.reaches(w.ctx, "10.9.1.1:1") {
		t.Error("a network reaches another one")
	}
	if !there.reaches(w.ctx, "10.9.1.1:1") {
		t.Error("a host does not reach its own gateway")
	}
	out, err := here.Command(w.ctx, "ip", "-brief", "address", "show", "dev", "eth0").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "10.0.1.9/24") {
		t.Errorf("address of a host: %s, %v", out, err)
	}
}

func TestOpenRemovesWhatAKilledRunLeft(t *testing.T) {
	before := leftovers(t)
	w := openWorld(t, "fabric-killed")
	w.must(w.CreateDisk(w.ctx, "vol", 1))
	w.must(w.CreateMachine(w.ctx, w.machine("one", "a", "10.0.1.4"), Attachment{Disk: "vol", Links: []string{"/dev/disk/by-id/x"}}))
	if _, err := Open(w.ctx, Options{Name: "fabric-killed", Image: w.image}); err == nil {
		t.Fatal("two labs of one name are open")
	}
	// What the death of the process does: the name is free, and nothing else has changed.
	w.must(w.held.Close())
	again, err := Open(w.ctx, Options{Name: "fabric-killed", Image: w.image, Dir: t.TempDir()})
	w.must(err)
	w.must(again.Close())
	if after := leftovers(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	w.held, err = net.Listen("unix", "@"+prefix+"fabric-killed")
	w.must(err)
}

func TestThreeMachinesBootAtOnce(t *testing.T) {
	w := openWorld(t, "fabric-three")
	w.boot(w.machine("one", "a", "10.0.1.4"), w.machine("two", "b", "10.0.2.4"), w.machine("three", "a", "10.0.1.5"))
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make namespaces and loop devices: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
