package awscloud

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// object is what S3 stores.
type object struct {
	data     []byte
	etag     string
	modified time.Time
}

func (c *Cloud) bucketKinds() map[string]*cloud.Kind {
	bucket := func() *cloud.Kind {
		return c.kindOf(books{
			kind: "bucket", check: checkBucket, create: c.createBucket, remove: c.removeBucket,
			replace: []string{"bucket", "bucketPrefix", "objectLockEnabled"},
			auto: &cloud.AutoName{Property: "bucket", MaxLength: 63, Transform: strings.ToLower,
				Unless: []string{"bucketPrefix"}},
		})
	}
	sub := func(kind string, check func(*cloud.Call) []cloud.Problem) *cloud.Kind {
		return c.kindOf(books{
			kind: kind, check: check, replace: []string{"bucket", "expectedBucketOwner"},
			create: func(call *cloud.Call) (string, map[string]any, error) {
				return cloud.Str(call.Inputs, "bucket"), nil, c.mayConfigure(kind, call)
			},
			update: func(call *cloud.Call, _ *item) error { return c.mayConfigure(kind, call) },
		})
	}
	return map[string]*cloud.Kind{
		"aws:s3/bucket:Bucket": bucket(), "aws:s3/bucketV2:BucketV2": bucket(),
		"aws:s3/bucketObjectv2:BucketObjectv2":                   c.objectKind(),
		"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": sub("publicaccess", nil),
		"aws:s3/bucketPolicy:BucketPolicy": sub("bucketpolicy",
			func(call *cloud.Call) []cloud.Problem { return checkJSON(call.Inputs, "policy") }),
		"aws:s3/bucketOwnershipControls:BucketOwnershipControls": sub("ownership",
			func(call *cloud.Call) []cloud.Problem {
				return oneOf(cloud.Obj(call.Inputs, "rule"), "objectOwnership", "BucketOwnerPreferred",
					"ObjectWriter",
					"BucketOwnerEnforced")
			}),
		"aws:s3/bucketVersioningV2:BucketVersioningV2": sub("versioning", func(call *cloud.Call) []cloud.Problem {
			return oneOf(cloud.Obj(call.Inputs, "versioningConfiguration"), "status", "Enabled", "Suspended",
				"Disabled")
		}),
		"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": sub("encryption", checkEncryption),
	}
}

func s3Error(doing, op string, status int, code, format string, args ...any) error {
	return apiError(doing, "S3", op, status, code, format, args...)
}

// bucketName is what S3 takes for a name.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func checkBucket(call *cloud.Call) []cloud.Problem {
	if p := cloud.Str(call.Inputs, "bucketPrefix"); p != strings.ToLower(p) {
		return []cloud.Problem{cloud.Problemf("bucketPrefix",
			"only lowercase alphanumeric characters and hyphens allowed in %q", p)}
	}
	if found := checkPrefix(call.Inputs, "bucketPrefix", 63); found != nil {
		return found
	}
	name := cloud.Str(call.Inputs, "bucket")
	if !cloud.Known(call.Inputs, "bucket") {
		return nil
	}
	_, err := netip.ParseAddr(name)
	if !bucketName.MatchString(name) || strings.Contains(name, "..") || err == nil ||
		strings.HasPrefix(name, "xn--") || strings.HasSuffix(name, "-s3alias") {
		return []cloud.Problem{cloud.Problemf("bucket",
			"invalid value for bucket: %q must have 3 to 63 lower case letters, digits, dots and hyphens, and begin "+
				"and end with a letter or digit", name)}
	}
	return nil
}

// takenBuckets are names that somebody else had first: bucket names are one space for all accounts.
func takenBuckets() []string {
	return []string{"test", "data", "backup", "backups", "example", "my-bucket", "mybucket", "cache", "hypercache",
		"artifacts", "binaries"}
}

