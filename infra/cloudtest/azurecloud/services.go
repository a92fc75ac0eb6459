package azurecloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// service is one of Azure's that machines talk to.
type service struct {
	kind     string // storage, vault or metrics
	endpoint string // what a subnet's service endpoint for it is called; empty if there is none
	address  netip.Addr
	tags     []string // what security rules call it
	name     string   // the account's, vault's or region's
}

// Metric is one value that a machine reported about itself.
type Metric struct {
	Resource, Namespace, Name string
	Dimensions                map[string]string
	Min, Max, Sum             float64
	Count                     int
	At                        time.Time
}

// Metrics are all values that were reported, in order.
func (c *Cloud) Metrics() []Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Metric(nil), c.metrics...)
}

// serviceOf is the service that a host name stands for; c.mu is held.
func (c *Cloud) serviceOf(host string) (service, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, domain, _ := strings.Cut(strings.TrimSuffix(lower(host), "."), ".")
	tags := func(tag, region string) []string {
		return []string{tag, tag + "." + region, "AzureCloud", "AzureCloud." + region}
	}
	switch domain {
	case "blob.core.windows.net":
		if a := c.accountNamed(name); a != nil && !a.gone {
			return service{"storage", "Microsoft.Storage", netip.AddrFrom4([4]byte{20, 150, 0, 10}),
				tags("Storage", a.location), name}, true
		}
	case "vault.azure.net":
		if v := c.vaultNamed(name); v != nil && !v.gone {
			return service{"vault", "Microsoft.KeyVault", netip.AddrFrom4([4]byte{20, 51, 0, 10}),
				tags("AzureKeyVault", v.location), name}, true
		}
	case "monitoring.azure.com":
		if regions()[name] != nil {
			return service{"metrics", "", netip.AddrFrom4([4]byte{20, 42, 0, 10}), tags("AzureMonitor", name),
				name}, true
		}
	}
	return service{}, false
}

// isService tells resolvers which names are Azure's: those of stores and vaults that exist, and of regions.
func (c *Cloud) isService(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.serviceOf(name)
	return ok
}

// way is how a machine gets to a service.
type way struct {
	subnet string     // the subnet, through its service endpoint
	from   netip.Addr // the public address that the service sees otherwise
}

// reach finds the way, or what is in it; c.mu is held. A service endpoint comes first, for it is the shorter route.
func (c *Cloud) reach(vm *item, to service) (way, string) {
	nic := c.items[lower(vm.extra.(*machine).nic)]
	if nic == nil {
		return way{}, "the machine has no interface"
	}
	s, _, _ := c.attachmentOf(nic)
	if !c.mayLeave(nic, to) {
		return way{}, "a security group refuses it"
	}
	if to.endpoint != "" && s.hasEndpoint(to.endpoint) {
		return way{subnet: s.id}, ""
	}
	public := cloud.Str(cloud.Obj(primary(nic), "publicIPAddress"), "id")
	if nat := c.items[lower(cloud.Str(cloud.Obj(s.in, "natGateway"), "id"))]; nat != nil { // it takes precedence
		for _, ip := range cloud.Objs(nat.in, "publicIpAddresses") {
			public = cloud.Str(ip, "id")
		}
	}
	if ip := c.items[lower(public)]; ip != nil {
		a, _ := netip.ParseAddr(cloud.Str(ip.out, "ipAddress"))
		return way{from: a}, ""
	}
	return way{}, "subnet " + s.name + " has no NAT gateway and no service endpoint, and the machine no public address"
}

// exchange is one request of a machine to a service.
type exchange struct {
	c       *Cloud
	w       http.ResponseWriter
	r       *http.Request
	vm      *item
	service service
	way     way
}

// services answers a machine's HTTPS requests. One that has no way to the service finds its connection closed.
func (c *Cloud) services(id, guid string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &reply{header: w.Header(), status: http.StatusOK}
		x := &exchange{c: c, w: answer, r: r}
		obstacle := x.route(id, guid)
		if obstacle != "" {
			c.log.Warn("unreachable", "machine", id, "host", r.Host, "why", obstacle)
			panic(http.ErrAbortHandler)
		}
		switch x.service.kind {
		case "storage":
			x.w = w // it has no lock when it writes, and blobs are big
			x.blob()
			return
		case "vault":
			x.secret()
		case "metrics":
			x.metric()
		}
		answer.send(w)
	})
}

func (x *exchange) route(id, guid string) string {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.vm = x.c.vm(id, guid); x.vm == nil {
		return "the machine is gone"
	}
	var ok bool
	if x.service, ok = x.c.serviceOf(x.r.Host); !ok {
		return x.r.Host + " is no service"
	}
	obstacle := ""
	x.way, obstacle = x.c.reach(x.vm, x.service)
	return obstacle
}

