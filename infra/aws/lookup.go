package aws

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// site is what AWS answered about the region.
type site struct {
	image        string // the newest, or the stack's own
	ebsOptimized bool
}

// inquiry asks AWS what the program must know before it registers anything, and collects what cannot be.
type inquiry struct {
	ctx      *pulumi.Context
	config   config.Config
	plan     plan.Plan
	provider pulumi.InvokeOption
	problems []string
}

func (q *inquiry) fail(format string, a ...any) {
	q.problems = append(q.problems, fmt.Sprintf(format, a...))
}

func lookUp(ctx *pulumi.Context, args Args, provider pulumi.ProviderResource) (site, error) {
	q := &inquiry{ctx: ctx, config: args.Config, plan: args.Plan, provider: pulumi.Provider(provider)}
	if err := q.zones(); err != nil {
		return site{}, fmt.Errorf("ask AWS for the zones of %s: %w; `aws sso login` with AWS_PROFILE, or AWS_ACCESS_KEY_ID and "+
			"AWS_SECRET_ACCESS_KEY, say whose account this is, and the region may have to be enabled in it", args.Config.Network.Region, err)
	}
	optimized, sizeErr := q.size()
	image, imageErr := q.image()
	err := errors.Join(sizeErr, imageErr, q.existing())
	if len(q.problems) > 0 {
		err = mistakes(err, &config.Error{Problems: q.problems})
	}
	return site{image: image, ebsOptimized: optimized}, err
}

func (q *inquiry) zones() error {
	found, err := aws.GetAvailabilityZones(q.ctx, &aws.GetAvailabilityZonesArgs{State: pulumi.StringRef("available")}, q.provider)
	if err != nil {
		return err
	}
	for _, z := range q.config.Zones {
		if !slices.Contains(found.Names, z) {
			q.fail("zones: %s is not among those of this account in %s, which are %s", z, q.config.Network.Region,
				strings.Join(found.Names, ", "))
		}
	}
	return nil
}

// size tells whether the VMs' size is to be had in every zone that gets one, and whether it can have its disks on a network of
// their own.
func (q *inquiry) size() (optimized bool, err error) {
	name := size(q.config)
	offered, err := ec2.GetInstanceTypeOfferings(q.ctx, &ec2.GetInstanceTypeOfferingsArgs{
		LocationType: pulumi.StringRef("availability-zone"),
		Filters:      []ec2.GetInstanceTypeOfferingsFilter{{Name: "instance-type", Values: []string{name}}},
	}, q.provider)
	if err != nil {
		return false, fmt.Errorf("vmSize: ask AWS where it has %s: %w", name, err)
	}
	if len(offered.Locations) == 0 {
		q.fail("vmSize: %s is not to be had in %s; `aws ec2 describe-instance-type-offerings --region %s` lists what is", name,
			q.config.Network.Region, q.config.Network.Region)
		return false, nil
	}
	slices.Sort(offered.Locations)
	for _, z := range q.usedZones() {
		if !slices.Contains(offered.Locations, z) {
			q.fail("vmSize: %s is not to be had in %s, only in %s; another size, or other zones", name, z,
				strings.Join(offered.Locations, ", "))
		}
	}
	kind, err := ec2.GetInstanceType(q.ctx, &ec2.GetInstanceTypeArgs{InstanceType: name}, q.provider)
	if err != nil {
		return false, fmt.Errorf("vmSize: ask AWS what %s is: %w", name, err)
	}
	if want := architecture(q.config); !slices.Contains(kind.SupportedArchitectures, want) {
		q.fail("vmSize: %s is %s and architecture is %s; the default for that is %s", name,
			strings.Join(kind.SupportedArchitectures, ", "), q.config.VM.Architecture,
			config.DefaultSize(config.AWS, q.config.VM.Architecture))
	}
	return kind.EbsOptimizedSupport != "unsupported", nil
}

func (q *inquiry) usedZones() []string {
	var zones []string
	for _, n := range q.plan.Nodes {
		if !slices.Contains(zones, n.Zone) {
			zones = append(zones, n.Zone)
		}
	}
	return zones
}

// architecture is AWS's word for the stack's.
func architecture(c config.Config) string {
	return map[string]string{"amd64": "x86_64", "arm64": "arm64"}[c.VM.Architecture]
}

// publisher is who makes an operating system's images, by account, and how it calls them.
type publisher struct{ account, pattern string }