func (c *Cloud) createBucket(call *cloud.Call) (string, map[string]any, error) {
	name := cloud.Str(call.Inputs, "bucket")
	if p := cloud.Str(call.Inputs, "bucketPrefix"); p != "" {
		name = p + uniqueSuffix()
	}
	doing := "creating S3 Bucket (" + name + ")"
	if slices.Contains(takenBuckets(), name) {
		return "", nil, s3Error(doing, "CreateBucket", 409, "BucketAlreadyExists",
			"The requested bucket name is not available. "+
				"The bucket namespace is shared by all users of the system. Please select a different name and try "+
				"again.")
	}
	if c.items[key{"bucket", name}] != nil {
		return "", nil, s3Error(doing, "CreateBucket", 409, "BucketAlreadyOwnedByYou",
			"Your previous request to create the named bucket succeeded and you already own it.")
	}
	return name, map[string]any{
		"arn": "arn:aws:s3:::" + name, "bucket": name, "region": region(call), "bucketDomainName": name +
			".s3.amazonaws.com",
		"bucketRegionalDomainName": name + ".s3." + region(call) + ".amazonaws.com", "hostedZoneId": "Z" +
			strings.ToUpper(randomHex(6)),
	}, nil
}

func (c *Cloud) removeBucket(_ *cloud.Call, it *item) error {
	for _, o := range c.all("object") {
		if cloud.Str(o.in, "bucket") != it.id {
			continue
		}
		if !cloud.Bool(it.in, "forceDestroy", false) {
			return s3Error("deleting S3 Bucket ("+it.id+")", "DeleteBucket", 409, "BucketNotEmpty",
				"The bucket you tried to delete is not empty")
		}
		delete(c.items, key{"object", o.id})
	}
	for _, kind := range []string{"publicaccess", "bucketpolicy", "ownership", "versioning", "encryption"} {
		delete(c.items, key{kind, it.id})
	}
	return nil
}

// mayConfigure checks a bucket's configuration; c.mu is held.
func (c *Cloud) mayConfigure(kind string, call *cloud.Call) error {
	name := cloud.Str(call.Inputs, "bucket")
	doing, op := fmt.Sprintf("putting S3 Bucket (%s) %s", name, kind), "PutBucketConfiguration"
	b := c.items[key{"bucket", name}]
	if b == nil {
		return s3Error(doing, op, 404, "NoSuchBucket", "The specified bucket does not exist")
	}
	if kind != "bucketpolicy" {
		return nil
	}
	d, err := parsePolicy(cloud.Str(call.Inputs, "policy"), true)
	if err != nil {
		return s3Error(doing, "PutBucketPolicy", 400, "MalformedPolicy", "%s", err)
	}
	block := c.items[key{"publicaccess", name}]
	for _, s := range d.Statement {
		if len(s.Resource) == 0 || slices.ContainsFunc(s.Resource, func(r string) bool {
			return r != "arn:aws:s3:::"+name && !strings.HasPrefix(r, "arn:aws:s3:::"+name+"/")
		}) {
			return s3Error(doing, "PutBucketPolicy", 400, "MalformedPolicy", "Policy has invalid resource")
		}
		public := s.Effect == "Allow" && len(s.Condition) == 0 &&
			(slices.Contains(s.Principal["AWS"], "*") || len(s.Principal["*"]) > 0)
		if public && (block == nil || cloud.Bool(block.in, "blockPublicPolicy", false)) {
			return s3Error(doing, "PutBucketPolicy", 403, "AccessDenied",
				"User is not authorized to perform: s3:PutBucketPolicy on resource: \"arn:aws:s3:::%s\" because "+
					"public policies are blocked by the BlockPublicPolicy setting", name)
		}
	}
	return nil
}

func checkEncryption(call *cloud.Call) []cloud.Problem {
	var problems []cloud.Problem
	for i, r := range cloud.Objs(call.Inputs, "rules") {
		for _, p := range oneOf(cloud.Obj(r, "applyServerSideEncryptionByDefault"), "sseAlgorithm", "AES256",
			"aws:kms", "aws:kms:dsse") {
			p.Property = fmt.Sprintf("rules[%d].applyServerSideEncryptionByDefault.%s", i, p.Property)
			problems = append(problems, p)
		}
	}
	return problems
}

