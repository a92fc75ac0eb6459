// Package image owns the Docker image that a lab boots as a VM: build.sh makes it of Debian 12 packages, once for every version
// of that script. It leaves booting to package fabric.
package image

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

//go:embed build.sh
var script []byte

// Build makes the image unless it is there, and returns its name. The first time takes a minute or two and needs root and
// Docker, and apt's archive within reach; two builds at once wait for each other. Progress goes to log.
func Build(ctx context.Context, log *slog.Logger) (string, error) {
	dir, err := os.MkdirTemp("", "hypercache-vm-image-")
	if err != nil {
		return "", fmt.Errorf("build vm image: %w", err)
	}
	name, err := build(ctx, filepath.Join(dir, "build.sh"), log)
	return name, errors.Join(err, os.RemoveAll(dir))
}

func build(ctx context.Context, path string, log *slog.Logger) (string, error) {
	if err := os.WriteFile(path, script, 0o700); err != nil {
		return "", fmt.Errorf("build vm image: %w", err)
	}
	cmd := exec.CommandContext(ctx, path)
	// The script removes what it made when it is asked to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var stdout bytes.Buffer
	said := &lines{log: log}
	cmd.Stdout, cmd.Stderr = &stdout, said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build vm image: %w: %s", err, said.last())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// lines logs each line that is written to it, and keeps the last few for an error.
type lines struct {
	log *slog.Logger

	mu      sync.Mutex
	partial []byte
	kept    []string
}

var _ io.Writer = (*lines)(nil)

const keptLines = 20

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.log.Info(string(line))
		l.kept = append(l.kept, string(line))
		l.kept = l.kept[max(0, len(l.kept)-keptLines):]
		l.partial = rest
	}
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.kept, "\n")
}
