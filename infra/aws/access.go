package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
)

// access is who may log in to VMs and what keeps them on different hardware, by name; an empty name is none. The names are known
// before the things exist: an instance made from an output of a key pair would go when the key pair is replaced, and all at once.
type access struct {
	keyName, spread string
	ready           []pulumi.Resource
}

func (b *builder) access() (access, error) {
	var out access
	if key := b.Config.VM.SSHPublicKey; key != "" {
		out.keyName = b.name("key-" + digest(key)) // another key has another name, so both exist during a roll
		pair, err := ec2.NewKeyPair(b.ctx, "key", &ec2.KeyPairArgs{
			KeyName: pulumi.String(out.keyName), PublicKey: pulumi.String(key), Tags: b.tags("key"),
		}, b.child(), pulumi.DeleteBeforeReplace(false))
		if err != nil {
			return access{}, err
		}
		out.ready = append(out.ready, pair)
	}
	if b.Config.VM.Spread {
		out.spread = b.name("spread")
		group, err := ec2.NewPlacementGroup(b.ctx, "spread", &ec2.PlacementGroupArgs{
			Name: pulumi.String(out.spread), Strategy: pulumi.String("spread"), Tags: b.tags("spread"),
		}, b.child())
		if err != nil {
			return access{}, err
		}
		out.ready = append(out.ready, group)
	}
	return out, nil
}

// image is what VMs run. The stack's own, if it names one. Otherwise the newest is remembered when the cluster is first made, and
// kept: the memory is a random id, whose prefix is the image and whose changes are ignored. For another operating system or
// architecture there is another memory, so that a change of those replaces VMs with an image that fits.
func (b *builder) image() (pulumi.StringInput, error) {
	v := b.Config.VM
	if v.ImageID != "" {
		return pulumi.String(b.site.image), nil
	}
	memory, err := random.NewRandomId(b.ctx, imageMemory(b.Config), &random.RandomIdArgs{
		Prefix: pulumi.String(b.site.image), ByteLength: pulumi.Int(1),
	}, b.child(), pulumi.IgnoreChanges([]string{"prefix"}))
	if err != nil {
		return nil, err
	}
	return memory.Prefix.Elem(), nil
}

func imageMemory(c config.Config) string { return "image-" + c.VM.OS + "-" + c.VM.Architecture }
