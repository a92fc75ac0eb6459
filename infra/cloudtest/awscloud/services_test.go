package awscloud

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
	"hypercache/infra/cloudtest/fabric"
)

// guest is a program in a machine.
type guest struct {
	t       *testing.T
	machine fabric.Machine
	clock   *clock
	access  string
	secret  string
	token   string
	// spoil changes a request after it was signed.
	spoil func(r *http.Request)
	// scope changes what it is signed for.
	scope func(s *signature)
}

func (a *account) login(instance string) *guest {
	a.t.Helper()
	vm, ok := a.memory.Machine(a.id(instance))
	if !ok {
		a.t.Fatalf("%s has no machine", instance)
	}
	return &guest{t: a.t, machine: vm, clock: a.clock}
}

// imds asks the metadata service; headers come in pairs.
func (g *guest) imds(method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://169.254.169.254"+path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	g.machine.Metadata.ServeHTTP(w, r)
	return w
}

func (g *guest) session() string {
	return g.imds("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60").Body.String()
}

func (g *guest) meta(path string) string {
	return g.imds("GET", "/latest/meta-data/"+path, "X-aws-ec2-metadata-token", g.session()).Body.String()
}

// role takes the credentials of the machine's role.
func (g *guest) role() *guest {
	g.t.Helper()
	name := g.meta("iam/security-credentials/")
	var c struct{ Code, AccessKeyId, SecretAccessKey, Token string }
	if err := json.Unmarshal([]byte(g.meta("iam/security-credentials/"+name)), &c); err != nil ||
		c.Code != "Success" {
		g.t.Fatalf("credentials of %q: %v %v", name, c.Code, err)
	}
	g.access, g.secret, g.token = c.AccessKeyId, c.SecretAccessKey, c.Token
	return g
}

// call makes a signed request. It returns nil if the connection was closed.
func (g *guest) call(service, method, address, body string, headers ...string) (w *httptest.ResponseRecorder) {
	r := httptest.NewRequest(method, address, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	at := g.clock.now().UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", at)
	r.Header.Set("X-Amz-Security-Token", g.token)
	hash := sha(body)
	if service == "s3" {
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	s := signature{access: g.access, date: at[:8], region: home, service: service, signed: []string{"host"}}
	if g.scope != nil {
		g.scope(&s)
	}
	for name := range r.Header {
		s.signed = append(s.signed, strings.ToLower(name))
	}
	sortStrings(s.signed)
	r.Header.Set("Authorization",
		algorithm+" Credential="+s.access+"/"+s.date+"/"+s.region+"/"+s.service+"/aws4_request, SignedHeaders="+
			strings.Join(s.signed, ";")+", Signature="+s.compute(r, g.secret, at, hash))
	if g.spoil != nil {
		g.spoil(r)
	}
	w = httptest.NewRecorder()
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			w = nil
		} else if p != nil {
			panic(p)
		}
	}()
	g.machine.Services.ServeHTTP(w, r)
	return w
}

func (g *guest) get(bucket, key string) *httptest.ResponseRecorder {
	return g.call("s3", "GET", "https://"+bucket+".s3."+home+".amazonaws.com/"+key, "")
}

func (g *guest) reveal(id string) *httptest.ResponseRecorder {
	body, _ := json.Marshal(m{"SecretId": id})
	return g.call("secretsmanager", "POST", "https://secretsmanager."+home+".amazonaws.com/", string(body),
		"X-Amz-Target", "secretsmanager.GetSecretValue", "Content-Type", "application/x-amz-json-1.1")
}

func (g *guest) publish(form url.Values) *httptest.ResponseRecorder {
	return g.call("monitoring", "POST", "https://monitoring."+home+".amazonaws.com/", form.Encode(), "Content-Type",
		"application/x-www-form-urlencoded")
}

// answers checks a response: status, and words in its body. Nil is a closed connection, as status 0.
func answers(t *testing.T, w *httptest.ResponseRecorder, status int, words string) {
	t.Helper()
	switch {
	case w == nil && status == 0:
	case w == nil:
		t.Errorf("the connection is closed, want %d %q", status, words)
	case w.Code != status || !strings.Contains(w.Body.String(), words):
		t.Errorf("have %d %s, want %d %q", w.Code, w.Body, status, words)
	}
}

