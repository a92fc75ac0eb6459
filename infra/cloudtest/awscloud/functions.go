package awscloud

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) functions() map[string]cloud.Function {
	return map[string]cloud.Function{
		"aws:ec2/getAmi:getAmi": c.getAmi, "aws:ec2/getInstanceType:getInstanceType": getInstanceType,
		"aws:ec2/getInstanceTypeOffering:getInstanceTypeOffering":   getOffering,
		"aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": getOfferings,
		"aws:ec2/getVpc:getVpc": c.getVpc, "aws:ec2/getSubnet:getSubnet": c.getSubnet,
		"aws:ec2/getSubnets:getSubnets":                       c.getSubnets,
		"aws:index/getAvailabilityZones:getAvailabilityZones": getZones,
		"aws:index/getCallerIdentity:getCallerIdentity":       c.getCaller,
		"aws:index/getRegion:getRegion":                       getRegion,
		"aws:index/getPartition:getPartition":                 getPartition,
		"aws:iam/getPolicyDocument:getPolicyDocument":         getPolicyDocument,
		"aws:ssm/getParameter:getParameter":                   getParameter,
	}
}

// answer is a function's result: its arguments and more.
func answer(call *cloud.Call, more map[string]any) resource.PropertyMap {
	out := maps.Clone(call.Inputs)
	maps.Copy(out, cloud.Values(more))
	return out
}

// matches holds a thing's attributes against filters {name, values}, where values may have wildcards.
func matches(filters []resource.PropertyMap, attributes map[string]string) bool {
	for _, f := range filters {
		have, ok := attributes[cloud.Str(f, "name")]
		if !ok || !slices.ContainsFunc(cloud.Strs(f, "values"), func(v string) bool { return wildcard(v, have) }) {
			return false
		}
	}
	return true
}

func (c *Cloud) getAmi(call *cloud.Call) (resource.PropertyMap, error) {
	in := call.Inputs
	pattern, err := regexp.Compile(cloud.Str(in, "nameRegex"))
	if err != nil {
		return nil, fmt.Errorf("nameRegex: %w", err)
	}
	var found []image
	for _, i := range images() {
		id := i.id(region(call))
		owners := cloud.Strs(in, "owners")
		owned := len(owners) == 0 || slices.Contains(owners, i.owner) || i.alias != "" &&
			slices.Contains(owners, i.alias)
		attributes := map[string]string{
			"name": i.name, "architecture": i.arch, "virtualization-type": "hvm", "root-device-type": "ebs",
			"state":    "available",
			"image-id": id, "owner-id": i.owner, "owner-alias": i.alias, "image-type": "machine",
			"is-public": "true", "hypervisor": "xen", "ena-support": "true",
		}
		if owned && pattern.MatchString(i.name) && matches(cloud.Objs(in, "filters"), attributes) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("Your query returned no results. Please change your search criteria and try again.")
	case len(found) > 1 && !cloud.Bool(in, "mostRecent", false):
		return nil, fmt.Errorf("Your query returned more than one result. Please try a more specific search " +
			"criteria, or set `most_recent` attribute to true.")
	}
	slices.SortFunc(found, func(a, b image) int { return strings.Compare(b.date, a.date) })
	i := found[0]
	id := i.id(region(call))
	return answer(call, map[string]any{
		"id": id, "imageId": id, "arn": "arn:aws:ec2:" + region(call) + "::image/" + id, "name": i.name,
		"architecture": i.arch, "ownerId": i.owner,
		"imageOwnerAlias": i.alias, "creationDate": i.date, "rootDeviceName": i.rootDevice, "rootDeviceType": "ebs",
		"virtualizationType": "hvm",
		"state":              "available", "public": true, "hypervisor": "xen", "imageType": "machine",
		"enaSupport":          true,
		"imageLocation":       i.owner + "/" + i.name,
		"rootSnapshotId":      "snap-" + strings.TrimPrefix(id, "ami-"),
		"blockDeviceMappings": []resource.PropertyValue{}, "productCodes": []resource.PropertyValue{},
		"tags": map[string]any{}, "stateReason": map[string]any{"code": "UNSET", "message": "UNSET"},
		"bootMode": "", "deprecationTime": "", "description": i.name, "imdsSupport": "",
		"kernelId": "", "lastLaunchedTime": "", "platform": "", "platformDetails": "Linux/UNIX", "ramdiskId": "",
		"sriovNetSupport": "simple", "tpmSupport": "", "usageOperation": "RunInstances",
	}), nil
}