// publisherOf is fixed by account: anybody can give an image any name.
func publisherOf(c config.Config) publisher {
	return map[string]publisher{
		"ubuntu-24.04": {"099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-" + c.VM.Architecture + "-server-*"},
		"debian-12":    {"136693071363", "debian-12-" + c.VM.Architecture + "-*"},
	}[c.VM.OS]
}

func (q *inquiry) image() (string, error) {
	if id := q.config.VM.ImageID; id != "" {
		if imageID.MatchString(id) {
			return id, q.imageIs(id)
		}
		return id, nil
	}
	p := publisherOf(q.config)
	found, err := ec2.LookupAmi(q.ctx, &ec2.LookupAmiArgs{
		MostRecent: pulumi.BoolRef(true), Owners: []string{p.account},
		Filters: []ec2.GetAmiFilter{
			{Name: "name", Values: []string{p.pattern}},
			{Name: "architecture", Values: []string{architecture(q.config)}},
			{Name: "virtualization-type", Values: []string{"hvm"}},
			{Name: "root-device-type", Values: []string{"ebs"}},
		},
	}, q.provider)
	if err != nil {
		return "", fmt.Errorf("os: look up the newest image of %s for %s in %s: %w; imageId names one exactly", q.config.VM.OS,
			q.config.VM.Architecture, q.config.Network.Region, err)
	}
	return found.Id, nil
}

// imageIs compares the stack's own image with its VMs.
func (q *inquiry) imageIs(id string) error {
	found, err := ec2.LookupAmi(q.ctx, &ec2.LookupAmiArgs{
		IncludeDeprecated: pulumi.BoolRef(true),
		Filters:           []ec2.GetAmiFilter{{Name: "image-id", Values: []string{id}}},
	}, q.provider)
	if err != nil {
		return fmt.Errorf("imageId: look up %s in %s: %w", id, q.config.Network.Region, err)
	}
	if found.Architecture != architecture(q.config) {
		q.fail("imageId: %s is for %s and architecture is %s", id, found.Architecture, q.config.VM.Architecture)
	}
	return nil
}

// existing compares what the stack says about a network that is there with what AWS says.
func (q *inquiry) existing() error {
	n := q.config.Network
	if own(q.config) || !vpcID.MatchString(n.ID) {
		return nil
	}
	vpc, err := ec2.LookupVpc(q.ctx, &ec2.LookupVpcArgs{Id: pulumi.StringRef(n.ID)}, q.provider)
	if err != nil {
		return fmt.Errorf("networkId: look up %s in %s: %w", n.ID, n.Region, err)
	}
	ranges := []string{vpc.CidrBlock}
	for _, a := range vpc.CidrBlockAssociations {
		ranges = append(ranges, a.CidrBlock)
	}
	if !slices.ContainsFunc(ranges, func(r string) bool { return same(r, n.CIDR) }) {
		slices.Sort(ranges)
		q.fail("networkCidr: %s is not a range of %s, which has %s", n.CIDR, n.ID, strings.Join(slices.Compact(ranges), ", "))
	}
	if n.DNSZone != "" && !(vpc.EnableDnsSupport && vpc.EnableDnsHostnames) {
		q.fail("dnsZone: %s answers no private names: turn on its DNS support and its DNS host names", n.ID)
	}
	var errs []error
	for _, s := range q.plan.Network.Subnets {
		errs = append(errs, q.subnetIs(s))
	}
	return errors.Join(errs...)
}

func (q *inquiry) subnetIs(s plan.Subnet) error {
	if !subnetID.MatchString(s.ID) {
		return nil
	}
	found, err := ec2.LookupSubnet(q.ctx, &ec2.LookupSubnetArgs{Id: pulumi.StringRef(s.ID)}, q.provider)
	if err != nil {
		return fmt.Errorf("subnetIds: look up %s in %s: %w", s.ID, q.config.Network.Region, err)
	}
	if found.VpcId != q.config.Network.ID {
		q.fail("subnetIds: %s is in %s and not in networkId %s", s.ID, found.VpcId, q.config.Network.ID)
	}
	if found.AvailabilityZone != s.Zone {
		q.fail("subnetIds: %s is in zone %s and stands where %s is in zones; give them in the same order", s.ID,
			found.AvailabilityZone, s.Zone)
	}
	if !same(found.CidrBlock, s.CIDR) {
		q.fail("subnetCidrs: %s is not the range of %s, which is %s", s.CIDR, s.ID, found.CidrBlock)
	}
	return nil
}

func same(text string, r netip.Prefix) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && p == r
}
