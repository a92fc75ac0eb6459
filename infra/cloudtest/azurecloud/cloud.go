package azurecloud

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

//go:generate go run hypercache/infra/cloudtest/cloud/shapegen github.com/pulumi/pulumi-azure-native-sdk/v2 github.com/pulumi/pulumi-azure-native-sdk/resources/v2 github.com/pulumi/pulumi-azure-native-sdk/network/v2 github.com/pulumi/pulumi-azure-native-sdk/compute/v2 github.com/pulumi/pulumi-azure-native-sdk/storage/v2 github.com/pulumi/pulumi-azure-native-sdk/keyvault/v2 github.com/pulumi/pulumi-azure-native-sdk/authorization/v2 github.com/pulumi/pulumi-azure-native-sdk/insights/v2 github.com/pulumi/pulumi-azure-native-sdk/recoveryservices/v2
//go:embed shapes.json
var shapesFile []byte

// Options are what a Cloud is built on.
type Options struct {
	// Compute makes the machines. Nil: a cloud.Memory, and nothing runs.
	Compute cloud.Compute
	// Subscription and Tenant are where the operator's credentials lead; empty: made up, and the same every time.
	Subscription, Tenant string
	// Now is the clock for tokens, secrets and retention; nil means time.Now.
	Now func() time.Time
	// RoleDelay is how long a new role assignment takes to count. Azure's documents say up to ten minutes; zero: at
	// once.
	RoleDelay time.Duration
	// Dir is where the Pulumi program is, from which paths of files start.
	Dir string
	Log *slog.Logger
}

// Cloud is one subscription with everything in it. All methods may be called at once.
type Cloud struct {
	compute      cloud.Compute
	subscription string
	tenant       string
	operator     string // the object id of whoever runs Pulumi
	now          func() time.Time
	roleDelay    time.Duration
	log          *slog.Logger
	provider     *cloud.Provider
	signing      []byte            // the key of access tokens
	books        map[string]*books // by kind, for deletions that Pulumi does not ask for

	mu    sync.Mutex // held for the books, never while a machine boots or stops
	items map[string]*item
	seq   int
	// principals are the identities of the directory, and what each belongs to.
	principals map[string]string
	// deletedVaults are vaults in their retention, by name.
	deletedVaults map[string]deletedVault
	metrics       []Metric

	filters sync.Mutex // held while packet filters are computed and set, so that the newest state wins
}

// New returns an empty subscription.
func New(o Options) (*Cloud, error) {
	shapes, err := cloud.ParseShapes(shapesFile)
	if err != nil {
		return nil, err
	}
	shapes.Source, _, _ = strings.Cut(shapes.Source, " "+
		"") // of several modules the first one's version is the provider's
	c := &Cloud{
		compute: o.Compute, subscription: o.Subscription, tenant: o.Tenant, now: o.Now, roleDelay: o.RoleDelay,
		log:      o.Log,
		operator: "0e0e0e0e-1111-4222-8333-444444444444", signing: random(32), books: map[string]*books{},
		items: map[string]*item{}, principals: map[string]string{}, deletedVaults: map[string]deletedVault{},
	}
	c.principals[c.operator] = "the operator"
	if c.compute == nil {
		c.compute = cloud.NewMemory()
	}
	if c.subscription == "" {
		c.subscription = "5ab5c41b-7104-4a6e-9b6c-0123456789ab"
	}
	if c.tenant == "" {
		c.tenant = "7e9a9700-3b1d-4f0e-8a55-0123456789ab"
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.provider = &cloud.Provider{
		Name: "azure-native", Shapes: shapes, Dir: o.Dir, Kinds: map[string]*cloud.Kind{}, Functions: c.functions(),
		Configure: c.configure,
	}
	for token, b := range c.kinds() {
		b.token = token
		c.books[b.kind] = b
		c.provider.Kinds[token] = c.kindOf(b)
	}
	return c, nil
}

// Provider is the subscription as Pulumi sees it.
func (c *Cloud) Provider() *cloud.Provider { return c.provider }

// kinds are all types by token.
func (c *Cloud) kinds() map[string]*books {
	all := map[string]*books{}
	for _, some := range []map[string]*books{
		c.groupKinds(), c.networkKinds(), c.firewallKinds(), c.gatewayKinds(), c.balancerKinds(), c.nicKinds(),
		c.dnsKinds(),
		c.diskKinds(), c.machineKinds(), c.scaleSetKinds(), c.storageKinds(), c.vaultKinds(), c.roleKinds(),
		c.alertKinds(),
		c.backupKinds(),
	} {
		maps.Copy(all, some)
	}
	return all
}

// configure refuses what leads nowhere.
func (c *Cloud) configure(call *cloud.Call) error {
	if s := cloud.Str(call.Inputs, "subscriptionId"); s != "" && !strings.EqualFold(s, c.subscription) {
		return fmt.Errorf("the subscription '%s' could not be found", s)
	}
	if l := cloud.Str(call.Inputs, "location"); l != "" && regions()[plainRegion(l)] == nil {
		return fmt.Errorf("azure-native:location: there is no region %q", l)
	}
	return nil
}

// random returns n random bytes.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it aborts the program instead
	return b
}

