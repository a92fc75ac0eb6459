// Package recovery makes a topology anew for a cluster that has lost it: when a majority of the Raft voters is gone for
// good, or Raft's files of every node, while the journals are left.
//
// It owns the three steps and the files between them: Inspect reads one stopped node, NewPlan decides from what all of
// them have, Apply writes what was decided. NewPlan is pure: it sees inspections only, and two people who have the same
// ones get the same decisions. It refuses to guess: inspections that contradict each other are named, and what may be
// lost is told group by group and has to be accepted.
//
// It leaves to others the formats on disk (journal, topology) and the election of primaries, which the cluster holds by its
// usual rules when it starts: the plan names replicas, not primaries. docs/decisions/0013 argues why that is safe.
package recovery
