// Package azure translates a plan into virtual machines in Azure: a component with a resource group, a network and its firewall,
// a store for the node program, a vault for the secrets, and for each node a disk, a network interface and a VM, made one after
// the other by package rollout.
//
// It owns what Azure calls things, how they hang together and which changes replace a VM. It refuses, before any resource is
// registered, what Azure would refuse after minutes. It decides neither names of nodes nor addresses, ports or rules, which are
// package plan's, nor what a VM does when it boots, which is package cloudinit's.
//
// Two facts of Azure shape it. Azure replaces no VM by itself when its image, user data or keys change but answers that they
// cannot, so the program says which properties replace it. And whatever a VM's inputs are made from is deleted after the VM
// when it is replaced: so a VM's inputs hold only what never changes (ids, and names made from a random suffix), never
// an output of another node or of the uploaded program.
package azure
