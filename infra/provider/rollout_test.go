package provider

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/blang/semver"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/integration"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// seats is a provider in one run of the CLI, with a node that counts how often it was drained.
type seats struct {
	integration.Server
	drained atomic.Int32
	ready   atomic.Bool
	node    *httptest.Server
}

func newSeats(t *testing.T) *seats {
	t.Helper()
	s := &seats{}
	s.ready.Store(true)
	s.node = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			s.drained.Add(1)
		case r.URL.Path == "/health":
			_, _ = w.Write([]byte(`{"node": "node-2"}`))
		case r.URL.Path == "/ready" && !s.ready.Load():
			http.Error(w, "sick", http.StatusServiceUnavailable)
		case r.URL.Path == "/api/cluster/members":
			_, _ = w.Write([]byte(`{"members": [{"id": "node-2", "status": "alive", "state": "up"}]}`))
		}
	}))
	t.Cleanup(s.node.Close)
	built, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.Server, err = integration.NewServer(context.Background(), Name, semver.MustParse(Version), integration.WithProvider(built))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func urn(kind, name string) resource.URN {
	return resource.NewURN("stack", "hypercache", "", tokens.Type("hypercache:index:"+kind), name)
}

// plan has the program say which nodes there shall be.
func (s *seats) plan(t *testing.T, nodes ...string) {
	t.Helper()
	list := map[string]property.Value{}
	for _, n := range nodes {
		list[n] = property.New(s.node.URL)
	}
	_, err := s.Check(p.CheckRequest{Urn: urn("Fleet", "fleet"), Inputs: property.NewMap(map[string]property.Value{
		"cluster": property.New("c"), "nodes": property.New(list), "founders": property.New(1.0), "proxy": property.New(""), "off": property.New(false),
	})})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *seats) seat() property.Map {
	return property.NewMap(map[string]property.Value{
		"cluster": property.New("c"), "node": property.New("node-2"), "trigger": property.New("t"), "vm": property.New("i-1"),
		"url": property.New(s.node.URL), "secret": property.New("x"), "readyTimeout": property.New(1.0),
		"drainTimeout": property.New(5.0), "forceDelete": property.New(false),
	})
}

func (s *seats) deleteSeat() error {
	return s.Delete(p.DeleteRequest{ID: "node-2", Urn: urn("Seat", "node-2-seat"), Properties: s.seat()})
}

func TestANodeThatLeavesAClusterThatStaysIsDrained(t *testing.T) {
	s := newSeats(t)
	s.plan(t, "node-1")
	if err := s.deleteSeat(); err != nil || s.drained.Load() != 1 {
		t.Errorf("%v, drained %d times", err, s.drained.Load())
	}
}

func TestDestroyAndReplacementDrainNobody(t *testing.T) {
	s := newSeats(t)
	if err := s.deleteSeat(); err != nil || s.drained.Load() != 0 { // no program has run: pulumi destroy
		t.Errorf("destroy: %v, drained %d times", err, s.drained.Load())
	}
	s.plan(t, "node-1", "node-2")
	if err := s.deleteSeat(); err != nil || s.drained.Load() != 0 {
		t.Errorf("a node that stays planned: %v, drained %d times", err, s.drained.Load())
	}
}

func TestANodeThatCannotBeDrainedStaysUnlessForced(t *testing.T) {
	s := newSeats(t)
	s.plan(t, "node-1")
	s.node.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	if err := s.deleteSeat(); err == nil || !strings.Contains(err.Error(), "forceDelete: true") {
		t.Errorf("got %v", err)
	}
	t.Setenv(forceDeleteVariable, "true")
	if err := s.deleteSeat(); err != nil {
		t.Errorf("forced: %v", err)
	}
}

func gate(trigger string) property.Map {
	return property.NewMap(map[string]property.Value{
		"cluster": property.New("c"), "node": property.New("node-1"), "trigger": property.New(trigger), "timeout": property.New(1.0),
	})
}

func TestTheGateLooksOnlyWhenItsVMChanges(t *testing.T) {
	s := newSeats(t)
	s.plan(t, "node-1", "node-2")
	s.ready.Store(false)
	if _, err := s.Create(p.CreateRequest{Urn: urn("Gate", "g"), Properties: gate("a")}); err != nil {
		t.Errorf("a new VM was held up: %v", err)
	}
	update := func(trigger string, preview bool) error {
		_, err := s.Update(p.UpdateRequest{ID: "node-1", Urn: urn("Gate", "g"), State: gate("a"), Inputs: gate(trigger), DryRun: preview})
		return err
	}
	if err := update("a", false); err != nil {
		t.Errorf("nothing changed and it looked: %v", err)
	}
	if err := update("b", true); err != nil {
		t.Errorf("a preview looked: %v", err)
	}
	if err := update("b", false); err == nil || !strings.Contains(err.Error(), "node-1 is left as it is") {
		t.Errorf("a sick cluster let a replacement through: %v", err)
	}
	s.ready.Store(true)
	if err := update("b", false); err != nil {
		t.Errorf("a well cluster: %v", err)
	}
}

func TestTheSeatWaitsForTheNode(t *testing.T) {
	s := newSeats(t)
	s.plan(t, "node-1", "node-2")
	if _, err := s.Create(p.CreateRequest{Urn: urn("Seat", "s"), Properties: s.seat()}); err != nil {
		t.Errorf("a ready node: %v", err)
	}
	s.ready.Store(false)
	if _, err := s.Create(p.CreateRequest{Urn: urn("Seat", "s"), Properties: s.seat()}); err == nil || !strings.Contains(err.Error(), "node-2 was not ready") {
		t.Errorf("a sick node took its seat: %v", err)
	}
}

func TestAChangeOfLimitsWaitsForNobody(t *testing.T) {
	s := newSeats(t)
	s.plan(t, "node-1", "node-2")
	s.ready.Store(false)
	update := func(key string, value property.Value) error {
		_, err := s.Update(p.UpdateRequest{ID: "node-2", Urn: urn("Seat", "s"), State: s.seat(), Inputs: s.seat().Set(key, value)})
		return err
	}
	if err := update("drainTimeout", property.New(9.0)); err != nil {
		t.Errorf("another limit: %v", err)
	}
	if err := update("vm", property.New("i-2")); err == nil {
		t.Error("another VM was not waited for")
	}
}
