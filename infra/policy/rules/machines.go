package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// encryptedDisks finds disks that are not encrypted. AWS encrypts what it is told to, so it must be told; Azure encrypts
// every managed disk, so it must not be told otherwise.
func encryptedDisks(r Resource) []string {
	switch kind(r.Type) {
	case "aws:ebs:Volume":
		return must(at(r.Properties, "encrypted"), true, "the volume is not encrypted: set encrypted to true")
	case "aws:ec2:Instance":
		return instanceDisks(r.Properties)
	case "aws:ec2:LaunchTemplate":
		var found []string
		for i, d := range objects(at(r.Properties, "blockDeviceMappings")) {
			found = append(found, must(at(d, "ebs", "encrypted"), true,
				fmt.Sprintf("blockDeviceMappings[%d] is not encrypted: set ebs.encrypted to true", i))...)
		}
		return found
	case "azure-native:compute:Disk":
		return azureDisk(r.Properties)
	case "azure-native:compute:VirtualMachine":
		return azureMachineDisks(at(r.Properties, "storageProfile"))
	}
	return nil
}

func instanceDisks(p property.Map) []string {
	found := must(at(p, "rootBlockDevice", "encrypted"), true,
		"the root disk is not encrypted: set rootBlockDevice.encrypted to true")
	for i, d := range objects(at(p, "ebsBlockDevices")) {
		found = append(found, must(at(d, "encrypted"), true,
			fmt.Sprintf("ebsBlockDevices[%d] is not encrypted: set encrypted to true", i))...)
	}
	return found
}

func azureDisk(p property.Map) []string {
	var found []string
	if how, ok := text(at(p, "encryption", "type")); ok && !strings.HasPrefix(how, "EncryptionAtRestWith") {
		found = append(found, fmt.Sprintf("encryption.type is %q: leave it out, or name one of EncryptionAtRestWith…", how))
	}
	if is(at(p, "encryptionSettingsCollection", "enabled"), false) {
		found = append(found, "encryptionSettingsCollection.enabled is false: leave it out, and the disk is encrypted at rest")
	}
	return found
}

func azureMachineDisks(storage property.Value) []string {
	if !storage.IsMap() {
		return nil
	}
	disks := objects(at(storage.AsMap(), "dataDisks"))
	if os := at(storage.AsMap(), "osDisk"); os.IsMap() {
		disks = append(disks, os.AsMap())
	}
	var found []string
	for _, d := range disks {
		if is(at(d, "encryptionSettings", "enabled"), false) {
			found = append(found, "a disk's encryptionSettings.enabled is false: leave it out, and the disk is encrypted at rest")
		}
		if !at(d, "vhd").IsNull() {
			found = append(found, "a disk is a blob of a storage account (vhd): use a managed disk, which is always encrypted")
		}
	}
	return found
}

// tokenMetadata finds instances whose credentials a forwarded request could fetch. A hop limit of 1 keeps the answer from
// containers behind another network, too.
func tokenMetadata(r Resource) []string {
	if k := kind(r.Type); k != "aws:ec2:Instance" && k != "aws:ec2:LaunchTemplate" {
		return nil
	}
	options := at(r.Properties, "metadataOptions")
	if options.IsComputed() || word(at(r.Properties, "metadataOptions", "httpEndpoint")) == "disabled" {
		return nil
	}
	var found []string
	if v := at(r.Properties, "metadataOptions", "httpTokens"); !v.IsComputed() && word(v) != "required" {
		found = append(found, "metadata is given without a token: set metadataOptions.httpTokens to required")
	}
	v := at(r.Properties, "metadataOptions", "httpPutResponseHopLimit")
	if !v.IsComputed() && (!v.IsNumber() || v.AsNumber() != 1) {
		found = append(found, "metadata tokens may travel on: set metadataOptions.httpPutResponseHopLimit to 1")
	}
	return found
}

// trustedLaunch finds Azure VMs that would start an altered boot loader. A scale set without a profile makes no VMs.
func trustedLaunch(r Resource) []string {
	profile := r.Properties
	switch kind(r.Type) {
	case "azure-native:compute:VirtualMachine":
	case "azure-native:compute:VirtualMachineScaleSet":
		v := at(r.Properties, "virtualMachineProfile")
		if !v.IsMap() {
			return nil
		}
		profile = v.AsMap()
	default:
		return nil
	}
	var found []string
	how := at(profile, "securityProfile", "securityType")
	if !how.IsComputed() && !slices.Contains([]string{"trustedlaunch", "confidentialvm"}, word(how)) {
		found = append(found, "set securityProfile.securityType to TrustedLaunch")
	}
	found = append(found, must(at(profile, "securityProfile", "uefiSettings", "secureBootEnabled"), true,
		"set securityProfile.uefiSettings.secureBootEnabled to true")...)
	return append(found, must(at(profile, "securityProfile", "uefiSettings", "vTpmEnabled"), true,
		"set securityProfile.uefiSettings.vTpmEnabled to true")...)
}

// internalBalancers finds load balancers that the internet can reach.
func internalBalancers(r Resource) []string {
	switch kind(r.Type) {
	case "aws:lb:LoadBalancer", "aws:alb:LoadBalancer", "aws:elb:LoadBalancer":
		return must(at(r.Properties, "internal"), true, "the load balancer is public: set internal to true")
	case "azure-native:network:LoadBalancer", "azure-native:network:ApplicationGateway":
		var found []string
		for i, f := range objects(at(r.Properties, "frontendIPConfigurations")) {
			if !at(f, "publicIPAddress").IsNull() || !at(f, "publicIPPrefix").IsNull() {
				found = append(found, fmt.Sprintf(
					"frontendIPConfigurations[%d] has a public address: give it a privateIPAddress in a subnet", i))
			}
		}
		return found
	}
	return nil
}
