package azure

import (
	"maps"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi-azure-native-sdk/resources/v2"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/payload"
)

// builder registers the children of one cluster.
type builder struct {
	Args
	ctx     *pulumi.Context
	parent  pulumi.Resource
	load    payload.Payload
	account account

	group pulumi.StringOutput // the resource group's name
	store pulumi.StringOutput // the name of the storage account and of the vault
}

// ground registers what everything else is in or is named after.
func (b *builder) ground() error {
	group, err := resources.NewResourceGroup(b.ctx, "group", &resources.ResourceGroupArgs{
		ResourceGroupName: pulumi.String(b.Plan.Cluster), Location: b.region(), Tags: b.tags("group"),
		// Azure deletes a group with all that is in it, so the disks that are to stay need it.
	}, b.child(), pulumi.RetainOnDelete(b.Config.VM.KeepData))
	if err != nil {
		return err
	}
	suffix, err := random.NewRandomId(b.ctx, "suffix", &random.RandomIdArgs{ByteLength: pulumi.Int(4)}, b.child())
	if err != nil {
		return err
	}
	b.group = group.Name
	b.store = pulumi.Sprintf("%s%s", storePrefix(b.Plan.Cluster), suffix.Hex)
	return nil
}

var notPlain = regexp.MustCompile(`[^a-z0-9]`)

// storePrefix is how the names of storage account and vault begin. Both are unique in all of Azure and have at most 24
// characters, 8 of which are random: a vault's name stays taken for a week after it was deleted, and the next has another.
func storePrefix(cluster string) string {
	plain := notPlain.ReplaceAllString(strings.ToLower(cluster), "")
	return plain[:min(len(plain), 16)]
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.parent) }

// name is what something is called in Azure.
func (b *builder) name(part string) string { return b.Plan.Cluster + "-" + part }

func (b *builder) region() pulumi.String { return pulumi.String(b.Config.Network.Region) }

// The tags that everything has besides the stack's own.
const (
	tagName    = "Name"
	tagCluster = "Cluster"
)

func (b *builder) tags(part string) pulumi.StringMap {
	all := map[string]string{}
	maps.Copy(all, b.Config.VM.Tags)
	all[tagName], all[tagCluster] = b.name(part), b.Plan.Cluster
	return pulumi.ToStringMap(all)
}

// id is the resource id of something in the group. It is known before the thing exists, and a resource that holds it instead of
// the thing's output is not replaced along with it.
func (b *builder) id(kind, name string) string {
	return "/subscriptions/" + b.account.subscription + "/resourceGroups/" + b.Plan.Cluster + "/providers/" + kind + "/" + name
}

// own reports whether the network is the stack's.
func (b *builder) own() bool { return b.Config.Network.ID == "" }

// sealed reports whether nodes reach nothing but Azure's own stores.
func sealed(c config.Config) bool {
	return c.Network.ID == "" && c.Network.NAT == config.NATNone && !c.Network.Public
}

// allZones is for what must survive the loss of any zone.
func allZones() pulumi.StringArray { return pulumi.ToStringArray([]string{"1", "2", "3"}) }
