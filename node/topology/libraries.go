package topology

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxLibrary and MaxLibraries bound the bytes (Library.Size) of one library of functions and of all. Every node keeps them
	// in memory, in Raft's log and in snapshots; one log entry with all of them passes every timeout on a slow network.
	MaxLibrary   = 1 << 20
	MaxLibraries = 8 << 20

	// functionBytes is what a function counts for besides its names.
	functionBytes = 64
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
	return list, remember(s.LibraryChanges, c.ID), nil
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
	ans, err := t.askForChange(ctx, methodLibraries, c)
	if err == nil && ans.Problem != "" {
		err = &LibraryError{LibraryProblem(ans.Problem), string(ans.Name)}
	}
	if err != nil {
		return err
	}
	t.awaitEverywhere(ctx, ans.Epoch, "libraries of functions")
	return nil
}