// store makes a bucket with a program in it, and a secret.
func (a *account) store() *account {
	a.make(bucketType, "bucket", m{"bucket": "store-1"})
	text := resource.NewAssetProperty(&asset.Asset{Sig: asset.AssetSig, Text: "program"})
	a.make(objectType, "object", m{"bucket": a.id("bucket"), "key": "bin/cache", "source": text})
	a.make(secretType, "secret", m{"name": "gossip", "recoveryWindowInDays": 0})
	a.make(versionType, "value", m{"secretId": a.id("secret"), "secretString": "s3cret"})
	return a
}

// full is a whole account with one node that may do what nodes do.
func full(t *testing.T) (*account, *guest) {
	t.Helper()
	a := open(t).network().internet().egress().store()
	a.identity("")
	a.make(policyType, "objects", m{"role": a.id("role"),
		"policy": allow([]string{"s3:GetObject"}, "arn:aws:s3:::store-1/bin/*")})
	a.make(policyType, "secrets", m{"role": a.id("role"),
		"policy": allow([]string{"secretsmanager:GetSecretValue"}, a.id("secret"))})
	a.make(instanceKind, "node", a.node(m{
		"iamInstanceProfile": a.id("profile"),
		"metadataOptions":    m{"httpTokens": "required", "httpPutResponseHopLimit": 1},
	}))
	return a, a.login("node").role()
}

