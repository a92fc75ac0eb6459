package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// provider speaks the protocol for one Provider.
//
// It does not accept secrets, as the true providers do not: the engine then sends plain values and marks outputs
// secret that have the path of a secret input. Outputs that a kind marks secret stay so.
type provider struct {
	pulumirpc.UnimplementedResourceProviderServer
	p   *Provider
	log *slog.Logger
	ctx context.Context // ends with the server
}

func (s *provider) in(st *structpb.Struct) (resource.PropertyMap, error) {
	m, err := plugin.UnmarshalProperties(st,
		plugin.MarshalOptions{Label: s.p.Name, KeepUnknowns: true, SkipNulls: true})
	if err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	if m == nil {
		m = resource.PropertyMap{}
	}
	return m, nil
}

func (s *provider) out(m resource.PropertyMap) (*structpb.Struct, error) {
	st, err := plugin.MarshalProperties(m, plugin.MarshalOptions{
		Label: s.p.Name, KeepUnknowns: true, KeepSecrets: true, SkipNulls: true,
		WorkingDirectory: s.p.Dir, ComputeAssetHashes: true,
	})
	if err != nil {
		return nil, fmt.Errorf("write properties: %w", err)
	}
	return st, nil
}

// kind finds the type of a resource and prepares the call.
func (s *provider) kind(ctx context.Context, urn, id string) (*Kind, *Call, error) {
	u := resource.URN(urn)
	c := &Call{
		Ctx: ctx, URN: u, Token: string(u.Type()), Name: u.Name(), ID: id, dir: s.p.Dir, Config: sessionOf(ctx).get(),
		Inputs: resource.PropertyMap{}, OldInputs: resource.PropertyMap{}, OldOutputs: resource.PropertyMap{},
	}
	k, ok := s.p.Kinds[c.Token]
	switch {
	case ok:
		return k, c, nil
	case s.p.Shapes.Resources[c.Token] != nil:
		return nil, nil, status.Errorf(codes.Unimplemented, "resource type %s exists but is not emulated", c.Token)
	default:
		return nil, nil, status.Errorf(codes.InvalidArgument, "unknown resource type %s%s", c.Token,
			meant(c.Token, maps.Keys(s.p.Kinds)))
	}
}

// load reads several property sets at once.
func (s *provider) load(pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		m, err := s.in(pairs[i+1].(*structpb.Struct))
		if err != nil {
			return err
		}
		*pairs[i].(*resource.PropertyMap) = m
	}
	return nil
}

func (s *provider) Handshake(
	context.Context, *pulumirpc.ProviderHandshakeRequest,
) (*pulumirpc.ProviderHandshakeResponse, error) {
	return &pulumirpc.ProviderHandshakeResponse{SupportsAutonamingConfiguration: true}, nil
}

func (s *provider) Attach(context.Context, *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s *provider) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s *provider) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: s.p.Shapes.version()}, nil
}

func (s *provider) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	return &pulumirpc.GetSchemaResponse{Schema: "{}"}, nil
}

// version is the one in "module@vX.Y.Z".
func (s *Shapes) version() string {
	_, v, _ := strings.Cut(s.Source, "@v")
	v, _, _ = strings.Cut(v, " ") // one of several modules
	return v
}

func (s *provider) CheckConfig(ctx context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	m, err := s.in(req.GetNews())
	if err != nil {
		return nil, err
	}
	resp := &pulumirpc.CheckResponse{Inputs: req.GetNews()}
	if len(s.p.Shapes.Config) > 0 {
		plain := withDecoded(s.p.Shapes.Config, m)
		delete(plain, "version")
		delete(plain, "pluginDownloadURL")
		resp.Failures = failures(s.p.Shapes.check(s.p.Shapes.Config, plain))
	}
	return resp, nil
}

func (s *provider) DiffConfig(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	var older, newer resource.PropertyMap
	olds := req.GetOldInputs()
	if olds == nil {
		olds = req.GetOlds()
	}
	if err := s.load(&older, olds, &newer, req.GetNews()); err != nil {
		return nil, err
	}
	k := &Kind{}
	return k.response(&Call{}, k.changes(older, newer)), nil
}