// letIn reports whether a store's network rules let the request in: by the subnet that it comes from through a service
// endpoint, or else by its public address.
func (x *exchange) letIn(rules resource.PropertyMap, subnetKey, addressKey string) bool {
	for _, r := range cloud.Objs(rules, "virtualNetworkRules") {
		if x.way.subnet != "" && strings.EqualFold(cloud.Str(r, subnetKey), x.way.subnet) {
			return true
		}
	}
	return opens(rules, addressKey, x.way.from)
}

// blobError writes an error of the storage service.
func (x *exchange) blobError(status int, code, message, detail string) {
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.Header().Set("x-ms-error-code", code)
	x.w.WriteHeader(status)
	if detail != "" {
		detail = "<AuthenticationErrorDetail>" + detail + "</AuthenticationErrorDetail>"
	}
	const form = `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%s</Message>%s</Error>`
	message += "\nRequestId:" + newGUID() + "\nTime:" + x.c.stamp()
	_, _ = fmt.Fprintf(x.w, "\ufeff"+form, code, message, detail) // the caller has gone otherwise
}

// leastStorageVersion is the first version of the storage service that takes tokens.
const leastStorageVersion = "2017-11-09"

var versionDate = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

func (x *exchange) blob() {
	x.w.Header().Set("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
	x.w.Header().Set("x-ms-request-id", newGUID())
	version := x.r.Header.Get("x-ms-version")
	auth := x.r.Header.Get("Authorization")
	cl, err := x.c.verify(auth)
	b, found, fail := x.findBlob(cl, err, auth != "", version)
	if fail != nil {
		x.blobError(fail.status, fail.code, fail.message, fail.detail)
		return
	}
	x.w.Header().Set("Content-Type", "application/octet-stream")
	if t := cloud.Str(found.in, "contentType"); t != "" {
		x.w.Header().Set("Content-Type", t)
	}
	x.w.Header().Set("ETag", b.etag)
	x.w.Header().Set("Content-MD5", b.md5)
	x.w.Header().Set("x-ms-version", version)
	x.w.Header().Set("x-ms-blob-type", cloud.Str(found.in, "type")+"Blob")
	http.ServeContent(x.w, x.r, "", b.at, bytes.NewReader(b.data))
}

// failure is an error answer of a service.
type failure struct {
	status                int
	code, message, detail string
}

// findBlob finds the blob that a request asks for, if it may have it.
func (x *exchange) findBlob(cl claims, tokenErr error, signed bool, version string) (blob, *item, *failure) {
	none := func(status int, code, message, detail string) (blob, *item, *failure) {
		return blob{}, nil, &failure{status, code, message, detail}
	}
	const unauthentic = "Server failed to authenticate the request. Make sure the value of Authorization header is " +
		"formed correctly including the signature."
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	account := x.c.accountNamed(x.service.name)
	if account == nil || account.gone {
		return none(404, "ResourceNotFound", "The specified resource does not exist.", "")
	}
	box, name, _ := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/"), "/")
	containerID := account.id + "/blobServices/default/containers/" + box
	id := containerID + "/blobs/" + url.PathEscape(name)
	rules := cloud.Obj(account.in, "networkRuleSet")
	container, it := x.c.get(kindContainer, containerID), x.c.get(kindBlob, id)
	switch {
	case strings.EqualFold(cloud.Str(account.in, "publicNetworkAccess"), "Disabled"),
		!x.letIn(rules, "virtualNetworkResourceId", "iPAddressOrRange"):
		return none(403, "AuthorizationFailure", "This request is not authorized to perform this operation.", "")
	case x.r.Method != http.MethodGet && x.r.Method != http.MethodHead:
		return none(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.", "")
	case !signed:
		return x.anonymous(account, container, it)
	case !versionDate.MatchString(version) || version < leastStorageVersion:
		return none(403, "AuthenticationFailed", unauthentic, "Authentication scheme Bearer is not supported in this "+
			"version.")
	case tokenErr != nil:
		return none(401, "InvalidAuthenticationInfo", unauthentic, tokenErr.Error())
	}
	audience := strings.TrimSuffix(lower(cl.Audience), "/")
	switch {
	case audience != "https://storage.azure.com" && audience != "https://"+lower(account.name)+".blob.core.windows.net":
		return none(401, "InvalidAuthenticationInfo", unauthentic, "Audience validation failed. Audience did not "+
			"match.")
	case !x.c.allowed(cl.Principal, actionReadBlob, id):
		return none(403, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation "+
			"using this permission.", "")
	case container == nil:
		return none(404, "ContainerNotFound", "The specified container does not exist.", "")
	case it == nil:
		return none(404, "BlobNotFound", "The specified blob does not exist.", "")
	}
	return it.extra.(blob), it, nil
}

// anonymous is a request without a name.
func (x *exchange) anonymous(account, container, it *item) (blob, *item, *failure) {
	public := ""
	if container != nil {
		public = cloud.Str(container.in, "publicAccess")
	}
	switch {
	case !cloud.Bool(account.in, "allowBlobPublicAccess", false):
		return blob{}, nil, &failure{409, "PublicAccessNotPermitted", "Public access is not permitted on this storage " +
			"" +
			"account.", ""}
	case it == nil || public != "Blob" && public != "Container":
		return blob{}, nil, &failure{404, "ResourceNotFound", "The specified resource does not exist.", ""}
	}
	return it.extra.(blob), it, nil
}

// vaultVersions are those that a vault's data side takes.
func vaultVersions() []string {
	return []string{"2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6"}
}

// vaultError writes an error of a vault.
func (x *exchange) vaultError(status int, code, inner, format string, args ...any) {
	e := map[string]any{"code": code, "message": fmt.Sprintf(format, args...)}
	if inner != "" {
		e["innererror"] = map[string]any{"code": inner}
	}
	answer(x.w, status, map[string]any{"error": e})
}

func (x *exchange) secret() {
	x.w.Header().Set("x-ms-keyvault-service-version", "1.9.2584.1")
	cl, err := x.c.verify(x.r.Header.Get("Authorization"))
	if err != nil || cl.Audience != "https://vault.azure.net" {
		x.w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.microsoftonline.com/`+x.c.tenant+
			`", resource="https://vault.azure.net"`)
		if err != nil {
			x.vaultError(401, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token: %s", err)
			return
		}
		x.vaultError(401, "Unauthorized", "", "AKV10022: Invalid audience. Expected https://vault.azure.net, found: "+
			"%s.", cl.Audience)
		return
	}
	version := x.r.URL.Query().Get("api-version")
	known := false
	for _, v := range vaultVersions() {
		known = known || v == version
	}
	parts := strings.Split(strings.Trim(x.r.URL.Path, "/"), "/")
	switch {
	case version == "":
		x.vaultError(400, "BadParameter", "", "AKV10046: Unable to resolve the request, the api-version is missing.")
	case !known:
		x.vaultError(400, "BadParameter", "", "The specified version (%s) is not recognized. Consider using the "+
			"latest supported version.", version)
	case x.r.Method != http.MethodGet || parts[0] != "secrets" || len(parts) < 2 || len(parts) > 3:
		x.vaultError(405, "NotSupported", "", "The emulated vault answers GET /secrets/NAME only.")
	default:
		x.getSecret(cl, parts)
	}
}

func (x *exchange) getSecret(cl claims, parts []string) {
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	holder := x.c.vaultNamed(x.service.name)
	if holder == nil || holder.gone {
		x.vaultError(404, "VaultNotFound", "", "The vault %s was not found.", x.service.name)
		return
	}
	p := cloud.Obj(holder.in, "properties")
	if strings.EqualFold(cloud.Str(p, "publicNetworkAccess"), "disabled") {
		x.vaultError(403, "Forbidden", "ForbiddenByConnection", "Public network access is disabled and request is not "+
			"from a trusted service nor via an approved private link.\r\nVault: "+
			"%s;location=%s", holder.name, holder.location)
		return
	}
	if !x.letIn(cloud.Obj(p, "networkAcls"), "id", "value") {
		x.vaultError(403, "Forbidden", "ForbiddenByFirewall", "Client address is not authorized and caller is not a "+
			"trusted service.\r\nClient address: %s\r\nVault: %s;location=%s", x.way.from, holder.name, holder.location)
		return
	}
	id := holder.id + "/secrets/" + parts[1]
	it := x.c.get(kindSecret, id)
	asked := it
	if asked == nil {
		asked = &item{id: id}
	}
	if !x.c.mayVault(cl.Principal, holder, asked, "get", actionGetSecret) {
		inner := "ForbiddenByPolicy"
		if cloud.Bool(p, "enableRbacAuthorization", false) {
			inner = "ForbiddenByRbac"
		}
		x.vaultError(403, "Forbidden", inner, "Caller is not authorized to perform action on resource.\r\nIf role "+
			"assignments, deny assignments or role definitions were changed recently, please observe propagation "+
			"time.\r\nCaller: oid=%s\r\nAction: '%s'\r\nResource: '%s'",
			cl.Principal, actionGetSecret, id)
		return
	}
	if it == nil || len(parts) == 3 && it.extra.(secret).version != parts[2] {
		x.vaultError(404, "SecretNotFound", "", "A secret with (name/id) %s was not found in this key vault.", parts[1])
		return
	}
	x.writeSecret(holder, it)
}

func (x *exchange) writeSecret(holder, it *item) {
	s := it.extra.(secret)
	attributes := cloud.Obj(cloud.Obj(it.in, "properties"), "attributes")
	if !cloud.Bool(attributes, "enabled", true) {
		x.vaultError(403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret.")
		return
	}
	body := map[string]any{
		"value": s.value, "id": "https://" + holder.name + ".vault.azure.net/secrets/" + it.name + "/" + s.version,
		"attributes": map[string]any{
			"enabled": true, "created": s.at.Unix(), "updated": s.at.Unix(),
			"recoveryLevel": "CustomizedRecoverable+Purgeable", "recoverableDays": 7,
		},
		"tags": cloud.StrMap(it.in, "tags"),
	}
	if t := cloud.Str(cloud.Obj(it.in, "properties"), "contentType"); t != "" {
		body["contentType"] = t
	}
	answer(x.w, http.StatusOK, body)
}

// maxReport is how much of a metric report is read.
const maxReport = 1 << 20

// oldestMetric and newestMetric are how far a value's time may be from now.
const oldestMetric, newestMetric = 30 * time.Minute, 4 * time.Minute

// report is what a machine sends.
type report struct {
	Time time.Time `json:"time"`
	Data struct {
		BaseData struct {
			Metric    string   `json:"metric"`
			Namespace string   `json:"namespace"`
			DimNames  []string `json:"dimNames"`
			Series    []struct {
				DimValues []string `json:"dimValues"`
				Min       *float64 `json:"min"`
				Max       *float64 `json:"max"`
				Sum       *float64 `json:"sum"`
				Count     *int     `json:"count"`
			} `json:"series"`
		} `json:"baseData"`
	} `json:"data"`
}

func (x *exchange) metric() {
	fail := func(status int, code, format string, args ...any) {
		answer(x.w, status, map[string]any{"error": map[string]any{"code": code,
			"message": fmt.Sprintf(format, args...)}})
	}
	cl, err := x.c.verify(x.r.Header.Get("Authorization"))
	audience := strings.TrimSuffix(lower(cl.Audience), "/")
	id, isMetrics := strings.CutSuffix(x.r.URL.Path, "/metrics")
	switch {
	case err != nil:
		fail(401, "Unauthorized", "%s", err)
		return
	case audience != "https://monitoring.azure.com" && audience != "https://monitor.azure.com":
		fail(401, "Unauthorized", "The audience %s is not https://monitoring.azure.com/.", cl.Audience)
		return
	case x.r.Method != http.MethodPost || !isMetrics:
		fail(404, "NotFound", "POST to /RESOURCE-ID/metrics")
		return
	}
	var in report
	if err := json.NewDecoder(http.MaxBytesReader(x.w, x.r.Body, maxReport)).Decode(&in); err != nil {
		fail(400, "BadRequest", "The body is not a metric: %s", err)
		return
	}
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	target := x.c.items[lower(id)]
	base := in.Data.BaseData
	age := x.c.now().Sub(in.Time)
	switch {
	case target == nil || target.location != x.service.name:
		fail(404, "ResourceNotFound", "The resource %s is not in region %s.", id, x.service.name)
	case !x.c.allowed(cl.Principal, actionWriteMetrics, id):
		fail(403, "Forbidden", "The principal %s has no right to %s on %s.", cl.Principal, actionWriteMetrics, id)
	case base.Metric == "" || base.Namespace == "" || len(base.Series) == 0 || len(base.DimNames) > 10:
		fail(400, "BadRequest", "metric, namespace and series must be set, with at most 10 dimensions")
	case age > oldestMetric || age < -newestMetric:
		fail(400, "BadRequest", "time %s is more than 30 minutes old or 4 minutes ahead", in.Time)
	default:
		x.keep(in, target)
	}
}

// keep notes the values of a report; c.mu is held.
func (x *exchange) keep(in report, target *item) {
	base := in.Data.BaseData
	var found []Metric
	for _, s := range base.Series {
		missing := s.Min == nil || s.Max == nil || s.Sum == nil || s.Count == nil || *s.Count < 1
		if missing || len(s.DimValues) != len(base.DimNames) {
			answer(x.w, http.StatusBadRequest, map[string]any{"error": map[string]any{
				"code": "BadRequest", "message": "every series needs min, max, sum, count and a value for each of " +
					"dimNames",
			}})
			return
		}
		m := Metric{
			Resource: target.id, Namespace: base.Namespace, Name: base.Metric, Dimensions: map[string]string{},
			Min: *s.Min, Max: *s.Max, Sum: *s.Sum,
			Count: *s.Count, At: in.Time,
		}
		for i, name := range base.DimNames {
			m.Dimensions[name] = s.DimValues[i]
		}
		found = append(found, m)
	}
	x.c.metrics = append(x.c.metrics, found...)
	x.w.WriteHeader(http.StatusOK)
}
