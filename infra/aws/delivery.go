package aws

import (
	"encoding/json"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/s3"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/provisioning/cloudinit"
)

// store is the bucket with the node program; the zero value is none.
type store struct {
	bucket pulumi.StringInput // its name; nil when nodes fetch the program from elsewhere
	arn    pulumi.StringInput
	upload []pulumi.Resource // what must be there before a node boots
}

// longestBucketPrefix leaves room for the digits that make the name unique in all of AWS.
const longestBucketPrefix = 37

// delivery registers the store with the program in it, unless nodes fetch it from elsewhere.
func (b *builder) delivery() (store, error) {
	if b.load.Program.URL != "" {
		return store{}, nil
	}
	const name = "program-store"
	bucket, err := s3.NewBucketV2(b.ctx, name, &s3.BucketV2Args{
		BucketPrefix: pulumi.String(strings.ToLower(b.prefix("program", longestBucketPrefix))),
		ForceDestroy: pulumi.Bool(true), Tags: b.tags(name),
	}, b.child())
	if err != nil {
		return store{}, err
	}
	closed, err := b.closed(name, bucket)
	if err != nil {
		return store{}, err
	}
	// A changed program is another resource, and the old one goes last, after all VMs.
	object, err := s3.NewBucketObjectv2(b.ctx, b.load.Program.Resource(), &s3.BucketObjectv2Args{
		Bucket: bucket.ID(), Key: pulumi.String(b.load.Program.Key()), Source: pulumi.NewFileAsset(b.load.Program.Path),
		Tags: b.tags("program"),
	}, b.child(), pulumi.DependsOn([]pulumi.Resource{closed}))
	if err != nil {
		return store{}, err
	}
	return store{bucket: bucket.ID(), arn: bucket.Arn, upload: []pulumi.Resource{object}}, nil
}

// closed registers what keeps the bucket shut, and returns the last of it. They come one after the other, because S3 refuses
// two changes of a bucket's settings at the same time.
func (b *builder) closed(name string, bucket *s3.BucketV2) (pulumi.Resource, error) {
	access, err := s3.NewBucketPublicAccessBlock(b.ctx, name+"-access", &s3.BucketPublicAccessBlockArgs{
		Bucket: bucket.ID(), BlockPublicAcls: pulumi.Bool(true), BlockPublicPolicy: pulumi.Bool(true),
		IgnorePublicAcls: pulumi.Bool(true), RestrictPublicBuckets: pulumi.Bool(true),
	}, b.child())
	if err != nil {
		return nil, err
	}
	owner, err := s3.NewBucketOwnershipControls(b.ctx, name+"-owner", &s3.BucketOwnershipControlsArgs{
		Bucket: bucket.ID(),
		Rule:   s3.BucketOwnershipControlsRuleArgs{ObjectOwnership: pulumi.String("BucketOwnerEnforced")},
	}, b.child(), pulumi.DependsOn([]pulumi.Resource{access}))
	if err != nil {
		return nil, err
	}
	encryption, err := s3.NewBucketServerSideEncryptionConfigurationV2(b.ctx, name+"-encryption",
		&s3.BucketServerSideEncryptionConfigurationV2Args{
			Bucket: bucket.ID(),
			Rules: s3.BucketServerSideEncryptionConfigurationV2RuleArray{s3.BucketServerSideEncryptionConfigurationV2RuleArgs{
				ApplyServerSideEncryptionByDefault: s3.BucketServerSideEncryptionConfigurationV2RuleApplyServerSideEncryptionByDefaultArgs{
					SseAlgorithm: pulumi.String("AES256"),
				},
			}},
		}, b.child(), pulumi.DependsOn([]pulumi.Resource{owner}))
	if err != nil {
		return nil, err
	}
	return s3.NewBucketPolicy(b.ctx, name+"-policy", &s3.BucketPolicyArgs{
		Bucket: bucket.ID(), Policy: bucket.Arn.ApplyT(func(arn string) (string, error) { return onlyTLS(arn) }).(pulumi.StringOutput),
	}, b.child(), pulumi.DependsOn([]pulumi.Resource{encryption}))
}

// statement and document are a policy as AWS reads it.
type statement struct {
	Sid       string         `json:",omitempty"`
	Effect    string         `json:""`
	Principal any            `json:",omitempty"`
	Action    []string       `json:""`
	Resource  []string       `json:",omitempty"`
	Condition map[string]any `json:",omitempty"`
}

type document struct {
	Version   string
	Statement []statement
}

func (d document) String() (string, error) {
	d.Version = "2012-10-17"
	text, err := json.Marshal(d)
	return string(text), err
}

// onlyTLS refuses what comes over plain HTTP, whoever asks.
func onlyTLS(bucket string) (string, error) {
	return document{Statement: []statement{{
		Sid: "OnlyTLS", Effect: "Deny", Principal: "*", Action: []string{"s3:*"}, Resource: []string{bucket, bucket + "/*"},
		Condition: map[string]any{"Bool": map[string]string{"aws:SecureTransport": "false"}},
	}}}.String()
}

// binary is the program as a node is told to fetch it.
func (b *builder) binary(bucket string) cloudinit.Binary {
	p := b.load.Program
	if p.URL != "" {
		return cloudinit.Binary{URL: p.URL, SHA256: p.SHA256}
	}
	return cloudinit.Binary{
		URL:    "https://" + bucket + ".s3." + b.Config.Network.Region + ".amazonaws.com/" + p.Key(),
		SHA256: p.SHA256, Signed: true,
	}
}
