// Package local translates a plan into a cluster on this machine: a component with one child for the ground (site), one a
// node, and one for the list of all (roster), served by package provider.
//
// It owns the order: nodes depend on each other in a chain, so that they come, change and go one at a time, and the provider
// gates each step on the health of all. The chain is made of dependencies only, never of one node's outputs in another's
// inputs: Pulumi would replace the second along with the first. It refuses a configuration that a node would not start
// with before any resource is registered. Names, ports and addresses are decided by package plan.
package local
