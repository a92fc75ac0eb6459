package awscloud

import (
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

//go:generate go run hypercache/infra/cloudtest/cloud/shapegen github.com/pulumi/pulumi-aws/sdk/v6
//go:embed shapes.json
var shapesFile []byte

// Options are what a Cloud is built on.
type Options struct {
	// Compute makes the machines. Nil: a cloud.Memory, and nothing runs.
	Compute cloud.Compute
	// Account is the account's number; empty means 123456789012.
	Account string
	// Now is the clock for signatures, credentials and recovery windows; nil means time.Now.
	Now func() time.Time
	// Dir is where the Pulumi program is, from which paths of files start.
	Dir string
	Log *slog.Logger
}

// Cloud is one AWS account with everything in it. All methods may be called at once.
type Cloud struct {
	compute  cloud.Compute
	account  string
	now      func() time.Time
	log      *slog.Logger
	provider *cloud.Provider

	mu       sync.Mutex // held for the books, never while a machine boots or stops
	items    map[key]*item
	seq      int
	sessions map[string]*session // by access key
	// deletedSecrets are names in their recovery window, by region and name, and when it ends.
	deletedSecrets map[[2]string]time.Time
	metrics        []Metric

	filters sync.Mutex // held while packet filters are computed and set, so that the newest state wins
}

// key names an item: its kind, such as "vpc", and its ID, which is unique within the kind.
type key struct{ kind, id string }

// item is one thing in the account.
type item struct {
	kind, id string
	name     string // Pulumi's
	region   string // empty for what is global
	seq      int    // the order of creation
	in       resource.PropertyMap
	out      resource.PropertyMap // what Read reports beyond the inputs
	extra    any                  // what only the kind knows
}

// tag is the value of one of its tags.
func (it *item) tag(name string) string { return cloud.StrMap(it.out, "tagsAll")[name] }

func (it *item) str(name string) string {
	if v := cloud.Str(it.in, name); v != "" {
		return v
	}
	return cloud.Str(it.out, name)
}

// flag is a switch among its inputs or outputs.
func (it *item) flag(name string) bool {
	return cloud.Bool(it.in, name, cloud.Bool(it.out, name, false))
}

// New returns an empty account.
func New(o Options) (*Cloud, error) {
	shapes, err := cloud.ParseShapes(shapesFile)
	if err != nil {
		return nil, err
	}
	c := &Cloud{
		compute: o.Compute, account: o.Account, now: o.Now, log: o.Log, items: map[key]*item{},
		sessions: map[string]*session{}, deletedSecrets: map[[2]string]time.Time{},
	}
	if c.compute == nil {
		c.compute = cloud.NewMemory()
	}
	if c.account == "" {
		c.account = "123456789012"
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.provider = &cloud.Provider{
		Name: "aws", Shapes: shapes, Dir: o.Dir, Kinds: map[string]*cloud.Kind{}, Functions: c.functions(),
		Configure: c.configure,
	}
	for _, kinds := range []map[string]*cloud.Kind{
		c.networkKinds(), c.gatewayKinds(), c.endpointKinds(), c.securityKinds(), c.machineKinds(),
		c.storageKinds(), c.identityKinds(), c.bucketKinds(),
		c.secretKinds(), c.balancerKinds(), c.dnsKinds(), c.watchKinds(),
	} {
		maps.Copy(c.provider.Kinds, kinds)
	}
	return c, nil
}

// Provider is the account as Pulumi sees it.
func (c *Cloud) Provider() *cloud.Provider { return c.provider }

// configure refuses what the true provider refuses before its first call.
func (c *Cloud) configure(call *cloud.Call) error {
	region := cloud.Str(call.Inputs, "region")
	if region == "" {
		return fmt.Errorf("invalid AWS Region: the stack has no aws:region (pulumi config set aws:region REGION)")
	}
	if _, ok := regions[region]; !ok {
		return fmt.Errorf("invalid AWS Region: %s", region)
	}
	return nil
}

func region(call *cloud.Call) string { return cloud.Str(call.Config, "region") }

// apiError words a refusal as the provider passes it on.
func apiError(doing, service, op string, status int, code, format string, args ...any) error {
	return fmt.Errorf("%s: operation error %s: %s, https response error StatusCode: %d, RequestID: %s, api error %s: "+
		""+
		""+
		"%s",
		doing, service, op, status, randomHex(8), code, fmt.Sprintf(format, args...))
}

// ec2Error is a refusal by EC2.
func ec2Error(doing, op, code, format string, args ...any) error {
	return apiError(doing, "EC2", op, 400, code, format, args...)
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails: it aborts the program instead
	return hex.EncodeToString(b)
}

// uniqueSuffix is what the provider puts behind a name's prefix, 26 digits, which count towards the name's length.
func uniqueSuffix() string { return randomHex(13) }

// checkPrefix holds a name's prefix against what the name's limit leaves.
func checkPrefix(in resource.PropertyMap, property string, limit int) []cloud.Problem {
	most := limit - len(uniqueSuffix())
	if p := cloud.Str(in, property); cloud.Known(in, property) && (len(p) > most || p == "") {
		return []cloud.Problem{cloud.Problemf(property, "expected length of %s to be in the range (1 - %d), got %s",
			property, most, p)}
	}
	return nil
}

// newID is an ID in today's long form, such as vpc-0123456789abcdef0.
func newID(prefix string) string { return prefix + "-0" + randomHex(8) }

func (c *Cloud) arn(service, region, resource string) string {
	return "arn:aws:" + service + ":" + region + ":" + c.account + ":" + resource
}

// add enters a new item into the books; c.mu is held.
func (c *Cloud) add(kind, id string, call *cloud.Call, out map[string]any) *item {
	c.seq++
	it := &item{
		kind: kind, id: id, name: call.Name, region: region(call), seq: c.seq, in: maps.Clone(call.Inputs),
		out: cloud.Values(out),
	}
	c.settle(it, call)
	c.items[key{kind, id}] = it
	return it
}

// settle takes inputs into an item and works out its tags. An output that has an input's name is there for when the
// program does not give it; only those of an instance say more than the inputs.
func (c *Cloud) settle(it *item, call *cloud.Call) {
	it.in = maps.Clone(call.Inputs)
	if it.kind != "instance" {
		for k := range it.in {
			delete(it.out, k)
		}
	}
	if slices.Contains(c.provider.Shapes.Resources[call.Token].Outputs, "tagsAll") {
		all := cloud.Obj(cloud.Obj(call.Config, "defaultTags"), "tags")
		merged := resource.PropertyMap{}
		maps.Copy(merged, all)
		maps.Copy(merged, cloud.Obj(call.Inputs, "tags"))
		it.out["tagsAll"] = resource.NewObjectProperty(merged)
	}
}

// get finds an item in the region; c.mu is held.
func (c *Cloud) get(region, kind, id string) *item {
	it := c.items[key{kind, id}]
	if it == nil || it.region != region && !isGlobal(kind) {
		return nil
	}
	return it
}

// isGlobal are the kinds that exist once for all regions.
func isGlobal(kind string) bool {
	return slices.Contains([]string{"role", "profile", "policy", "attachment", "zone", "record"}, kind)
}

// all are the items of a kind in order of creation; c.mu is held.
func (c *Cloud) all(kind string) []*item {
	var list []*item
	for k, it := range c.items {
		if k.kind == kind {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b *item) int { return a.seq - b.seq })
	return list
}

// find is the oldest item of a kind that matches; c.mu is held.
func (c *Cloud) find(kind string, match func(*item) bool) *item {
	for _, it := range c.all(kind) {
		if match(it) {
			return it
		}
	}
	return nil
}

// books are a kind's functions for what lives in the books alone.
type books struct {
	kind string
	// check is Kind.Check.
	check func(call *cloud.Call) []cloud.Problem
	// create returns the ID and outputs, or refuses; c.mu is held.
	create func(call *cloud.Call) (id string, out map[string]any, err error)
	// update refuses, or changes more than the inputs; c.mu is held. Nil takes the inputs.
	update func(call *cloud.Call, it *item) error
	// remove refuses, or cleans up; c.mu is held. Nil always agrees.
	remove func(call *cloud.Call, it *item) error
	// after runs after each change, without c.mu.
	after func(call *cloud.Call) error

	replace   []string
	replaceIf func(call *cloud.Call, path string) bool
	auto      *cloud.AutoName
	secret    []string
}

// kindOf makes a Kind of books.
func (c *Cloud) kindOf(b books) *cloud.Kind {
	after := func(call *cloud.Call) error {
		if b.after == nil {
			return nil
		}
		return b.after(call)
	}
	return &cloud.Kind{
		Check: b.check, Replace: b.replace, ReplaceIf: b.replaceIf, Auto: b.auto, Secret: b.secret,
		Create: func(call *cloud.Call) (string, resource.PropertyMap, error) {
			c.mu.Lock()
			id, out, err := b.create(call)
			if err != nil {
				c.mu.Unlock()
				return "", nil, err
			}
			it := c.add(b.kind, id, call, out)
			outputs := maps.Clone(it.out)
			c.mu.Unlock()
			return id, outputs, after(call)
		},
		Read: func(call *cloud.Call) (resource.PropertyMap, bool, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			it := c.items[key{b.kind, call.ID}]
			if it == nil {
				return nil, false, nil
			}
			out := maps.Clone(it.in)
			delete(out, "__defaults")
			maps.Copy(out, it.out)
			return out, true, nil
		},
		Update: func(call *cloud.Call) (resource.PropertyMap, error) {
			c.mu.Lock()
			it := c.items[key{b.kind, call.ID}]
			if it == nil {
				c.mu.Unlock()
				return nil, fmt.Errorf("updating %s (%s): couldn't find resource", call.Token, call.ID)
			}
			if b.update != nil {
				if err := b.update(call, it); err != nil {
					c.mu.Unlock()
					return nil, err
				}
			}
			c.settle(it, call)
			outputs := maps.Clone(it.out)
			c.mu.Unlock()
			return outputs, after(call)
		},
		Delete: func(call *cloud.Call) error {
			c.mu.Lock()
			it := c.items[key{b.kind, call.ID}]
			if it == nil {
				c.mu.Unlock()
				return nil
			}
			if b.remove != nil {
				if err := b.remove(call, it); err != nil {
					c.mu.Unlock()
					return err
				}
			}
			delete(c.items, key{b.kind, call.ID})
			c.mu.Unlock()
			return after(call)
		},
	}
}

// changed reports whether an update touches one of the inputs.
func changed(call *cloud.Call, paths ...string) bool {
	return slices.ContainsFunc(call.Changed, func(ch string) bool {
		return slices.ContainsFunc(paths, func(p string) bool { return ch == p || strings.HasPrefix(ch, p+".") })
	})
}

// oneOf is the problem of a value that is none of an enumeration's, as the provider words it.
func oneOf(in resource.PropertyMap, property string, values ...string) []cloud.Problem {
	if v := cloud.Str(in, property); cloud.Known(in, property) && !slices.Contains(values, v) {
		return []cloud.Problem{cloud.Problemf(property, "expected %s to be one of %q, got %s", property, values, v)}
	}
	return nil
}

// between is the problem of a number outside its range.
func between(in resource.PropertyMap, property string, low, high int) []cloud.Problem {
	if n := cloud.Int(in, property); cloud.Known(in, property) && (n < low || n > high) {
		return []cloud.Problem{cloud.Problemf(property, "expected %s to be in the range (%d - %d), got %d",
			property, low, high, n)}
	}
	return nil
}

// conflict is the problem of two inputs that exclude each other.
func conflict(in resource.PropertyMap, a, b string) []cloud.Problem {
	if _, ok := in[resource.PropertyKey(a)]; !ok {
		return nil
	}
	if _, ok := in[resource.PropertyKey(b)]; !ok {
		return nil
	}
	return []cloud.Problem{cloud.Problemf(a, "%q: conflicts with %s", a, b)}
}

// given reports whether the program gave the input at all, known or not.
func given(in resource.PropertyMap, property string) bool {
	v, ok := in[resource.PropertyKey(property)]
	return ok && !v.IsNull()
}
