// Package machine runs cache nodes as processes of this machine, the way a cloud runs VMs.
//
// It owns a cluster's directory (Site), starting and stopping node processes in it, the health gate around both, and
// handing data over before a node leaves for good. It knows nothing of Pulumi: package provider maps resources to it.
// It leaves to the node what ready means; a node is ready when its /ready answers 200.
//
// # Who must be ready when
//
// A node that starts is waited for until it is ready, with two exceptions that would wait for ever. The first nodes of a new
// cluster form it together: until as many as bootstrap_expect are there, a started node only has to be alive. And when most
// nodes are down, as after a reboot, the first ones that come back cannot be ready before a majority is: until then they
// only have to be alive as well. The node that completes the number waits for all of them.
//
// A node that is running is only stopped for an update while every other node is ready. So a sick node stops a roll, and the
// next attempt asks again.
//
// # Leaving
//
// Removing a node while the cluster stands (there is a roster) first moves its data to the others with the node's own drain
// command; a dead one is started once more for it. If that fails, the node stays. When the whole cluster goes, the roster goes first, and nodes
// are only stopped.
package machine
