package azurecloud

import (
	"fmt"
	"slices"
	"strings"
)

// place is a region.
type place struct{ zones []string }

// regions are some of Azure's, with their zones, as of late 2025.
func regions() map[string]*place {
	three := []string{"1", "2", "3"}
	table := map[string]*place{}
	for _, name := range []string{
		"australiaeast", "brazilsouth", "canadacentral", "centralindia", "centralus", "eastasia", "eastus", "eastus2",
		"francecentral",
		"germanywestcentral", "italynorth", "japaneast", "koreacentral", "northeurope", "norwayeast", "polandcentral",
		"southafricanorth",
		"southcentralus", "southeastasia", "spaincentral", "swedencentral", "switzerlandnorth", "uaenorth", "uksouth",
		"westeurope", "westus2", "westus3",
	} {
		table[name] = &place{zones: three}
	}
	for _, name := range []string{"australiasoutheast", "canadaeast", "northcentralus", "ukwest", "westcentralus",
		"westus"} {
		table[name] = &place{}
	}
	return table
}

// plainRegion turns a region's display name, such as West Europe, into its name.
func plainRegion(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// mayZones checks the zones of something in a region.
func mayZones(kind, name, region string, zones []string, most int) error {
	if len(zones) == 0 {
		return nil
	}
	p := regions()[region]
	if p == nil || len(p.zones) == 0 {
		return badRequest("LocationNotSupportAvailabilityZones", "The resource '%s/%s' does not support availability "+
			"zones at location '%s'.",
			kind, name, region)
	}
	if len(zones) > most {
		return badRequest("ResourceZonesInvalid", "The resource '%s/%s' has %d zones; it can be in %d.", kind, name,
			len(zones), most)
	}
	for _, z := range zones {
		if !slices.Contains(p.zones, z) {
			return badRequest("AvailabilityZoneNotSupported", "The zone(s) '%s' for resource '%s/%s' is not "+
				"supported. The supported zones for location '%s' are "+
				"'%s'", z, kind, name, region, strings.Join(p.zones, ","))
		}
	}
	return nil
}

// vmSize is what a size of machine is.
type vmSize struct {
	arch        string // as the compute service calls it: x64, Arm64
	cores, mib  int
	disks       int  // how many data disks it takes
	premium     bool // takes premium disks
	accelerated bool // takes accelerated networking
	trusted     bool // takes trusted launch
	old         bool // boots images of the first generation only
}

// sizes are those that make sense for a small cache cluster. A size that is not here does not exist.
func sizes() map[string]vmSize {
	table := map[string]vmSize{}
	family := func(pattern string, gibPerCore int, s vmSize, cores ...int) {
		for _, n := range cores {
			size := s
			size.cores, size.mib, size.disks = n, n*gibPerCore*1024, min(2*n, 32)
			table[fmt.Sprintf(pattern, n)] = size
		}
	}
	x64 := vmSize{arch: "x64", premium: true, accelerated: true, trusted: true}
	arm := vmSize{arch: "Arm64", premium: true, accelerated: true}
	plain := vmSize{arch: "x64", accelerated: true, trusted: true}
	general := []int{2, 4, 8, 16, 32}
	for _, pattern := range []string{
		"Standard_D%ds_v3", "Standard_D%ds_v4", "Standard_D%ds_v5", "Standard_D%dds_v5", "Standard_D%das_v5",
		"Standard_D%dads_v5",
		"Standard_D%ds_v6", "Standard_D%dds_v6", "Standard_D%das_v6",
	} {
		family(pattern, 4, x64, general...)
	}
	for _, pattern := range []string{"Standard_E%ds_v5", "Standard_E%dds_v5", "Standard_E%das_v5", "Standard_E%ds_v6"} {
		family(pattern, 8, x64, general...)
	}
	for _, pattern := range []string{"Standard_D%dps_v5", "Standard_D%dpds_v5", "Standard_D%dps_v6"} {
		family(pattern, 4, arm, general...)
	}
	for _, pattern := range []string{"Standard_D%dpls_v5", "Standard_D%dpls_v6"} {
		family(pattern, 2, arm, general...)
	}
	family("Standard_E%dps_v5", 8, arm, general...)
	family("Standard_E%dps_v6", 8, arm, general...)
	family("Standard_D%d_v5", 4, plain, general...)
	family("Standard_F%ds_v2", 2, x64, general...)
	slow := x64
	slow.accelerated = false
	family("Standard_B%dms", 4, slow, 2, 4, 8)
	family("Standard_B%ds", 2, slow, 2)
	family("Standard_B%ds_v2", 4, x64, 2, 4, 8)
	family("Standard_B%dps_v2", 4, arm, 2, 4, 8)
	small := slow
	small.cores, small.mib, small.disks = 1, 1024, 2
	table["Standard_B1s"] = small
	table["Standard_A2_v2"] = vmSize{arch: "x64", cores: 2, mib: 4096, disks: 4, old: true}
	return table
}

// sizeOf finds a size, whatever the case of its letters.
func sizeOf(name string) (vmSize, bool) {
	for n, s := range sizes() {
		if strings.EqualFold(n, name) {
			return s, true
		}
	}
	return vmSize{}, false
}

// image is one that a distribution publishes.
type image struct {
	publisher, offer, sku string
	arch                  string
	generation            int
	versions              []string // the newest last
	gib                   int      // the size of its disk
}

// images are those that a cluster may be built on.
func images() []image {
	noble := []string{"24.04.202404230", "24.04.202506060", "24.04.202510010", "24.04.202511060"}
	jammy := []string{"22.04.202404010", "22.04.202510020"}
	bookworm := []string{"0.20240507.1740", "0.20250210.2019", "0.20251112.2294"}
	return []image{
		{"Canonical", "ubuntu-24_04-lts", "server", "x64", 2, noble, 30},
		{"Canonical", "ubuntu-24_04-lts", "server-gen1", "x64", 1, noble, 30},
		{"Canonical", "ubuntu-24_04-lts", "server-arm64", "Arm64", 2, noble, 30},
		{"Canonical", "ubuntu-24_04-lts", "minimal", "x64", 2, noble, 30},
		{"Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", "x64", 2, jammy, 30},
		{"Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", "x64", 1, jammy, 30},
		{"Canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-arm64", "Arm64", 2, jammy, 30},
		{"Debian", "debian-12", "12", "x64", 1, bookworm, 30},
		{"Debian", "debian-12", "12-gen2", "x64", 2, bookworm, 30},
		{"Debian", "debian-12", "12-arm64", "Arm64", 2, bookworm, 30},
	}
}

// findImage finds an image and the version that "latest" stands for.
func findImage(publisher, offer, sku, version string) (image, string, error) {
	name := strings.Join([]string{publisher, offer, sku, version}, ":")
	for _, i := range images() {
		if !strings.EqualFold(i.publisher, publisher) || !strings.EqualFold(i.offer,
			offer) || !strings.EqualFold(i.sku, sku) {
			continue
		}
		if strings.EqualFold(version, "latest") {
			return i, i.versions[len(i.versions)-1], nil
		}
		if slices.Contains(i.versions, version) {
			return i, version, nil
		}
	}
	return image{}, "", refuse(404, "PlatformImageNotFound", "The platform image '%s' is not available. Verify that "+
		"all fields in the storage profile are correct.", name)
}
