package replica

// How old what a replica shows may be, told without comparing clocks of different nodes. A replica that serves reads asks
// its primary, with a stamp of its own clock. The primary confirms that it still is one by a round that begins after the
// question came, and tells what was committed then. Once the replica has committed that much, its content is not older
// than the stamp: all that was acknowledged anywhere before the question was sent is in it. DESIGN.md has the argument.

// maxMarks bounds the answers that a replica has not caught up with. More than one lets a replica that is steadily
// behind by more than the time between two questions still know by how much.
const maxMarks = 4

// maxAskers bounds the questions that wait for a round.
const maxAskers = 16

// mark says: with everything up to seq committed, the content is as new as stamp.
type mark struct{ stamp, seq uint64 }

// asker is a replica that waits to be told.
type asker struct {
	peer         string
	stamp, round uint64
	seq          uint64
}

// freshness is what a State knows of how old its content is.
type freshness struct {
	whole  uint64 // the content as it was taken over is committed when this record is; unreadable: never
	stamp  uint64 // 0: not known
	marks  [maxMarks]mark
	n      int
	askers []asker // as primary
}

// unreadable is the whole of a log whose content is being replaced.
const unreadable = ^uint64(0)

// onAsked confirms that this is the primary, and then tells. With Sure the driver vouches for it. Everything acknowledged
// by now, here or by an older primary, is committed here once the first record of the term is.
func (s *State) onAsked(ev *Event, acts []Action) []Action {
	if s.role != Primary || !s.serving || s.peer(ev.From) == nil {
		return acts
	}
	a := asker{peer: ev.From, stamp: ev.Stamp, seq: max(s.commit, ev.Last), round: s.round + 1}
	if ev.Sure || s.rules.TellUnconfirmed {
		return append(acts, a.told())
	}
	f := &s.fresh
	if len(f.askers) == maxAskers {
		f.askers = append(f.askers[:0], f.askers[1:]...) // whatever round it waits for was lost
	}
	f.askers = append(f.askers, a)
	return s.confirm(acts)
}

func (a *asker) told() Action { return Action{Kind: SendTold, To: a.peer, Stamp: a.stamp, Seq: a.seq} }

// tell answers those who waited for the rounds that are confirmed now.
func (s *State) tell(acts []Action) []Action {
	f := &s.fresh
	kept := f.askers[:0]
	for _, a := range f.askers {
		if a.round <= s.confirmed {
			acts = append(acts, a.told())
		} else {
			kept = append(kept, a)
		}
	}
	f.askers = kept
	return acts
}

// onTold keeps a primary's answer. What it says stays true whoever is primary when it arrives.
func (s *State) onTold(ev *Event) {
	f := &s.fresh
	s.settleMarks()
	if s.rules.FreshUnapplied {
		f.stamp = max(f.stamp, ev.Stamp)
		return
	}
	if ev.Stamp <= f.stamp || f.n > 0 && ev.Stamp <= f.marks[f.n-1].stamp {
		return
	}
	if f.n < maxMarks {
		f.n++ // else the newest gives way: the oldest is the next to be reached
	}
	f.marks[f.n-1] = mark{ev.Stamp, ev.Seq}
	s.settleMarks()
}

func (s *State) settleMarks() {
	f := &s.fresh
	for f.n > 0 && f.marks[0].seq <= s.commit {
		f.stamp = max(f.stamp, f.marks[0].stamp)
		copy(f.marks[:], f.marks[1:f.n])
		f.n--
	}
}

// FreshAt returns the stamp that the content is at least as new as, in committed data; 0 if that is not known. It holds
// for reads of what Readable allows.
func (s *State) FreshAt() uint64 {
	s.settleMarks()
	return s.fresh.stamp
}

// Readable says whether the effects of records up to seq, and of all that the content was taken over with, are committed.
// The driver passes the newest record that a read may have seen.
func (s *State) Readable(seq uint64) bool {
	return !s.installing && s.fresh.whole <= s.commit && seq <= s.commit
}
