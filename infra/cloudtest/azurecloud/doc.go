// Package azurecloud stands in for Azure and Pulumi's `azure-native` provider: the resources that a cluster of VMs
// needs, with the rules of Azure Resource Manager for them, on machines and networks of package fabric (through
// cloud.Compute).
//
// It owns what Azure decides: which inputs the provider refuses while planning and which the service refuses later, in
// which words; which changes replace a resource, which are made in place and which of those Azure then refuses; what
// cannot be deleted because something uses it; which name stays taken after a deletion; what a machine may reach and
// who may reach it; what its instance metadata say; and whether the token found there opens a blob or a secret.
//
// # Where it is stricter than Azure
//
// Where Azure may choose, it chooses what hurts. An address that it assigns itself is the lowest that is free, which is
// where a program plans its nodes. An identity is not yet known to the directory when its first role is assigned, so
// the assignment must say what it is. A subnet without a NAT gateway, public address or service endpoint reaches
// nothing, and a service that cannot be reached answers at once with a closed connection instead of never.
//
// # How far its words go
//
// Error codes are Azure's where its documents or its users' reports tell them. For a few refusals they tell the rule and
// not the code, and the code is made up in their manner; nothing here should be read as saying how Azure spells them.
//
// # What it leaves out
//
// Forwarding of load balancers (their parts are checked and their addresses are taken, but no packet passes), source
// ports and application groups in security rules (refused as not emulated), more than one address range in a network,
// peerings, private endpoints, IPv6, scale sets that make VMs themselves, the names under internal.cloudapp.net, quotas
// other than those named in the code, and the money.
package azurecloud
