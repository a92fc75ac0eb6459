package azurecloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// metadataVersions are those of the metadata service that it names when asked without one.
func metadataVersions() []string {
	return []string{"2025-04-07", "2023-11-15", "2023-07-01", "2021-12-13", "2021-11-15", "2021-11-01", "2021-10-01",
		"2021-05-01", "2021-03-01",
		"2021-02-01", "2021-01-01", "2020-12-01", "2020-10-01", "2020-09-01", "2020-07-15", "2020-06-01", "2019-11-01",
		"2019-08-15", "2019-08-01",
		"2019-06-04", "2019-06-01", "2019-04-30", "2019-03-11", "2019-02-01", "2018-10-01", "2018-04-02", "2018-02-01",
		"2017-12-01", "2017-08-01",
		"2017-04-02"}
}

// vm is a machine by its id and vmId; another one of the same name is not it. c.mu is held.
func (c *Cloud) vm(id, guid string) *item {
	it := c.items[lower(id)]
	if it == nil || it.kind != kindVM || it.extra.(*machine).guid != guid {
		return nil
	}
	return it
}

// metadata is the instance metadata service that one machine sees.
func (c *Cloud) metadata(id, guid string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "IMDS/150.870.65.1854")
		q := r.URL.Query()
		switch {
		case r.Header.Get("Metadata") != "true" || r.Header.Get("X-Forwarded-For") != "":
			answer(w, http.StatusBadRequest, map[string]any{"error": "Bad request. Required metadata header not " +
				"specified"})
			return
		case r.Method != http.MethodGet:
			answer(w, http.StatusMethodNotAllowed, map[string]any{"error": "Method not allowed"})
			return
		case !slices.Contains(metadataVersions(), q.Get("api-version")):
			answer(w, http.StatusBadRequest, map[string]any{
				"error":           "Bad request. api-version is invalid or was not specified in the request.",
				"newest-versions": metadataVersions()[:3],
			})
			return
		}
		answer := &reply{header: w.Header(), status: http.StatusOK}
		c.tell(answer, id, guid, strings.Trim(r.URL.Path, "/"), q)
		answer.send(w)
	})
}

// tell answers a proper request.
func (c *Cloud) tell(w http.ResponseWriter, id, guid, path string, q url.Values) {
	c.mu.Lock()
	defer c.mu.Unlock()
	vm := c.vm(id, guid)
	switch {
	case vm == nil:
		answer(w, http.StatusGone, map[string]any{"error": "The VM is gone"})
	case path == "metadata/identity/oauth2/token":
		c.identityToken(w, vm, q.Get("resource"))
	case path == "metadata/scheduledevents":
		answer(w, http.StatusOK, map[string]any{"DocumentIncarnation": 1, "Events": []any{}})
	case path == "metadata/instance" || strings.HasPrefix(path, "metadata/instance/"):
		c.instance(w, vm, strings.Split(path, "/")[2:], q.Get("format") == "text")
	default:
		answer(w, http.StatusNotFound, map[string]any{"error": "Not found"})
	}
}

// reply is an answer in memory: it is put together while c.mu is held and sent after, so that nobody waits for a slow
// machine.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(status int)      { r.status = status }
func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }

func (r *reply) send(w http.ResponseWriter) {
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body.Bytes()) // the caller has gone if that fails
}

// answer writes JSON. The caller has gone if that fails.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// identityToken gives the machine's identity a token for a service.
func (c *Cloud) identityToken(w http.ResponseWriter, vm *item, audience string) {
	refuse := func(code, why string) {
		answer(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": why})
	}
	m := vm.extra.(*machine)
	switch {
	case audience == "":
		refuse("invalid_request", "Required query variable 'resource' is missing")
	case m.principal == "":
		refuse("invalid_request", "Identity not found")
	case !knownAudience(audience):
		refuse("invalid_resource", fmt.Sprintf("AADSTS500011: The resource principal named %s was not found in the "+
			"tenant named %s.", audience, c.tenant))
	default:
		token, cl := c.issue(m.principal, vm.id, audience)
		seconds := strconv.FormatInt(cl.Expires-cl.NotBefore, 10)
		answer(w, http.StatusOK, map[string]any{
			"access_token": token, "client_id": m.principal, "expires_in": seconds, "ext_expires_in": seconds,
			"expires_on": strconv.FormatInt(cl.Expires, 10), "not_before": strconv.FormatInt(cl.NotBefore, 10),
			"resource": audience, "token_type": "Bearer",
		})
	}
}

// instance answers with the machine's description or a part of it.
func (c *Cloud) instance(w http.ResponseWriter, vm *item, path []string, text bool) {
	var v any = c.describe(vm)
	for _, name := range path {
		switch t := v.(type) {
		case map[string]any:
			v = t[name]
		case []any:
			n, err := strconv.Atoi(name)
			if err != nil || n < 0 || n >= len(t) {
				v = nil
			} else {
				v = t[n]
			}
		default:
			v = nil
		}
		if v == nil {
			answer(w, http.StatusNotFound, map[string]any{"error": "Not found"})
			return
		}
	}
	s, leaf := v.(string)
	switch {
	case !text && leaf:
		answer(w, http.StatusBadRequest, map[string]any{"error": "Bad request. The requested path is not available in " +
			"" +
			"the requested format."})
	case !text:
		answer(w, http.StatusOK, v)
	case leaf:
		plain(w, s)
	default:
		plain(w, names(v))
	}
}

func plain(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, s) // the caller has gone otherwise
}

