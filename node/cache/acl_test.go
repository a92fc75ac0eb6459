package cache

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"hypercache/node/command"
	"hypercache/node/topology"
)

func (s *cacheServer) EachClient(yield func(*command.Client) bool) {
	s.mu.Lock()
	sessions := slices.Collect(maps.Values(s.sessions))
	s.mu.Unlock()
	for _, session := range sessions {
		if !yield(ClientOf(session)) {
			return
		}
	}
}

func (s *cacheServer) KillClient(id uint64) {
	s.mu.Lock()
	session := s.sessions[id]
	s.mu.Unlock()
	session.Kill()
}

// closedByLockout gives the user default a password, and reports whether that closes a connection which was there before.
func closedByLockout(t *testing.T, before func(x *node)) bool {
	t.Helper()
	c := start(t, 1, setup{quiet: true})
	c.alone()
	x := c.nodes[0]
	before(x)
	k := c.client(x)
	k.want("PING", "PONG")
	x.SetUsers([]topology.User{{Name: "default", Rules: "on resetchannels -@all"}}, true)
	return k.s.Done()
}

// A node that has never heard of its cluster lets in by its own configuration alone; who came in so must not stay.
func TestWhoCameInBeforeTheClusterWasKnownIsClosed(t *testing.T) {
	if !closedByLockout(t, func(*node) {}) {
		t.Error("a connection outlives that the node learns of a password")
	}
	if !closedByLockout(t, func(x *node) { x.SetUsers(nil, false) }) {
		t.Error("what a node begins with counts as a cluster's")
	}
	if closedByLockout(t, func(x *node) { x.SetUsers(nil, true) }) {
		t.Error("a connection that was there before there was a password is closed")
	}
}

// fakeKeeper is a topology of one node whose answers can be others.
type fakeKeeper struct {
	mu      sync.Mutex
	changes []topology.UserChange
	answers []error
}

func (k *fakeKeeper) ChangeUsers(_ context.Context, c topology.UserChange) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changes = append(k.changes, c)
	if len(k.answers) == 0 {
		return len(c.Delete), nil
	}
	err := k.answers[0]
	k.answers = k.answers[1:]
	return 0, err
}

func TestAChangeOfUsersIsToldHowItEnded(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []error
		want    string
		changes int
	}{
		{"at once", nil, "OK", 1},
		{"after others", []error{&topology.UserError{Problem: topology.UserChanged, Name: "ann"}, &topology.UserError{Problem: topology.UserChanged, Name: "ann"}}, "OK", 3},
		{"too large", []error{&topology.UserError{Problem: topology.UserTooLarge, Name: "ann"}}, "ERR The user is too large", 1},
		{"too many", []error{&topology.UserError{Problem: topology.UsersTooMany, Name: "ann"}}, "ERR The user does not fit", 1},
		{"no leader", []error{topology.ErrNoLeader}, "CLUSTERDOWN The topology has no leader", 1},
		{"nobody knows", []error{topology.ErrUnknownOutcome}, "NOREPLICAS The topology's leader did not answer", 1},
		{"closed", []error{topology.ErrClosed}, "LOADING", 1},
		{"else", []error{errors.New("odd")}, "ERR odd", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := start(t, 1, setup{quiet: true})
			cl.alone()
			keeper := &fakeKeeper{answers: c.answers}
			x := cl.nodes[0]
			x.opt.Users.Keeper = keeper
			if got := cl.client(x).do("ACL SETUSER ann on +get"); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if len(keeper.changes) != c.changes {
				t.Errorf("asked %d times", len(keeper.changes))
			}
			first := keeper.changes[0]
			if len(first.Set) != 1 || first.Set[0].Rules != "on resetchannels -@all +get" || len(first.Expect) != 1 || first.Expect[0].Rules != "" {
				t.Errorf("asked for %+v", first)
			}
		})
	}
}

func TestWithoutAKeeperUsersStayAsTheyAre(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	c.alone()
	k := c.client(c.nodes[0])
	k.want("ACL SETUSER ann on", "ERR this node keeps no users")
	k.want("ACL DELUSER ann", "ERR this node keeps no users")
	k.want("ACL DELUSER default", "ERR The 'default' user cannot be removed")
	if got := k.do("ACL SETUSER ann " + strings.Repeat("~x ", topology.MaxUser/2)); !strings.HasPrefix(got, "ERR The user is too large: its name and rules may have 65536 bytes") {
		t.Errorf("a user of 64 KiB and more: %.100q", got)
	}
	k.want("ACL SETUSER ann +nosuch", "ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL")
}

// Who does not read what it is told, and has not said who it is, is not waited for.
func TestRefusalsThatNobodyReadsEndTheConnection(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	c.alone()
	x := c.nodes[0]
	x.SetUsers([]topology.User{{Name: "default", Rules: "on resetchannels -@all"}}, true)
	k := c.client(x)
	ping := []byte("*1\r\n$4\r\nPING\r\n")
	for i := 0; i < 10*maxUnread && !k.s.Done(); i += len(ping) {
		_ = k.s.Feed(ping) // ends with the session
	}
	if !k.s.Done() {
		t.Errorf("%d bytes wait for a client that nobody knows", k.s.Pending())
	}
	if pending := k.s.Pending(); pending > 2*maxUnread {
		t.Errorf("%d bytes were kept", pending)
	}
}
