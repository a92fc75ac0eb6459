package peer

// taken tells that a node with this id answers already, as another process. The one that this node reached where
// membership says that it is, and that answers its heartbeats, is the one that counts: else a second process with the
// same id would keep a dead one up, or get what is meant for it. A process that is gone counts for SuspectAfter at most.
func (n *Net) taken(id Identity) bool {
	s := n.Stream(id.NodeID, Control)
	return s != nil && s.Peer.Incarnation != id.Incarnation && !n.Down(id.NodeID)
}

// closeTwins closes what other processes with the id of a node that was just reached have opened.
func (n *Net) closeTwins(id Identity) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.inbound {
		if s.Peer.NodeID == id.NodeID && s.Peer.Incarnation != id.Incarnation {
			s.Close()
		}
	}
}
