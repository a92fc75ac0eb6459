// Package awscloud stands in for AWS and Pulumi's `aws` provider: the resources that a cluster of VMs needs, with
// AWS's rules for them, on machines and networks of package fabric (through cloud.Compute).
//
// It owns what AWS decides: which inputs the provider refuses while planning and which the service refuses later, in
// which words; which change of an input replaces a resource; what cannot be deleted because something uses it; what a
// machine may reach and who may reach it; what its instance metadata say; and whether the credentials found there
// open a secret or an object. Requests of machines to S3, Secrets Manager and CloudWatch carry true signatures, which
// are computed again here, and are held against the policies of the machine's role.
//
// # Where it is stricter than AWS
//
// Where AWS may choose, it chooses what hurts: an address that it assigns itself is the lowest that is free, which is
// where a program plans its nodes. A service that a subnet has no route to answers at once with a closed connection
// instead of never.
//
// # What it leaves out
//
// Network ACLs and IPv6 (the default ACL lets everything through), forwarding of load balancers (their rules are
// checked, their addresses are taken and resolve, but no packet passes), KMS keys, quotas other than those named in
// the code, and the money.
package awscloud
