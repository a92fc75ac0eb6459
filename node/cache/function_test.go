package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hypercache/node/topology"
)

// keeper is a topology of the test's.
type keeper struct {
	change func(ctx context.Context, change topology.LibraryChange) error
	stale  atomic.Bool
}

func (k *keeper) ChangeLibraries(ctx context.Context, change topology.LibraryChange) error {
	return k.change(ctx, change)
}
func (k *keeper) LibrariesCurrent() bool { return !k.stale.Load() }

// words sends one command whose words may hold spaces.
func (k *client) words(words ...string) {
	k.t.Helper()
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	if err := k.s.Feed(b); err != nil {
		k.t.Fatal(err)
	}
	k.take()
}

const tiny = "#!lua name=tiny\nredis.register_function('f', function(k, a) return a[1] end)"

func TestWhatTheTopologySaysOfAChangeReachesTheClient(t *testing.T) {
	var says error
	k := &keeper{change: func(context.Context, topology.LibraryChange) error { return says }}
	c := start(t, 1, setup{keeper: k})
	c.alone()
	cl := c.client(c.nodes[0])
	for _, tt := range []struct {
		says error
		want string
	}{
		{nil, "tiny"},
		{&topology.LibraryError{Problem: topology.LibraryExists, Name: "tiny"}, "ERR Library 'tiny' already exists"},
		{&topology.LibraryError{Problem: topology.FunctionExists, Name: "f"}, "ERR Function f already exists"},
		{&topology.LibraryError{Problem: topology.LibraryUnknown, Name: "tiny"}, "ERR Library not found"},
		{&topology.LibraryError{Problem: topology.LibraryTooLarge, Name: "tiny"}, "ERR Library 'tiny' is too large"},
		{&topology.LibraryError{Problem: topology.LibrariesTooMany, Name: "tiny"}, "ERR Library 'tiny' does not fit"},
		{fmt.Errorf("x: %w", topology.ErrNoLeader), "CLUSTERDOWN "},
		{fmt.Errorf("%w: %w", topology.ErrNoLeader, topology.ErrUnknownOutcome), "NOREPLICAS "},
		{topology.ErrClosed, "LOADING "},
		{errors.New("other"), "ERR other"},
	} {
		says = tt.says
		cl.words("FUNCTION", "LOAD", tiny)
		if got := cl.receive(1)[0]; !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %s, want %s", tt.says, got, tt.want)
		}
	}
}

// TestLaterCommandsWaitForAChange while those of other connections do not.
func TestLaterCommandsWaitForAChange(t *testing.T) {
	c := &cluster{}
	var asked topology.LibraryChange
	release := make(chan struct{})
	k := &keeper{change: func(_ context.Context, change topology.LibraryChange) error {
		asked = change
		<-release
		c.nodes[0].SetLibraries(change.Load)
		return nil
	}}
	c = start(t, 1, setup{keeper: k})
	c.alone()
	cl, other := c.client(c.nodes[0]), c.client(c.nodes[0])
	cl.words("FUNCTION", "LOAD", tiny)
	cl.words("FCALL", "f", "0", "later")
	cl.words("FUNCTION", "DUMP")
	other.want("FCALL f 0 other", "ERR Function not found")
	other.want("SET k v", "OK")
	cl.silent("before the change is made")
	close(release)
	got := cl.receive(3)
	if got[0] != "tiny" || got[1] != "later" || !strings.Contains(got[2], "name=tiny") {
		t.Errorf("%q", got)
	}
	if len(asked.Load) != 1 || asked.Load[0].Name != "tiny" || string(asked.Load[0].Code) != tiny || len(asked.Load[0].Functions) != 1 || asked.Replace {
		t.Errorf("asked for %+v", asked)
	}
}

func TestANodeThatHearsNoLeaderDoesNotSayThatThereIsNoFunction(t *testing.T) {
	k := &keeper{}
	c := start(t, 1, setup{keeper: k})
	c.alone()
	cl := c.client(c.nodes[0])
	k.stale.Store(true)
	if got := cl.do("FCALL f 0"); !strings.HasPrefix(got, "CLUSTERDOWN ") {
		t.Errorf("FCALL: %s", got)
	}
	k.stale.Store(false)
	cl.want("FCALL f 0", "ERR Function not found")
}

func TestChangesThatComeTooManyAtATimeAreTold(t *testing.T) {
	release := make(chan struct{})
	k := &keeper{change: func(context.Context, topology.LibraryChange) error { <-release; return nil }}
	c := start(t, 1, setup{keeper: k, wait: 100 * time.Millisecond})
	c.alone()
	var all []*client
	for range maxLoads + 2 {
		cl := c.client(c.nodes[0])
		cl.words("FUNCTION", "LOAD", tiny)
		all = append(all, cl)
	}
	refused := func() (n int) {
		for _, cl := range all {
			cl.take()
			if strings.HasPrefix(string(cl.got), "-TRYAGAIN Too many libraries") {
				n++
			}
		}
		return n
	}
	eventually(t, "two are refused", func() bool { return refused() == 2 })
	close(release)
	for _, cl := range all {
		cl.receive(1)
	}
}

// TestAChangeWaitsForEarlierCommandsOfItsConnection that have no route yet.
func TestAChangeWaitsForEarlierCommandsOfItsConnection(t *testing.T) {
	var c *cluster
	called := make(chan bool, 1)
	k := &keeper{change: func(_ context.Context, change topology.LibraryChange) error {
		called <- c.nodes[0].park.waiting()
		c.nodes[0].SetLibraries(change.Load)
		return nil
	}}
	c = start(t, 1, setup{keeper: k})
	cl := c.client(c.nodes[0])
	cl.send("FCALL f 0 early")
	cl.words("FUNCTION", "LOAD", tiny)
	select {
	case <-called:
		t.Error("the change was made before an earlier command ran")
	case <-time.After(50 * time.Millisecond):
	}
	c.alone()
	if got := cl.receive(2); got[0] != "ERR Function not found" || got[1] != "tiny" {
		t.Errorf("%q", got)
	}
}
