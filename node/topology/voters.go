package topology

import "time"

// Stalled is how long the disk has taken so far for the write of Raft's log that is under way, 0 if none is.
func (t *Topology) Stalled() time.Duration { return t.raft.log.storing.Lasts() }

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
