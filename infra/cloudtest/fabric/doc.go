// Package fabric makes machines, networks and disks on this Linux machine, with no idea of AWS or Azure: the bottom of the cloud
// emulator, driven by the clouds above it.
//
// A machine is a Docker container with real systemd as PID 1 and real cloud-init, in a network namespace of its own that
// outlives it: address, packet filter and name service are there before it is switched on and stay when it is off. A network
// is a namespace that routes between one bridge per subnet and has no way out: neither this machine's network nor another
// lab's can be reached from it. A disk is a sparse file behind a loop device. In each machine's namespace the lab listens
// itself: a name server, the metadata service, and HTTPS for the cloud's services under certificates of the lab's own authority.
//
//	network namespace            machine's namespace
//	  bridge 10.0.1.1  --- veth --- eth0 10.0.1.4   nftables: the machine's Filter
//	  bridge 10.0.2.1               lo   169.254.169.254 metadata, Resolver, ServiceAddress
//	  ip_forward                    init, journald, cloud-init, ... (the container)
//
// Everything is named after its lab, so that labs do not meet; Close removes everything by its own id, and Open removes what a
// killed run of the same name left. It needs root, Docker, iproute2, nftables and util-linux.
//
// It refuses IPv6, and identifiers that could not be a part of the names of namespaces and containers. Left to others: the
// meaning of rules, images, zones, identities; load balancers (a Host can be one); network address translation; speed and loss.
//
// What differs from a real VM: the kernel is this machine's (no sysctl, no modules, no swap, and its layout of cgroups). There is
// no udev: the lab makes a disk's links, by-label and by-uuid included, and the image has a generator that does for a line of
// fstab what systemd refuses to do in a container, waiting for the device included; a .mount unit of the guest's own does not
// wait. A power loss does not lose what was written, since the page cache survives. The filter and the guest's own nftables
// share a namespace, so a guest must not flush the rule set, and nothing in the guest can bind port 53, 80 or 443 on every
// address, where the lab listens. Raising a hard limit, and growing an ext4 that is mounted, need CAP_SYS_RESOURCE, which a
// machine has only where this process has it.
package fabric
