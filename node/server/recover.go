package server

import (
	"context"
	"fmt"
	"time"

	"hypercache/node/command"
	"hypercache/node/journal"
	"hypercache/node/replica"
	"hypercache/node/ring"
)

// restored is what the data directory held.
type restored struct {
	incarnation uint64
	forgetful   bool // promises of an earlier process may be lost; see replica.Restored.PromisesLost
	keys        int
	groups      [ring.Groups]replica.Restored
}

// recover opens the journal and replays it into the store. Without persistence it says that nothing is known: such a
// node votes again only after a primary has fed it.
func (s *Server) recover() (*restored, error) {
	r := &restored{incarnation: newIncarnation()}
	for i := range r.groups {
		r.groups[i].Incarnation = r.incarnation
	}
	if !s.cfg.Persistence.Enabled {
		r.forgetful = true
		for i := range r.groups {
			r.groups[i].PromisesLost = true
		}
		return r, nil
	}
	policy, err := journal.ParsePolicy(s.cfg.Persistence.Fsync)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(); err != nil {
		return nil, err
	}
	percent := s.cfg.Persistence.RewritePercentage
	if percent == 0 {
		percent = -1 // 0 means never here, the default there
	}
	j, err := journal.Open(journal.Options{
		Dir: s.cfg.Persistence.DataDir, Fsync: policy, Logger: s.log,
		RewritePercent: percent, RewriteMinSize: int64(s.cfg.Persistence.RewriteMinSize),
	})
	if err != nil {
		return nil, fmt.Errorf("open journal in %s: %w", s.cfg.Persistence.DataDir, err)
	}
	s.journal = j
	began := time.Now()
	found, err := j.Replay(func(rec journal.Record) error { return s.replay(r, rec) })
	if err != nil {
		return nil, fmt.Errorf("recover from %s: %w", s.cfg.Persistence.DataDir, err)
	}
	promises := j.Promises()
	replica.Judge(&r.groups, &found, &promises)
	r.forgetful = r.groups[0].PromisesLost
	for i := range r.groups {
		r.keys += s.db.Shard(i).Len()
	}
	if found.Records > 0 {
		s.log.Info("recovered", "records", found.Records, "bytes", found.Bytes, "keys", r.keys, "took", time.Since(began).Round(time.Millisecond),
			"voter", found.Voter, "damaged_groups", len(found.Damaged))
	}
	return r, nil
}

func (s *Server) replay(r *restored, rec journal.Record) error {
	switch rec.Kind {
	case journal.SyncBegin:
		s.db.Shard(int(rec.Group)).Flush()
	case journal.Effects:
		if err := command.Apply(s.db.Shard(int(rec.Group)), rec.Data); err != nil {
			return err
		}
	}
	r.groups[rec.Group].Replay(&rec)
	return nil
}

// RewriteLog implements command.Server.
func (s *Server) RewriteLog() (problem string) {
	switch {
	case s.journal == nil:
		return "ERR this node keeps nothing on disk (persistence.enabled is false): there is no append-only file to rewrite"
	case s.journal.Stats().Rewriting:
		return "ERR Background append only file rewriting already in progress"
	}
	select {
	case s.rewrite <- struct{}{}:
	default: // one is due already
	}
	return ""
}

// rewriteLoop compacts the journal when it has grown enough, or when it was asked to. It is owned by Run.
func (s *Server) rewriteLoop(ctx context.Context) {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.rewrite:
		case <-t.C:
			if !s.journal.ShouldRewrite() {
				continue
			}
		}
		began := time.Now()
		if err := s.journal.Rewrite(ctx, s.cutGroup); err != nil && ctx.Err() == nil {
			s.log.Warn("rewrite the journal", "error", err)
			continue
		}
		s.log.Info("journal rewritten", "bytes", s.journal.Size(), "took", time.Since(began).Round(time.Millisecond))
	}
}

// cutGroup gives the rewrite one group's content and the position it has.
func (s *Server) cutGroup(group int, emit func([]byte) error) (term, seq uint64, err error) {
	g := s.driver.Group(uint16(group))
	g.Lock()
	defer g.Unlock()
	if g.Hollow() {
		return 0, 0, fmt.Errorf("group %d is damaged and has not been fetched from its primary yet", group)
	}
	s.cache.Snapshot(uint16(group), func(cmds []byte) {
		if err == nil && len(cmds) > 0 {
			err = emit(cmds)
		}
	})
	head := g.Head()
	return head.Term, head.Seq, err
}
