package topology

// Voters are the ids of Raft's voters as this node knows them: those of whom a majority decides.
func (t *Topology) Voters() []string {
	servers, _ := t.servers()
	var ids []string
	for id, s := range servers {
		if s.voter {
			ids = append(ids, id)
		}
	}
	return ids
}
