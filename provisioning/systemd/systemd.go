// Package systemd holds the units of a machine that is a cache node.
//
// It owns how the node is started, watched, confined and stopped: hypercache.service runs it,
// hypercache-setup.service makes the machine ready for it at every boot, and hypercache-disk.timer reports how full
// the data disk is. The units are whole files beside this one, the same on every machine; what differs between
// machines is in the environment files that they name. It refuses to know clouds. What the units run is package
// cloudinit's.
//
// A failed setup keeps the node from starting, and is tried again until it succeeds; then it starts the node. Setup
// is a unit of its own, not an ExecStartPre of the node, because a node that restarts should not ask the cloud for
// anything.
package systemd

import _ "embed" // unit files

//go:embed hypercache.service
var service string

//go:embed hypercache-setup.service
var setup string

//go:embed hypercache-disk.service
var disk string

//go:embed hypercache-disk.timer
var diskTimer string

// Service returns hypercache.service, the node.
func Service() string { return service }

// Setup returns hypercache-setup.service, which runs before the node at every boot.
func Setup() string { return setup }

// Disk returns hypercache-disk.service, which reports once how full the data disk is.
func Disk() string { return disk }

// DiskTimer returns hypercache-disk.timer, which starts hypercache-disk.service every 5 minutes.
func DiskTimer() string { return diskTimer }