func getInstanceType(call *cloud.Call) (resource.PropertyMap, error) {
	name := cloud.Str(call.Inputs, "instanceType")
	t, ok := instanceTypes[name]
	if !ok {
		return nil, ec2Error("reading EC2 Instance Type ("+name+")", "DescribeInstanceTypes", "InvalidInstanceType",
			"The following supplied instance types do not exist: [%s]", name)
	}
	return answer(call, map[string]any{
		"id": name, "supportedArchitectures": []string{t.arch}, "defaultVcpus": t.cpus, "memorySize": t.mib,
		"burstablePerformanceSupported": t.burstable,
		"currentGeneration":             true, "ebsNvmeSupport": "required", "hypervisor": "nitro",
		"supportedVirtualizationTypes": []string{"hvm"},
		"defaultCores":                 max(t.cpus/2, 1), "defaultThreadsPerCore": 2,
		"supportedRootDeviceTypes": []string{"ebs"},
		"bareMetal":                false, "maximumNetworkInterfaces": 3,
		"ebsEncryptionSupport": "supported", "ebsOptimizedSupport": "default",
		"supportedUsagesClasses": []string{"on-demand", "spot"},
	}), nil
}

// offerings are the types that filters let through, with the places that have them.
func offerings(call *cloud.Call) (types, places []string, err error) {
	in := call.Inputs
	kind := cloud.Str(in, "locationType")
	where := []string{region(call)}
	switch kind {
	case "", "region":
	case "availability-zone":
		where = zones(region(call))
	case "availability-zone-id":
		for i, z := range zones(region(call)) {
			if i == 0 {
				where = nil
			}
			where = append(where, zoneID(z))
		}
	default:
		return nil, nil, fmt.Errorf("expected location_type to be one of [\"region\" \"availability-zone\" "+
			"\"availability-zone-id\" \"outpost\"], got %s", kind)
	}
	for _, name := range slices.Sorted(maps.Keys(instanceTypes)) {
		for i, place := range where {
			zone := place
			if kind == "availability-zone-id" {
				zone = zones(region(call))[i]
			}
			if offered(name, zone) && matches(cloud.Objs(in, "filters"),
				map[string]string{"instance-type": name, "location": place}) {
				types, places = append(types, name), append(places, place)
			}
		}
	}
	return types, places, nil
}

func getOfferings(call *cloud.Call) (resource.PropertyMap, error) {
	types, places, err := offerings(call)
	if err != nil {
		return nil, err
	}
	kinds := make([]string, len(types))
	for i := range kinds {
		kinds[i] = cloud.Str(call.Inputs, "locationType")
		if kinds[i] == "" {
			kinds[i] = "region"
		}
	}
	return answer(call, map[string]any{"id": region(call), "instanceTypes": types, "locations": places,
		"locationTypes": kinds}), nil
}

func getOffering(call *cloud.Call) (resource.PropertyMap, error) {
	types, _, err := offerings(call)
	if err != nil {
		return nil, err
	}
	types = slices.Compact(types)
	preferred := cloud.Strs(call.Inputs, "preferredInstanceTypes")
	for _, p := range preferred {
		if slices.Contains(types, p) {
			return answer(call, map[string]any{"id": p, "instanceType": p}), nil
		}
	}
	switch {
	case len(types) == 0 || len(preferred) > 0:
		return nil, fmt.Errorf("no EC2 Instance Type Offerings found matching criteria; try different search")
	case len(types) > 1:
		return nil, fmt.Errorf("multiple EC2 Instance Offerings found matching criteria; try different search")
	}
	return answer(call, map[string]any{"id": types[0], "instanceType": types[0]}), nil
}

// one finds the only item of a kind that fits a lookup.
func (c *Cloud) one(call *cloud.Call, kind, what string) (*item, error) {
	found := c.matching(call, kind)
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("reading %s: no matching %s found", what, what)
	case 1:
		return found[0], nil
	default:
		return nil, fmt.Errorf("reading %s: multiple %ss matched; use additional constraints to reduce matches to a "+
			"single %s", what, what, what)
	}
}

