package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// blocks are what a public access block can block; a bucket needs all of them.
var blocks = []string{"blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"}

// privateStores finds stores whose contents strangers could get, or read on the way.
func privateStores(r Resource) []string {
	switch kind(r.Type) {
	case "aws:s3:BucketPublicAccessBlock", "aws:s3:AccountPublicAccessBlock":
		var found []string
		for _, b := range blocks {
			found = append(found, must(at(r.Properties, b), true, "set "+b+" to true")...)
		}
		return found
	case "aws:s3:Bucket", "aws:s3:BucketV2", "aws:s3:BucketAcl", "aws:s3:BucketAclV2",
		"aws:s3:BucketObject", "aws:s3:BucketObjectv2":
		if acl := word(at(r.Properties, "acl")); strings.HasPrefix(acl, "public-") || acl == "authenticated-read" {
			return []string{fmt.Sprintf("acl is %s: leave it out, the owner alone has access then", acl)}
		}
	case "azure-native:storage:StorageAccount":
		return storageAccount(r.Properties)
	case "azure-native:storage:BlobContainer":
		if access := word(at(r.Properties, "publicAccess")); access != "" && access != "none" {
			return []string{fmt.Sprintf("publicAccess is %s: set it to None", access)}
		}
	}
	return nil
}

func storageAccount(p property.Map) []string {
	found := must(at(p, "allowBlobPublicAccess"), false, "blobs could be made public: set allowBlobPublicAccess to false")
	if v := at(p, "minimumTlsVersion"); !v.IsComputed() && !slices.Contains([]string{"tls1_2", "tls1_3"}, word(v)) {
		found = append(found, "old TLS is accepted: set minimumTlsVersion to TLS1_2")
	}
	if is(at(p, "enableHttpsTrafficOnly"), false) {
		found = append(found, "plain HTTP is accepted: leave out enableHttpsTrafficOnly, or set it to true")
	}
	return found
}

// blockedBuckets finds buckets without a block. In a preview a bucket has no name yet, so what the block's input comes
// from says whose it is; a block that was given a name as text is compared by that.
func blockedBuckets(all []Resource) []Finding {
	var found []Finding
	for _, r := range all {
		if k := kind(r.Type); k != "aws:s3:Bucket" && k != "aws:s3:BucketV2" {
			continue
		}
		if !slices.ContainsFunc(all, func(b Resource) bool { return blocksBucket(b, r) }) {
			found = append(found, Finding{r.URN,
				"the bucket has no public access block: add an aws.s3.BucketPublicAccessBlock for it"})
		}
	}
	return found
}

func blocksBucket(block, bucket Resource) bool {
	if kind(block.Type) != "aws:s3:BucketPublicAccessBlock" {
		return false
	}
	if slices.Contains(block.References["bucket"], bucket.URN) {
		return true
	}
	target, ok := text(at(block.Properties, "bucket"))
	name, known := text(at(bucket.Properties, "bucket"))
	return ok && known && target == name
}