func TestMetadataNeedAToken(t *testing.T) {
	_, g := full(t)
	answers(t, g.imds("GET", "/latest/meta-data/instance-id"), 401, "Unauthorized")
	answers(t, g.imds("GET", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60"), 405, "")
	answers(t, g.imds("PUT", "/latest/api/token"), 400, "")
	answers(t, g.imds("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "21601"), 400, "")
	answers(t, g.imds("GET", "/latest/meta-data/instance-id", "X-aws-ec2-metadata-token", "made-up"), 401, "")
	token := g.session()
	answers(t, g.imds("GET", "/latest/meta-data/instance-id", "X-aws-ec2-metadata-token", token), 200, g.machine.ID)
	g.clock.add(2 * time.Minute)
	answers(t, g.imds("GET", "/latest/meta-data/instance-id", "X-aws-ec2-metadata-token", token), 401, "")
}

func TestMetadataTellWhatTheInstanceIs(t *testing.T) {
	_, g := full(t)
	for path, want := range map[string]string{
		"instance-id": g.machine.ID, "local-ipv4": "10.0.1.10", "placement/availability-zone": home + "a",
		"placement/region":          home,
		"iam/security-credentials/": "node", "instance-type": "t3.small",
		"placement/": "availability-zone\navailability-zone-id\nregion",
	} {
		if have := g.meta(path); have != want {
			t.Errorf("%s is %q, want %q", path, have, want)
		}
	}
	document := g.imds("GET", "/latest/dynamic/instance-identity/document", "X-aws-ec2-metadata-token",
		g.session()).Body.String()
	if !strings.Contains(document, `"region": "eu-central-1"`) {
		t.Errorf("identity document %s", document)
	}
	answers(t, g.imds("GET", "/latest/meta-data/tags/instance/Name", "X-aws-ec2-metadata-token", g.session()), 404,
		"")
}

func TestAMachineReadsWhatItsRoleMay(t *testing.T) {
	a, g := full(t)
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
	answers(t, g.call("s3", "GET", "https://s3."+home+".amazonaws.com/store-1/bin/cache", ""), 200, "program")
	answers(t, g.reveal("gossip"), 200, `"SecretString":"s3cret"`)
	answers(t, g.reveal(a.id("secret")), 200, `"SecretString":"s3cret"`)
}

func TestAMachineReadsNothingElse(t *testing.T) {
	a, g := full(t)
	a.make(objectType, "other", m{"bucket": a.id("bucket"), "key": "private", "content": "x"})
	a.make(secretType, "other-secret", m{"name": "other"})
	answers(t, g.get("store-1", "private"), 403, "<Code>AccessDenied</Code>")
	answers(t, g.get("store-1", "bin/missing"), 403, "AccessDenied")
	answers(t, g.get("store-2", "bin/cache"), 404, "NoSuchBucket")
	answers(t, g.reveal("other"), 400,
		"is not authorized to perform: secretsmanager:GetSecretValue on resource: "+a.id("other-secret"))
	answers(t, g.reveal("missing"), 400, "AccessDeniedException")
	if err := a.Delete("secrets"); err != nil {
		t.Fatal(err)
	}
	answers(t, g.reveal("gossip"), 400,
		"because no identity-based policy allows the secretsmanager:GetSecretValue action")
}

func TestWhoMayListIsToldWhatIsMissing(t *testing.T) {
	a, g := full(t)
	a.make(policyType, "list", m{"role": a.id("role"),
		"policy": allow([]string{"s3:ListBucket"}, "arn:aws:s3:::store-1")})
	answers(t, g.get("store-1", "bin/missing"), 404, "NoSuchKey")
}

func TestDenyWins(t *testing.T) {
	a, g := full(t)
	deny := `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:Get*","Resource":"*"}}`
	a.make(policyType, "deny", m{"role": a.id("role"), "policy": deny})
	answers(t, g.get("store-1", "bin/cache"), 403, "explicit deny in an identity-based policy")
}

func TestABucketsPolicyCounts(t *testing.T) {
	a, g := full(t)
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::store-1/*"],
		"Condition":{"StringNotEquals":{"aws:SourceVpce":"vpce-1"}}}]}`
	a.make("aws:s3/bucketPolicy:BucketPolicy", "policy", m{"bucket": a.id("bucket"), "policy": policy})
	answers(t, g.get("store-1", "bin/cache"), 403, "explicit deny in a resource-based policy")
	insecure := strings.Replace(policy, `"StringNotEquals":{"aws:SourceVpce":"vpce-1"}`,
		`"Bool":{"aws:SecureTransport":"false"}`, 1)
	if _, _, err := a.Apply("policy", m{"bucket": a.id("bucket"), "policy": insecure}); err != nil {
		t.Fatal(err)
	}
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
}

func TestSignaturesAreComputedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(g *guest)
		s3     string
		other  string
	}{
		"secret": {func(g *guest) { g.secret = "wrong" }, "SignatureDoesNotMatch", "InvalidSignatureException"},
		"key":    {func(g *guest) { g.access = "ASIA0" }, "InvalidAccessKeyId", "UnrecognizedClientException"},
		"token":  {func(g *guest) { g.token = "other" }, "InvalidToken", "UnrecognizedClientException"},
		"region": {func(g *guest) { g.scope = func(s *signature) { s.region = "us-east-1" } },
			"expecting &#39;eu-central-1&#39;", "valid region"},
		"service": {func(g *guest) { g.scope = func(s *signature) { s.service = "ec2" } },
			"correct service: &#39;s3&#39;", "correct service: 'secretsmanager'"},
		"query": {func(g *guest) { g.spoil = func(r *http.Request) { r.URL.RawQuery = "x=1" } },
			"SignatureDoesNotMatch", "InvalidSignatureException"},
		"header": {func(g *guest) { g.spoil = func(r *http.Request) { r.Header.Set("X-Amz-Meta", "1") } },
			"not signed: x-amz-meta", "not signed: x-amz-meta"},
		"none": {func(g *guest) { g.spoil = func(r *http.Request) { r.Header.Del("Authorization") } },
			"Access Denied", "MissingAuthenticationTokenException"},
		"date": {func(g *guest) {
			g.spoil = func(r *http.Request) {
				r.Header.Set("X-Amz-Date",
					"20200101T000000Z")
			}
		}, "valid Date", "valid Date"},
	} {
		t.Run(name, func(t *testing.T) {
			_, g := full(t)
			tc.change(g)
			if w := g.get("store-1", "bin/cache"); w == nil || w.Code < 400 ||
				!strings.Contains(w.Body.String(), tc.s3) {
				t.Errorf("S3: have %v, want %q", w, tc.s3)
			}
			if w := g.reveal("gossip"); w == nil || w.Code < 400 || !strings.Contains(w.Body.String(), tc.other) {
				t.Errorf("Secrets Manager: have %v, want %q", w, tc.other)
			}
		})
	}
}

func TestAClockThatIsOffAndOldCredentialsAreRefused(t *testing.T) {
	_, g := full(t)
	g.clock.add(5*time.Hour + 30*time.Minute)
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
	late := &clock{t: g.clock.now().Add(-16 * time.Minute)}
	g.clock, late = late, g.clock
	answers(t, g.get("store-1", "bin/cache"), 403, "RequestTimeTooSkewed")
	g.clock = late
	g.clock.add(time.Hour)
	answers(t, g.get("store-1", "bin/cache"), 400, "ExpiredToken")
	answers(t, g.role().get("store-1", "bin/cache"), 200, "program")
}

func TestARoleThatEC2MayNotTakeGivesNoCredentials(t *testing.T) {
	a := open(t).network()
	a.make(roleType, "role", m{"assumeRolePolicy": strings.Replace(trustEC2, "ec2.", "lambda.", 1)})
	a.make(profileType, "profile", m{"role": a.id("role")})
	a.make(instanceKind, "node", a.node(m{"iamInstanceProfile": a.id("profile")}))
	if info := a.login("node").meta("iam/info"); !strings.Contains(info, "AssumeRoleUnauthorizedAccess") {
		t.Errorf("info %s", info)
	}
}

func TestWithoutAWayTheConnectionIsClosed(t *testing.T) {
	a := open(t).network().egress().store().identity(allow([]string{"*"}, "*"))
	a.make(instanceKind, "node", a.node(m{"iamInstanceProfile": a.id("profile")}))
	g := a.login("node").role()
	answers(t, g.get("store-1", "bin/cache"), 0, "")
	wants(t, errorOf(a.cloud.Reaches("node", "s3")), "has no route to")

	a.internet()
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
	if err := a.Delete("out"); err != nil {
		t.Fatal(err)
	}
	answers(t, g.get("store-1", "bin/cache"), 0, "")
	wants(t, errorOf(a.cloud.Reaches("node", "s3")), "no egress rule")
	a.make(egressType, "https", m{"securityGroupId": a.id("nodes"), "ipProtocol": "tcp", "fromPort": 443,
		"toPort": 443, "cidrIpv4": "0.0.0.0/0"})
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
	if err := a.Delete("default"); err != nil {
		t.Fatal(err)
	}
	answers(t, g.reveal("gossip"), 0, "")
}

type text string

func (t text) Error() string { return string(t) }

func errorOf(s string) error { return text(s) }

func TestAPublicRouteNeedsAPublicAddress(t *testing.T) {
	a := open(t).network().egress()
	a.make(igwType, "igw", m{"vpcId": a.id("vpc")})
	a.make(tableType, "public", m{"vpcId": a.id("vpc"),
		"routes": []any{m{"cidrBlock": "0.0.0.0/0", "gatewayId": a.id("igw")}}})
	a.make(assocType, "public-a", m{"routeTableId": a.id("public"), "subnetId": a.id("a")})
	a.make(instanceKind, "inner", a.node(nil))
	a.make(instanceKind, "outer", a.node(m{"privateIp": "10.0.1.11", "associatePublicIpAddress": true}))
	wants(t, errorOf(a.cloud.Reaches("inner", "s3")), "no public address")
	if why := a.cloud.Reaches("outer", "s3"); why != "" {
		t.Error(why)
	}
	a.make(eipType, "ip", m{"instance": a.id("inner")})
	if why := a.cloud.Reaches("inner", "s3"); why != "" {
		t.Error(why)
	}
}

func TestEndpointsAreAWayOfTheirOwn(t *testing.T) {
	a := open(t).network().store().identity(allow([]string{"*"}, "*"))
	a.make(instanceKind, "node", a.node(m{"iamInstanceProfile": a.id("profile")}))
	g := a.login("node").role()
	a.make(tableType, "private", m{"vpcId": a.id("vpc")})
	a.make(assocType, "private-a", m{"routeTableId": a.id("private"), "subnetId": a.id("a")})
	s3 := a.make(endpointKind, "s3", m{"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".s3",
		"routeTableIds": []string{a.id("private")}})
	answers(t, g.get("store-1", "bin/cache"), 0, "")
	a.make(egressType, "to-s3", m{
		"securityGroupId": a.id("nodes"), "ipProtocol": "tcp", "fromPort": 443, "toPort": 443,
		"prefixListId": s3.Out("prefixListId"),
	})
	answers(t, g.get("store-1", "bin/cache"), 200, "program")
	answers(t, g.reveal("gossip"), 0, "")

	a.make(groupType, "doors", m{"vpcId": a.id("vpc")})
	a.make(endpointKind, "secrets", m{
		"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".secretsmanager",
		"vpcEndpointType": "Interface", "privateDnsEnabled": true,
		"subnetIds": []string{a.id("a")}, "securityGroupIds": []string{a.id("doors")},
	})
	wants(t, errorOf(a.cloud.Reaches("node", "secretsmanager")), "no egress rule")
	a.make(egressType, "to-doors", m{
		"securityGroupId": a.id("nodes"), "ipProtocol": "tcp", "fromPort": 443, "toPort": 443,
		"referencedSecurityGroupId": a.id("doors"),
	})
	wants(t, errorOf(a.cloud.Reaches("node", "secretsmanager")), "no ingress rule")
	a.make(ingressType, "knock", a.rule(443, m{"securityGroupId": a.id("doors")}))
	answers(t, g.reveal("gossip"), 200, "s3cret")

	policy := `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::elsewhere/*"}]}`
	in := m{"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".s3",
		"routeTableIds": []string{a.id("private")}, "policy": policy}
	if _, plan, err := a.Apply("s3", in); err != nil || plan != driver.Update {
		t.Fatal(plan, err)
	}
	answers(t, g.get("store-1", "bin/cache"), 403, "no VPC endpoint policy allows")
}

func TestMetricsArriveWithTheirDimensions(t *testing.T) {
	a, g := full(t)
	form := url.Values{
		"Action": {"PutMetricData"}, "Version": {"2010-08-01"}, "Namespace": {"HyperCache"},
		"MetricData.member.1.MetricName": {"DiskUse"},
		"MetricData.member.1.Value":      {"12.5"}, "MetricData.member.1.Dimensions.member.1.Name": {"Node"},
		"MetricData.member.1.Dimensions.member.1.Value": {"node-1"},
	}
	answers(t, g.publish(form), 403, "AccessDenied")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudwatch:PutMetricData","Resource":"*",
		"Condition":{"StringEquals":{"cloudwatch:namespace":"HyperCache"}}}]}`
	a.make(policyType, "metrics", m{"role": a.id("role"), "policy": policy})
	answers(t, g.publish(form), 200, "PutMetricDataResponse")
	form.Set("Namespace", "Other")
	answers(t, g.publish(form), 403, "AccessDenied")
	if have := a.cloud.Metrics(); len(have) != 1 || have[0].Value != 12.5 || have[0].Dimensions["Node"] != "node-1" {
		t.Errorf("metrics %+v", have)
	}
}

func TestOnlyServicesAreNamesOfServices(t *testing.T) {
	a, g := full(t)
	for name, want := range map[string]bool{
		"s3.eu-central-1.amazonaws.com": true, "store-1.s3.eu-central-1.amazonaws.com": true,
		"secretsmanager.eu-central-1.amazonaws.com.": true,
		"secretsmanager.us-east-1.amazonaws.com":     false, "example.com": false,
		"evils3.eu-central-1.amazonaws.com": false, "monitoring.eu-central-1.amazonaws.com": true,
	} {
		if g.machine.IsService(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	if _, _, err := a.Apply("vpc", m{"cidrBlock": "10.0.0.0/16", "enableDnsSupport": false}); err != nil {
		t.Fatal(err)
	}
	if g.machine.IsService("s3.eu-central-1.amazonaws.com") {
		t.Error("a network without DNS still knows names")
	}
}

func TestAProgramOnDiskIsStoredWhole(t *testing.T) {
	a, g := full(t)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	file := resource.NewAssetProperty(&asset.Asset{Sig: asset.AssetSig, Text: big})
	a.make(objectType, "big", m{"bucket": a.id("bucket"), "key": "bin/big", "source": file})
	if w := g.get("store-1", "bin/big"); w == nil || w.Body.String() != big {
		t.Error("it comes back changed")
	}
	if r := a.Get("big"); cloud.Str(r.Outputs, "etag") == "" {
		t.Errorf("outputs %v", r.Outputs)
	}
}
