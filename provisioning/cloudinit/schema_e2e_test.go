//go:build e2e

package cloudinit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/internal/need"
)

func TestCloudInitAcceptsTheDocument(t *testing.T) {
	for _, m := range []Machine{onAWS(t), onAzure(t), longest(t)} {
		text, err := Text(m)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "user-data")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(need.Program(t, "cloud-init"), "schema", "-c", file, "--annotate").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Valid cloud-config") || strings.Contains(strings.ToLower(string(out)), "deprecat") {
			t.Errorf("%s: %v\n%s", m.Hostname, err, out)
		}
	}
}
