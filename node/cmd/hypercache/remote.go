package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"hypercache/node/config"
	"hypercache/node/httpapi"
)

const maxAnswerBytes = 16 << 20

// target is the node that members, status, drain and remove talk to.
type target struct {
	base    string // like "http://127.0.0.1:9080"
	client  *http.Client
	secret  []byte
	timeout time.Duration
}

// remoteFlags are what those commands share.
type remoteFlags struct {
	addr    string
	timeout time.Duration
	json    bool
	secret  string
	src     config.Sources
}

func (p *program) remoteFlags(f *flag.FlagSet, timeout time.Duration) *remoteFlags {
	r := &remoteFlags{src: config.Sources{Env: p.env, Search: p.search}}
	f.StringVar(&r.addr, "addr", "", "HTTP `address` of the node (default: the one in the configuration, on this machine)")
	f.DurationVar(&r.timeout, "timeout", timeout, "how long to wait for the answer")
	f.BoolVar(&r.json, "json", false, "print JSON")
	f.StringVar(&r.secret, "secret-file", "", "`file` with the cluster secret (default: the one in the configuration)")
	f.StringVar(&r.src.Path, "config", "", "configuration `file`")
	return r
}

// target finds the node: an explicit address needs no configuration.
func (r *remoteFlags) target() (*target, error) {
	t := &target{client: &http.Client{}, timeout: r.timeout}
	if r.addr != "" {
		t.base = strings.TrimSuffix(r.addr, "/")
		if !strings.Contains(t.base, "://") {
			t.base = "http://" + t.base
		}
		return t, t.readSecret(r.secret)
	}
	cfg, err := config.Load(r.src)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if cfg.Network.TLSEnabled {
		scheme = "https"
		if t.client.Transport, err = clientTLS(cfg.Network); err != nil {
			return nil, err
		}
	}
	t.base = scheme + "://" + net.JoinHostPort(dialable(cfg.Network.HTTPBindAddr), strconv.Itoa(cfg.Network.HTTPPort))
	if r.secret == "" && dialable(cfg.Network.HTTPBindAddr) != "127.0.0.1" {
		r.secret = cfg.Cluster.SecretFile
	}
	return t, t.readSecret(r.secret)
}

func (t *target) readSecret(file string) (err error) {
	t.secret, err = config.Cluster{SecretFile: file}.Secret()
	return err
}

// dialable is where a listener bound to addr can be reached from this machine.
func dialable(addr string) string {
	if ip, err := netip.ParseAddr(addr); err != nil || ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return addr
}

// clientTLS trusts the cluster's own authority, and expects the advertised name
// although the connection goes to this machine.
func clientTLS(n config.Network) (http.RoundTripper, error) {
	c, err := trust(n)
	if err != nil {
		return nil, err
	}
	return &http.Transport{TLSClientConfig: c}, nil
}

func trust(n config.Network) (*tls.Config, error) {
	c := &tls.Config{ServerName: n.AdvertiseAddr, MinVersion: tls.VersionTLS12}
	if n.CAFile != "" {
		pem, err := os.ReadFile(n.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read network.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("network.ca_file %s holds no certificate", n.CAFile)
		}
	}
	return c, nil
}

// call makes a request and returns the body; an answer other than 200 is an error
// with the node's own words.
func (t *target) call(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.base+path, nil)
	if err != nil {
		return nil, usagef("%s is not an address", t.base)
	}
	if len(t.secret) > 0 {
		req.Header.Set("Authorization", "Bearer "+string(t.secret))
	}
	resp, err := t.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s did not answer within %s", t.base, t.timeout)
		}
		return nil, fmt.Errorf("no node answers at %s: %w", t.base, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", t.base, err)
	}
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Error struct{ Message string }
		}
		if json.Unmarshal(body, &e) == nil && e.Error.Message != "" {
			return nil, fmt.Errorf("%s refuses: %s", t.base, e.Error.Message)
		}
		return nil, fmt.Errorf("%s answers %s; is it a HyperCache node?", t.base, resp.Status)
	}
	return body, nil
}

func (p *program) members(ctx context.Context, args []string) error {
	f := p.flags("members", "[flags]")
	r := p.remoteFlags(f, 5*time.Second)
	if err := parse(f, args, 0); err != nil {
		return err
	}
	t, err := r.target()
	if err != nil {
		return err
	}
	body, err := t.call(ctx, http.MethodGet, "/api/cluster/members")
	if err != nil {
		return err
	}
	if r.json {
		return p.printRaw(body)
	}
	var answer struct{ Members []httpapi.Member }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", t.base, err)
	}
	return p.printMembers(answer.Members)
}

func (p *program) status(ctx context.Context, args []string) error {
	f := p.flags("status", "[flags]")
	r := p.remoteFlags(f, 5*time.Second)
	if err := parse(f, args, 0); err != nil {
		return err
	}
	t, err := r.target()
	if err != nil {
		return err
	}
	body, err := t.call(ctx, http.MethodGet, "/api/status")
	if err != nil {
		return err
	}
	var st httpapi.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return fmt.Errorf("read the answer of %s: %w", t.base, err)
	}
	if r.json {
		err = p.printRaw(body)
	} else {
		err = p.printStatus(st)
	}
	if err == nil && !st.Ready {
		err = errNotReady
	}
	return err
}

func (p *program) drain(ctx context.Context, args []string) error {
	f := p.flags("drain", "[flags]")
	r := p.remoteFlags(f, 30*time.Minute)
	if err := parse(f, args, 0); err != nil {
		return err
	}
	return p.admin(ctx, r, "drain", "draining the node; this takes as long as copying its data",
		"drained: the node holds no data and has left the cluster; it can be stopped")
}

func (p *program) resetDefaultUser(ctx context.Context, args []string) error {
	f := p.flags("reset-default-user", "[flags]")
	r := p.remoteFlags(f, time.Minute)
	if err := parse(f, args, 0); err != nil {
		return err
	}
	return p.admin(ctx, r, "reset-default-user", "",
		"reset: the user default may do everything, with the passwords of auth.password_file; without that file it needs none")
}

func (p *program) remove(ctx context.Context, args []string) error {
	f := p.flags("remove", "NODE [flags]")
	r := p.remoteFlags(f, 30*time.Minute)
	node, err := oneArgument(f, args, "NODE")
	if err != nil {
		return err
	}
	return p.admin(ctx, r, "remove?node="+url.QueryEscape(node), "removing "+node+"; this takes as long as copying what it held",
		"removed: "+node+" is no member any more, and others hold what it held")
}

// admin asks a node for something of its administration, and says so before, if there is anything to say, and when it is done.
func (p *program) admin(ctx context.Context, r *remoteFlags, what, before, after string) error {
	t, err := r.target()
	if err != nil {
		return err
	}
	if before != "" && !r.json {
		_, _ = fmt.Fprintf(p.stderr, "%s: %s\n", t.base, before)
	}
	body, err := t.call(ctx, http.MethodPost, "/api/admin/"+what)
	if err != nil {
		return err
	}
	if r.json {
		return p.printRaw(body)
	}
	_, err = fmt.Fprintln(p.stdout, after)
	return err
}
