package provider

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"hypercache/infra/provider/fleet"
)

// fleets remembers, for one run of the CLI, the clusters whose program has said which nodes they shall have. Pulumi calls Check
// for every resource that a program registers, changed or not, and calls it before it deletes anything; in `pulumi destroy`
// no program runs and nothing is known. So a node that goes while its cluster is known is one that leaves it, and one that goes
// otherwise goes along with all.
type fleets struct {
	mu    sync.Mutex
	known map[string]fleet.Fleet // by cluster
}

func (f *fleets) set(cluster string, to fleet.Fleet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = map[string]fleet.Fleet{}
	}
	f.known[cluster] = to
}

// get returns the cluster's fleet, with progress going to the user's terminal.
func (f *fleets) get(ctx context.Context, cluster string) (fleet.Fleet, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known, ok := f.known[cluster]
	known.Nodes = maps.Clone(known.Nodes)
	known.Say = p.GetLogger(ctx).Infof
	return known, ok
}

// Fleet is the list of nodes that a cluster of VMs shall have.
type Fleet struct{ fleets *fleets }

// Annotate describes the resource in the schema.
func (f *Fleet) Annotate(a infer.Annotator) {
	a.Describe(&f, "The nodes that a cluster of VMs shall have, and how to reach them. Gates and seats must depend on it.")
}

// FleetArgs are a Fleet's inputs.
type FleetArgs struct {
	Cluster  string            `pulumi:"cluster"`
	Nodes    map[string]string `pulumi:"nodes"`
	Founders int               `pulumi:"founders"`
	Proxy    string            `pulumi:"proxy"`
	Off      bool              `pulumi:"off"`
}

// Annotate describes the inputs in the schema.
func (f *FleetArgs) Annotate(a infer.Annotator) {
	a.Describe(&f.Cluster, "The cluster's name.")
	a.Describe(&f.Nodes, "The base URL of each node's HTTP interface, by the node's name.")
	a.Describe(&f.Founders, "How many nodes must have met before the cluster is founded.")
	a.Describe(&f.Proxy, "A SOCKS or HTTP proxy on the way to the nodes. Empty: none.")
	a.Describe(&f.Off, "Look at nothing. Nodes then change one at a time without anybody seeing whether they are well.")
}

// FleetState is a Fleet's state.
type FleetState struct{ FleetArgs }

// Check notes down which nodes there shall be.
func (f *Fleet) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[FleetArgs], error) {
	args, failures, err := infer.DefaultCheck[FleetArgs](ctx, req.NewInputs)
	if err == nil && len(failures) == 0 {
		f.fleets.set(args.Cluster, fleet.Fleet{Nodes: args.Nodes, Founders: args.Founders, Proxy: args.Proxy, Off: args.Off})
	}
	return infer.CheckResponse[FleetArgs]{Inputs: args, Failures: failures}, err
}

// Create has nothing to do: Check did it.
func (*Fleet) Create(_ context.Context, req infer.CreateRequest[FleetArgs]) (infer.CreateResponse[FleetState], error) {
	return infer.CreateResponse[FleetState]{ID: req.Inputs.Cluster, Output: FleetState{req.Inputs}}, nil
}

// Update has nothing to do: Check did it.
func (*Fleet) Update(_ context.Context, req infer.UpdateRequest[FleetArgs, FleetState]) (infer.UpdateResponse[FleetState], error) {
	return infer.UpdateResponse[FleetState]{Output: FleetState{req.Inputs}}, nil
}

// Gate stands before a node's VM.
type Gate struct{ fleets *fleets }

// Annotate describes the resource in the schema.
func (g *Gate) Annotate(a infer.Annotator) {
	a.Describe(&g, "Stands before a node's VM, which must depend on it: when its trigger changes, it waits until all other "+
		"nodes of the cluster are well, and fails otherwise.")
}

// GateArgs are a Gate's inputs.
type GateArgs struct {
	Cluster string `pulumi:"cluster" provider:"replaceOnChanges"`
	Node    string `pulumi:"node" provider:"replaceOnChanges"`
	Trigger string `pulumi:"trigger"`
	Timeout int    `pulumi:"timeout"`
}

// Annotate describes the inputs in the schema.
func (g *GateArgs) Annotate(a infer.Annotator) {
	a.Describe(&g.Cluster, "The cluster's name.")
	a.Describe(&g.Node, "The node's name.")
	a.Describe(&g.Trigger, "Changes when the VM is about to be replaced or restarted, and only then.")
	a.Describe(&g.Timeout, "Seconds to wait for the other nodes.")
}

// GateState is a Gate's state.
type GateState struct{ GateArgs }

// Create lets a new VM through: one more node hurts nobody.
func (*Gate) Create(_ context.Context, req infer.CreateRequest[GateArgs]) (infer.CreateResponse[GateState], error) {
	return infer.CreateResponse[GateState]{ID: req.Inputs.Node, Output: GateState{req.Inputs}}, nil
}

// Update waits for the other nodes. When it fails, the state keeps the old trigger, and the next run looks again.
func (g *Gate) Update(ctx context.Context, req infer.UpdateRequest[GateArgs, GateState]) (infer.UpdateResponse[GateState], error) {
	resp := infer.UpdateResponse[GateState]{Output: GateState{req.Inputs}}
	if req.DryRun || req.Inputs.Trigger == req.State.Trigger {
		return resp, nil
	}
	all, ok := g.fleets.get(ctx, req.Inputs.Cluster)
	if !ok {
		return resp, fmt.Errorf("the gate of %s does not depend on the fleet of %s", req.Inputs.Node, req.Inputs.Cluster)
	}
	if err := all.OthersReady(ctx, req.Inputs.Node, time.Duration(req.Inputs.Timeout)*time.Second); err != nil {
		return resp, fmt.Errorf("%s is left as it is: %w", req.Inputs.Node, err)
	}
	return resp, nil
}

