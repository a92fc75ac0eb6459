package azurecloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// named finds what a test means: by Pulumi's name, its own or the end of it, or its id; c.mu is held.
func (c *Cloud) named(kind, name string) *item {
	for _, it := range c.all(kind) {
		if !it.gone && (it.pulumi == name || strings.EqualFold(it.name, name) || strings.EqualFold(it.id, name)) {
			return it
		}
	}
	return nil
}

// DeleteVM takes a machine away behind Pulumi's back; the guest may shut down, as Azure lets it. name is Pulumi's, or the
// VM's own.
func (c *Cloud) DeleteVM(ctx context.Context, name string) error {
	c.mu.Lock()
	it := c.named(kindVM, name)
	c.mu.Unlock()
	if it == nil {
		return fmt.Errorf("there is no VM %q", name)
	}
	return c.erase(ctx, c.books[kindVM], it.id)
}

// MachineIDs are the machines below by the names of the VMs.
func (c *Cloud) MachineIDs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]string{}
	for _, it := range c.all(kindVM) {
		if m := it.extra.(*machine); m.up && !it.gone {
			ids[it.name] = m.name
		}
	}
	return ids
}

// DiskIDs are the disks below by the names of the disks.
func (c *Cloud) DiskIDs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]string{}
	for _, it := range c.all(kindDisk) {
		if d := it.extra.(disk); d.name != "" {
			ids[it.name] = d.name
		}
	}
	return ids
}

// Leftovers is everything that still exists, by kind and id, sorted. Deleted vaults in their retention cost nothing and
// are not in it: DeletedVaults has them.
func (c *Cloud) Leftovers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []string
	for _, it := range c.items {
		left = append(left, it.kind+" "+it.id)
	}
	slices.Sort(left)
	return left
}

// DeletedVaults are the names that deleted vaults keep taken, sorted.
func (c *Cloud) DeletedVaults() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, d := range c.deletedVaults {
		if c.now().Before(d.ends) {
			names = append(names, d.vault.name)
		}
	}
	slices.Sort(names)
	return names
}

// NetworkIDs are the networks below by the names of the virtual networks.
func (c *Cloud) NetworkIDs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]string{}
	for _, it := range c.all(kindVNet) {
		ids[it.name] = it.extra.(vnet).network
	}
	return ids
}
