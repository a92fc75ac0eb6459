package cloud

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"hypercache/infra/cloudtest/fabric"
)

// Memory is a Compute that only keeps the books, for tests of the clouds themselves. It refuses what the true one
// refuses: what exists twice, what is not there, what is still in use.
type Memory struct {
	// Boot, when set, is called with each machine as it starts, without any lock held; an error fails the start.
	Boot func(m fabric.Machine) error

	mu       sync.Mutex
	networks map[string]netip.Prefix
	subnets  map[string]memorySubnet
	disks    map[string]*memoryDisk
	machines map[string]*memoryMachine
}

type memorySubnet struct {
	network string
	cidr    netip.Prefix
}

type memoryDisk struct {
	gib     int
	machine string
	links   []string
}

type memoryMachine struct {
	fabric.Machine
	running bool
	boots   int
	filter  fabric.Filter
}

// NewMemory returns an empty one.
func NewMemory() *Memory {
	return &Memory{
		networks: map[string]netip.Prefix{}, subnets: map[string]memorySubnet{},
		disks: map[string]*memoryDisk{}, machines: map[string]*memoryMachine{},
	}
}

var _ Compute = (*Memory)(nil)

func exists[V any](m map[string]V, what, id string) error {
	if _, ok := m[id]; !ok {
		return fmt.Errorf("%s %s does not exist", what, id)
	}
	return nil
}

func absent[V any](m map[string]V, what, id string) error {
	if _, ok := m[id]; ok {
		return fmt.Errorf("%s %s exists already", what, id)
	}
	return nil
}

// CreateNetwork implements Compute.
func (m *Memory) CreateNetwork(_ context.Context, id string, cidr netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := absent(m.networks, "network", id); err != nil {
		return err
	}
	m.networks[id] = cidr
	return nil
}

// DeleteNetwork implements Compute.
func (m *Memory) DeleteNetwork(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, sub := range m.subnets {
		if sub.network == id {
			return fmt.Errorf("network %s still has subnet %s", id, s)
		}
	}
	err := exists(m.networks, "network", id)
	delete(m.networks, id)
	return err
}

// CreateSubnet implements Compute.
func (m *Memory) CreateSubnet(_ context.Context, network, id string, cidr netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.networks, "network", network); err != nil {
		return err
	}
	if err := absent(m.subnets, "subnet", id); err != nil {
		return err
	}
	m.subnets[id] = memorySubnet{network, cidr}
	return nil
}

// DeleteSubnet implements Compute.
func (m *Memory) DeleteSubnet(_ context.Context, _, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, vm := range m.machines {
		if vm.Subnet == id {
			return fmt.Errorf("subnet %s still has machine %s", id, name)
		}
	}
	err := exists(m.subnets, "subnet", id)
	delete(m.subnets, id)
	return err
}

// CreateDisk implements Compute.
func (m *Memory) CreateDisk(_ context.Context, id string, gib int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := absent(m.disks, "disk", id); err != nil {
		return err
	}
	m.disks[id] = &memoryDisk{gib: gib}
	return nil
}

// GrowDisk implements Compute.
func (m *Memory) GrowDisk(_ context.Context, id string, gib int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.disks, "disk", id); err != nil {
		return err
	}
	if m.disks[id].gib > gib {
		return fmt.Errorf("disk %s of %d GiB does not shrink to %d", id, m.disks[id].gib, gib)
	}
	m.disks[id].gib = gib
	return nil
}

// DeleteDisk implements Compute.
func (m *Memory) DeleteDisk(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.disks, "disk", id); err != nil {
		return err
	}
	if on := m.disks[id].machine; on != "" {
		return fmt.Errorf("disk %s is still attached to %s", id, on)
	}
	delete(m.disks, id)
	return nil
}

// CreateMachine implements Compute.
func (m *Memory) CreateMachine(ctx context.Context, vm fabric.Machine, disks ...Attachment) error {
	if err := m.place(vm); err != nil {
		return err
	}
	for _, d := range disks {
		if err := m.AttachDisk(ctx, vm.ID, d.Disk, d.Links); err != nil {
			_ = m.DeleteMachine(ctx, vm.ID)
			return err
		}
	}
	return m.StartMachine(ctx, vm.ID)
}

