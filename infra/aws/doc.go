// Package aws translates a plan into virtual machines in AWS: a component with a network and its firewall, a bucket for the node
// program, two secrets, a role that may read both, and for each node a disk and an instance, made one after the other by
// package rollout.
//
// It owns what AWS calls things, how they hang together and which changes replace an instance. It refuses, before any resource
// is registered, what AWS would refuse after minutes. It decides neither names of nodes nor addresses, ports or rules, which are
// package plan's, nor what a VM does when it boots, which is package cloudinit's.
//
// Two facts shape it. Pulumi deletes an instance before it makes the next, because the address is fixed, and along with it
// whatever holds its id; and a thing that is itself deleted first takes along every instance made from its outputs, all at
// once. So the inputs of an instance hold ids of what is never replaced, and names that were known before. And
// AWS brings out a new image every week: the one that a cluster began with is remembered in the stack's state, and a newer one
// replaces nothing.
package aws