// matching are the items of a kind in the region that a lookup's arguments fit; c.mu is held.
func (c *Cloud) matching(call *cloud.Call, kind string) []*item {
	in := call.Inputs
	return slices.DeleteFunc(c.all(kind), func(it *item) bool {
		attributes := map[string]string{
			"vpc-id": it.str("vpcId"), "cidr": it.str("cidrBlock"), "cidr-block": it.str("cidrBlock"),
			"availability-zone": it.str("availabilityZone"),
			"subnet-id":         it.id, "state": "available", "availabilityZone": it.str("availabilityZone"),
		}
		if kind == "vpc" {
			attributes["vpc-id"] = it.id
		}
		for k, v := range cloud.StrMap(it.out, "tagsAll") {
			attributes["tag:"+k] = v
		}
		fits := it.region == region(call) && matches(cloud.Objs(in, "filters"), attributes)
		for k, v := range cloud.StrMap(in, "tags") {
			fits = fits && it.tag(k) == v
		}
		for argument, have := range map[string]string{
			"id": it.id, "cidrBlock": it.str("cidrBlock"), "vpcId": it.str("vpcId"),
			"availabilityZone": it.str("availabilityZone"), "state": "available",
		} {
			fits = fits && (cloud.Str(in, argument) == "" || cloud.Str(in, argument) == have)
		}
		return !fits || cloud.Bool(in, "default", false)
	})
}

func (c *Cloud) getVpc(call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it, err := c.one(call, "vpc", "EC2 VPC")
	if err != nil {
		return nil, err
	}
	return answer(call, map[string]any{
		"id": it.id, "arn": it.str("arn"), "cidrBlock": it.str("cidrBlock"), "default": false, "state": "available",
		"ownerId":          c.account,
		"enableDnsSupport": it.flag("enableDnsSupport"), "enableDnsHostnames": it.flag("enableDnsHostnames"),
		"instanceTenancy": "default", "dhcpOptionsId": it.str("dhcpOptionsId"),
		"mainRouteTableId": it.str("mainRouteTableId"), "enableNetworkAddressUsageMetrics": false,
		"ipv6AssociationId": "", "ipv6CidrBlock": "",
		"cidrBlockAssociations": []resource.PropertyValue{}, "tags": it.out["tagsAll"],
	}), nil
}

func (c *Cloud) getSubnet(call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	it, err := c.one(call, "subnet", "EC2 Subnet")
	if err != nil {
		return nil, err
	}
	cidr, _ := prefix(it.str("cidrBlock"))
	used := len(slices.DeleteFunc(c.all("eni"), func(e *item) bool { return e.extra.(*eni).subnet != it.id }))
	return answer(call, map[string]any{
		"id": it.id, "arn": it.str("arn"), "cidrBlock": it.str("cidrBlock"), "vpcId": it.str("vpcId"),
		"availabilityZone":        it.str("availabilityZone"),
		"availabilityZoneId":      it.str("availabilityZoneId"),
		"availableIpAddressCount": 1<<(32-cidr.Bits()) - 5 - used, "defaultForAz": false, "state": "available",
		"ownerId": c.account, "mapPublicIpOnLaunch": cloud.Bool(it.in, "mapPublicIpOnLaunch", false),
		"assignIpv6AddressOnCreation": false, "ipv6CidrBlock": "",
		"ipv6CidrBlockAssociationId": "", "customerOwnedIpv4Pool": "", "enableDns64": false,
		"enableLniAtDeviceIndex": 0, "ipv6Native": false, "mapCustomerOwnedIpOnLaunch": false,
		"outpostArn": "", "privateDnsHostnameTypeOnLaunch": "ip-name",
		"enableResourceNameDnsARecordOnLaunch": false, "enableResourceNameDnsAaaaRecordOnLaunch": false,
		"tags": it.out["tagsAll"],
	}), nil
}

func (c *Cloud) getSubnets(call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for _, it := range c.matching(call, "subnet") {
		ids = append(ids, it.id)
	}
	return answer(call, map[string]any{"id": region(call), "ids": ids}), nil
}

