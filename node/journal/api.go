package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// Kind says what a record is.
type Kind uint8

const (
	// Effects carries RESP commands to apply.
	Effects Kind = iota + 1
	// Noop holds a position and no data (a new primary's first record of its term).
	Noop
	// SyncBegin opens a full resync of a group. The Effects records up to SyncEnd hold the group's new content, with a
	// DEL for every key that vanished; their Term and Seq are not checked. A group whose SyncBegin has no SyncEnd at
	// recovery is damaged.
	SyncBegin
	// SyncEnd closes a full resync; its Term and Seq are the group's position from here on.
	SyncEnd
)

// Record is one entry of a group's log. (Term, Seq) orders the records of a group: within a term Seq grows by one.
type Record struct {
	Group uint16 // 0 to ring.Groups-1
	Kind  Kind
	Term  uint64
	Seq   uint64
	Data  []byte // complete RESP commands; empty unless Kind is Effects
}

// Position is a place in a group's log.
type Position struct{ Term, Seq uint64 }

// Less reports whether p comes before q: by term, then by sequence.
func (p Position) Less(q Position) bool {
	return p.Term < q.Term || p.Term == q.Term && p.Seq < q.Seq
}

// Policy says when written records reach the disk itself.
type Policy uint8

const (
	// EverySec syncs once per Options.SyncInterval: a power loss costs about that much.
	EverySec Policy = iota
	// Always syncs before Commit returns, once for all callers that wait.
	Always
	// No leaves it to the kernel.
	No
)

// ParsePolicy reads Redis' names of the policies: always, everysec, no.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{EverySec, Always, No} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown fsync policy %q: want always, everysec or no", s)
}

func (p Policy) String() string {
	switch p {
	case Always:
		return "always"
	case No:
		return "no"
	}
	return "everysec"
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrDiskFull: no space (or quota) for the write. Nothing is lost: the records stay in memory and are retried once
	// per second and by every later Commit. Refuse writes with MISCONF meanwhile.
	ErrDiskFull = errors.New("disk full")
	// ErrFailed: a write or an fsync failed and the state of the disk is unknown. It is final: the node should stop.
	ErrFailed = errors.New("journal failed")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal closed")
	// ErrForeign: the directory was written by another program, or by a version this one does not know. It is untouched.
	ErrForeign = errors.New("foreign data directory")
	// ErrDamaged: the directory's own description (format file or manifest) fails its checksum. It is untouched.
	ErrDamaged = errors.New("damaged data directory")
	// ErrRewriting: a rewrite is already running.
	ErrRewriting = errors.New("rewrite already running")
	// ErrLocked: another process holds the directory.
	ErrLocked = vfs.ErrLocked
)

// Options configures Open. Only Dir is required.
type Options struct {
	// Dir is the node's data directory; it is created if missing.
	Dir string
	// Fsync is the policy for acknowledged writes; the zero value is EverySec.
	Fsync Policy
	// BootID identifies the run of the kernel. Empty: read the kernel's. Where there is none, every restart counts as
	// a power loss.
	BootID string
	// FS is the file system; nil: the operating system's.
	FS vfs.FS
	// Logger receives recovery findings, failures and rewrites; nil discards them.
	Logger *slog.Logger
	// BufferLimit bounds the bytes that wait for a write; 0: 64 MiB. Append writes inline above it. One record may
	// exceed it.
	BufferLimit int
	// SyncInterval is the period of EverySec and of retries while the disk is full; 0: one second.
	SyncInterval time.Duration
	// RewritePercent is the growth over the size after the last rewrite at which ShouldRewrite says yes (Redis'
	// auto-aof-rewrite-percentage); 0: 100, negative: never.
	RewritePercent int
	// RewriteMinSize is the size below which growth does not count (auto-aof-rewrite-min-size); 0: 64 MiB.
	RewriteMinSize int64
	// Manual leaves the work of SyncInterval to whoever calls Tick. For simulations, which have no time of their own.
	Manual bool
	// Salt seeds the checksums of a new directory; 0: 64 random bits. Only a simulation, which must be repeatable, sets it.
	Salt uint64
}

// Recovery is what Replay found.
type Recovery struct {
	// Voter: no acknowledged record can be missing, except in the groups of Damaged. False for a fresh directory.
	Voter bool
	// Fresh: the directory was empty. A node that the cluster already counts as a replica has lost its disk then.
	Fresh bool
	// Damaged lists the groups that may miss acknowledged records whatever Voter says: corrupt records, gaps, an
	// unfinished resync, or a catch-up that an earlier run did not finish. Each stays in the list over restarts until
	// a full resync (SyncBegin … SyncEnd) or Complete.
	Damaged []uint16
	// Holes lists those of Damaged whose content is not that of their position, as far as this replay has seen: what
	// they miss lies in the middle, or a resync did not end. What follows their position does not make them whole.
	Holes []uint16
	// Positions holds each group's last position.
	Positions [ring.Groups]Position
	// Records and Bytes count what was handed to the callback, Skipped the records that the base already contained.
	Records, Skipped int
	Bytes            int64
	// Truncated counts the bytes of the torn tail that were cut off TruncatedFile.
	Truncated     int64
	TruncatedFile string
	// Spots lists every corrupt place that is not a torn tail.
	Spots []Spot
	// PromisesLost: the file of promised terms was damaged or missing; Voter is false then.
	PromisesLost bool
	Duration     time.Duration
}

// Spot is one corrupt place in one file.
type Spot struct {
	File           string
	Offset, Length int64
	Group          int // -1: the header was unreadable
	Reason         string
}

// Stats are figures for metrics.
type Stats struct {
	Size, BaseSize   int64 // bytes in the append-only directory; of it just after the last rewrite or Open
	Pending          int64 // bytes that wait for a write
	Appended, Synced int64 // positions: appended so far, known to be on the disk itself
	Writes, Syncs    uint64
	Rewrites         uint64
	DiskFull         bool
	Rewriting        bool
}
