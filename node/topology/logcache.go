package topology

import (
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"hypercache/node/underway"
)

const (
	// cachedEntry is the largest entry that the cache of Raft's log keeps: a log full of libraries would fill the memory.
	cachedEntry = 64 << 10
	// compactAfter is how many bytes of large entries the log may get before it is compacted, whatever their number, and
	// compactTo how many entries stay then for followers that are close behind.
	compactAfter = 32 << 20
	compactTo    = 8
)

// logCache keeps the newest entries of Raft's log in memory, unless they are large. Raft looks at the last one for every
// message, also when nothing happens: without the cache, on disk.
type logCache struct {
	raft.LogStore
	storing underway.Operation
	fatal   func(error) // see Options.Fatal
	mu      sync.RWMutex
	ring    [snapshotEvery]*raft.Log
}

// GetLog implements raft.LogStore.
func (c *logCache) GetLog(index uint64, log *raft.Log) error {
	c.mu.RLock()
	have := c.ring[index%snapshotEvery]
	c.mu.RUnlock()
	if have != nil && have.Index == index {
		*log = *have
		return nil
	}
	return c.LogStore.GetLog(index, log)
}

// StoreLog implements raft.LogStore.
func (c *logCache) StoreLog(log *raft.Log) error { return c.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (c *logCache) StoreLogs(logs []*raft.Log) error {
	c.storing.Begin()
	err := c.LogStore.StoreLogs(logs)
	c.storing.End()
	if err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && c.fatal != nil {
		// Raft itself says so and goes on, deaf to every change, while the node looks alive to all others.
		c.fatal(fmt.Errorf("write the topology's log: %w", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range logs {
		at := &c.ring[l.Index%snapshotEvery]
		if *at = nil; err == nil && len(l.Data) <= cachedEntry {
			*at = l
		}
	}
	return err
}

// DeleteRange implements raft.LogStore.
func (c *logCache) DeleteRange(first, last uint64) error {
	c.mu.Lock()
	clear(c.ring[:])
	c.mu.Unlock()
	return c.LogStore.DeleteRange(first, last)
}

// trim compacts the log when large entries have filled it.
func (t *Topology) trim() {
	if t.fsm.bulk.Load() < compactAfter || !t.trimming.CompareAndSwap(false, true) {
		return
	}
	t.fsm.bulk.Store(0)
	t.goRun(func() {
		defer t.trimming.Store(false)
		if err := t.raft.compact(t.await); err != nil {
			t.log.Warn("the topology's log is not compacted", "error", err)
		}
	})
}

// compact takes a snapshot and leaves only the newest entries in the log.
func (c *consensus) compact(await func(raft.Future) error) error {
	usual := c.raft.ReloadableConfig()
	short := usual
	short.TrailingLogs = compactTo
	if err := c.raft.ReloadConfig(short); err != nil {
		return err
	}
	err := await(c.raft.Snapshot())
	if again := c.raft.ReloadConfig(usual); err == nil {
		err = again
	}
	return err
}
