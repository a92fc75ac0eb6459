// Package provider is the local cloud: the Pulumi resources that make nodes of this machine's processes.
//
//   - hypercache:index:Site is the ground of a cluster: its directory, and the secrets that its nodes share.
//   - hypercache:index:Node is one node, a process with its data.
//   - hypercache:index:Roster is the list of nodes that are meant to be there. It comes after all nodes and goes before them.
//
// It owns the mapping of Pulumi's create, read, diff, update and delete to package machine, which does the work and knows
// the rules. The program decides the rest: names, ports and configuration come in as inputs.
//
// # How a node knows whether it leaves a cluster or the cluster leaves
//
// Pulumi deletes a node in the same way for both, but only in the first case must it hand its data over; in the second that
// would be slow and in the end impossible. The Roster tells: it depends on every node, so when everything is destroyed it
// is deleted first, and nodes that are deleted without a roster just stop. When the node count shrinks, the roster is
// updated before the surplus nodes are deleted, and those hand over to the ones on it.
//
// # A dead node
//
// Read reports a process that is gone, or does not serve, as the output status. `pulumi refresh` shows that change, and the
// next `pulumi up` finds a node that is not running and starts it again, with its data. The node is not reported as
// gone: its place in the cluster and its data are still there, and a later delete must still hand them over.
package provider
