package awscloud

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// imdsTokens are the session tokens that an instance asked for, with their ends.
type imdsTokens struct {
	mu   sync.Mutex
	ends map[string]time.Time
}

func (t *imdsTokens) issue(until time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = map[string]time.Time{}
	}
	token := "AQAEA" + randomHex(24) + "=="
	t.ends[token] = until
	return token
}

func (t *imdsTokens) valid(token string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	end, ok := t.ends[token]
	return ok && now.Before(end)
}

// maxTokenSeconds is how long a metadata token may live, six hours.
const maxTokenSeconds = 21600

// metadata is the instance metadata service that one instance sees. Where the hop limit is 1 a container in the
// instance would not get an answer; a request from the instance itself always does.
func (c *Cloud) metadata(instance string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		it := c.items[key{"instance", instance}]
		var options resource.PropertyMap
		if it != nil {
			options = cloud.Obj(it.out, "metadataOptions")
		}
		c.mu.Unlock()
		if it == nil || cloud.Str(options, "httpEndpoint") == "disabled" {
			plain(w, http.StatusForbidden)
			return
		}
		tokens := &it.extra.(*machine).tokens
		if r.URL.Path == "/latest/api/token" {
			c.issueToken(w, r, tokens)
			return
		}
		token := r.Header.Get("X-aws-ec2-metadata-token")
		if token == "" && cloud.Str(options, "httpTokens") == "required" || token != "" &&
			!tokens.valid(token, c.now()) {
			plain(w, http.StatusUnauthorized)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			plain(w, http.StatusMethodNotAllowed)
			return
		}
		text, ok := c.document(it, r.URL.Path, cloud.Str(options, "instanceMetadataTags") == "enabled")
		if !ok {
			plain(w, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Server", "EC2ws")
		_, _ = io.WriteString(w, text) // the caller has gone otherwise
	})
}

func plain(w http.ResponseWriter, status int) {
	w.Header().Set("Server", "EC2ws")
	http.Error(w, fmt.Sprintf("%d - %s", status, http.StatusText(status)), status)
}

func (c *Cloud) issueToken(w http.ResponseWriter, r *http.Request, tokens *imdsTokens) {
	if r.Method != http.MethodPut {
		plain(w, http.StatusMethodNotAllowed)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds"))
	if err != nil || ttl < 1 || ttl > maxTokenSeconds || r.Header.Get("X-Forwarded-For") != "" {
		plain(w, http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", strconv.Itoa(ttl))
	w.Header().Set("Content-Type", "text/plain")
	// the caller has gone otherwise
	_, _ = io.WriteString(w, tokens.issue(c.now().Add(time.Duration(ttl)*time.Second)))
}

// document is what one path of the metadata says, by the newest version, whichever version the path names.
func (c *Cloud) document(it *item, path string, tags bool) (string, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if len(parts) < 2 {
		return "dynamic\nmeta-data\nuser-data", true
	}
	rest := strings.Join(parts[2:], "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	switch parts[1] {
	case "user-data":
		data := userData(it.in)
		return string(data), len(data) > 0
	case "dynamic":
		if rest == "instance-identity/document" {
			return c.identityDocument(it), true
		}
		return "", false
	case "meta-data":
		tree := c.tree(it, tags)
		if text, ok := tree[rest]; ok {
			return text, true
		}
		return listing(tree, rest)
	default:
		return "", false
	}
}

// listing names what is below a path, with a slash behind what has more below it.
func listing(tree map[string]string, path string) (string, bool) {
	if path != "" {
		path += "/"
	}
	var names []string
	for k := range tree {
		if below, ok := strings.CutPrefix(k, path); ok {
			name, _, more := strings.Cut(below, "/")
			if more {
				name += "/"
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n"), len(names) > 0
}

// tree is the metadata of an instance; c.mu is held.
func (c *Cloud) tree(it *item, tags bool) map[string]string {
	zone, region := it.str("availabilityZone"), it.region
	tree := map[string]string{
		"ami-id": it.str("ami"), "instance-id": it.id, "instance-type": it.str("instanceType"),
		"local-ipv4": it.str("privateIp"),
		"hostname":   it.str("privateDns"), "local-hostname": it.str("privateDns"),
		"placement/availability-zone": zone, "placement/region": region,
		"placement/availability-zone-id": zoneID(zone), "services/domain": "amazonaws.com",
		"services/partition": "aws",
		"ami-launch-index":   "0", "instance-life-cycle": "on-demand", "reservation-id": "r-" + it.id[2:],
		"instance-action": "none",
	}
	if ip := it.str("publicIp"); ip != "" {
		tree["public-ipv4"], tree["public-hostname"] = ip, it.str("publicDns")
	}
	if g := it.str("placementGroup"); g != "" {
		tree["placement/group-name"] = g
	}
	if tags {
		for k, v := range cloud.StrMap(it.out, "tagsAll") {
			tree["tags/instance/"+k] = v
		}
	}
	if k := it.str("keyName"); k != "" {
		tree["public-keys/0/openssh-key"] = c.items[key{"keypair", k}].str("publicKey")
	}
	profile := c.items[key{"profile", cloud.Str(it.in, "iamInstanceProfile")}]
	role := c.roleOf(it)
	if profile == nil || role == nil {
		return tree
	}
	if !trustsEC2(role) {
		tree["iam/info"] = encode(map[string]any{
			"Code": "AssumeRoleUnauthorizedAccess", "LastUpdated": c.now().UTC().Format(time.RFC3339),
			"Message": "EC2 cannot assume the role " + role.id +
				". Please see documentation at https://docs.aws.amazon.com/IAM.",
		})
		return tree
	}
	tree["iam/info"] = encode(map[string]any{
		"Code": "Success", "LastUpdated": c.now().UTC().Format(time.RFC3339),
		"InstanceProfileArn": profile.str("arn"), "InstanceProfileId": profile.str("uniqueId"),
	})
	s := c.credentials(it, role)
	tree["iam/security-credentials/"+role.id] = encode(map[string]any{
		"Code": "Success", "LastUpdated": c.now().UTC().Format(time.RFC3339), "Type": "AWS-HMAC",
		"AccessKeyId":     s.access,
		"SecretAccessKey": s.secret, "Token": s.token, "Expiration": s.expires.UTC().Format(time.RFC3339),
	})
	return tree
}

func (c *Cloud) identityDocument(it *item) string {
	m := it.extra.(*machine)
	return encode(map[string]any{
		"accountId": c.account, "architecture": m.image.arch, "availabilityZone": it.str("availabilityZone"),
		"imageId":    it.str("ami"),
		"instanceId": it.id, "instanceType": it.str("instanceType"),
		"pendingTime": m.launched.UTC().Format(time.RFC3339),
		"privateIp":   it.str("privateIp"), "region": it.region, "version": "2017-09-30",
	})
}

// encode writes what is made of texts and maps, which cannot fail.
func encode(v any) string {
	text, _ := json.MarshalIndent(v, "", "  ")
	return string(text)
}
