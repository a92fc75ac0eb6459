package journal

import (
	"context"

	"hypercache/node/ring"
)

// Journal is one node's journal. Methods are safe for concurrent use unless they say otherwise.
type Journal struct{}

// Open locks and opens the data directory, and creates it if it is empty. Follow with Replay.
func Open(o Options) (*Journal, error) { return nil, nil }

// Replay hands every record to fn in order, once, before the first Append. Data is valid until fn returns.
func (j *Journal) Replay(fn func(Record) error) (Recovery, error) { return Recovery{}, nil }

// Append copies r into the buffer and returns the position to Commit.
func (j *Journal) Append(r Record) (pos int64) { return 0 }

// Commit returns when everything up to pos was written (and synced under Always).
func (j *Journal) Commit(pos int64) error { return nil }

// Err returns the final failure, or ErrDiskFull while the disk is full, or nil.
func (j *Journal) Err() error { return nil }

// Promises returns the promised term of every group.
func (j *Journal) Promises() [ring.Groups]uint64 { return [ring.Groups]uint64{} }

// SetPromises raises promised terms; they are on disk when it returns.
func (j *Journal) SetPromises(terms map[uint16]uint64) error { return nil }

// Complete records that the groups miss nothing any more (they caught up with their primary).
func (j *Journal) Complete(groups ...uint16) error { return nil }

// Rewrite replaces base and increments by a new base, group by group.
func (j *Journal) Rewrite(ctx context.Context, snapshot func(group int, emit func(cmds []byte) error) (term, seq uint64, err error)) error {
	return nil
}

// ShouldRewrite reports whether the directory has grown enough, or holds corrupt files that a rewrite sets aside.
func (j *Journal) ShouldRewrite() bool { return false }

// Size returns the bytes of the append-only directory.
func (j *Journal) Size() int64 { return 0 }

// Stats returns figures for metrics.
func (j *Journal) Stats() Stats { return Stats{} }

// Close writes and syncs what is pending, and with clean set records that nothing is missing.
func (j *Journal) Close(clean bool) error { return nil }
