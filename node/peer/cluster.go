package peer

// SetCluster says which cluster this node belongs to from now on. Nodes of different clusters refuse each other's
// connections, of every class: whoever belongs to none yet talks to both until it is taken into one. Streams that stand
// to nodes of other clusters are closed.
func (n *Net) SetCluster(id string) {
	tag := tagOf(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cluster.Store(&tag)
	for s := range n.inbound {
		if tag.foreign(s.Peer.cluster) {
			s.Close()
		}
	}
	for _, l := range n.links {
		for class := range l.streams {
			if s := l.streams[class].Load(); s != nil && tag.foreign(s.Peer.cluster) {
				s.Close()
			}
		}
	}
}

// self is what this node says about itself now.
func (n *Net) self() Identity {
	id := n.opt.Self
	id.cluster = *n.cluster.Load()
	return id
}
