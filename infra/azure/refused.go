package azure

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hypercache/infra/config"
)

const (
	// A recovery vault's name has at most 50 characters and ours ends with -backup; all others may be longer.
	longestCluster = 43
	// A storage account takes 15 tags, two of them ours.
	mostTags = 13
)

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`)
	imageID     = regexp.MustCompile(`^[A-Za-z0-9._-]+:[A-Za-z0-9._-]+:[A-Za-z0-9._-]+:\d+\.\d+\.\d+$`)
	premium     = regexp.MustCompile(`^Standard_([A-Z]+S\d|[A-Z]+\d+(-\d+)?[a-z]*s)`)
	sovereign   = regexp.MustCompile(`^(usgov|usdod|china)`)
)

// refused lists what is wrong with a stack for Azure alone; what is wrong for every cloud package config has found already.
func refused(args Args) error {
	c, n, v := args.Config, args.Config.Network, args.Config.VM
	var problems []string
	fail := func(wrong bool, format string, a ...any) {
		if wrong {
			problems = append(problems, fmt.Sprintf(format, a...))
		}
	}
	fail(!clusterName.MatchString(args.Plan.Cluster) || len(args.Plan.Cluster) > longestCluster,
		"stack: %q cannot be part of names in Azure: at most %d letters and digits, with single hyphens between them",
		args.Stack, longestCluster-len("hypercache-"))
	fail(sovereign.MatchString(n.Region), "region: %s is in a cloud of its own, with other addresses than the nodes know; "+
		"choose a region of the public cloud, like westeurope", n.Region)
	fail(n.NAT == config.NATByZone, "nat: zone cannot be had: a subnet of Azure spans zones and has one NAT gateway; set it to one")
	fail(v.ImageID != "" && !imageID.MatchString(v.ImageID), "imageId: %q is not publisher:offer:sku:version with a version in "+
		"numbers, like Canonical:ubuntu-24_04-lts:server:24.04.202510010", v.ImageID)
	fail(strings.HasPrefix(v.SSHPublicKey, "ecdsa"), "sshPublicKey: Azure takes ssh-rsa and ssh-ed25519 keys, not ecdsa")
	fail(v.Size != "" && !premium.MatchString(v.Size), "vmSize: %s takes no premium disks; choose a size with an s, like %s", v.Size,
		config.DefaultSize(config.Azure, v.Architecture))
	fail(len(v.Tags) > mostTags, "tags: there are %d, and with the stack's own two Azure takes %d", len(v.Tags), mostTags)
	for key := range v.Tags {
		own := []string{strings.ToLower(tagName), strings.ToLower(tagCluster)}
		fail(slices.Contains(own, strings.ToLower(key)), "tags: %q is set by the stack; leave it out", key)
	}
	fail(v.AlarmEmail != "" && sealed(c), "alarmEmail: needs a way out, for Azure has no endpoint inside a network to which nodes "+
		"could report how full their disks are; set nat to one")
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return &config.Error{Problems: problems}
}
