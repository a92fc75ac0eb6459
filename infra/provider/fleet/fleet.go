// Package fleet asks the nodes of a cluster of VMs how they are, and has one hand its data over.
//
// It owns what "well" means when one VM is about to change: every other member of the cluster is alive and serves its share. It
// talks to nodes over HTTP alone, directly or through a proxy, and knows no cloud. It changes nothing except by Drain.
package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Fleet is the cluster as it is meant to be.
type Fleet struct {
	// Nodes has the base URL of each node's HTTP interface by the node's name.
	Nodes map[string]string
	// Founders is how many nodes must have met before the cluster is founded.
	Founders int
	// Proxy is a socks5, http or https URL on the way to the nodes. Empty: none.
	Proxy string
	// Off looks at nothing: every question is answered as if all were well, and Drain refuses.
	Off bool
	// Say tells the user what is waited for; nil tells nobody.
	Say func(format string, args ...any)
}

const (
	// askTimeout bounds one question to a node, pollEvery is the rhythm of repeating it, sayEvery that of telling the user.
	askTimeout = 5 * time.Second
	pollEvery  = 500 * time.Millisecond
	sayEvery   = 20 * time.Second
	// deadAfter is how long a node that shall hand its data over may be silent.
	deadAfter = 30 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 4 << 20
)

// member is what /api/cluster/members tells of a node, as far as it matters here.
type member struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	State  string `json:"state"`
}

// part tells whether the node holds data, or is about to.
func (m member) part() bool { return m.State == "up" || m.State == "draining" }

// health is what /health tells of a node, as far as it matters here.
type health struct {
	Node        string `json:"node"`
	ClusterSize int    `json:"cluster_size"`
}

// NodeReady waits until the node at base says that it is name and serves its share. Where that cannot be yet, because the cluster
// is not founded or has no majority before further nodes are there, it waits only until the node is alive. Once it serves, it also waits until all others do. limit bounds each wait.
func (f Fleet) NodeReady(ctx context.Context, name, base string, limit time.Duration) error {
	if f.Off {
		return nil
	}
	err := f.poll(ctx, limit, func(ctx context.Context) error { return f.settled(ctx, name, base) })
	if err == nil && f.get(ctx, base+"/ready", nil) == nil {
		return f.OthersReady(ctx, name, limit) // taking it in may have cost another one its rest
	}
	if err != nil {
		return fmt.Errorf("%s was not ready within %v: %w; look at the VM's log: `cloud-init status --long`, "+
			"`journalctl -u hypercache-setup -u hypercache`. If %s cannot be reached from here at all, see healthGate and "+
			"healthGateProxy", name, limit, err, base)
	}
	return nil
}

func (f Fleet) settled(ctx context.Context, name, base string) error {
	h, err := f.alive(ctx, name, base)
	if err != nil {
		return err
	}
	notReady := f.get(ctx, base+"/ready", nil)
	if notReady == nil || f.waits(ctx, name, h) {
		return nil
	}
	return notReady
}

// waits tells whether a node that is alive has to wait for others that are not: for all founders, or for a majority.
func (f Fleet) waits(ctx context.Context, name string, h health) bool {
	living, size := 1, h.ClusterSize
	for other, base := range f.Nodes {
		if other == name {
			continue
		}
		if h, err := f.alive(ctx, other, base); err == nil {
			living++
			size = max(size, h.ClusterSize)
		}
	}
	if size == 0 {
		return living < f.Founders
	}
	return living < size/2+1
}

// alive asks who answers at base; somebody else there is an error.
func (f Fleet) alive(ctx context.Context, name, base string) (health, error) {
	var h health
	if err := f.get(ctx, base+"/health", &h); err != nil {
		return h, err
	}
	if h.Node != name {
		return h, fmt.Errorf("%s is %q, not %q", base, h.Node, name)
	}
	return h, nil
}

func (f Fleet) ready(ctx context.Context, name, base string) error {
	if _, err := f.alive(ctx, name, base); err != nil {
		return err
	}
	return f.get(ctx, base+"/ready", nil)
}

// OthersReady waits until all nodes but name are well: alive in the eyes of the cluster and ready. A node of the fleet that is no
// member yet has nothing to lose and does not count. The node itself may be sick: changing it may be the cure.
func (f Fleet) OthersReady(ctx context.Context, name string, limit time.Duration) error {
	others := maps.Clone(f.Nodes)
	delete(others, name)
	if f.Off || len(others) == 0 {
		return nil
	}
	err := f.poll(ctx, limit, func(ctx context.Context) error { return f.othersReady(ctx, name, others) })
	if err != nil {
		return fmt.Errorf("the nodes other than %s were not well within %v: %w", name, limit, err)
	}
	return nil
}

