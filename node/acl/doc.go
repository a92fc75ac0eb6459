// Package acl says who may run which commands on which keys and channels: Redis 7's access control lists.
//
// Rights are what the rules of one user say, an immutable value: they are read from rules, written as rules (ACL LIST), and
// asked about a command (Check). Users is a node's table of them, which follows the cluster's: connections hold a *User and
// look at its rights for every command, so that a change counts from the next command on. Log keeps what was refused.
//
// Where users are kept and how a change reaches all nodes is the topology's business, what commands there are is package
// command's. Nobody here talks to a client.
package acl
