package topology

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// MaxLibrary and MaxLibraries bound the bytes (Library.Size) of one library of functions and of all. Every node keeps them
	// in memory, in Raft's log and in snapshots; one log entry with all of them passes every timeout on a slow network.
	MaxLibrary   = 1 << 20
	MaxLibraries = 8 << 20

	// functionBytes is what a function counts for besides its names.
	functionBytes = 64
	// maxDone is how many changes are known again when they are asked for again.
	maxDone = 64
	// spreadTimeout bounds how long a change waits for nodes that do not have it yet.
	spreadTimeout = 2 * time.Second
)

// Library is a library of functions: its text, and what it registers. It is immutable.
type Library struct {
	Name      string     `json:"name"`
	Code      []byte     `json:"code"` // any bytes
	Functions []Function `json:"functions"`
}

// Function is what a library said of a function when it was loaded.
type Function struct {
	Name        string   `json:"name"`
	Description []byte   `json:"description"` // any bytes; nil: none
	Flags       []string `json:"flags,omitempty"`
}

// Size is what counts against the limits.
func (l *Library) Size() int {
	n := len(l.Code)
	for i := range l.Functions {
		n += len(l.Functions[i].Name) + len(l.Functions[i].Description) + functionBytes
	}
	return n
}

func (l *Library) equal(o *Library) bool {
	return l.Name == o.Name && bytes.Equal(l.Code, o.Code) && slices.EqualFunc(l.Functions, o.Functions, func(a, b Function) bool {
		return a.Name == b.Name && bytes.Equal(a.Description, b.Description) && (a.Description == nil) == (b.Description == nil) &&
			slices.Equal(a.Flags, b.Flags)
	})
}

// LibraryChange is applied as a whole or not at all, in the order of its fields.
type LibraryChange struct {
	// ID is the change's own: asked for twice, it is done once. ChangeLibraries fills it in.
	ID string `json:"id"`
	// Flush takes all libraries out.
	Flush bool `json:"flush,omitempty"`
	// Delete takes one out, which must be there.
	Delete string `json:"delete,omitempty"`
	// Load adds libraries; with Replace in place of those of the same names, which must not be there otherwise.
	Load    []Library `json:"load,omitempty"`
	Replace bool      `json:"replace,omitempty"`
}

// LibraryProblem says why a change was refused.
type LibraryProblem string

// The reasons of a refusal.
const (
	LibraryExists    LibraryProblem = "library-exists"
	LibraryUnknown   LibraryProblem = "no-library"
	FunctionExists   LibraryProblem = "function-exists"
	LibraryTooLarge  LibraryProblem = "library-too-large"
	LibrariesTooMany LibraryProblem = "libraries-too-large"
)

// LibraryError is the refusal of a change. Nothing was changed.
type LibraryError struct {
	Problem LibraryProblem
	Name    string // of the library or the function
}

func (e *LibraryError) Error() string {
	return fmt.Sprintf("libraries not changed: %s: %s", e.Name, e.Problem)
}

// ErrUnknownOutcome says that a change was asked for and no answer came: it may be done, or may yet be.
var ErrUnknownOutcome = errors.New("topology: the outcome of the change is not known")

// changeLibraries returns the libraries and the list of changes as c leaves them; the lists of s if it changes nothing.
func (s *State) changeLibraries(c *LibraryChange) (list []Library, done []string, refused *LibraryError) {
	if c.ID != "" && slices.Contains(s.LibraryChanges, c.ID) {
		return s.Libraries, s.LibraryChanges, nil
	}
	list = slices.Clone(s.Libraries)
	if c.Flush {
		list = nil
	}
	if c.Delete != "" {
		at := slices.IndexFunc(list, func(l Library) bool { return l.Name == c.Delete })
		if at < 0 {
			return s.Libraries, s.LibraryChanges, &LibraryError{LibraryUnknown, c.Delete}
		}
		list = slices.Delete(list, at, at+1)
	}
	if list, refused = addLibraries(list, c); refused != nil {
		return s.Libraries, s.LibraryChanges, refused
	}
	if slices.EqualFunc(list, s.Libraries, func(a, b Library) bool { return a.equal(&b) }) {
		return s.Libraries, s.LibraryChanges, nil
	}
	done = slices.Clone(s.LibraryChanges[max(0, len(s.LibraryChanges)-maxDone+1):])
	return list, append(done, c.ID), nil
}

