package awscloud

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hypercache/infra/cloudtest/cloud"
)

// named finds what a test means: by Pulumi's name, or by the Name tag; c.mu is held.
func (c *Cloud) named(kind, name string) *item {
	return c.find(kind, func(it *item) bool {
		m, isMachine := it.extra.(*machine)
		return (it.name == name || it.tag("Name") == name || it.id == name) && (!isMachine || !m.terminated)
	})
}

// TerminateInstance takes an instance away behind Pulumi's back; as AWS does, it lets the guest shut down. name is Pulumi's or the Name tag.
func (c *Cloud) TerminateInstance(ctx context.Context, name string) error {
	c.mu.Lock()
	it := c.named("instance", name)
	c.mu.Unlock()
	if it == nil {
		return fmt.Errorf("there is no instance %q", name)
	}
	if err := c.compute.DeleteMachine(ctx, it.id); err != nil {
		return fmt.Errorf("remove %s: %w", it.id, err)
	}
	c.mu.Lock()
	c.terminated(it)
	c.mu.Unlock()
	return c.setFilters(ctx)
}

// InstanceIDs are the running instances by their Name tag, or by Pulumi's name where they have none. The ID is the
// machine's in the layer below, too.
func (c *Cloud) InstanceIDs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]string{}
	for _, it := range c.all("instance") {
		if it.extra.(*machine).terminated {
			continue
		}
		name := it.tag("Name")
		if name == "" {
			name = it.name
		}
		ids[name] = it.id
	}
	return ids
}

// RevokeRule takes a single security group rule away behind Pulumi's back.
func (c *Cloud) RevokeRule(ctx context.Context, name string) error {
	c.mu.Lock()
	rule := c.named("ingress", name)
	if rule == nil {
		rule = c.named("egress", name)
	}
	if rule != nil {
		delete(c.items, key{rule.kind, rule.id})
	}
	c.mu.Unlock()
	if rule == nil {
		return fmt.Errorf("there is no security group rule %q", name)
	}
	return c.setFilters(ctx)
}

// Leftovers is everything that still exists and that a bill or the next attempt would notice, in order of creation.
// What AWS makes by itself and deletes by itself counts only if what it belongs to is gone.
func (c *Cloud) Leftovers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var items []*item
	for _, it := range c.items {
		if m, ok := it.extra.(*machine); ok && m.terminated {
			continue
		}
		if it.isImplicit() && c.items[key{"vpc", it.str("vpcId")}] != nil {
			continue
		}
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b *item) int { return a.seq - b.seq })
	var left []string
	for _, it := range items {
		left = append(left, fmt.Sprintf("%s %s (%s)", it.kind, it.id, it.name))
	}
	for name, end := range c.deletedSecrets {
		if c.now().Before(end) {
			left = append(left, fmt.Sprintf("secret %s in %s, scheduled for deletion at %s", name[1], name[0],
				end.UTC().Format(time.RFC3339)))
		}
	}
	return left
}

// Metrics are the values that machines published so far.
func (c *Cloud) Metrics() []Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.metrics)
}

// Reaches says what stands between an instance and a service, such as "s3" or "secretsmanager"; empty if nothing
// does.
func (c *Cloud) Reaches(instance, service string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.named("instance", instance)
	if it == nil {
		return fmt.Sprintf("there is no instance %q", instance)
	}
	for _, s := range called() {
		if s.name == service {
			_, obstacle := c.reach(it, s)
			return obstacle
		}
	}
	return fmt.Sprintf("there is no service %q", service)
}

// Tags are an item's, by kind-independent ID or name; nil if it is not there.
func (c *Cloud) Tags(id string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range c.items {
		if it.id == id || it.name == id {
			return cloud.StrMap(it.out, "tagsAll")
		}
	}
	return nil
}
