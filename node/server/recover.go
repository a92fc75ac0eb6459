package server

import (
	"context"
	"fmt"
	"time"

	"hypercache/node/cache"
	"hypercache/node/command"
	"hypercache/node/journal"
	"hypercache/node/replica"
	"hypercache/node/ring"
)

// restored is what the data directory held.
type restored struct {
	forgetful bool // promises of an earlier process may be lost; see replica.Restored.PromisesLost
	keys      int
	groups    [ring.Groups]replica.Restored
}

// recover opens the journal and replays it into the store. Without persistence it says that nothing is known: such a
// node votes again only after a primary has fed it.
func (s *Server) recover() (*restored, error) {
	r := &restored{}
	for i := range r.groups {
		r.groups[i].Incarnation = s.incarnation
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
	j, err := journal.Open(journal.Options{
		Dir: s.cfg.Persistence.DataDir, Fsync: policy, Logger: s.log,
		RewritePercent: never(s.cfg.Persistence.RewritePercentage), RewriteMinSize: int64(s.cfg.Persistence.RewriteMinSize),
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
	var again patience
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.rewrite:
		case <-t.C:
			if !again.due(time.Now()) || !s.journal.ShouldRewrite() {
				continue
			}
		}
		began := time.Now()
		if err := s.rewriteOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("rewrite the journal", "error", err, "tries_again_after", again.failed(time.Now()))
			continue
		}
		again = patience{}
		s.log.Info("journal rewritten", "bytes", s.journal.Size(), "took", time.Since(began).Round(time.Millisecond))
	}
}

// patience spreads attempts of a rewrite that fails: where there is no room for a new base each attempt fills the disk, and what
// others write meanwhile is refused.
type patience struct {
	wait time.Duration
	next time.Time
}

const (
	firstWait   = 10 * time.Second
	longestWait = time.Hour
)

// failed returns how long the next attempt is off, twice as long each time.
func (p *patience) failed(now time.Time) time.Duration {
	p.wait = min(max(2*p.wait, firstWait), longestWait)
	p.next = now.Add(p.wait)
	return p.wait
}

func (p *patience) due(now time.Time) bool { return !now.Before(p.next) }

func (s *Server) rewriteOnce(ctx context.Context) error {
	cut := cutter{s: s, ctx: ctx, since: time.Now(), most: max(copyLeast, s.db.Used()/copyShare)}
	defer cut.copy.Close()
	return s.journal.Rewrite(ctx, cut.group)
}

// cutter gives a rewrite the groups' content. It copies each with the group's lock held, and encodes the copy without it.
type cutter struct {
	s     *Server
	ctx   context.Context
	copy  cache.Snapshot
	most  int64     // bytes of a copy
	since time.Time // work without a rest
}

// A rewrite works for a millisecond and sleeps for another: while it runs nobody else gets its processor, and the scheduler
// would interrupt it only after ten.
const (
	cutWork = time.Millisecond
	cutRest = time.Millisecond
)

// A group's copy may take copyLeast bytes, or as much as copyShare-th of everything. Four times the mean are enough for all but
// groups with a huge key.
const (
	copyLeast = 64 << 20
	copyShare = 64
)

func (k *cutter) rest() {
	if time.Since(k.since) < cutWork {
		return
	}
	select {
	case <-k.ctx.Done(): // the rewrite looks
	case <-time.After(cutRest):
	}
	k.since = time.Now()
}

// group gives the rewrite one group's content and the position it has.
func (k *cutter) group(group int, emit func([]byte) error) (term, seq uint64, err error) {
	g := k.s.driver.Group(uint16(group))
	k.rest()
	g.Lock()
	k.copy.Of(k.s.cache, uint16(group))
	size := k.copy.Size()
	g.Unlock()
	if size <= k.most {
		k.copy.Fit()
	}
	g.Lock()
	if g.Hollow() {
		g.Unlock()
		return 0, 0, fmt.Errorf("group %d is damaged and has not been fetched from its primary yet", group)
	}
	give := func(cmds []byte) {
		if err == nil && len(cmds) > 0 {
			err = emit(cmds)
		}
	}
	head := g.Head()
	if err = emit(nil); err != nil {
		g.Unlock()
		return 0, 0, err
	}
	if k.copy.Size() > k.most {
		k.copy.Live(give)
		g.Unlock()
		return head.Term, head.Seq, err
	}
	k.copy.Take()
	g.Unlock()
	for k.copy.Next(give) && err == nil {
		k.rest()
	}
	return head.Term, head.Seq, err
}

// never is what journal.Options calls 0 percent, which is never in Redis and in the configuration.
func never(percent int) int {
	if percent == 0 {
		return -1
	}
	return percent
}