func (f Fleet) othersReady(ctx context.Context, name string, others map[string]string) error {
	members, err := f.members(ctx, others)
	if err != nil {
		return err
	}
	var sick []error
	for _, m := range members {
		if m.ID == name || !m.part() {
			continue
		}
		if m.Status != "alive" {
			sick = append(sick, fmt.Errorf("%s is %s", m.ID, m.Status))
			continue
		}
		if base, ok := others[m.ID]; ok {
			if err := f.ready(ctx, m.ID, base); err != nil {
				sick = append(sick, err)
			}
		}
	}
	return errors.Join(sick...)
}

// members asks the nodes one after another for the list until one answers.
func (f Fleet) members(ctx context.Context, nodes map[string]string) ([]member, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		var answer struct {
			Members []member `json:"members"`
		}
		err := f.get(ctx, nodes[name]+"/api/cluster/members", &answer)
		if err == nil {
			return answer.Members, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no node tells who is in the cluster: %w", errors.Join(errs...))
}

// Drain has the node at base, which is not in the fleet any more, hand its data over and leave; it returns when the node holds
// nothing. It does nothing when nobody else is there, or the node is no member any more.
func (f Fleet) Drain(ctx context.Context, name, base, secret string, limit time.Duration) error {
	if len(f.Nodes) == 0 {
		return nil
	}
	if f.Off {
		return fmt.Errorf("%s still may hold data, and with healthGate off nobody here can ask: run `hypercache drain` on it", name)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f.say("%s hands its data over", name)
	var silent time.Time
	for {
		err := f.drain(ctx, base, secret)
		if err == nil {
			return nil
		}
		var refused *refusal
		if errors.As(err, &refused) {
			return fmt.Errorf("%s refuses to hand its data over: %w", name, err)
		}
		if members, merr := f.members(ctx, f.Nodes); merr == nil && !slices.ContainsFunc(members, func(m member) bool { return m.ID == name && m.part() }) {
			return nil
		}
		if silent.IsZero() {
			silent = time.Now()
		}
		if time.Since(silent) > deadAfter || wait(ctx) != nil {
			return fmt.Errorf("%s does not hand its data over: %w", name, err)
		}
	}
}

// refusal is an answer of a node that repeating does not change.
type refusal struct{ error }

func (f Fleet) drain(ctx context.Context, base, secret string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/admin/drain", nil)
	if err != nil {
		return &refusal{err}
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	client, err := f.client(0) // ctx bounds it: it takes as long as copying the data
	if err != nil {
		return &refusal{err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask it to: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read or given up
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode < http.StatusInternalServerError:
		return &refusal{fmt.Errorf("it answers %d %s", resp.StatusCode, bytes.TrimSpace(body))}
	}
	return fmt.Errorf("it answers %d %s", resp.StatusCode, bytes.TrimSpace(body))
}

// get asks a node and decodes its answer into v unless that is nil. An answer other than 200 is an error.
func (f Fleet) get(ctx context.Context, address string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	client, err := f.client(askTimeout)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for the state: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d %s", address, resp.StatusCode, bytes.TrimSpace(body[:min(len(body), 300)]))
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("the answer of %s is not a node's: %w", address, err)
	}
	return nil
}

// client has no connections that outlive a question: between two, the VM may have been replaced by another.
func (f Fleet) client(limit time.Duration) (*http.Client, error) {
	t := &http.Transport{DisableKeepAlives: true}
	if f.Proxy != "" {
		proxy, err := url.Parse(f.Proxy)
		if err != nil {
			return nil, fmt.Errorf("healthGateProxy: %w", err)
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{Transport: t, Timeout: limit}, nil
}

// poll calls try until it succeeds, at most for limit; its error is try's last one.
func (f Fleet) poll(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	told := time.Now()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // what the deadline itself broke off says nothing
		}
		if time.Since(told) > sayEvery {
			told = time.Now()
			f.say("waiting: %v", err)
		}
		if wait(ctx) != nil {
			return last
		}
	}
}

func wait(ctx context.Context) error {
	timer := time.NewTimer(pollEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f Fleet) say(format string, args ...any) {
	if f.Say != nil {
		f.Say(format, args...)
	}
}
