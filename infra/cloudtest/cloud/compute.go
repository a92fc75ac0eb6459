package cloud

import (
	"context"
	"net/netip"

	"hypercache/infra/cloudtest/fabric"
)

// Compute is what the clouds need of the layer below: machines, disks, networks and packet filters. *fabric.Lab is
// the true one, Memory one that only keeps the books. Every method waits until the thing is done or ctx ends; all may
// be called at once.
type Compute interface {
	CreateNetwork(ctx context.Context, id string, cidr netip.Prefix) error
	DeleteNetwork(ctx context.Context, id string) error
	CreateSubnet(ctx context.Context, network, id string, cidr netip.Prefix) error
	DeleteSubnet(ctx context.Context, network, id string) error

	CreateDisk(ctx context.Context, id string, gib int) error
	GrowDisk(ctx context.Context, id string, gib int) error
	DeleteDisk(ctx context.Context, id string) error

	// CreateMachine boots a machine; the disks are there before it starts.
	CreateMachine(ctx context.Context, m fabric.Machine, disks ...Attachment) error
	// DeleteMachine shuts it down and removes it; its disks stay.
	DeleteMachine(ctx context.Context, id string) error
	StopMachine(ctx context.Context, id string) error
	StartMachine(ctx context.Context, id string) error
	RebootMachine(ctx context.Context, id string) error
	// KillMachine is power loss.
	KillMachine(ctx context.Context, id string) error
	Running(ctx context.Context, machine string) (bool, error)

	// AttachDisk makes the disk appear in a machine that may run, with links to the device such as udev would make.
	AttachDisk(ctx context.Context, machine, disk string, links []string) error
	DetachDisk(ctx context.Context, machine, disk string) error

	SetFilter(ctx context.Context, machine string, f fabric.Filter) error
}

// Attachment is a disk that a machine starts with.
type Attachment = fabric.Attachment

var _ Compute = (*fabric.Lab)(nil)