// Seat is a node's place in the cluster.
type Seat struct{ fleets *fleets }

// Annotate describes the resource in the schema.
func (s *Seat) Annotate(a infer.Annotator) {
	a.Describe(&s, "A node's place in a cluster of VMs. It must depend on the node's VM: it waits until the node serves its "+
		"share. When it is deleted while the cluster stays, the node hands its data over first.")
}

// SeatArgs are a Seat's inputs.
type SeatArgs struct {
	Cluster      string `pulumi:"cluster" provider:"replaceOnChanges"`
	Node         string `pulumi:"node" provider:"replaceOnChanges"`
	Trigger      string `pulumi:"trigger"`
	VM           string `pulumi:"vm"`
	URL          string `pulumi:"url"`
	Secret       string `pulumi:"secret" provider:"secret"`
	ReadyTimeout int    `pulumi:"readyTimeout"`
	DrainTimeout int    `pulumi:"drainTimeout"`
	ForceDelete  bool   `pulumi:"forceDelete"`
}

// Annotate describes the inputs in the schema.
func (s *SeatArgs) Annotate(a infer.Annotator) {
	a.Describe(&s.Cluster, "The cluster's name.")
	a.Describe(&s.Node, "The node's name.")
	a.Describe(&s.Trigger, "That of the node's gate.")
	a.Describe(&s.VM, "The VM's id in the cloud.")
	a.Describe(&s.URL, "The base URL of the node's HTTP interface.")
	a.Describe(&s.Secret, "The cluster secret, which the node asks for before it hands its data over.")
	a.Describe(&s.ReadyTimeout, "Seconds until the node must serve its share.")
	a.Describe(&s.DrainTimeout, "Seconds for handing its data over before it leaves.")
	a.Describe(&s.ForceDelete, "Let it go even when its data could not be handed over.")
}

// machine is what a node's readiness depends on. Limits and manners apply to later operations: a change of theirs must not wait
// for a cluster that perhaps is about to be healed further down the chain.
func (a SeatArgs) machine() SeatArgs {
	return SeatArgs{Cluster: a.Cluster, Node: a.Node, Trigger: a.Trigger, VM: a.VM, URL: a.URL}
}

// SeatState is a Seat's state.
type SeatState struct{ SeatArgs }

func (s *Seat) settle(ctx context.Context, a SeatArgs) error {
	all, ok := s.fleets.get(ctx, a.Cluster)
	if !ok {
		return fmt.Errorf("the seat of %s does not depend on the fleet of %s", a.Node, a.Cluster)
	}
	return all.NodeReady(ctx, a.Node, a.URL, time.Duration(a.ReadyTimeout)*time.Second)
}

// Create waits for the node. While the cluster is being founded that is: until it is alive, and for the last founder until it
// serves.
func (s *Seat) Create(ctx context.Context, req infer.CreateRequest[SeatArgs]) (infer.CreateResponse[SeatState], error) {
	resp := infer.CreateResponse[SeatState]{ID: req.Inputs.Node, Output: SeatState{req.Inputs}}
	if req.DryRun {
		return resp, nil
	}
	return resp, s.settle(ctx, req.Inputs)
}

// Update waits for the node of the changed VM. When it fails, the state keeps what was, and the next run waits again before
// it goes on to the next node.
func (s *Seat) Update(ctx context.Context, req infer.UpdateRequest[SeatArgs, SeatState]) (infer.UpdateResponse[SeatState], error) {
	resp := infer.UpdateResponse[SeatState]{Output: SeatState{req.Inputs}}
	if req.DryRun || req.Inputs.machine() == req.State.machine() {
		return resp, nil
	}
	return resp, s.settle(ctx, req.Inputs)
}

// Delete has the node hand its data over if the cluster stays without it.
func (s *Seat) Delete(ctx context.Context, req infer.DeleteRequest[SeatState]) (infer.DeleteResponse, error) {
	a := req.State.SeatArgs
	stays, known := s.fleets.get(ctx, a.Cluster)
	if _, listed := stays.Nodes[a.Node]; !known || listed || len(stays.Nodes) == 0 {
		return infer.DeleteResponse{}, nil
	}
	err := stays.Drain(ctx, a.Node, a.URL, a.Secret, time.Duration(a.DrainTimeout)*time.Second)
	force, parseErr := strconv.ParseBool(os.Getenv(forceDeleteVariable))
	switch {
	case err == nil:
		return infer.DeleteResponse{}, nil
	case a.ForceDelete || parseErr == nil && force:
		p.GetLogger(ctx).Warningf("%v; it is removed all the same, because forceDelete is set", err)
		return infer.DeleteResponse{}, nil
	}
	return infer.DeleteResponse{}, fmt.Errorf("%w. Heal it (set nodeCount back, `pulumi up --refresh`) and try again, or give up "+
		"what only it has: forceDelete: true, or %s=true for one run", err, forceDeleteVariable)
}

// rolloutResources are the resources that share what is known of the clusters.
func rolloutResources() []infer.InferredResource {
	known := &fleets{}
	return []infer.InferredResource{
		infer.Resource(&Fleet{known}), infer.Resource(&Gate{known}), infer.Resource(&Seat{known}),
	}
}
