package provider

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"hypercache/infra/provider/machine"
)

// Name and Version are how the Pulumi engine knows the provider.
const (
	Name    = "hypercache"
	Version = "1.0.0"
)

// New returns the provider.
func New() (p.Provider, error) {
	built, err := infer.NewProviderBuilder().
		WithDescription("HyperCache nodes as processes of this machine, and the order in which nodes on VMs change.").
		WithNamespace("hypercache").
		WithResources(infer.Resource(&Site{}), infer.Resource(&Node{}), infer.Resource(&Roster{})).
		WithResources(rolloutResources()...).
		WithModuleMap(map[tokenModule]tokenModule{"provider": "index"}).
		Build()
	if err != nil {
		return p.Provider{}, fmt.Errorf("describe the provider: %w", err)
	}
	return built, nil
}

// site opens a cluster's directory with progress going to the user's terminal.
func site(ctx context.Context, dir string) machine.Site {
	return machine.Site{Dir: dir, Say: p.GetLogger(ctx).Infof}
}

// Site is the ground that a local cluster stands on.
type Site struct{}

// Annotate describes the resource in the schema.
func (s *Site) Annotate(a infer.Annotator) {
	a.Describe(&s, "The directory of a local cluster and the secrets that its nodes share.")
}

// SiteArgs are a Site's inputs. What came later is optional: the states of older sites lack it.
type SiteArgs struct {
	Directory    string `pulumi:"directory" provider:"replaceOnChanges"`
	WithPassword bool   `pulumi:"withPassword,optional"`
}

// Annotate describes the inputs in the schema.
func (s *SiteArgs) Annotate(a infer.Annotator) {
	a.Describe(&s.Directory, "Absolute path. It is created, and removed with everything in it.")
	a.Describe(&s.WithPassword, "Draw a password for clients as well.")
}

// SiteState is a Site's state.
type SiteState struct {
	SiteArgs
	GossipKey     string `pulumi:"gossipKey" provider:"secret"`
	ClusterSecret string `pulumi:"clusterSecret" provider:"secret"`
	Password      string `pulumi:"password,optional" provider:"secret"`
}

// Annotate describes the outputs in the schema.
func (s *SiteState) Annotate(a infer.Annotator) {
	a.Describe(&s.GossipKey, "Encrypts gossip: base64 of 32 random bytes.")
	a.Describe(&s.ClusterSecret, "Authenticates nodes to each other: base64 of 32 random bytes.")
	a.Describe(&s.Password, "What clients give as the user default: 48 letters and digits. Empty: there is none.")
}

// WireDependencies says which secrets stay, so that the preview of a password does not show the others as about to change.
func (*Site) WireDependencies(f infer.FieldSelector, args *SiteArgs, state *SiteState) {
	f.OutputField(&state.WithPassword).DependsOn(f.InputField(&args.WithPassword))
	f.OutputField(&state.Password).AlwaysKnown() // see Update
	for _, secret := range []*string{&state.GossipKey, &state.ClusterSecret, &state.Password} {
		f.OutputField(secret).AlwaysSecret()
	}
	for _, field := range []*string{&state.Directory, &state.GossipKey, &state.ClusterSecret} {
		f.OutputField(field).DependsOn(f.InputField(&args.Directory))
	}
}

// withPassword draws a password where there shall be one and is none, and forgets one that shall not be.
func (s SiteState) withPassword() SiteState {
	switch {
	case !s.WithPassword:
		s.Password = ""
	case s.Password == "":
		s.Password = randomPassword()
	}
	return s
}

// Create makes the directory and draws the secrets.
func (*Site) Create(_ context.Context, req infer.CreateRequest[SiteArgs]) (infer.CreateResponse[SiteState], error) {
	resp := infer.CreateResponse[SiteState]{ID: req.Inputs.Directory, Output: SiteState{SiteArgs: req.Inputs}}
	if req.DryRun {
		return resp, nil
	}
	if !filepath.IsAbs(req.Inputs.Directory) {
		return resp, fmt.Errorf("directory: %q is not an absolute path", req.Inputs.Directory)
	}
	if err := os.MkdirAll(req.Inputs.Directory, 0o700); err != nil {
		return resp, fmt.Errorf("make site: %w", err)
	}
	resp.Output.GossipKey, resp.Output.ClusterSecret = randomKey(), randomKey()
	resp.Output = resp.Output.withPassword()
	return resp, nil
}

