package fabric

import (
	"net/http"
	"net/netip"
)

// Machine is what a cloud decides about one VM before it boots. The zero value of optional fields is noted with each.
type Machine struct {
	// ID names the VM in every other call; letters, digits and '-', unique in the lab.
	ID string
	// Hostname is the guest's host name.
	Hostname string
	// Network and Subnet are where its one network interface is. Address is fixed, inside Subnet's range.
	Network, Subnet string
	Address         netip.Addr
	// UserData is exactly what the cloud was given, gzip or plain. Empty: the machine boots without any.
	UserData []byte
	// InstanceID is what cloud-init takes as the instance's identity: another one makes a first boot.
	InstanceID string
	// Resolver is where the guest finds its name server, a link-local address that lives in the guest's own
	// namespace: 169.254.169.253 on AWS, 168.63.129.16 on Azure.
	Resolver netip.Addr
	// Resolve answers the guest's questions for private names; no address is NXDOMAIN. Nil knows no name.
	Resolve func(name string) []netip.Addr
	// Metadata answers plain HTTP on 169.254.169.254:80. Nil refuses connections.
	Metadata http.Handler
	// Services answers HTTPS on port 443 for every name that IsService accepts; Request.Host tells which. The guest trusts
	// the lab's certificate authority. Nil refuses connections.
	Services  http.Handler
	IsService func(name string) bool
	// Filter is in force before the machine is switched on, as a cloud's is. Zero lets nothing in or out; SetFilter replaces it.
	Filter Filter
}

// Filter is a machine's packet filter: what no rule lets in or out is dropped; answers to what was let through pass.
type Filter struct{ Ingress, Egress []FilterRule }

// FilterRule lets packets of one kind through. FirstPort to LastPort are the destination's, both included; they mean nothing
// for "icmp" and "all".
type FilterRule struct {
	// Name is the cloud's own name of the rule; Counters reports by it.
	Name string
	// Protocol is "tcp", "udp", "icmp" or "all".
	Protocol            string
	FirstPort, LastPort int
	// Peers are the sources (ingress) or destinations (egress).
	Peers []netip.Prefix
	// Deny drops what matches instead. Rules count in order; the first that matches decides.
	Deny bool
}
