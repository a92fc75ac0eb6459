package fabric

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// This file stands in for udev, which a container cannot run: device nodes, the links that a cloud's rules would give
// them, and the links by label and UUID of the file system, which appear when the guest makes one.

// volume is a disk as one machine has it.
type volume struct {
	disk  *disk
	links []string // the cloud's
	found []string // by label and by UUID, as last seen
}

// line is the volume's line in the list that the boot program reads before init.
func (v *volume) line() string {
	fields := append([]string{v.disk.device.name, fmt.Sprint(v.disk.device.major), fmt.Sprint(v.disk.device.minor)}, v.links...)
	return strings.Join(append(fields, v.found...), " ") + "\n"
}

// plug makes the device and its links under a machine's root.
func (v *volume) plug(root string) error {
	d := v.disk.device
	node := filepath.Join(root, "dev", d.name)
	if err := os.Remove(node); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("replace device node: %w", err)
	}
	if err := unix.Mknod(node, unix.S_IFBLK|0o660, int(unix.Mkdev(d.major, d.minor))); err != nil {
		return fmt.Errorf("make device node %s: %w", node, err)
	}
	return link(root, d.name, append(slices.Clone(v.links), v.found...))
}

func (v *volume) unplug(root string) error {
	errs := []error{unlink(root, v.disk.device.name, append(slices.Clone(v.links), v.found...))}
	if err := os.Remove(filepath.Join(root, "dev", v.disk.device.name)); err != nil && !os.IsNotExist(err) {
		errs = append(errs, fmt.Errorf("remove device node: %w", err))
	}
	return errors.Join(errs...)
}

// rescan brings the links by label and UUID up to what is on the disk now. root is "" for a machine that is off.
func (v *volume) rescan(root string) error {
	now, err := labelLinks(v.disk.loop)
	if err != nil || slices.Equal(now, v.found) {
		return err
	}
	before := v.found
	v.found = now
	if root == "" {
		return nil
	}
	return errors.Join(unlink(root, v.disk.device.name, before), link(root, v.disk.device.name, now))
}

func link(root, name string, links []string) error {
	for _, l := range links {
		path := filepath.Join(root, l)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make device link: %w", err)
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("replace device link: %w", err)
		}
		if err := os.Symlink("/dev/"+name, path); err != nil {
			return fmt.Errorf("make device link: %w", err)
		}
	}
	return nil
}

// unlink removes links that still lead to the device: another may have taken one over, with the same label.
func unlink(root, name string, links []string) error {
	var errs []error
	for _, l := range links {
		path := filepath.Join(root, l)
		if to, err := os.Readlink(path); err != nil || to != "/dev/"+name {
			continue
		}
		if err := os.Remove(path); err != nil {
			errs = append(errs, fmt.Errorf("remove device link: %w", err))
		}
	}
	return errors.Join(errs...)
}

// labelLinks reads a device's links by label and UUID from the superblock of its file system.
func labelLinks(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	if _, err := io.ReadFull(f, block); err != nil {
		return nil, fmt.Errorf("read disk: %w", err)
	}
	return superblockLinks(block), nil
}

// plainLabel is a label that a link can carry as it is. Others have no link: udev would write them with escapes.
var plainLabel = regexp.MustCompile(`^[A-Za-z0-9_.:@+-]+$`)

// superblockLinks knows ext2 to ext4 and XFS. Anything else has no links.
func superblockLinks(block []byte) []string {
	var label, uuid []byte
	switch {
	case len(block) < 2048:
		return nil
	case bytes.Equal(block[1024+0x38:1024+0x3a], []byte{0x53, 0xef}):
		uuid, label = block[1024+0x68:1024+0x78], block[1024+0x78:1024+0x88]
	case bytes.Equal(block[:4], []byte("XFSB")):
		uuid, label = block[32:48], block[108:120]
	default:
		return nil
	}
	h := hex.EncodeToString(uuid)
	links := []string{"/dev/disk/by-uuid/" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]}
	if name := string(bytes.TrimRight(label, "\x00")); plainLabel.MatchString(name) && name != "." && name != ".." {
		links = append(links, "/dev/disk/by-label/"+name)
	}
	return links
}

// mountedAt returns where the device is mounted, according to a mountinfo file; "" for nowhere.
func mountedAt(mountinfo []byte, d device) string {
	number := strconv.FormatUint(uint64(d.major), 10) + ":" + strconv.FormatUint(uint64(d.minor), 10)
	for line := range strings.Lines(string(mountinfo)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[2] == number {
			return fields[4]
		}
	}
	return ""
}
