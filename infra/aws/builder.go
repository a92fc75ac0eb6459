package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/payload"
)

// builder registers the children of one cluster.
type builder struct {
	Args
	ctx    *pulumi.Context
	parent pulumi.Resource
	load   payload.Payload
	site   site
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.parent) }

// name is what something is called where names count in one region.
func (b *builder) name(part string) string { return b.Plan.Cluster + "-" + part }

// short is a name of at most limit characters. One that does not fit is cut, and has a sum of the whole in it, so that two
// stacks with a long beginning in common stay apart.
func (b *builder) short(part string, limit int) string {
	name := b.name(part)
	if len(name) <= limit {
		return name
	}
	tail := "-" + digest(b.Plan.Cluster) + "-" + part
	return strings.TrimRight(b.Plan.Cluster[:limit-len(tail)], "-") + tail
}

// prefix begins a name of which AWS or Pulumi makes the rest: of things whose names are unique in the account or in all of AWS.
func (b *builder) prefix(part string, limit int) string {
	tail := "-" + part + "-"
	return strings.TrimRight(b.Plan.Cluster[:min(len(b.Plan.Cluster), limit-len(tail))], "-") + tail
}

// digest is enough of a hash to tell names apart.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

// The tags of the stack itself.
const (
	tagName    = "Name"
	tagCluster = "Cluster"
	tagData    = "DataDisk" // on data disks: what daily snapshots go by
)

// everywhere are the tags that the provider puts on all that can have any.
func everywhere(args Args) pulumi.StringMap {
	all := map[string]string{}
	maps.Copy(all, args.Config.VM.Tags)
	all[tagCluster] = args.Plan.Cluster
	return pulumi.ToStringMap(all)
}

func (b *builder) tags(part string) pulumi.StringMap {
	return pulumi.StringMap{tagName: pulumi.String(b.name(part))}
}

// own reports whether the network is the stack's.
func own(c config.Config) bool { return c.Network.ID == "" }

// sealed reports whether nodes reach nothing but AWS's own stores.
func sealed(c config.Config) bool {
	return own(c) && c.Network.NAT == config.NATNone && !c.Network.Public
}

func size(c config.Config) string {
	if c.VM.Size != "" {
		return c.VM.Size
	}
	return config.DefaultSize(config.AWS, c.VM.Architecture)
}