func (s *provider) Configure(ctx context.Context, req *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse,
	error) {
	m, err := s.in(req.GetArgs())
	if err != nil {
		return nil, err
	}
	m = withDecoded(s.p.Shapes.Config, m)
	sessionOf(ctx).set(m)
	if s.p.Configure != nil {
		if err := s.p.Configure(&Call{Ctx: ctx, Token: "pulumi:providers:" + s.p.Name, Inputs: m, Config: m,
			dir: s.p.Dir}); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	return &pulumirpc.ConfigureResponse{SupportsPreview: true, SupportsAutonamingConfiguration: true}, nil
}

func (s *provider) Check(ctx context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), "")
	if err != nil {
		return nil, err
	}
	if err := s.load(&c.Inputs, req.GetNews(), &c.OldInputs, req.GetOlds()); err != nil {
		return nil, err
	}
	skip := false
	if err := s.p.intercept(StageCheck, c); errors.Is(err, ErrSkip) {
		skip = true
	} else if err != nil {
		return &pulumirpc.CheckResponse{Inputs: req.GetNews(),
			Failures: failures([]Problem{{Reason: err.Error()}})}, nil
	}
	problems := s.p.Shapes.check(s.p.Shapes.Resources[c.Token].Inputs, c.Inputs)
	if k.Auto != nil {
		problems = append(problems, k.Auto.fill(c, req.GetRandomSeed(), req.GetAutonaming())...)
	}
	if k.Check != nil && len(problems) == 0 && !skip {
		problems = k.Check(c)
	}
	inputs, err := s.out(c.Inputs)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: inputs, Failures: failures(problems)}, nil
}

func failures(problems []Problem) []*pulumirpc.CheckFailure {
	var list []*pulumirpc.CheckFailure
	for _, p := range problems {
		list = append(list, &pulumirpc.CheckFailure{Property: p.Property, Reason: p.Reason})
	}
	return list
}

func (s *provider) Diff(ctx context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), req.GetId())
	if err != nil {
		return nil, err
	}
	err = s.load(&c.Inputs, req.GetNews(), &c.OldInputs, req.GetOldInputs(), &c.OldOutputs, req.GetOlds())
	if err != nil {
		return nil, err
	}
	return k.response(c, ignore(k.changes(c.OldInputs, c.Inputs), req.GetIgnoreChanges())), nil
}

// ignore drops the changes that the program does not want to know of.
func ignore(found []change, paths []string) []change {
	var left []change
	for _, ch := range found {
		if !covers(paths, ch.plain) && !covers(paths, ch.path) {
			left = append(left, ch)
		}
	}
	return left
}

func (s *provider) Create(ctx context.Context, req *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), "")
	if err != nil {
		return nil, err
	}
	if err := s.load(&c.Inputs, req.GetProperties()); err != nil {
		return nil, err
	}
	if req.GetPreview() {
		outputs, err := s.out(overlay(c.Inputs, s.p.Shapes.unknownOutputs(c.Token, c.Inputs)))
		return &pulumirpc.CreateResponse{Properties: outputs}, err
	}
	ctx, stop := s.bound(ctx)
	defer stop()
	c.Ctx = ctx
	var outputs resource.PropertyMap
	if err = s.p.intercept(StageCreate, c); err == nil {
		c.ID = c.Name
		if k.Create != nil {
			c.ID = ""
			c.ID, outputs, err = k.Create(c)
		}
	}
	s.done(StageCreate, c, err)
	if errors.Is(err, ErrSkip) {
		c.ID, err = "skipped-"+c.Name, nil
		s.p.setSkipped(c.ID, true)
	}
	if err != nil && c.ID == "" {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	properties, outErr := s.out(k.secret(overlay(c.Inputs, outputs)))
	if outErr != nil {
		return nil, outErr
	}
	if err != nil {
		return nil, initFailed(c.ID, properties, err)
	}
	return &pulumirpc.CreateResponse{Id: c.ID, Properties: properties}, nil
}

// initFailed says that a resource exists without having come up.
func initFailed(id string, properties *structpb.Struct, err error) error {
	return rpcerror.WithDetails(rpcerror.New(codes.Unknown, err.Error()),
		&pulumirpc.ErrorResourceInitFailed{Id: id, Properties: properties, Reasons: []string{err.Error()}})
}

// bound ends a call when the server closes, also if the CLI still waits for it.
func (s *provider) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (s *provider) done(stage string, c *Call, err error) {
	s.p.record(stage, c, err)
	level := slog.LevelDebug
	if err != nil && !errors.Is(err, ErrSkip) {
		level = slog.LevelWarn
	}
	s.log.Log(c.Ctx, level, stage, "token", c.Token, "name", c.Name, "id", c.ID, "error", err)
}

func (s *provider) Read(ctx context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), req.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.load(&c.OldOutputs, req.GetProperties(), &c.OldInputs, req.GetInputs()); err != nil {
		return nil, err
	}
	c.Inputs = maps.Clone(c.OldInputs)
	unchanged := &pulumirpc.ReadResponse{Id: c.ID, Properties: req.GetProperties(), Inputs: req.GetInputs()}
	err = s.p.intercept(StageRead, c)
	switch {
	case errors.Is(err, ErrSkip) || s.p.isSkipped(c.ID):
		return unchanged, nil
	case err != nil:
		return nil, status.Error(codes.Unknown, err.Error())
	case k.Read == nil:
		return unchanged, nil
	}
	outputs, found, err := k.Read(c)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	if !found {
		return &pulumirpc.ReadResponse{}, nil
	}
	return s.readResponse(k, c, outputs)
}

