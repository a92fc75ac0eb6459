// Package cloudinit writes the user data that makes a cache node of a cloud's plain image.
//
// It owns what is on the machine besides the image: users, units (package systemd), the node's configuration, and two
// scripts. setup.sh runs at every boot before the node and puts data disk, program and secrets in place; cloud.py
// speaks to the cloud for it, with the machine's identity. It refuses a Machine that could not work, naming
// everything wrong at once, and one with a secret in it: user data can be read by whoever may look at the machine.
// Creating what a Machine names is the infrastructure's business.
//
// The data disk is mounted by the script and not by a unit of its own. A disk may be attached minutes after the boot,
// and two disks with one label may be attached while somebody restores a snapshot: the script waits for the very
// device that the infrastructure named, and its failure keeps the node from starting. Below the mount point the
// directory is root's, so that a node without its disk has nowhere to write.
package cloudinit
