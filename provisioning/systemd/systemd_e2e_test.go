//go:build e2e

package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hypercache/internal/need"
)

// place writes all units into the root of a machine that has the programs they name, and returns that root.
func place(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	files := map[string]string{
		"etc/systemd/system/hypercache.service": Service(), "etc/systemd/system/hypercache-setup.service": Setup(),
		"etc/systemd/system/hypercache-disk.service": Disk(), "etc/systemd/system/hypercache-disk.timer": DiskTimer(),
	}
	for _, program := range []string{"opt/hypercache/bin/hypercache", "opt/hypercache/bin/setup", "opt/hypercache/bin/cloud", "usr/bin/systemctl"} {
		files[program] = "#!/bin/sh\n"
	}
	// Units of systemd that ours name; their own content is not the question.
	for _, target := range []string{"network-online", "network", "time-sync", "local-fs", "local-fs-pre", "multi-user", "timers", "basic",
		"sysinit", "shutdown", "umount", "time-set", "slices"} {
		files["usr/lib/systemd/system/"+target+".target"] = "[Unit]\nDescription=" + target + "\nDefaultDependencies=no\n"
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path := need.Program(t, "systemd-analyze")
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func TestSystemdRatesTheUnitsAtMostOnePointFive(t *testing.T) {
	root := place(t)
	for _, name := range []string{"hypercache.service", "hypercache-disk.service"} {
		out, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=15", filepath.Join(root, "etc/systemd/system", name))
		m := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if err != nil || m == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if level, _ := strconv.ParseFloat(m[1], 64); level > 1.5 {
			t.Errorf("%s is rated %s, want at most 1.5:\n%s", name, m[1], out)
		}
		t.Logf("%s: %s", name, m[1])
	}
}

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	root := place(t)
	for _, name := range []string{"hypercache.service", "hypercache-setup.service", "hypercache-disk.service", "hypercache-disk.timer"} {
		out, err := analyze(t, "verify", "--man=no", "--recursive-errors=no", "--root="+root, name)
		var rest []string
		older := false // than 254, where two keys came in; such a systemd warns and ignores them
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			switch {
			case strings.Contains(line, "Unknown key 'RestartSteps'"), strings.Contains(line, "Unknown key 'RestartMaxDelaySec'"):
				older = true
			case line != "":
				rest = append(rest, line)
			}
		}
		if err != nil && !older || len(rest) > 0 {
			t.Errorf("%s: %v\n%s", name, err, strings.Join(rest, "\n"))
		}
	}
}
