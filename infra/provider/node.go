package provider

import (
	"context"
	"os"
	"strconv"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"hypercache/infra/provider/machine"
)

// forceDeleteVariable gives a node's data up for one run of the CLI, without a deployment of forceDelete before.
const forceDeleteVariable = "HYPERCACHE_FORCE_DELETE"

type tokenModule = tokens.ModuleName

// Node is one cache node, a process of this machine.
type Node struct{}

// Annotate describes the resource in the schema.
func (n *Node) Annotate(a infer.Annotator) {
	a.Describe(&n, "A cache node that runs as a process of this machine, with its data in the site's directory.")
}

// NodeArgs are a Node's inputs. Nothing in them may depend on how many nodes the cluster has beyond the third, or growing the
// cluster would restart the nodes it has.
type NodeArgs struct {
	Directory       string `pulumi:"directory"`
	Name            string `pulumi:"name"`
	Address         string `pulumi:"address"`
	RESPPort        int    `pulumi:"respPort"`
	HTTPPort        int    `pulumi:"httpPort"`
	GossipPort      int    `pulumi:"gossipPort"`
	RPCPort         int    `pulumi:"rpcPort"`
	TLS             bool   `pulumi:"tls"`
	Binary          string `pulumi:"binary"`
	BinarySHA256    string `pulumi:"binarySha256"`
	Config          string `pulumi:"config"`
	GossipKey       string `pulumi:"gossipKey" provider:"secret"`
	ClusterSecret   string `pulumi:"clusterSecret" provider:"secret"`
	Password        string `pulumi:"password,optional" provider:"secret"`
	BootstrapExpect int    `pulumi:"bootstrapExpect"`
	ReadyTimeout    int    `pulumi:"readyTimeout"`
	DrainTimeout    int    `pulumi:"drainTimeout"`
	StopTimeout     int    `pulumi:"stopTimeout"`
	ForceDelete     bool   `pulumi:"forceDelete"`
}

// Annotate describes the inputs in the schema.
func (n *NodeArgs) Annotate(a infer.Annotator) {
	a.Describe(&n.Directory, "The site's directory.")
	a.Describe(&n.Name, "The node's name and node_id.")
	a.Describe(&n.Address, "IP address that it listens on.")
	a.Describe(&n.TLS, "Its HTTP interface speaks TLS.")
	a.Describe(&n.Binary, "Path of the node program. A copy of it is what runs.")
	a.Describe(&n.BinarySHA256, "The program's SHA-256. Another one restarts the node.")
	a.Describe(&n.Config, "The node's configuration file without secrets. A change restarts the node.")
	a.Describe(&n.GossipKey, "The site's gossip key.")
	a.Describe(&n.ClusterSecret, "The site's cluster secret.")
	a.Describe(&n.Password, "The site's password. Empty: clients need none.")
	a.Describe(&n.BootstrapExpect, "How many nodes form the first cluster together.")
	a.Describe(&n.ReadyTimeout, "Seconds from the start until it must be ready, and that others may take before it is stopped.")
	a.Describe(&n.DrainTimeout, "Seconds for handing its data over before it leaves.")
	a.Describe(&n.StopTimeout, "Seconds from SIGTERM to SIGKILL.")
	a.Describe(&n.ForceDelete, "Remove it even when its data could not be handed over.")
}

// NodeState is a Node's state.
type NodeState struct {
	NodeArgs
	PID    int    `pulumi:"pid"`
	Status string `pulumi:"status"`
}

// Annotate describes the outputs in the schema.
func (n *NodeState) Annotate(a infer.Annotator) {
	a.Describe(&n.PID, "The process.")
	a.Describe(&n.Status, "running, sick (it runs and does not serve) or stopped, as of the last look.")
}

func (a NodeArgs) spec() machine.Spec {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return machine.Spec{
		Name: a.Name, Address: a.Address, RESP: a.RESPPort, HTTP: a.HTTPPort, Gossip: a.GossipPort, RPC: a.RPCPort, TLS: a.TLS,
		Program: a.Binary, SHA256: a.BinarySHA256, Config: a.Config, GossipKey: a.GossipKey, ClusterSecret: a.ClusterSecret,
		Password: a.Password, BootstrapExpect: a.BootstrapExpect, ReadyTimeout: seconds(a.ReadyTimeout), DrainTimeout: seconds(a.DrainTimeout),
		StopTimeout: seconds(a.StopTimeout), ForceDelete: a.ForceDelete,
	}
}

// runtime is the part of the inputs that a running process depends on. The path that the program was copied from does
// not matter, its checksum does; limits and manners apply to later operations.
func (a NodeArgs) runtime() NodeArgs {
	a.Binary, a.ReadyTimeout, a.DrainTimeout, a.StopTimeout, a.ForceDelete = "", 0, 0, 0, false
	return a
}

