package cloudinit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypercache/internal/need"
)

// rig is a machine for setup.sh to work on: directories below a temporary one, and stand-ins for the programs that
// need root or a disk. Each stand-in writes its command line to a log.
type rig struct {
	t              *testing.T
	home, bin, log string
	env            []string
}

// mebibyte is a unit of disk images.
const mebibyte = 1 << 20

func newRig(t *testing.T) *rig {
	t.Helper()
	need.Program(t, "sh")
	need.Program(t, "cmp")
	dir := t.TempDir()
	r := &rig{t: t, home: filepath.Join(dir, "home"), bin: filepath.Join(dir, "bin"), log: filepath.Join(dir, "log")}
	for _, d := range []string{r.bin, filepath.Join(r.home, "bin"), filepath.Join(r.home, "configs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write(filepath.Join(r.home, "configs", "hypercache.yaml"), "server: {}\n", 0o644)
	for _, name := range []string{"chown", "e2fsck", "mkfs.ext4", "mount", "resize2fs", "xfs_growfs", "wipefs", "sync"} {
		r.program(name, "")
	}
	r.program("mountpoint", "exit 1")
	r.program("blkid", "exit 2") // nothing found
	r.program("blockdev", `[ -f "$2" ] && stat -c %s "$2"`)
	r.program("install", `shift 2; mode=$1; shift 5; mkdir -p "$@" && chmod "$mode" "$@"`)
	r.env = []string{
		"PATH=" + r.bin + ":" + os.Getenv("PATH"), "HC_HOME=" + r.home, "HC_WAIT=0", "HC_DATA_DEVICES=",
		"HC_BINARY_URL=https://example.test/hypercache", "HC_BINARY_SHA256=" + sumOf("program"),
		"HC_PASSWORD=where-it-is",
	}
	return r
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func (r *rig) write(path, text string, mode os.FileMode) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

// program puts a stand-in on the path.
func (r *rig) program(name, body string) {
	r.write(filepath.Join(r.bin, name), fmt.Sprintf("#!/bin/sh\necho %q \"$@\" >>%q\n%s\n", name, r.log, body), 0o755)
}

// cloud stands in for cloud.py.
func (r *rig) cloud(body string) {
	r.write(filepath.Join(r.home, "bin", "cloud"), fmt.Sprintf("#!/bin/sh\necho cloud \"$@\" >>%q\n%s\n", r.log, body), 0o755)
}

// disk makes an image of a disk and names it as the data disk.
func (r *rig) disk(size int64) string {
	r.t.Helper()
	path := filepath.Join(r.bin, "..", "disk")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		r.t.Fatal(err)
	}
	r.env = append(r.env, "HC_DATA_DEVICES=/dev/does-not-exist "+path)
	return path
}

// run runs steps and returns exit status and output.
func (r *rig) run(steps ...string) (int, string) {
	r.t.Helper()
	cmd := exec.Command("sh", append([]string{"setup.sh"}, steps...)...)
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// called lists the command lines of the stand-ins.
func (r *rig) called() []string {
	data, err := os.ReadFile(r.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func (r *rig) calls(prefix string) bool {
	return slices.ContainsFunc(r.called(), func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func TestABlankDiskIsFormattedAndMounted(t *testing.T) {
	r := newRig(t)
	disk := r.disk(100 * mebibyte)
	if status, out := r.run("data_disk"); status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	data := r.home + "/data"
	order := []string{"mkfs.ext4 -q -m 0 -L hypercache-data " + disk, "e2fsck -p " + disk,
		"mount -o nodev,nosuid,noexec,noatime " + disk + " " + data, "resize2fs " + disk,
		"install -d -m 0700 -o hypercache -g hypercache " + data}
	at := -1
	for _, want := range order {
		i := slices.Index(r.called(), want)
		if i <= at {
			t.Fatalf("%q is not called after what comes before it:\n%s", want, strings.Join(r.called(), "\n"))
		}
		at = i
	}
}

// TestADiskThatHoldsAnythingIsNeverFormatted is about the worst that setup could do.
func TestADiskThatHoldsAnythingIsNeverFormatted(t *testing.T) {
	put := func(offset int64) func(*rig, string) {
		return func(r *rig, disk string) {
			f, err := os.OpenFile(disk, os.O_WRONLY, 0)
			if err != nil {
				r.t.Fatal(err)
			}
			_, err = f.WriteAt([]byte{1}, offset)
			if err := errors.Join(err, f.Close()); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	found := func(text string) func(*rig, string) {
		return func(r *rig, _ string) { r.program("blkid", "printf '"+text+"'") }
	}
	for name, c := range map[string]struct {
		prepare func(*rig, string)
		say     string
	}{
		"a byte at the beginning":    {put(0), "no file system"},
		"a byte before 16 MiB":       {put(16*mebibyte - 1), "no file system"},
		"the last byte":              {put(100*mebibyte - 1), "no file system"},
		"a partition table":          {found(`PTTYPE=gpt\n`), "gpt partition table"},
		"a part of a RAID":           {found(`TYPE=linux_raid_member\nUSAGE=raid\n`), "linux_raid_member (raid)"},
		"an encrypted volume":        {found(`TYPE=crypto_LUKS\nUSAGE=crypto\n`), "crypto_LUKS"},
		"something blkid only hints": {found(`LABEL=x\n`), "no file system"},
		"ambivalent signatures":      {func(r *rig, _ string) { r.program("blkid", "exit 8") }, "cannot tell"},
		"a blkid that fails":         {func(r *rig, _ string) { r.program("blkid", "exit 4") }, "cannot tell"},
		"a signature of wipefs":      {func(r *rig, _ string) { r.program("wipefs", "echo 0x0 zfs_member") }, "no file system"},
		"a wipefs that fails":        {func(r *rig, _ string) { r.program("wipefs", "exit 1") }, "no file system"},
		"a device that is too small": {func(r *rig, disk string) { _ = os.Truncate(disk, mebibyte) }, "no file system"},
		"a device nobody can read":   {func(r *rig, _ string) { r.program("cmp", "exit 2") }, "no file system"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.prepare(r, r.disk(100*mebibyte))
			status, out := r.run("data_disk")
			if status != 78 || !strings.Contains(out, c.say) || !strings.Contains(out, "it stays as it is") {
				t.Errorf("status %d, want 78 and %q in:\n%s", status, c.say, out)
			}
			if r.calls("mkfs") || r.calls("mount ") || r.calls("install -d -m 0700 -o hypercache") {
				t.Errorf("something was done to it:\n%s", strings.Join(r.called(), "\n"))
			}
		})
	}
}

func TestAFileSystemIsKept(t *testing.T) {
	for name, grow := range map[string]string{"ext4": "resize2fs ", "xfs": "xfs_growfs ", "btrfs": ""} {
		r := newRig(t)
		disk := r.disk(100 * mebibyte)
		r.program("blkid", `printf 'LABEL=any\nTYPE=`+name+`\nUSAGE=filesystem\n'`)
		if status, out := r.run("data_disk"); status != 0 || r.calls("mkfs") || !r.calls("mount -o nodev,nosuid,noexec,noatime "+disk) {
			t.Errorf("%s: status %d:\n%s\n%s", name, status, out, strings.Join(r.called(), "\n"))
		}
		if grow != "" && !r.calls(grow) || r.calls("e2fsck") != (name == "ext4") {
			t.Errorf("%s: grown or checked by the wrong program:\n%s", name, strings.Join(r.called(), "\n"))
		}
	}
}

func TestAMountThatFailsKeepsTheNodeOut(t *testing.T) {
	for _, broken := range []string{"mount", "e2fsck", "mkfs.ext4"} {
		r := newRig(t)
		r.disk(100 * mebibyte)
		r.program(broken, "exit 4")
		if status, out := r.run("data_disk"); status == 0 || r.calls("install -d -m 0700 -o hypercache") {
			t.Errorf("%s fails: status %d:\n%s\n%s", broken, status, out, strings.Join(r.called(), "\n"))
		}
	}
}

func TestADiskThatNeverComesIsNamed(t *testing.T) {
	r := newRig(t)
	r.env = append(r.env, "HC_DATA_DEVICES=/dev/one /dev/two")
	status, out := r.run("data_disk")
	if status != 1 || !strings.Contains(out, "none of /dev/one /dev/two is a disk") {
		t.Errorf("status %d:\n%s", status, out)
	}
}

func TestADiskThatComesLateIsWaitedFor(t *testing.T) {
	r := newRig(t)
	disk := r.disk(100 * mebibyte)
	r.env = append(r.env, "HC_WAIT=60")
	// The first look finds nothing, and makes the second find it.
	r.program("sleep", "touch "+r.bin+"/../there")
	r.program("blockdev", `[ -f `+r.bin+`/../there ] && [ -f "$2" ] && stat -c %s "$2"`)
	status, out := r.run("data_disk")
	if status != 0 || !strings.Contains(out, "waiting for") || !r.calls("mount -o nodev,nosuid,noexec,noatime "+disk) {
		t.Errorf("status %d:\n%s\n%s", status, out, strings.Join(r.called(), "\n"))
	}
}

func TestAMountedDiskIsOnlyGrown(t *testing.T) {
	r := newRig(t)
	r.disk(100 * mebibyte)
	r.program("mountpoint", "")
	r.program("findmnt", `case $3 in SOURCE) echo /dev/x ;; *) echo ext4 ;; esac`)
	status, out := r.run("data_disk")
	if status != 0 || !r.calls("resize2fs /dev/x") || r.calls("mount ") || r.calls("blkid") || r.calls("e2fsck") {
		t.Errorf("status %d:\n%s\n%s", status, out, strings.Join(r.called(), "\n"))
	}
}

func TestWithoutADataDiskDataIsOnTheOSDisk(t *testing.T) {
	r := newRig(t)
	if status, out := r.run("data_disk"); status != 0 || r.calls("mount") || r.calls("blkid") {
		t.Errorf("status %d:\n%s\n%s", status, out, strings.Join(r.called(), "\n"))
	}
	if info, err := os.Stat(r.home + "/data"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", info, err)
	}
}

func TestTheRightProgramIsFetchedOnce(t *testing.T) {
	r := newRig(t)
	r.cloud(`printf program >"$2"`)
	r.write(r.home+"/bin/.hypercache.abc", "half", 0o600)
	for range 2 {
		if status, out := r.run("program"); status != 0 {
			t.Fatalf("status %d:\n%s", status, out)
		}
	}
	if n := strings.Count(strings.Join(r.called(), "\n"), "cloud program"); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
	info, err := os.Stat(r.home + "/bin/hypercache")
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("program: %v, %v", info, err)
	}
	r.onlyPrograms("cloud", "hypercache")
}

func (r *rig) onlyPrograms(want ...string) {
	r.t.Helper()
	entries, err := os.ReadDir(r.home + "/bin")
	if err != nil {
		r.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("programs %q, want %q", got, want)
	}
}

func TestAnotherProgramIsRefused(t *testing.T) {
	r := newRig(t)
	r.cloud(`printf 'something else' >"$2"`)
	r.write(r.home+"/bin/hypercache", "old", 0o755)
	status, out := r.run("program")
	if status != 78 || !strings.Contains(out, sumOf("something else")) || !strings.Contains(out, sumOf("program")) {
		t.Errorf("status %d, want 78 and both sums in:\n%s", status, out)
	}
	r.onlyPrograms("cloud", "hypercache")
	if text, _ := os.ReadFile(r.home + "/bin/hypercache"); string(text) != "old" {
		t.Errorf("the program there reads %q", text)
	}
}

func TestSecretsAreFetchedOnceAndAreTheOwnersAlone(t *testing.T) {
	r := newRig(t)
	r.cloud(`printf '%s' "$1" >"$2"`)
	for range 2 {
		if status, out := r.run("secrets"); status != 0 {
			t.Fatalf("status %d:\n%s", status, out)
		}
	}
	if n := strings.Count(strings.Join(r.called(), "\n"), "cloud "); n != 3 {
		t.Errorf("asked %d times, want once for each secret:\n%s", n, strings.Join(r.called(), "\n"))
	}
	for name, owner := range map[string]string{
		"secrets.env": "root:root", "cluster.secret": "hypercache:hypercache", "password": "hypercache:hypercache",
	} {
		path := r.home + "/configs/" + name
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o400 || !r.calls("chown "+owner+" "+path) {
			t.Errorf("%s: %v, %v, want mode 0400 and owner %s", name, info, err, owner)
		}
	}
}

func TestWithoutAPasswordNoneIsFetched(t *testing.T) {
	r := newRig(t)
	r.env = append(r.env, "HC_PASSWORD=")
	r.cloud(`printf '%s' "$1" >"$2"`)
	if status, out := r.run("secrets"); status != 0 || r.calls("cloud password") || !r.calls("cloud cluster-secret") {
		t.Errorf("status %d:\n%s\n%s", status, out, strings.Join(r.called(), "\n"))
	}
}

func TestAFailedStepEndsSetupWithItsStatus(t *testing.T) {
	for status, step := range map[int]string{78: "program", 1: "gossip-key"} {
		r := newRig(t)
		r.cloud(fmt.Sprintf(`[ "$1" != %s ] || exit %d; printf program >"$2"`, step, status))
		got, out := r.run()
		if got != status || strings.Contains(out, "ready") {
			t.Errorf("%s fails: status %d, want %d:\n%s", step, got, status, out)
		}
	}
}

func TestSetupIsCleanToShellcheck(t *testing.T) {
	if out, err := exec.Command(need.Program(t, "shellcheck"), "setup.sh").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
