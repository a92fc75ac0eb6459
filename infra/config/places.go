package config

import (
	"regexp"
	"slices"
	"strings"
)

// What can be told about regions, zones and sizes from their names alone, so that a mistake shows before the cloud is asked. What
// the cloud really offers today, only it can tell: AWS is asked before any resource, Azure refuses at the VM.

var regions = map[string]*regexp.Regexp{
	AWS:   regexp.MustCompile(`^[a-z]{2}(-gov|-iso[a-z]?)?-(north|south|east|west|central|northeast|northwest|southeast|southwest)-\d$`),
	Azure: regexp.MustCompile(`^[a-z]{4,20}\d?$`),
}

var exampleRegion = map[string]string{AWS: "eu-west-1", Azure: "westeurope"}

// zonelessAzure are regions of Azure without availability zones. A region that is missing here is taken to have three.
var zonelessAzure = []string{
	"australiacentral", "australiacentral2", "australiasoutheast", "brazilsoutheast", "canadaeast", "francesouth",
	"germanynorth", "jioindiacentral", "jioindiawest", "northcentralus", "norwaywest", "southafricawest", "southindia",
	"switzerlandwest", "uaecentral", "ukwest", "westcentralus", "westindia", "westus",
}

func (p *parser) region(cloud, region string) {
	switch {
	case region == "":
		p.fail("region", "is not set; it is where everything will be, like %s", exampleRegion[cloud])
	case !regions[cloud].MatchString(region):
		p.fail("region", "%q is not a region of %s, like %s", region, cloud, exampleRegion[cloud])
	case cloud == Azure && slices.Contains(zonelessAzure, region):
		p.fail("region", "%s has no availability zones; choose one that has, like %s", region, exampleRegion[Azure])
	}
}

// defaultZones are the zones of a stack that names none.
func defaultZones(cloud, region string) []string {
	switch cloud {
	case AWS:
		return []string{region + "a", region + "b", region + "c"}
	case Azure:
		return []string{"1", "2", "3"}
	}
	return []string{"zone-a", "zone-b", "zone-c"}
}

var awsZoneSuffix = regexp.MustCompile(`^[a-z]$`)

// zonesOf checks names that the clouds fix.
func (p *parser) zonesOf(cloud, region string, zones []string) {
	for _, z := range zones {
		switch cloud {
		case AWS:
			if suffix, ok := strings.CutPrefix(z, region); !ok || !awsZoneSuffix.MatchString(suffix) {
				p.fail("zones", "%q is not a zone of %s, like %sa", z, region, region)
			}
		case Azure:
			if z != "1" && z != "2" && z != "3" {
				p.fail("zones", "%q is not a zone of Azure: they are 1, 2 and 3", z)
			}
		}
	}
}

var sizes = map[string]*regexp.Regexp{
	AWS:   regexp.MustCompile(`^[a-z]{1,4}\d{1,2}[a-z0-9-]*\.(nano|micro|small|medium|large|xlarge|\d{1,3}xlarge|metal(-\d+xl)?)$`),
	Azure: regexp.MustCompile(`^Standard_(A|B|D|DC|E|EB|EC|F|FX|G|GS|H|HB|HC|HX|L|M|N|NC|ND|NV)S?\d{1,3}(-\d{1,3})?[a-z]*(_[A-Z]\d+)?(_v\d{1,2})?$`),
}

// DefaultSize is the size that a cloud's VMs have when the stack names none: two cores of the current general family.
func DefaultSize(cloud, architecture string) string {
	return map[string]string{
		AWS + "amd64": "m7i.large", AWS + "arm64": "m7g.large",
		Azure + "amd64": "Standard_D2s_v5", Azure + "arm64": "Standard_D2ps_v5",
	}[cloud+architecture]
}

var (
	awsArm   = regexp.MustCompile(`^(a1|[a-z]+\d+g[a-z]*)\.`)
	azureArm = regexp.MustCompile(`^Standard_[A-Z]+\d+(-\d+)?[a-z]*p[a-z]*_v\d+$`)
)

// sizeArchitecture tells from a size's name what its processors are: g behind the generation on AWS (graphics sizes begin
// with g), p among the features on Azure.
func sizeArchitecture(cloud, size string) string {
	arm := awsArm
	if cloud == Azure {
		arm = azureArm
	}
	if arm.MatchString(size) {
		return "arm64"
	}
	return "amd64"
}
