package awscloud

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// regions are some of AWS's, with the letters of the zones that a new account sees.
var regions = map[string]string{
	"us-east-1": "abcdef", "us-east-2": "abc", "us-west-1": "ac", "us-west-2": "abcd", "ca-central-1": "abd",
	"eu-central-1": "abc", "eu-west-1": "abc", "eu-west-2": "abc", "eu-west-3": "abc", "eu-north-1": "abc",
	"eu-south-1":     "abc",
	"ap-southeast-1": "abc", "ap-southeast-2": "abc", "ap-northeast-1": "acd", "ap-south-1": "abc",
	"sa-east-1": "abc",
}

// zones are a region's, by name.
func zones(region string) []string {
	var list []string
	for _, letter := range regions[region] {
		list = append(list, region+string(letter))
	}
	return list
}

// zoneID is the zone's name that is the same in every account, such as euc1-az1.
func zoneID(zone string) string {
	region := zone[:len(zone)-1]
	parts := strings.Split(region, "-")
	short := parts[0] + parts[1][:1] + parts[2]
	if i := strings.IndexAny(parts[1], "ew"); i > 0 &&
		(strings.HasPrefix(parts[1], "south") || strings.HasPrefix(parts[1], "north")) {
		short = parts[0] + parts[1][:1] + parts[1][i:i+1] + parts[2]
	}
	return short + "-az" + string('1'+zone[len(zone)-1]-'a')
}

// instanceType is what a size of machine is.
type instanceType struct {
	arch      string // as EC2 calls it: x86_64, arm64
	cpus, mib int
	burstable bool
	// notIn are zones that do not offer it.
	notIn []string
}

// instanceTypes are those that make sense for a small cache cluster. A type that is not here does not exist.
var instanceTypes = instanceTypeTable()

func instanceTypeTable() map[string]instanceType {
	table := map[string]instanceType{}
	family := func(name, arch string, burstable bool, sizes map[string][2]int, notIn ...string) {
		for size, s := range sizes {
			table[name+"."+size] = instanceType{arch: arch, cpus: s[0], mib: s[1], burstable: burstable, notIn: notIn}
		}
	}
	small := map[string][2]int{
		"nano": {2, 512}, "micro": {2, 1024}, "small": {2, 2048}, "medium": {2, 4096}, "large": {2, 8192},
		"xlarge": {4, 16384}, "2xlarge": {8, 32768},
	}
	family("t3", "x86_64", true, small, "us-east-1e")
	family("t3a", "x86_64", true, small, "us-east-1e", "us-east-1f", "eu-central-1c")
	family("t4g", "arm64", true, small, "us-east-1e")
	general := map[string][2]int{"large": {2, 8192}, "xlarge": {4, 16384}, "2xlarge": {8, 32768},
		"4xlarge": {16, 65536}, "8xlarge": {32, 131072}}
	family("m5", "x86_64", false, general, "us-east-1e")
	family("m6i", "x86_64", false, general, "us-east-1e")
	family("m7i", "x86_64", false, general, "us-east-1e")
	family("m7a", "x86_64", false, general, "us-east-1e", "eu-central-1c")
	graviton := maps.Clone(general)
	graviton["medium"] = [2]int{1, 4096}
	family("m6g", "arm64", false, graviton, "us-east-1e")
	family("m7g", "arm64", false, graviton, "us-east-1e", "us-east-1f")
	compute := map[string][2]int{"large": {2, 4096}, "xlarge": {4, 8192}, "2xlarge": {8, 16384},
		"4xlarge": {16, 32768}}
	family("c6i", "x86_64", false, compute, "us-east-1e")
	family("c7i", "x86_64", false, compute, "us-east-1e")
	family("c6g", "arm64", false, compute, "us-east-1e")
	family("c7g", "arm64", false, compute, "us-east-1e", "us-east-1f")
	memory := map[string][2]int{"large": {2, 16384}, "xlarge": {4, 32768}, "2xlarge": {8, 65536},
		"4xlarge": {16, 131072}, "8xlarge": {32, 262144}}
	family("r5", "x86_64", false, memory, "us-east-1e")
	family("r6i", "x86_64", false, memory, "us-east-1e")
	family("r7i", "x86_64", false, memory, "us-east-1e")
	family("r7a", "x86_64", false, memory, "us-east-1e", "eu-central-1c")
	gravitonMemory := maps.Clone(memory)
	gravitonMemory["medium"] = [2]int{1, 8192}
	family("r6g", "arm64", false, gravitonMemory, "us-east-1e")
	family("r7g", "arm64", false, gravitonMemory, "us-east-1e", "us-east-1f")
	return table
}

// offered reports whether a zone has machines of the type.
func offered(typ, zone string) bool {
	t, ok := instanceTypes[typ]
	return ok && !slices.Contains(t.notIn, zone)
}

// image is a machine image that AWS or a distribution publishes.
type image struct {
	name, arch, owner, alias, date string
	rootGiB                        int
	rootDevice                     string
	// parameters are the SSM parameters that name it.
	parameters []string
}

// images are the latest of the few that a cluster may be built on, and an older one to tell mostRecent from any.
func images() []image {
	const debian, canonical, amazon = "136693071363", "099720109477", "137112412989"
	var list []image
	for _, a := range [][2]string{{"x86_64", "amd64"}, {"arm64", "arm64"}} {
		arch, deb := a[0], a[1]
		list = append(list,
			image{name: "debian-12-" + deb + "-20250115-1993", arch: arch, owner: debian,
				date: "2025-01-15T02:41:47.000Z", rootGiB: 8, rootDevice: "/dev/xvda"},
			image{
				name: "debian-12-" + deb + "-20251112-2294", arch: arch, owner: debian,
				date: "2025-11-12T09:18:31.000Z", rootGiB: 8, rootDevice: "/dev/xvda",
				parameters: []string{"/aws/service/debian/release/12/latest/" + deb,
					"/aws/service/debian/release/bookworm/latest/" + deb},
			},
			image{
				name: "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-" + deb + "-server-20251022", arch: arch,
				owner: canonical, alias: "",
				date: "2025-10-22T07:32:16.000Z", rootGiB: 8, rootDevice: "/dev/sda1",
				parameters: []string{"/aws/service/canonical/ubuntu/server/24.04/stable/current/" + deb +
					"/hvm/ebs-gp3/ami-id"},
			},
			image{
				name: "al2023-ami-2023.9.20251110.1-kernel-6.1-" + arch, arch: arch, owner: amazon, alias: "amazon",
				date: "2025-11-10T20:00:00.000Z", rootGiB: 8, rootDevice: "/dev/xvda",
				parameters: []string{"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-" + arch,
					"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-" + arch},
			},
		)
	}
	return list
}

// id is the image's ID, another one in each region.
func (i image) id(region string) string {
	sum := sha256.Sum256([]byte(region + "/" + i.name))
	return "ami-0" + hex.EncodeToString(sum[:])[:16]
}

// findImage is the image with the ID in the region.
func findImage(region, id string) (image, bool) {
	for _, i := range images() {
		if i.id(region) == id {
			return i, true
		}
	}
	return image{}, false
}