// Create starts the node, with the data of an earlier life if there is one.
func (*Node) Create(ctx context.Context, req infer.CreateRequest[NodeArgs]) (infer.CreateResponse[NodeState], error) {
	resp := infer.CreateResponse[NodeState]{ID: req.Inputs.Name, Output: NodeState{NodeArgs: req.Inputs}}
	if req.DryRun {
		return resp, nil
	}
	process, err := site(ctx, req.Inputs.Directory).Start(ctx, req.Inputs.spec())
	resp.Output.PID, resp.Output.Status = process.PID, string(machine.Running)
	return resp, err
}

// Read looks whether the process is there and serves.
func (*Node) Read(
	ctx context.Context, req infer.ReadRequest[NodeArgs, NodeState],
) (infer.ReadResponse[NodeArgs, NodeState], error) {
	resp := infer.ReadResponse[NodeArgs, NodeState](req)
	status, process, known, err := site(ctx, req.State.Directory).Status(ctx, req.State.Name)
	if err != nil {
		return resp, err
	}
	if !known {
		return infer.ReadResponse[NodeArgs, NodeState]{}, nil // somebody removed its directory: nothing is left of it
	}
	resp.State.Status, resp.State.PID = string(status), process.PID
	return resp, nil
}

// Diff finds what changed. A node that is not running differs from what it shall be, whatever its inputs.
func (*Node) Diff(_ context.Context, req infer.DiffRequest[NodeArgs, NodeState]) (infer.DiffResponse, error) {
	changes := map[string]p.PropertyDiff{}
	old, now := req.State.NodeArgs, req.Inputs
	field := func(name string, same bool) {
		if !same {
			changes[name] = p.PropertyDiff{Kind: p.Update, InputDiff: true}
		}
	}
	field("address", old.Address == now.Address)
	field("respPort", old.RESPPort == now.RESPPort)
	field("httpPort", old.HTTPPort == now.HTTPPort)
	field("gossipPort", old.GossipPort == now.GossipPort)
	field("rpcPort", old.RPCPort == now.RPCPort)
	field("tls", old.TLS == now.TLS)
	field("binary", old.Binary == now.Binary)
	field("binarySha256", old.BinarySHA256 == now.BinarySHA256)
	field("config", old.Config == now.Config)
	field("gossipKey", old.GossipKey == now.GossipKey)
	field("clusterSecret", old.ClusterSecret == now.ClusterSecret)
	field("password", old.Password == now.Password)
	field("bootstrapExpect", old.BootstrapExpect == now.BootstrapExpect)
	field("readyTimeout", old.ReadyTimeout == now.ReadyTimeout)
	field("drainTimeout", old.DrainTimeout == now.DrainTimeout)
	field("stopTimeout", old.StopTimeout == now.StopTimeout)
	field("forceDelete", old.ForceDelete == now.ForceDelete)
	if req.State.Status != string(machine.Running) {
		changes["status"] = p.PropertyDiff{Kind: p.Update}
	}
	// Another name or directory is another node, whose data is elsewhere. Ports are taken until the old one is gone.
	for name, same := range map[string]bool{"name": old.Name == now.Name, "directory": old.Directory == now.Directory} {
		if !same {
			changes[name] = p.PropertyDiff{Kind: p.UpdateReplace, InputDiff: true}
		}
	}
	return infer.DiffResponse{DeleteBeforeReplace: true, HasChanges: len(changes) > 0, DetailedDiff: changes}, nil
}

// Update restarts the node behind the health gate if it must, and heals one that is not running.
func (*Node) Update(
	ctx context.Context, req infer.UpdateRequest[NodeArgs, NodeState],
) (infer.UpdateResponse[NodeState], error) {
	resp := infer.UpdateResponse[NodeState]{Output: NodeState{NodeArgs: req.Inputs, PID: req.State.PID, Status: string(machine.Running)}}
	if req.DryRun {
		return resp, nil
	}
	s := site(ctx, req.Inputs.Directory)
	if req.State.runtime() == req.Inputs.runtime() {
		// Perhaps it only was busy when it was looked at, or only limits changed.
		status, process, _, err := s.Status(ctx, req.Inputs.Name)
		if err == nil && status == machine.Running {
			resp.Output.PID = process.PID
			return resp, nil
		}
	}
	process, err := s.Restart(ctx, req.Inputs.spec())
	resp.Output.PID = process.PID
	return resp, err
}

// Delete hands the node's data over if the cluster stays, stops it and removes its directory.
func (*Node) Delete(ctx context.Context, req infer.DeleteRequest[NodeState]) (infer.DeleteResponse, error) {
	spec := req.State.spec()
	if force, err := strconv.ParseBool(os.Getenv(forceDeleteVariable)); err == nil && force {
		spec.ForceDelete = true
	}
	return infer.DeleteResponse{}, site(ctx, req.State.Directory).Remove(ctx, spec)
}