// objectKind reads files before it takes the lock.
func (c *Cloud) objectKind() *cloud.Kind {
	k := c.kindOf(books{
		kind: "object", check: checkObject, create: c.createObject, replace: []string{"bucket", "key"},
		auto: &cloud.AutoName{Property: "key"},
		update: func(call *cloud.Call, it *item) error {
			o, err := c.content(call)
			if err == nil {
				it.extra = o
				it.out["etag"] = resource.NewStringProperty(o.etag)
			}
			return err
		},
	})
	create := k.Create
	k.Create = func(call *cloud.Call) (string, resource.PropertyMap, error) {
		o, err := c.content(call)
		if err != nil {
			return "", nil, err
		}
		id, out, err := create(call)
		if err != nil {
			return "", nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		it := c.items[key{"object", id}]
		it.extra, it.out["etag"] = o, resource.NewStringProperty(o.etag)
		out["etag"] = it.out["etag"]
		return id, out, nil
	}
	return k
}

func checkObject(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	return slices.Concat(conflict(in, "source", "content"), conflict(in, "source", "contentBase64"),
		conflict(in, "content", "contentBase64"),
		oneOf(in, "serverSideEncryption", "AES256", "aws:kms", "aws:kms:dsse"), conflict(in, "etag", "kmsKeyId"))
}

func (c *Cloud) content(call *cloud.Call) (*object, error) {
	var data []byte
	var err error
	switch {
	case given(call.Inputs, "source"):
		data, err = call.Bytes("source")
	case given(call.Inputs, "content"):
		data = []byte(cloud.Str(call.Inputs, "content"))
	case given(call.Inputs, "contentBase64"):
		data, err = base64.StdEncoding.DecodeString(cloud.Str(call.Inputs, "contentBase64"))
	}
	if err != nil {
		return nil, fmt.Errorf("uploading S3 Object (%s): %w", cloud.Str(call.Inputs, "key"), err)
	}
	sum := md5.Sum(data)
	return &object{data: data, etag: hex.EncodeToString(sum[:]), modified: c.now()}, nil
}

func (c *Cloud) createObject(call *cloud.Call) (string, map[string]any, error) {
	bucket, name := cloud.Str(call.Inputs, "bucket"), cloud.Str(call.Inputs, "key")
	if c.items[key{"bucket", bucket}] == nil {
		return "", nil, s3Error("uploading S3 Object ("+name+") to Bucket ("+bucket+")", "PutObject", 404,
			"NoSuchBucket", "The specified bucket does not exist")
	}
	return bucket + "/" + name, map[string]any{"arn": "arn:aws:s3:::" + bucket + "/" + name,
		"storageClass": "STANDARD", "serverSideEncryption": "AES256"}, nil
}

// getObject answers GET and HEAD of an object.
func (x *exchange) getObject() {
	bucket, name := x.bucket, strings.TrimPrefix(x.r.URL.Path, "/")
	if bucket == "" {
		bucket, name, _ = strings.Cut(name, "/")
	}
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead || name == "" {
		x.fail(&failure{405, "MethodNotAllowed",
			"The specified method is not allowed against this resource. (Only objects can be read.)"})
		return
	}
	c := x.c
	c.mu.Lock()
	b, o := c.items[key{"bucket", bucket}], c.items[key{"object", bucket + "/" + name}]
	policy := ""
	if p := c.items[key{"bucketpolicy", bucket}]; p != nil {
		policy = cloud.Str(p.in, "policy")
	}
	c.mu.Unlock()
	switch {
	case b == nil:
		x.fail(&failure{404, "NoSuchBucket", "The specified bucket does not exist"})
		return
	case b.region != x.instance.region:
		x.fail(&failure{301, "PermanentRedirect",
			"The bucket you are attempting to access must be addressed using the specified endpoint. (It is in " +
				b.region + ".)"})
		return
	}
	f := x.authorize("s3:GetObject", "arn:aws:s3:::"+bucket+"/"+name, policy)
	if f == nil && o == nil {
		f = &failure{404, "NoSuchKey", "The specified key does not exist."}
		if x.authorize("s3:ListBucket", "arn:aws:s3:::"+bucket, policy) != nil {
			f = &failure{403, "AccessDenied", "Access Denied"} // who may not list is not told what is missing
		}
	}
	if f != nil {
		x.fail(f)
		return
	}
	c.mu.Lock()
	stored := *o.extra.(*object)
	c.mu.Unlock()
	x.w.Header().Set("ETag", `"`+stored.etag+`"`)
	x.w.Header().Set("Content-Type", "binary/octet-stream")
	http.ServeContent(x.w, x.r, "", stored.modified, bytes.NewReader(stored.data))
}