// addLibraries takes out what is replaced before it looks for functions of the same name: these may move between libraries
// that are loaded together. Functions are the same in any case of letters, as Redis looks them up; libraries are not.
func addLibraries(list []Library, c *LibraryChange) ([]Library, *LibraryError) {
	for i := range c.Load {
		l := &c.Load[i]
		same := func(o Library) bool { return o.Name == l.Name }
		if !c.Replace && slices.ContainsFunc(list, same) || slices.ContainsFunc(c.Load[:i], same) {
			return nil, &LibraryError{LibraryExists, l.Name}
		}
		list = slices.DeleteFunc(list, same)
	}
	taken, size := map[string]bool{}, 0
	for i := range list {
		size += list[i].Size()
		for _, f := range list[i].Functions {
			taken[strings.ToLower(f.Name)] = true
		}
	}
	for i := range c.Load {
		l := &c.Load[i]
		for _, f := range l.Functions {
			if taken[strings.ToLower(f.Name)] {
				return nil, &LibraryError{FunctionExists, f.Name}
			}
		}
		for _, f := range l.Functions {
			taken[strings.ToLower(f.Name)] = true
		}
		if l.Size() > MaxLibrary {
			return nil, &LibraryError{LibraryTooLarge, l.Name}
		}
		if size += l.Size(); size > MaxLibraries {
			return nil, &LibraryError{LibrariesTooMany, l.Name}
		}
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Library) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// ChangeLibraries has the leader make a change, and waits until every member that is up acts on it, though no longer than
// spreadTimeout for that. Any node can be asked. Errors: a *LibraryError; ErrNoLeader, when nothing was changed and there is
// nobody who could; ErrUnknownOutcome; ErrClosed. ctx bounds the whole.
func (t *Topology) ChangeLibraries(ctx context.Context, c LibraryChange) error {
	c.ID = randomID()
	tick := time.NewTicker(t.o.Timing.Tick)
	defer tick.Stop()
	unknown := false
	for {
		ans, err := t.askLeader(ctx, methodLibraries, c)
		switch {
		case err == nil && ans.Problem != "":
			return &LibraryError{ans.Problem, ans.Name}
		case err == nil:
			t.awaitEverywhere(ctx, ans.Epoch)
			return nil
		}
		unknown = unknown || errors.Is(err, ErrUnknownOutcome)
		if !unknown && t.outvoted() {
			return ErrNoLeader
		}
		select {
		case <-ctx.Done():
			if unknown {
				return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
			}
			return fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
		case <-t.ctx.Done():
			return ErrClosed
		case <-tick.C:
		}
	}
}

// lead answers a call for a change, as the leader. A refusal rests on the newest state, since a leader that was deposed
// without noticing asks the others first.
func (t *Topology) leadLibraries(c *LibraryChange) (nodeAnswer, error) {
	if !t.leads() {
		return nodeAnswer{Code: codeNotLeader, Leader: t.Leader()}, nil
	}
	st := t.State()
	if _, done, refused := st.changeLibraries(c); refused != nil || len(done) == len(st.LibraryChanges) && slices.Equal(done, st.LibraryChanges) {
		if err := t.await(t.raft.raft.VerifyLeader()); err != nil {
			return nodeAnswer{Code: codeNotLeader}, nil
		}
		return libraryAnswer(st, refused), nil
	}
	res, err := t.commit(&command{Libraries: c})
	if err != nil {
		return nodeAnswer{}, err
	}
	return libraryAnswer(res.state, res.refused), nil
}

func libraryAnswer(st *State, refused *LibraryError) nodeAnswer {
	a := nodeAnswer{Done: true, Epoch: st.Epoch}
	if refused != nil {
		a.Problem, a.Name = refused.Problem, refused.Name
	}
	return a
}

// leads reports whether this node leads and has applied everything that was committed before.
func (t *Topology) leads() bool {
	r := t.reign.Load()
	if r == nil || !t.IsLeader() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready
}

type reachedCall struct {
	Epoch uint64 `json:"epoch"`
}

// awaitEverywhere returns when every member that is up acts on the state of epoch or a later one, at the latest after
// spreadTimeout.
func (t *Topology) awaitEverywhere(ctx context.Context, epoch uint64) {
	ctx, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for id, m := range t.State().Members {
		if m.Status == Removed || t.down(id) {
			continue
		}
		wg.Go(func() {
			if err := t.call(ctx, id, methodReached, reachedCall{epoch}, &struct{}{}); err != nil {
				t.log.Warn("a node does not have the newest libraries of functions yet", "peer", id, "error", err)
			}
		})
	}
	wg.Wait()
}

// told is the newest epoch that the subscribers know.
type told struct {
	mu    sync.Mutex
	epoch uint64
	next  chan struct{} // closed when epoch grows
}

func (d *told) note(epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if epoch <= d.epoch {
		return
	}
	d.epoch = epoch
	if d.next != nil {
		close(d.next)
		d.next = nil
	}
}

// await returns when the subscribers know epoch, or ctx ends.
func (d *told) await(ctx context.Context, epoch uint64) error {
	for {
		d.mu.Lock()
		if d.epoch >= epoch {
			d.mu.Unlock()
			return nil
		}
		if d.next == nil {
			d.next = make(chan struct{})
		}
		next := d.next
		d.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