// readResponse lets inputs follow outputs of the same name that are not what Pulumi remembers, so that the next
// update sees the drift.
func (s *provider) readResponse(k *Kind, c *Call, outputs resource.PropertyMap) (*pulumirpc.ReadResponse, error) {
	for key, now := range outputs {
		_, input := c.Inputs[key]
		if old, ok := c.OldOutputs[key]; input && ok && !old.DeepEquals(now) {
			c.Inputs[key] = now
		}
	}
	properties, err := s.out(k.secret(overlay(overlay(c.OldOutputs, c.Inputs), outputs)))
	if err != nil {
		return nil, err
	}
	inputs, err := s.out(c.Inputs)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.ReadResponse{Id: c.ID, Properties: properties, Inputs: inputs}, nil
}

func (s *provider) Update(ctx context.Context, req *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), req.GetId())
	if err != nil {
		return nil, err
	}
	err = s.load(&c.Inputs, req.GetNews(), &c.OldInputs, req.GetOldInputs(), &c.OldOutputs, req.GetOlds())
	if err != nil {
		return nil, err
	}
	base := overlay(dropped(c.OldOutputs, c.OldInputs, c.Inputs), c.Inputs)
	if req.GetPreview() {
		properties, err := s.out(k.secret(base))
		return &pulumirpc.UpdateResponse{Properties: properties}, err
	}
	ctx, stop := s.bound(ctx)
	defer stop()
	c.Ctx = ctx
	for _, ch := range ignore(k.changes(c.OldInputs, c.Inputs), req.GetIgnoreChanges()) {
		c.Changed = append(c.Changed, ch.plain)
	}
	var outputs resource.PropertyMap
	if err = s.p.intercept(StageUpdate, c); err == nil && !s.p.isSkipped(c.ID) {
		outputs, err = k.update(c)
	}
	s.done(StageUpdate, c, err)
	if err != nil && !errors.Is(err, ErrSkip) {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	properties, err := s.out(k.secret(overlay(overlay(dropped(c.OldOutputs, c.OldInputs, c.Inputs), c.Inputs),
		outputs)))
	return &pulumirpc.UpdateResponse{Properties: properties}, err
}

func (k *Kind) update(c *Call) (resource.PropertyMap, error) {
	for _, path := range c.Changed {
		if covers(k.Immutable, path) {
			return nil, fmt.Errorf("Code=%q Message=\"Changing property '%s' is not allowed.\" Target=%q",
				"PropertyChangeNotAllowed", path, path)
		}
	}
	if k.Update == nil {
		return nil, nil
	}
	return k.Update(c)
}

func (s *provider) Delete(ctx context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	k, c, err := s.kind(ctx, req.GetUrn(), req.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.load(&c.OldOutputs, req.GetProperties(), &c.OldInputs, req.GetOldInputs()); err != nil {
		return nil, err
	}
	c.Inputs = maps.Clone(c.OldInputs)
	ctx, stop := s.bound(ctx)
	defer stop()
	c.Ctx = ctx
	err = s.p.intercept(StageDelete, c)
	switch {
	case err != nil:
	case s.p.isSkipped(c.ID):
		s.p.setSkipped(c.ID, false)
	case k.Delete != nil:
		err = k.Delete(c)
	}
	s.done(StageDelete, c, err)
	if err != nil && !errors.Is(err, ErrSkip) {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &emptypb.Empty{}, nil
}

func (s *provider) Invoke(ctx context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	token := req.GetTok()
	f, ok := s.p.Functions[token]
	if !ok {
		if s.p.Shapes.Functions[token] != nil {
			return nil, status.Errorf(codes.Unimplemented, "function %s exists but is not emulated", token)
		}
		return nil, status.Errorf(codes.InvalidArgument, "unknown function %s%s", token,
			meant(token, maps.Keys(s.p.Functions)))
	}
	args, err := s.in(req.GetArgs())
	if err != nil {
		return nil, err
	}
	if shape := s.p.Shapes.Functions[token]; shape != nil {
		if problems := s.p.Shapes.check(shape.Inputs, args); len(problems) > 0 {
			return &pulumirpc.InvokeResponse{Failures: failures(problems)}, nil
		}
	}
	c := &Call{
		Ctx: ctx, Token: token, Inputs: args, Config: sessionOf(ctx).get(), Preview: req.GetPreview(), dir: s.p.Dir,
		OldInputs: resource.PropertyMap{}, OldOutputs: resource.PropertyMap{},
	}
	if err := s.p.intercept(StageInvoke, c); err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	result, err := f(c)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	st, err := s.out(result)
	return &pulumirpc.InvokeResponse{Return: st}, err
}
