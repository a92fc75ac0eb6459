package fabric

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// pollEvery is the rhythm of every wait in this package.
const pollEvery = 20 * time.Millisecond

// run runs a program and returns what it wrote to its standard output. An error tells everything that it wrote.
func run(ctx context.Context, argv ...string) (string, error) { return feed(ctx, "", argv...) }

// feed is run with something on the program's standard input.
func feed(ctx context.Context, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = 5 * time.Second
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	said := strings.TrimSpace(stdout.String() + stderr.String())
	return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
}

// await calls try until it is content, at most for limit; its error is try's last one. What try calls final ends the wait.
func await(ctx context.Context, limit time.Duration, try func() (final bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		final, err := try()
		if err == nil || final {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait %v: %w", limit, err)
		}
	}
}