// newGUID is a random one, version 4.
func newGUID() string {
	b := random(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// item is one thing in the subscription.
type item struct {
	id, kind string
	name     string // the last part of the id
	pulumi   string // Pulumi's name
	location string // plain; empty for what has none
	seq      int    // the order of creation
	gone     bool   // being deleted: it cannot be referred to any more
	in       resource.PropertyMap
	out      resource.PropertyMap // what Read reports beyond the inputs
	extra    any                  // what only the kind knows
}

// group is the name of the resource group that it is in.
func (it *item) group() string {
	r, _ := parseID(it.id)
	return r.group
}

// all are the items of a kind in order of creation, those being deleted too; c.mu is held.
func (c *Cloud) all(kind string) []*item {
	var list []*item
	for _, it := range c.items {
		if it.kind == kind {
			list = append(list, it)
		}
	}
	slices.SortFunc(list, func(a, b *item) int { return a.seq - b.seq })
	return list
}

// get finds a thing by its id; c.mu is held.
func (c *Cloud) get(kind, id string) *item {
	it := c.items[lower(id)]
	if it == nil || it.gone || it.kind != kind {
		return nil
	}
	return it
}

// users are things of the given kinds whose inputs mention the id or a part of it; c.mu is held.
func (c *Cloud) users(id string, kinds ...string) []*item {
	var list []*item
	for _, kind := range kinds {
		for _, it := range c.all(kind) {
			if !strings.EqualFold(it.id, id) && mentions(resource.NewObjectProperty(it.in), id) {
				list = append(list, it)
			}
		}
	}
	return list
}

// refer finds what the id at path refers to, or refuses as the network and compute services do; c.mu is held.
func (c *Cloud) refer(kind, id, path string, from *item) (*item, error) {
	r, ok := parseID(id)
	if !ok {
		return nil, badRequest("LinkedInvalidPropertyId", "Property id '%s' at path 'properties.%s' is invalid. "+
			"Expect fully qualified resource Id that start with '/subscriptions/{subscriptionId}' or "+
			"'/providers/{resourceProviderNamespace}/'.", id, path)
	}
	if !strings.EqualFold(r.kind, kind) {
		return nil, badRequest("InvalidRequestFormat", "Cannot parse the request: '%s' at path 'properties.%s' is not "+
			"the id of a %s.", id, path, kind)
	}
	it := c.get(kind, id)
	regional := it != nil && it.location != "" && from.location != "" && from.location != "global"
	if it == nil || regional && it.location != from.location {
		return nil, badRequest("InvalidResourceReference", "Resource %s referenced by resource %s was not found. "+
			"Please make sure that the referenced resource exists, and that both resources are in the same "+
			"region.", id, from.id)
	}
	return it, nil
}

// SubscriptionID is the subscription's.
func (c *Cloud) SubscriptionID() string { return c.subscription }
