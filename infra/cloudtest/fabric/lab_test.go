package fabric

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hypercache/internal/need"
)

func TestNamesOfOneLabAreNoOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lab, id := rapid.StringMatching(labPattern.String()), rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9_-]{0,20}`)
		a, b := lab.Draw(t, "a"), lab.Draw(t, "b")
		name := (&Lab{name: a}).objectName("vm", id.Draw(t, "id"))
		if belongs(b, name) != (a == b) {
			t.Fatalf("lab %q owns %q: %v", b, name, belongs(b, name))
		}
	})
}

func TestIdentifiersAndLinksThatCouldBreakOutAreRefused(t *testing.T) {
	for _, id := range []string{"", "a.b", "a b", "../x", "-x", "a/b", strings.Repeat("x", 101)} {
		if checkID("disk", id) == nil {
			t.Errorf("id %q is taken", id)
		}
	}
	for _, link := range []string{"", "/dev", "/dev/", "dev/x", "/etc/passwd", "/dev/../etc/passwd", "/dev/a b", "/dev/a//b"} {
		if checkLinks([]string{link}) == nil {
			t.Errorf("link %q is taken", link)
		}
	}
	links := []string{"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol123", "/dev/disk/azure/scsi1/lun0", "/dev/sdf"}
	if err := checkLinks(links); err != nil {
		t.Error(err)
	}
}

func TestASubnetFitsIntoItsNetworkBesideTheOthers(t *testing.T) {
	n := &network{id: "main", cidr: netip.MustParsePrefix("10.0.0.0/16"), subnets: map[string]*subnet{
		"a": {id: "a", cidr: netip.MustParsePrefix("10.0.1.0/24")},
	}}
	for cidr, want := range map[string]bool{
		"10.0.2.0/24": true, "10.0.1.128/25": false, "10.0.0.0/16": false, "10.1.0.0/24": false, "10.0.0.0/8": false,
		"10.0.2.1/24": false, "10.0.2.0/31": false, "fd00::/64": false,
	} {
		if err := n.admits("b", netip.MustParsePrefix(cidr)); (err == nil) != want {
			t.Errorf("%s: %v", cidr, err)
		}
	}
	if n.admits("a", netip.MustParsePrefix("10.0.2.0/24")) == nil {
		t.Error("a second subnet of the same name")
	}
}

func TestAMachineReportsEveryMistakeBeforeAnythingIsMade(t *testing.T) {
	m := Machine{ID: "one", Hostname: "no host", Resolver: netip.MustParseAddr("::1")}
	m.Filter.Ingress = []FilterRule{{Name: "x"}}
	err := m.check([]Attachment{{Disk: "d", Links: []string{"/etc/x"}}})
	if err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("want five mistakes, got %v", err)
	}
}

func TestCapabilitiesAreWhatThisMachineCanGive(t *testing.T) {
	if got := grantable(1<<21 | 1<<12 | 1<<1); !slices.Equal(got, []string{"SYS_ADMIN", "NET_ADMIN"}) {
		t.Errorf("got %v", got)
	}
	if got := len(grantable(1<<41 - 1)); got != len(wantedCapabilities()) {
		t.Errorf("%d of %d", got, len(wantedCapabilities()))
	}
}

func TestFileSystemsAreKnownByLabelAndUUID(t *testing.T) {
	ext4 := make([]byte, 4096)
	copy(ext4[1024+0x38:], "\x53\xef")
	copy(ext4[1024+0x68:], "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")
	copy(ext4[1024+0x78:], "hcdata")
	uuid := "/dev/disk/by-uuid/01234567-89ab-cdef-0123-456789abcdef"
	if got := superblockLinks(ext4); !slices.Equal(got, []string{uuid, "/dev/disk/by-label/hcdata"}) {
		t.Errorf("ext4: %v", got)
	}
	copy(ext4[1024+0x78:], "../../x")
	if got := superblockLinks(ext4); !slices.Equal(got, []string{uuid}) {
		t.Errorf("a label that is no file name: %v", got)
	}
	if got := superblockLinks(make([]byte, 4096)); got != nil {
		t.Errorf("an empty disk: %v", got)
	}
}

func TestFileSystemsOfRealToolsAreKnown(t *testing.T) {
	mkfs := need.Program(t, "mkfs.ext4")
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const uuid = "11111111-2222-3333-4444-555555555555"
	if out, err := exec.Command(mkfs, "-q", "-L", "data-1", "-U", uuid, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := labelLinks(path)
	if err != nil || !slices.Equal(got, []string{"/dev/disk/by-uuid/" + uuid, "/dev/disk/by-label/data-1"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestLinksFollowTheFileSystemAndGoWithTheDisk(t *testing.T) {
	root, file := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	block := make([]byte, 4096)
	write := func(label string) {
		copy(block[1024+0x38:], "\x53\xef")
		copy(block[1024+0x78:1024+0x88], make([]byte, 16))
		copy(block[1024+0x78:], label)
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := func(label string) string {
		to, _ := os.Readlink(filepath.Join(root, "dev/disk/by-label", label))
		return to
	}
	v := &volume{disk: &disk{id: "d", loop: file, device: device{name: "loop7", major: 7, minor: 7}}, links: []string{"/dev/sdf"}}
	write("one")
	if err := v.rescan(root); err != nil || target("one") != "/dev/loop7" {
		t.Fatalf("by-label/one leads to %q, %v", target("one"), err)
	}
	want := "loop7 7 7 /dev/sdf /dev/disk/by-uuid/00000000-0000-0000-0000-000000000000 /dev/disk/by-label/one\n"
	if got := v.line(); got != want {
		t.Errorf("line %q, want %q", got, want)
	}
	write("two")
	if err := v.rescan(root); err != nil || target("one") != "" || target("two") != "/dev/loop7" {
		t.Fatalf("by-label leads to %q and %q, %v", target("one"), target("two"), err)
	}
	// Another disk with the same label has taken the link over.
	if err := link(root, "loop8", []string{"/dev/disk/by-label/two"}); err != nil {
		t.Fatal(err)
	}
	if err := v.unplug(root); err != nil || target("two") != "/dev/loop8" {
		t.Fatalf("the other disk's link leads to %q, %v", target("two"), err)
	}
}

func TestMountsAreFoundByDeviceNumber(t *testing.T) {
	const info = "22 27 0:21 / /proc rw,relatime - proc proc rw\n36 35 7:3 / /data rw shared:1 - ext4 /dev/loop3 rw\n"
	if got := mountedAt([]byte(info), device{major: 7, minor: 3}); got != "/data" {
		t.Errorf("mounted at %q", got)
	}
	if got := mountedAt([]byte(info), device{major: 7, minor: 30}); got != "" {
		t.Errorf("mounted at %q", got)
	}
}

func TestSeedIsWhatTheCloudWasGiven(t *testing.T) {
	c := &machine{Machine: Machine{
		ID: "one", Hostname: "node-1.internal", InstanceID: `i-"1"`, UserData: []byte("\x1f\x8b raw"),
		Resolver: netip.MustParseAddr("168.63.129.16"),
	}, dir: t.TempDir()}
	if err := c.writeFiles([]byte("PEM")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"seed/user-data": "\x1f\x8b raw", "seed/meta-data": `{"instance-id":"i-\"1\"","local-hostname":"node-1.internal"}` + "\n",
		"etc/hostname": "node-1\n", "ca.pem": "PEM",
	} {
		if got, err := os.ReadFile(filepath.Join(c.dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	got, err := os.ReadFile(filepath.Join(c.dir, "etc/resolv.conf"))
	if err != nil || !strings.HasPrefix(string(got), "nameserver 168.63.129.16\n") {
		t.Errorf("resolv.conf is %q, %v", got, err)
	}
}
