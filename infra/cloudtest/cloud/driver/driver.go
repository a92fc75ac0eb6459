// Package driver plays the part of the Pulumi CLI in tests of the emulated clouds: it serves a provider on loopback,
// talks to it over gRPC and does for one resource at a time what the engine does: check, then create; check, diff,
// then update or replace; read; delete.
//
// It keeps the state of each resource, and no order between them: that is the test's. It deletes before it replaces.
package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"hypercache/infra/cloudtest/cloud"
)

// patience bounds every call.
const patience = 30 * time.Second

// Driver is one configured provider and the resources made through it.
type Driver struct {
	server    *cloud.Server
	conn      *grpc.ClientConn
	client    pulumirpc.ResourceProviderClient
	resources map[string]*Resource
	order     []string
}

// Resource is what Pulumi keeps of one.
type Resource struct {
	Token, Name, ID string
	Inputs, Outputs resource.PropertyMap
}

// Out is the output as a string.
func (r *Resource) Out(key string) string {
	v := r.Outputs[resource.PropertyKey(key)]
	if v.IsSecret() {
		v = v.SecretValue().Element
	}
	if !v.IsString() {
		return ""
	}
	return v.StringValue()
}

// Invalid is the problems that Check found.
type Invalid []cloud.Problem

func (e Invalid) Error() string {
	var list []string
	for _, p := range e {
		list = append(list, p.Property+": "+p.Reason)
	}
	return strings.Join(list, "; ")
}

// Plan is what Diff decided.
type Plan string

// The three outcomes of a Diff.
const (
	Same    Plan = "same"
	Update  Plan = "update"
	Replace Plan = "replace"
)

// Serve starts p, attaches to it and configures it.
func Serve(p *cloud.Provider, config map[string]any) (*Driver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	server, err := cloud.Serve(p, l, nil)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("attach: %w", err)
	}
	d := &Driver{server: server, conn: conn, client: pulumirpc.NewResourceProviderClient(conn),
		resources: map[string]*Resource{}}
	args, err := send(cloud.Values(config))
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err = d.client.Configure(ctx, &pulumirpc.ConfigureRequest{Args: args})
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("configure: %w", err)
	}
	return d, nil
}

// Close ends the connection and the server.
func (d *Driver) Close() {
	_ = d.conn.Close()
	d.server.Close()
}

// Client is the raw protocol.
func (d *Driver) Client() pulumirpc.ResourceProviderClient { return d.client }

// Get is a resource that was made; nil if there is none of that name.
func (d *Driver) Get(name string) *Resource { return d.resources[name] }

func send(m resource.PropertyMap) (*structpb.Struct, error) {
	return plugin.MarshalProperties(m, plugin.MarshalOptions{KeepUnknowns: true, SkipNulls: true,
		ComputeAssetHashes: true})
}

func receive(st *structpb.Struct) (resource.PropertyMap, error) {
	return plugin.UnmarshalProperties(st,
		plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, SkipNulls: true})
}

func urn(token, name string) string {
	return string(resource.NewURN("test", "cloudtest", "", tokens.Type(token), name))
}