func getZones(call *cloud.Call) (resource.PropertyMap, error) {
	in := call.Inputs
	var names, ids []string
	for _, z := range zones(region(call)) {
		attributes := map[string]string{"zone-name": z, "region-name": region(call),
			"opt-in-status": "opt-in-not-required", "zone-type": "availability-zone", "state": "available"}
		if slices.Contains(cloud.Strs(in, "excludeNames"), z) ||
			slices.Contains(cloud.Strs(in, "excludeZoneIds"), zoneID(z)) ||
			!matches(cloud.Objs(in, "filters"), attributes) || cloud.Str(in, "state") != "" &&
			cloud.Str(in, "state") != "available" {
			continue
		}
		names, ids = append(names, z), append(ids, zoneID(z))
	}
	return answer(call, map[string]any{"id": region(call), "names": names, "zoneIds": ids,
		"groupNames": []string{region(call)}}), nil
}

func (c *Cloud) getCaller(call *cloud.Call) (resource.PropertyMap, error) {
	return answer(call, map[string]any{"id": c.account, "accountId": c.account, "arn": "arn:aws:iam::" + c.account +
		":user/cloudtest", "userId": "AIDACLOUDTEST"}), nil
}

func getRegion(call *cloud.Call) (resource.PropertyMap, error) {
	name := region(call)
	if n := cloud.Str(call.Inputs, "name"); n != "" {
		name = n
	}
	if _, ok := regions[name]; !ok {
		return nil, fmt.Errorf("region not found for %q", name)
	}
	return answer(call, map[string]any{"id": name, "name": name, "description": name, "endpoint": "ec2." + name +
		".amazonaws.com"}), nil
}

func getPartition(call *cloud.Call) (resource.PropertyMap, error) {
	return answer(call, map[string]any{"id": "aws", "partition": "aws", "dnsSuffix": "amazonaws.com",
		"reverseDnsPrefix": "com.amazonaws"}), nil
}

// getParameter knows the public parameters that name images.
func getParameter(call *cloud.Call) (resource.PropertyMap, error) {
	name := cloud.Str(call.Inputs, "name")
	for _, i := range images() {
		if slices.Contains(i.parameters, name) {
			id := i.id(region(call))
			return answer(call, map[string]any{
				"id": name, "value": resource.MakeSecret(resource.NewStringProperty(id)), "insecureValue": id,
				"type": "String", "version": 1,
				"arn": "arn:aws:ssm:" + region(call) + "::parameter" + name,
			}), nil
		}
	}
	return nil, apiError("reading SSM Parameter ("+name+")", "SSM", "GetParameter", 400, "ParameterNotFound",
		"couldn't find resource")
}

// getPolicyDocument writes a policy of statements.
func getPolicyDocument(call *cloud.Call) (resource.PropertyMap, error) {
	var statements []any
	for _, s := range cloud.Objs(call.Inputs, "statements") {
		statements = append(statements, policyStatement(s))
	}
	version := cloud.Str(call.Inputs, "version")
	if version == "" {
		version = "2012-10-17"
	}
	d := map[string]any{"Version": version, "Statement": statements}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	short, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	return answer(call, map[string]any{"id": randomHex(4), "json": string(text), "minifiedJson": string(short)}), nil
}

func policyStatement(s resource.PropertyMap) map[string]any {
	out := map[string]any{"Effect": "Allow"}
	if e := cloud.Str(s, "effect"); e != "" {
		out["Effect"] = e
	}
	if id := cloud.Str(s, "sid"); id != "" {
		out["Sid"] = id
	}
	for input, name := range map[string]string{"actions": "Action", "notActions": "NotAction",
		"resources": "Resource", "notResources": "NotResource"} {
		if v := cloud.Strs(s, input); len(v) > 0 {
			out[name] = v
		}
	}
	principals := map[string][]string{}
	for _, p := range cloud.Objs(s, "principals") {
		kind := cloud.Str(p, "type")
		principals[kind] = append(principals[kind], cloud.Strs(p, "identifiers")...)
	}
	if len(principals) > 0 {
		out["Principal"] = principals
	}
	conditions := map[string]map[string][]string{}
	for _, p := range cloud.Objs(s, "conditions") {
		test := cloud.Str(p, "test")
		if conditions[test] == nil {
			conditions[test] = map[string][]string{}
		}
		conditions[test][cloud.Str(p, "variable")] = cloud.Strs(p, "values")
	}
	if len(conditions) > 0 {
		out["Condition"] = conditions
	}
	return out
}
