// Package member is the soft plane of the cluster: who is there, by gossip.
//
// It owns Serf: discovery through seeds, failure suspicion, the tags that carry
// a node's ports and zone, key rotation, round-trip estimates, and the RPC that
// the stock serf command speaks. It is the only importer of serf and memberlist.
//
// It never says who owns data. Whoever reaches the gossip port with the key can
// claim to be a member, and two sides of a cut network see two memberships; the
// committed topology decides ownership, and the peer handshake decides trust.
package member
