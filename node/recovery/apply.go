package recovery

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"hypercache/node/config"
	"hypercache/node/journal"
	"hypercache/node/topology"
)

// Apply carries the plan out on the node that cfg describes, which must not run. It checks everything before the first
// change; it may be interrupted at any point and called again, and changes nothing once it was through. It returns the
// directory with the old topology, "" if the plan was applied already.
func Apply(cfg config.Config, p *Plan, log *slog.Logger) (aside string, err error) {
	in, err := Inspect(cfg)
	if err != nil {
		return "", err
	}
	todo, ok := p.Nodes[in.ID()]
	if !ok {
		return "", fmt.Errorf("node %s is not in the plan: inspect it and plan again, or give it an empty directory", in.ID())
	}
	switch cluster := p.Rebuilt.State.ClusterID; {
	case in.ClusterID == cluster && in.Interrupted == "":
		return "", nil
	case in.ClusterID != "" && in.ClusterID != p.From && p.From != "":
		return "", fmt.Errorf("the node belongs to cluster %s, the plan is for %s", in.ClusterID, p.From)
	case in.heads() != todo.Heads:
		return "", errors.New("the node's data have changed since it was inspected: inspect all nodes and plan again")
	}
	cfg.Server.NodeID = in.ID()
	if !cfg.Persistence.Enabled {
		return p.replace(&cfg)
	}
	j, err := openJournal(&cfg, log)
	if err != nil {
		return "", err
	}
	aside, err = p.apply(&cfg, j, todo)
	if err = errors.Join(err, j.Close(true)); err != nil {
		return aside, fmt.Errorf("not applied, call it again: %w", err)
	}
	return aside, nil
}

// openJournal locks the directory and recovers the journal as a start does. Nothing is made of the records.
func openJournal(cfg *config.Config, log *slog.Logger) (*journal.Journal, error) {
	policy, err := journal.ParsePolicy(cfg.Persistence.Fsync)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Options{Dir: cfg.Persistence.DataDir, Fsync: policy, Logger: log})
	if err != nil {
		return nil, err
	}
	if _, err := j.Replay(func(journal.Record) error { return nil }); err != nil {
		return nil, errors.Join(err, j.Close(false))
	}
	return j, nil
}

// apply fences first: once the promises are on the disk, nobody from before the recovery gets an acknowledgement of this
// node, whether the rest is done or not.
func (p *Plan) apply(cfg *config.Config, j *journal.Journal, todo NodePlan) (aside string, err error) {
	promises := map[uint16]uint64{}
	for i := range p.Rebuilt.State.Groups {
		if t := p.Rebuilt.State.Groups[i].Term; t > 0 {
			promises[uint16(i)] = t - 1
		}
	}
	if err := j.SetPromises(promises); err != nil {
		return "", err
	}
	if len(todo.Complete) > 0 {
		if err := errors.Join(j.Complete(todo.Complete...), j.Settle()); err != nil {
			return "", err
		}
	}
	return p.replace(cfg)
}

// replace puts the new topology in place, and the plan beside the old one.
func (p *Plan) replace(cfg *config.Config) (aside string, err error) {
	aside, err = topology.Replace(topologyDir(cfg), cfg.Server.NodeID, &p.Rebuilt)
	if err != nil || aside == "" {
		return aside, err
	}
	if err := os.WriteFile(filepath.Join(aside, "plan.json"), topology.Encode(p), 0o600); err != nil {
		return aside, fmt.Errorf("keep the plan: %w", err)
	}
	return aside, nil
}
