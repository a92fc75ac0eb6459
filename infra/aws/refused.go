package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hypercache/infra/config"
)

const (
	// longestCluster leaves room in a name of 255 characters, and a user something to read in a list.
	longestCluster = 64
	// mostTags of the user's fit on an object in S3, which has ten with the stack's own; everything else has fifty.
	mostTags, mostTagsWithoutObject = 8, 47
	// spreadPerZone is how many instances AWS keeps apart in a zone.
	spreadPerZone = 7
)

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$`)
	imageID     = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)
	vpcID       = regexp.MustCompile(`^vpc-[0-9a-f]{8,17}$`)
	subnetID    = regexp.MustCompile(`^subnet-[0-9a-f]{8,17}$`)
	sovereign   = regexp.MustCompile(`^(cn-|[a-z]{2}-(gov|iso[a-z]?)-)`)
)

// refused lists what is wrong with a stack for AWS alone; what is wrong for every cloud package config has found already.
func refused(args Args) error {
	n, v := args.Config.Network, args.Config.VM
	var problems []string
	fail := func(wrong bool, format string, a ...any) {
		if wrong {
			problems = append(problems, fmt.Sprintf(format, a...))
		}
	}
	fail(!clusterName.MatchString(args.Plan.Cluster) || len(args.Plan.Cluster) > longestCluster,
		"stack: %q cannot be part of names in AWS: at most %d letters and digits, with single hyphens between them",
		args.Stack, longestCluster-len("hypercache-"))
	fail(sovereign.MatchString(n.Region), "region: %s is in a partition of its own, with other addresses than the nodes know; "+
		"choose a region of the public one, like eu-west-1", n.Region)
	fail(v.ImageID != "" && !imageID.MatchString(v.ImageID), "imageId: %q is not the id of an image, like ami-0123456789abcdef0",
		v.ImageID)
	fail(strings.HasPrefix(v.SSHPublicKey, "ecdsa"), "sshPublicKey: AWS takes ssh-rsa and ssh-ed25519 keys, not ecdsa")
	fail(n.ID != "" && !vpcID.MatchString(n.ID), "networkId: %q is not the id of a VPC, like vpc-0123456789abcdef0", n.ID)
	for _, id := range n.SubnetIDs {
		fail(!subnetID.MatchString(id), "subnetIds: %q is not the id of a subnet, like subnet-0123456789abcdef0", id)
	}
	problems = append(problems, tagProblems(v)...)
	problems = append(problems, crowded(args)...)
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return &config.Error{Problems: problems}
}

func tagProblems(v config.VM) []string {
	var problems []string
	most := mostTags
	if v.BinaryURL != "" {
		most = mostTagsWithoutObject
	}
	if len(v.Tags) > most {
		problems = append(problems, fmt.Sprintf("tags: there are %d, and with the stack's own AWS takes %d", len(v.Tags), most))
	}
	for key := range v.Tags {
		if slices.Contains([]string{tagName, tagCluster, tagData}, key) {
			problems = append(problems, fmt.Sprintf("tags: %q is set by the stack; leave it out", key))
		}
	}
	return problems
}

// crowded tells where more nodes would be spread in a zone than AWS keeps apart.
func crowded(args Args) []string {
	if !args.Config.VM.Spread {
		return nil
	}
	var problems []string
	inZone := map[string]int{}
	for _, n := range args.Plan.Nodes {
		if inZone[n.Zone]++; inZone[n.Zone] == spreadPerZone+1 {
			problems = append(problems, fmt.Sprintf("spread: AWS keeps %d instances of a zone apart, and %s has more; "+
				"more zones, fewer nodes, or spread: false", spreadPerZone, n.Zone))
		}
	}
	return problems
}