// Update gives the site a password or takes it away; its other secrets stay.
func (*Site) Update(_ context.Context, req infer.UpdateRequest[SiteArgs, SiteState]) (infer.UpdateResponse[SiteState], error) {
	resp := infer.UpdateResponse[SiteState]{Output: req.State}
	resp.Output.SiteArgs = req.Inputs
	if resp.Output = resp.Output.withPassword(); req.DryRun && resp.Output.Password != req.State.Password && req.Inputs.WithPassword {
		// Nodes compare it with theirs and show as about to change, which they would not with one that is not known.
		resp.Output.Password = "drawn by the update"
	}
	return resp, nil
}

func randomKey() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails: it aborts the program instead
	return base64.StdEncoding.EncodeToString(key)
}

// randomPassword has no letter that a URL or a shell would take for something else.
func randomPassword() string {
	word := make([]byte, 24)
	rand.Read(word) // as above
	return hex.EncodeToString(word)
}

// Delete stops what still runs there and removes the directory.
func (*Site) Delete(ctx context.Context, req infer.DeleteRequest[SiteState]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, site(ctx, req.State.Directory).Destroy(ctx)
}

// Roster is the list of nodes that are meant to be there.
type Roster struct{}

// Annotate describes the resource in the schema.
func (r *Roster) Annotate(a infer.Annotator) {
	a.Describe(&r, "The nodes that are meant to be there. It must depend on all of them: it waits until the whole cluster "+
		"is ready, and its deletion tells the nodes that the whole cluster goes.")
}

// RosterArgs are a Roster's inputs.
type RosterArgs struct {
	Directory    string   `pulumi:"directory"`
	Nodes        []string `pulumi:"nodes"`
	ReadyTimeout int      `pulumi:"readyTimeout"`
}

// Annotate describes the inputs in the schema.
func (r *RosterArgs) Annotate(a infer.Annotator) {
	a.Describe(&r.Directory, "The site's directory.")
	a.Describe(&r.Nodes, "Names of all nodes.")
	a.Describe(&r.ReadyTimeout, "Seconds to wait for all of them to be ready.")
}

// RosterState is a Roster's state.
type RosterState struct{ RosterArgs }

func (*Roster) settle(ctx context.Context, args RosterArgs) error {
	s := site(ctx, args.Directory)
	if err := s.Gather(ctx, args.Nodes, time.Duration(args.ReadyTimeout)*time.Second); err != nil {
		return err
	}
	return s.SetRoster(args.Nodes)
}

// Create waits for the whole cluster and notes it down.
func (r *Roster) Create(ctx context.Context, req infer.CreateRequest[RosterArgs]) (infer.CreateResponse[RosterState], error) {
	resp := infer.CreateResponse[RosterState]{ID: req.Name, Output: RosterState{req.Inputs}}
	if req.DryRun {
		return resp, nil
	}
	return resp, r.settle(ctx, req.Inputs)
}

// Update waits for the changed cluster and notes it down.
func (r *Roster) Update(
	ctx context.Context, req infer.UpdateRequest[RosterArgs, RosterState],
) (infer.UpdateResponse[RosterState], error) {
	resp := infer.UpdateResponse[RosterState]{Output: RosterState{req.Inputs}}
	if req.DryRun {
		return resp, nil
	}
	return resp, r.settle(ctx, req.Inputs)
}

// Delete tells the nodes that the whole cluster goes.
func (*Roster) Delete(ctx context.Context, req infer.DeleteRequest[RosterState]) (infer.DeleteResponse, error) {
	return infer.DeleteResponse{}, site(ctx, req.State.Directory).Disband()
}
