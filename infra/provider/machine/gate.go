package machine

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"time"

	"hypercache/infra/provider/ports"
)

// askTimeout bounds one question to a node.
const askTimeout = 2 * time.Second

// client asks nodes of this machine. Their certificates name hosts, not loopback, and a man in the middle of loopback would
// have better things to do: certificates are not checked.
var client = &http.Client{
	Timeout: askTimeout,
	Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	},
}

// ask GETs a path of a node and returns nil for 200, else what the node said.
func (r Record) ask(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.HTTP+path, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.Name, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w", r.Name, err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s with %d %s", r.Name, path, resp.StatusCode, bytes.TrimSpace(body))
	}
	return nil
}

func (r Record) ready(ctx context.Context) error { return r.ask(ctx, "/ready") }

// check is ready for a node that must also run. Waiting cannot heal a process that has ended.
func (r Record) check(ctx context.Context, path string) error {
	if !r.Process.Alive() {
		return fatal{fmt.Errorf("%s is not running", r.Name)}
	}
	return r.ask(ctx, path)
}

// othersReady waits until every other node is ready.
func (s Site) othersReady(ctx context.Context, spec Spec) error {
	others, err := s.others(spec.Name)
	if err != nil {
		return err
	}
	return allReady(ctx, others, spec.ReadyTimeout)
}

func allReady(ctx context.Context, records []Record, limit time.Duration) error {
	return poll(ctx, limit, func() error {
		var errs []error
		for _, r := range records {
			if err := r.check(ctx, "/ready"); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// settle waits until the cluster has taken a started node in, as far as that is possible yet; see the package's text.
func (s Site) settle(ctx context.Context, spec Spec, r Record) error {
	others, err := s.others(spec.Name)
	if err != nil {
		return err
	}
	known := len(others) + 1
	others = slices.DeleteFunc(others, func(o Record) bool { return !o.Process.Alive() })
	live := len(others) + 1
	forming, minority := known < spec.BootstrapExpect, live < known/2+1
	if forming || minority {
		err = poll(ctx, spec.ReadyTimeout, func() error { return r.check(ctx, "/health") })
	} else {
		err = allReady(ctx, append(others, r), spec.ReadyTimeout)
	}
	if err != nil {
		return fmt.Errorf("%s was not ready within %v: %w", spec.Name, spec.ReadyTimeout, err)
	}
	return nil
}

// Gather waits until exactly the nodes of names run and all of them are ready.
func (s Site) Gather(ctx context.Context, names []string, limit time.Duration) error {
	var records []Record
	for _, name := range names {
		r, err := s.record(name)
		if err != nil {
			return err
		}
		records = append(records, r)
	}
	if err := allReady(ctx, records, limit); err != nil {
		return fmt.Errorf("the cluster was not ready within %v: %w", limit, err)
	}
	return nil
}

// handOver moves a node's data to the nodes that stay, and returns the node's record as it is then. It does nothing when the
// whole cluster goes, or nobody else stays, or the node never ran. One that is dead is started once more for it: only so is
// its last copy of a key safe, if it has one.
func (s Site) handOver(ctx context.Context, spec Spec, r Record) (Record, error) {
	roster, err := s.Roster()
	if err != nil {
		return r, err
	}
	stayers, err := s.others(spec.Name)
	if err != nil {
		return r, err
	}
	stayers = slices.DeleteFunc(stayers, func(o Record) bool { return !slices.Contains(roster, o.Name) })
	if len(stayers) == 0 || r.Name == "" {
		return r, nil
	}
	patience := time.Duration(0) // poll tries once
	if !r.Process.Alive() {
		patience = spec.ReadyTimeout
		s.say("%s is not running; it is started once more to hand its data over", spec.Name)
		if err := ports.Check(spec.uses()); err != nil {
			return r, err
		}
		alive := func(r Record) error {
			return poll(ctx, spec.ReadyTimeout, func() error { return r.check(ctx, "/health") })
		}
		if r, err = s.launchAndWait(ctx, spec, r, alive); err != nil {
			return r, err
		}
	}
	s.say("%s hands its data over", spec.Name)
	// One that was just started may not have found the cluster yet. It need not catch up: what it lacks, others have.
	return r, poll(ctx, patience, func() error {
		if !r.Process.Alive() {
			return fatal{fmt.Errorf("%s ended before its data was handed over", spec.Name)}
		}
		return drain(ctx, spec.DrainTimeout, r.Binary, "--config="+s.configFile(spec.Name))
	})
}

// drain runs the node program's own drain command, which waits until the node holds nothing that others lack.
func drain(ctx context.Context, limit time.Duration, program string, args ...string) error {
	// The program gets the limit too, and a little longer to tell how far it came.
	ctx, cancel := context.WithTimeout(ctx, limit+killGrace)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"drain", "--timeout=" + limit.String()}, args...)...)
	cmd.Env = nodeEnv(os.Environ())
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("drain: %w; it said: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