// Check returns the inputs as the provider completes them; problems are an Invalid.
func (d *Driver) Check(token, name string, inputs map[string]any, olds resource.PropertyMap) (resource.PropertyMap,
	error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	news, err := send(cloud.Values(inputs))
	if err != nil {
		return nil, err
	}
	old, err := send(olds)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Check(ctx, &pulumirpc.CheckRequest{Urn: urn(token, name), News: news, Olds: old})
	if err != nil {
		return nil, err
	}
	var problems Invalid
	for _, f := range resp.GetFailures() {
		problems = append(problems, cloud.Problem{Property: f.GetProperty(), Reason: f.GetReason()})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return receive(resp.GetInputs())
}

// Create checks and makes a resource.
func (d *Driver) Create(token, name string, inputs map[string]any) (*Resource, error) {
	checked, err := d.Check(token, name, inputs, nil)
	if err != nil {
		return nil, err
	}
	return d.create(token, name, checked)
}

func (d *Driver) create(token, name string, checked resource.PropertyMap) (*Resource, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := send(checked)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Create(ctx, &pulumirpc.CreateRequest{Urn: urn(token, name), Properties: st})
	if err != nil {
		return nil, err
	}
	outputs, err := receive(resp.GetProperties())
	if err != nil {
		return nil, err
	}
	r := &Resource{Token: token, Name: name, ID: resp.GetId(), Inputs: checked, Outputs: outputs}
	d.resources[name] = r
	d.order = append(d.order, name)
	return r, nil
}

// Preview checks and plans a creation: outputs that are not known yet are computed values.
func (d *Driver) Preview(token, name string, inputs map[string]any) (resource.PropertyMap, error) {
	checked, err := d.Check(token, name, inputs, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := send(checked)
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Create(ctx, &pulumirpc.CreateRequest{Urn: urn(token, name), Properties: st, Preview: true})
	if err != nil {
		return nil, err
	}
	return receive(resp.GetProperties())
}

// Diff says what new inputs would mean, and which top-level inputs force a replacement.
func (d *Driver) Diff(name string, inputs map[string]any) (Plan, []string, error) {
	_, plan, replaces, err := d.diff(name, inputs)
	return plan, replaces, err
}

func (d *Driver) diff(name string, inputs map[string]any) (resource.PropertyMap, Plan, []string, error) {
	r := d.resources[name]
	if r == nil {
		return nil, "", nil, fmt.Errorf("there is no resource %s", name)
	}
	checked, err := d.Check(r.Token, name, inputs, r.Inputs)
	if err != nil {
		return nil, "", nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	news, err1 := send(checked)
	oldInputs, err2 := send(r.Inputs)
	olds, err3 := send(r.Outputs)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, "", nil, err
	}
	resp, err := d.client.Diff(ctx, &pulumirpc.DiffRequest{
		Id: r.ID, Urn: urn(r.Token, name), Olds: olds, News: news, OldInputs: oldInputs,
	})
	switch {
	case err != nil:
		return nil, "", nil, err
	case len(resp.GetReplaces()) > 0:
		return checked, Replace, resp.GetReplaces(), nil
	case resp.GetChanges() == pulumirpc.DiffResponse_DIFF_SOME:
		return checked, Update, nil, nil
	default:
		return checked, Same, nil, nil
	}
}

// Apply gives a resource new inputs: it is updated, or deleted and made again.
func (d *Driver) Apply(name string, inputs map[string]any) (*Resource, Plan, error) {
	checked, plan, _, err := d.diff(name, inputs)
	if err != nil || plan == Same {
		return d.resources[name], plan, err
	}
	r := d.resources[name]
	if plan == Replace {
		if err := d.Delete(name); err != nil {
			return nil, plan, err
		}
		made, err := d.Create(r.Token, name, inputs)
		return made, plan, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	news, err1 := send(checked)
	oldInputs, err2 := send(r.Inputs)
	olds, err3 := send(r.Outputs)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, plan, err
	}
	resp, err := d.client.Update(ctx, &pulumirpc.UpdateRequest{
		Id: r.ID, Urn: urn(r.Token, name), Olds: olds, News: news, OldInputs: oldInputs,
	})
	if err != nil {
		return nil, plan, err
	}
	r.Inputs = checked
	r.Outputs, err = receive(resp.GetProperties())
	return r, plan, err
}

// Refresh reads a resource; found is false if it is gone, and then it is forgotten.
func (d *Driver) Refresh(name string) (found bool, err error) {
	r := d.resources[name]
	if r == nil {
		return false, fmt.Errorf("there is no resource %s", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	inputs, err1 := send(r.Inputs)
	outputs, err2 := send(r.Outputs)
	if err := errors.Join(err1, err2); err != nil {
		return false, err
	}
	resp, err := d.client.Read(ctx, &pulumirpc.ReadRequest{Id: r.ID, Urn: urn(r.Token, name), Properties: outputs,
		Inputs: inputs})
	if err != nil {
		return false, err
	}
	if resp.GetId() == "" {
		d.forget(name)
		return false, nil
	}
	if r.Inputs, err = receive(resp.GetInputs()); err != nil {
		return true, err
	}
	r.Outputs, err = receive(resp.GetProperties())
	return true, err
}

// Delete removes a resource.
func (d *Driver) Delete(name string) error {
	r := d.resources[name]
	if r == nil {
		return fmt.Errorf("there is no resource %s", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	inputs, err1 := send(r.Inputs)
	outputs, err2 := send(r.Outputs)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, err := d.client.Delete(ctx, &pulumirpc.DeleteRequest{Id: r.ID, Urn: urn(r.Token, name), Properties: outputs,
		OldInputs: inputs})
	if err != nil {
		return err
	}
	d.forget(name)
	return nil
}

func (d *Driver) forget(name string) {
	delete(d.resources, name)
	d.order = slices.DeleteFunc(d.order, func(n string) bool { return n == name })
}

// Destroy deletes everything, the youngest first, and stops at the first refusal.
func (d *Driver) Destroy() error {
	for len(d.order) > 0 {
		if err := d.Delete(d.order[len(d.order)-1]); err != nil {
			return err
		}
	}
	return nil
}

// Invoke calls a function.
func (d *Driver) Invoke(token string, args map[string]any) (resource.PropertyMap, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	st, err := send(cloud.Values(args))
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Invoke(ctx, &pulumirpc.InvokeRequest{Tok: token, Args: st})
	if err != nil {
		return nil, err
	}
	var problems Invalid
	for _, f := range resp.GetFailures() {
		problems = append(problems, cloud.Problem{Property: f.GetProperty(), Reason: f.GetReason()})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return receive(resp.GetReturn())
}

// With is inputs with some of them changed; a nil value takes one away.
func With(inputs map[string]any, changes map[string]any) map[string]any {
	out := maps.Clone(inputs)
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}