func (m *Memory) place(vm fabric.Machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := absent(m.machines, "machine", vm.ID); err != nil {
		return err
	}
	sub, ok := m.subnets[vm.Subnet]
	if !ok || sub.network != vm.Network {
		return fmt.Errorf("subnet %s does not exist in network %s", vm.Subnet, vm.Network)
	}
	if !sub.cidr.Contains(vm.Address) {
		return fmt.Errorf("address %s is not in subnet %s (%s)", vm.Address, vm.Subnet, sub.cidr)
	}
	for name, other := range m.machines {
		if other.Network == vm.Network && other.Address == vm.Address {
			return fmt.Errorf("address %s is taken by machine %s", vm.Address, name)
		}
	}
	m.machines[vm.ID] = &memoryMachine{Machine: vm}
	return nil
}

// DeleteMachine implements Compute.
func (m *Memory) DeleteMachine(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.machines, "machine", id); err != nil {
		return err
	}
	for _, d := range m.disks {
		if d.machine == id {
			d.machine, d.links = "", nil
		}
	}
	delete(m.machines, id)
	return nil
}

func (m *Memory) setRunning(id string, running bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.machines, "machine", id); err != nil {
		return err
	}
	m.machines[id].running = running
	if running {
		m.machines[id].boots++
	}
	return nil
}

// StopMachine implements Compute.
func (m *Memory) StopMachine(_ context.Context, id string) error { return m.setRunning(id, false) }

// KillMachine implements Compute.
func (m *Memory) KillMachine(_ context.Context, id string) error { return m.setRunning(id, false) }

// StartMachine implements Compute.
func (m *Memory) StartMachine(_ context.Context, id string) error {
	if err := m.setRunning(id, true); err != nil || m.Boot == nil {
		return err
	}
	vm, _ := m.Machine(id)
	return m.Boot(vm)
}

// RebootMachine implements Compute.
func (m *Memory) RebootMachine(ctx context.Context, id string) error { return m.StartMachine(ctx, id) }

// Running implements Compute.
func (m *Memory) Running(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.machines, "machine", id); err != nil {
		return false, err
	}
	return m.machines[id].running, nil
}

// AttachDisk implements Compute.
func (m *Memory) AttachDisk(_ context.Context, machine, disk string, links []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.disks, "disk", disk); err != nil {
		return err
	}
	if err := exists(m.machines, "machine", machine); err != nil {
		return err
	}
	if on := m.disks[disk].machine; on != "" {
		return fmt.Errorf("disk %s is attached to %s", disk, on)
	}
	m.disks[disk].machine, m.disks[disk].links = machine, slices.Clone(links)
	return nil
}

// DetachDisk implements Compute.
func (m *Memory) DetachDisk(_ context.Context, machine, disk string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.disks, "disk", disk); err != nil {
		return err
	}
	if m.disks[disk].machine != machine {
		return fmt.Errorf("disk %s is not attached to %s", disk, machine)
	}
	m.disks[disk].machine, m.disks[disk].links = "", nil
	return nil
}

// SetFilter implements Compute.
func (m *Memory) SetFilter(_ context.Context, machine string, f fabric.Filter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := exists(m.machines, "machine", machine); err != nil {
		return err
	}
	m.machines[machine].filter = f
	return nil
}

// Machine is what CreateMachine was given.
func (m *Memory) Machine(id string) (fabric.Machine, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	vm, ok := m.machines[id]
	if !ok {
		return fabric.Machine{}, false
	}
	return vm.Machine, true
}

// Boots is how often the machine was started.
func (m *Memory) Boots(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if vm, ok := m.machines[id]; ok {
		return vm.boots
	}
	return 0
}

// Filter is the machine's packet filter.
func (m *Memory) Filter(id string) fabric.Filter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if vm, ok := m.machines[id]; ok {
		return vm.filter
	}
	return fabric.Filter{}
}

// Links are where the disk shows in its machine; none if it is attached to no machine.
func (m *Memory) Links(disk string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.disks[disk]; ok {
		return slices.Clone(d.links)
	}
	return nil
}

// GiB is the disk's size; 0 if there is no such disk.
func (m *Memory) GiB(disk string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, ok := m.disks[disk]; ok {
		return d.gib
	}
	return 0
}

// Left is everything that still exists, sorted.
func (m *Memory) Left() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var left []string
	add := func(what string, ids []string) {
		for _, id := range ids {
			left = append(left, what+" "+id)
		}
	}
	add("network", slices.Collect(maps.Keys(m.networks)))
	add("subnet", slices.Collect(maps.Keys(m.subnets)))
	add("disk", slices.Collect(maps.Keys(m.disks)))
	add("machine", slices.Collect(maps.Keys(m.machines)))
	slices.SortFunc(left, strings.Compare)
	return left
}
