package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"hypercache/node/ring"
)

// The versions of command and of snapshots: the second has libraries of functions, the third users. What has none is written as an
// older one, so that builds without them refuse only what they would lose.
const (
	commandVersion = 1
	libraryVersion = 2
	userVersion    = 3
)

func version(libraries, users bool) int {
	switch {
	case users:
		return userVersion
	case libraries:
		return libraryVersion
	}
	return commandVersion
}

func readable(version int) bool { return commandVersion <= version && version <= userVersion }

// command is one entry of the Raft log. Its parts are applied in the order of the fields.
type command struct {
	Version int           `json:"v"`
	Found   *founding     `json:"found,omitempty"`
	Members []Member      `json:"members,omitempty"` // added or replaced
	Groups  []groupChange `json:"groups,omitempty"`
	// Libraries and Users come last and are refused by themselves.
	Libraries *LibraryChange `json:"libraries,omitempty"`
	Users     *UserChange    `json:"users,omitempty"`
}

func (c *command) version() int { return version(c.Libraries != nil, c.Users != nil) }

// founding gives a new cluster its identity; a second one changes nothing.
type founding struct {
	ClusterID string `json:"cluster_id"`
	RF        int    `json:"rf"`
}

// groupChange replaces a group's configuration if the group has not changed since Expect. A controller that was deposed
// without noticing thus overwrites nothing.
type groupChange struct {
	Group  uint16 `json:"group"`
	Expect uint64 `json:"expect"` // Group.Epoch that the change was planned on
	Set    Group  `json:"set"`    // Epoch is filled in
}

// applied is the answer to a command.
type applied struct {
	err      error    // the command as a whole was not understood
	rejected []uint16 // groups whose change was refused
	refused  *LibraryError
	// refusedUsers and deleted are what came of a change of users.
	refusedUsers *UserError
	deleted      int
	state        *State
}

func emptyState() *State { return &State{Members: map[string]Member{}} }

// apply returns the state after c, a new one unless nothing changed. It is deterministic.
func (s *State) apply(c *command) applied {
	if !readable(c.Version) {
		return applied{err: fmt.Errorf("command version %d is newer than this build's %d", c.Version, userVersion), state: s}
	}
	next := *s
	next.Epoch++
	next.Members = maps.Clone(s.Members)
	changed := false
	if c.Found != nil && s.ClusterID == "" {
		next.ClusterID, next.RF, changed = c.Found.ClusterID, max(c.Found.RF, 1), true
	}
	for _, m := range c.Members {
		if m.ID != "" && next.Members[m.ID] != m {
			next.Members[m.ID], changed = m, true
		}
	}
	out := applied{}
	for _, ch := range c.Groups {
		if err := next.admit(ch); err != nil {
			out.rejected = append(out.rejected, ch.Group)
			continue
		}
		set := ch.Set
		set.Epoch = next.Epoch
		next.Groups[ch.Group], changed = set, true
	}
	if c.Libraries != nil {
		next.Libraries, next.LibraryChanges, out.refused = s.changeLibraries(c.Libraries)
		changed = changed || !slices.Equal(next.LibraryChanges, s.LibraryChanges)
	}
	if c.Users != nil {
		next.Users, next.UserChanges, out.deleted, out.refusedUsers = s.changeUsers(c.Users)
		changed = changed || !slices.Equal(next.UserChanges, s.UserChanges)
	}
	out.state = s
	if changed {
		out.state = &next
	}
	return out
}

var (
	errStale   = errors.New("the group has changed meanwhile")
	errInvalid = errors.New("the change breaks a rule")
)

// admit checks a change: made on the present configuration, and keeping the rules that hold whatever the controller
// thinks. One term has one primary: it is set once, from none.
func (s *State) admit(ch groupChange) error {
	if int(ch.Group) >= ring.Groups {
		return errInvalid
	}
	old, set := &s.Groups[ch.Group], &ch.Set
	switch {
	case old.Epoch != ch.Expect:
		return errStale
	case set.Term < old.Term, set.Term == 0, len(set.Replicas) == 0:
		return errInvalid
	case set.Term > old.Term && set.Primary != "":
		return errInvalid
	case set.Term == old.Term && old.Primary != "" && set.Primary != old.Primary:
		return errInvalid
	case set.Primary != "" && !slices.Contains(set.Replicas, set.Primary) && !slices.Contains(set.Next, set.Primary):
		return errInvalid
	case set.Learner != "" && (slices.Contains(set.Replicas, set.Learner) || slices.Contains(set.Next, set.Learner)):
		return errInvalid
	case !distinct(set.Replicas) || !distinct(set.Next):
		return errInvalid
	case len(old.Replicas) > 0 && !sameSet(set.Replicas, old.Replicas) && !sameSet(set.Replicas, old.Next):
		return errInvalid // replicas change by way of Next only
	}
	return nil
}

func distinct(ids []string) bool {
	for i, id := range ids {
		if id == "" || slices.Contains(ids[:i], id) {
			return false
		}
	}
	return true
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, id := range a {
		if !slices.Contains(b, id) {
			return false
		}
	}
	return true
}

// fsm is the Raft state machine: a pointer to the newest State.
type fsm struct {
	state atomic.Pointer[State]
	index atomic.Uint64 // of the newest command that state holds; never sinks
	bulk  atomic.Int64  // bytes of large commands since the log was compacted
	// restored says that the start is over: a snapshot from now on is the leader's, not this node's own.
	restored atomic.Bool
	changed  func() // after every change, on Raft's goroutine; must not block
}

func newFSM(changed func()) *fsm {
	f := &fsm{changed: changed}
	f.state.Store(emptyState())
	return f
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any {
	var c command
	old := f.state.Load()
	if err := json.Unmarshal(l.Data, &c); err != nil {
		return applied{err: fmt.Errorf("decode command at %d: %w", l.Index, err), state: old}
	}
	res := old.apply(&c)
	if res.state != old {
		f.state.Store(res.state)
	}
	f.reached(l.Index)
	if len(l.Data) > cachedEntry {
		f.bulk.Add(int64(len(l.Data)))
	}
	if res.state != old {
		f.changed()
	}
	return res
}

// reached notes how far the state has come. Raft calls the machine from one goroutine.
func (f *fsm) reached(index uint64) {
	if index > f.index.Load() {
		f.index.Store(index)
	}
}

// snapshotFile is what a snapshot holds.
type snapshotFile struct {
	Version int    `json:"v"`
	State   *State `json:"state"`
}

// Snapshot implements raft.FSM. States are immutable, so it is the pointer.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return fsmSnapshot{f.state.Load()}, nil }

type fsmSnapshot struct{ state *State }

func (s fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(snapshotFile{version(len(s.state.Libraries) > 0, len(s.state.Users) > 0), s.state}); err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

func (fsmSnapshot) Release() {}

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	var file snapshotFile
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if !readable(file.Version) || file.State == nil {
		return fmt.Errorf("read snapshot: version %d is newer than this build's %d", file.Version, userVersion)
	}
	if file.State.Members == nil {
		file.State.Members = map[string]Member{}
	}
	f.state.Store(file.State)
	if f.restored.Load() {
		f.reached(math.MaxUint64) // the leader's: it sends one when it has no log any more from where ours ends
	}
	f.changed()
	return nil
}
