package image

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
)

func TestNameCarriesTheHashOfTheScript(t *testing.T) {
	out, err := exec.Command("sh", "build.sh", "name").Output()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(script)
	if got, want := strings.TrimSpace(string(out)), "hypercache-vm:"+hex.EncodeToString(sum[:])[:12]; got != want {
		t.Errorf("name %q, want %q", got, want)
	}
}

func TestScriptNamesNoRegistry(t *testing.T) {
	if text := string(script); strings.Contains(text, "://") {
		t.Error("build.sh names a host: packages come from where this machine's apt gets them")
	}
}

func TestProgressIsLoggedByLineAndItsEndIsKept(t *testing.T) {
	var text strings.Builder
	l := &lines{log: slog.New(slog.NewTextHandler(&text, nil))}
	for range keptLines + 5 {
		_, _ = l.Write([]byte("half a "))
		_, _ = l.Write([]byte("line\nand an"))
		_, _ = l.Write([]byte("other\n"))
	}
	if got := strings.Count(text.String(), `msg="half a line"`); got != keptLines+5 {
		t.Errorf("logged %d times: %s", got, text.String())
	}
	if got := strings.Split(l.last(), "\n"); len(got) != keptLines || got[keptLines-1] != "and another" {
		t.Errorf("kept %q", got)
	}
}