// names lists what is below a part, with a slash behind what has parts itself.
func names(v any) string {
	var list []string
	switch t := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(t)) {
			if _, leaf := t[k].(string); !leaf {
				k += "/"
			}
			list = append(list, k)
		}
	case []any:
		for i := range t {
			list = append(list, strconv.Itoa(i)+"/")
		}
	}
	return strings.Join(list, "\n")
}

// describe is the whole description; c.mu is held.
func (c *Cloud) describe(vm *item) map[string]any {
	m := vm.extra.(*machine)
	storage := cloud.Obj(vm.in, "storageProfile")
	image := cloud.Obj(storage, "imageReference")
	var tags []any
	var flat []string
	all := cloud.StrMap(vm.in, "tags")
	for _, k := range slices.Sorted(maps.Keys(all)) {
		tags = append(tags, map[string]any{"name": k, "value": all[k]})
		flat = append(flat, k+":"+all[k])
	}
	zone := ""
	if z := cloud.Strs(vm.in, "zones"); len(z) > 0 {
		zone = z[0]
	}
	var disks []any
	for _, a := range m.disks {
		disks = append(disks, map[string]any{
			"lun": strconv.Itoa(a.lun), "name": last(a.disk), "managedDisk": map[string]any{"id": a.disk},
			"diskSizeGB": strconv.Itoa(c.items[lower(a.disk)].extra.(disk).gib),
		})
	}
	compute := map[string]any{
		"azEnvironment": "AzurePublicCloud", "location": vm.location, "name": vm.name,
		"offer": cloud.Str(image, "offer"), "osType": "Linux",
		"publisher": cloud.Str(image, "publisher"), "resourceGroupName": vm.group(), "resourceId": vm.id,
		"sku":            cloud.Str(image, "sku"),
		"subscriptionId": c.subscription, "tags": strings.Join(flat, ";"), "tagsList": tags,
		"userData": cloud.Str(vm.in, "userData"),
		"version":  cloud.Str(cloud.Obj(cloud.Obj(vm.out, "storageProfile"), "imageReference"), "exactVersion"),
		"vmId":     m.guid,
		"vmSize":   cloud.Str(cloud.Obj(vm.in, "hardwareProfile"), "vmSize"), "zone": zone,
		"provider":       "Microsoft.Compute",
		"vmScaleSetName": scaleSetName(vm.in), "osProfile": map[string]any{
			"adminUsername": cloud.Str(cloud.Obj(vm.in, "osProfile"), "adminUsername"), "computerName": m.host,
		},
		"storageProfile": map[string]any{"dataDisks": disks, "osDisk": map[string]any{"name": last(m.osDisk)}},
	}
	return map[string]any{"compute": compute, "network": c.describeNetwork(m)}
}

func scaleSetName(in resource.PropertyMap) string {
	if id := cloud.Str(cloud.Obj(in, "virtualMachineScaleSet"), "id"); id != "" {
		return last(id)
	}
	return ""
}

func (c *Cloud) describeNetwork(m *machine) map[string]any {
	nic := c.items[lower(m.nic)]
	if nic == nil {
		return map[string]any{"interface": []any{}}
	}
	s, a, _ := c.attachmentOf(nic)
	cidr := s.extra.(subnet).cidr
	public := ""
	if ip := c.items[lower(cloud.Str(cloud.Obj(primary(nic), "publicIPAddress"), "id"))]; ip != nil {
		public = cloud.Str(ip.out, "ipAddress")
	}
	return map[string]any{"interface": []any{map[string]any{
		"ipv4": map[string]any{
			"ipAddress": []any{map[string]any{"privateIpAddress": a.String(), "publicIpAddress": public}},
			"subnet":    []any{map[string]any{"address": cidr.Addr().String(), "prefix": strconv.Itoa(cidr.Bits())}},
		},
		"ipv6": map[string]any{"ipAddress": []any{}}, "macAddress": strings.ReplaceAll(cloud.Str(nic.out,
			"macAddress"), "-", ""),
	}}}
}
