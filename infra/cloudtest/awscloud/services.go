package awscloud

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// maxRequest is how much of a request's body is read.
const maxRequest = 1 << 20

// serviceOf is the service that a host name of a region stands for, and for S3 the bucket that it begins with.
func serviceOf(host, region string) (s service, bucket string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for _, s := range called() {
		if host == s.name+"."+region+".amazonaws.com" {
			return s, "", true
		}
	}
	for _, domain := range []string{"s3." + region + ".amazonaws.com", "s3.amazonaws.com"} {
		if bucket, found := strings.CutSuffix(host, domain); found &&
			(bucket == "" || strings.HasSuffix(bucket, ".")) {
			return s3Service(), strings.TrimSuffix(bucket, "."), true
		}
	}
	return service{}, "", false
}

// isService tells an instance's resolver which names are AWS's services.
func (c *Cloud) isService(instance string) func(string) bool {
	return func(name string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		it := c.items[key{"instance", instance}]
		if it == nil {
			return false
		}
		vpc := c.networkOf(it)
		_, _, ok := serviceOf(name, it.region)
		return ok && vpc != nil && vpc.flag("enableDnsSupport")
	}
}

// networkOf is the network that an instance is in; c.mu is held.
func (c *Cloud) networkOf(instance *item) *item {
	subnet := c.items[key{"subnet", instance.str("subnetId")}]
	if subnet == nil {
		return nil
	}
	return c.items[key{"vpc", subnet.str("vpcId")}]
}

// exchange is one request of an instance to a service.
type exchange struct {
	c        *Cloud
	w        http.ResponseWriter
	r        *http.Request
	body     []byte
	instance *item
	service  service
	bucket   string
	endpoint *item // on the way; nil if none
	session  *session
}

// services answers an instance's HTTPS requests. One that has no way to the service finds its connection closed.
func (c *Cloud) services(instance string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{c: c, w: w, r: r}
		c.mu.Lock()
		x.instance = c.items[key{"instance", instance}]
		obstacle := "the instance is gone"
		if x.instance != nil {
			var ok bool
			if x.service, x.bucket, ok = serviceOf(r.Host, x.instance.region); ok {
				x.endpoint, obstacle = c.reach(x.instance, x.service)
			} else {
				obstacle = r.Host + " is no service"
			}
		}
		c.mu.Unlock()
		if obstacle != "" {
			c.log.Warn("unreachable", "instance", instance, "host", r.Host, "why", obstacle)
			panic(http.ErrAbortHandler)
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			x.fail(&failure{400, "RequestEntityTooLarge", err.Error()})
			return
		}
		x.body = body
		session, f := verify(r, body, x.service.name, x.instance.region, c.now(), c.session)
		if f != nil {
			x.fail(f)
			return
		}
		x.session = session
		x.serve()
	})
}

func (c *Cloud) session(access string) *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[access]
	if s == nil || c.items[key{"role", s.role}] == nil {
		return nil
	}
	return s
}

func (x *exchange) serve() {
	switch x.service.name {
	case "s3":
		x.getObject()
	case "secretsmanager":
		x.secretsManager()
	case "monitoring":
		x.monitoring()
	}
}

// caller is who asks, as AWS names a session of an instance's role.
func (x *exchange) caller() string {
	return fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", x.c.account, x.session.role, x.session.instance)
}

// authorize asks the role's policies, a policy of the resource itself (empty: none), and the endpoint's on the way.
func (x *exchange) authorize(action, resource, resourcePolicy string) *failure {
	return x.authorizeWith(action, resource, resourcePolicy, nil)
}

// authorizeWith is authorize with condition keys of the service's own.
func (x *exchange) authorizeWith(action, resource, resourcePolicy string, context map[string]string) *failure {
	c := x.c
	c.mu.Lock()
	defer c.mu.Unlock()
	role := c.items[key{"role", x.session.role}]
	if role == nil {
		return &failure{403, pick(x.service.name, "AccessDenied", "AccessDeniedException"), "the role is gone"}
	}
	r := request{
		action: action, resource: resource, caller: x.caller(), role: role.str("arn"),
		context: map[string]string{
			"aws:securetransport": "true", "aws:principalarn": role.str("arn"), "aws:principalaccount": c.account,
			"aws:sourceip": x.instance.str("privateIp"), "aws:requestedregion": x.instance.region,
			"ec2:sourceinstancearn": x.instance.str("arn"),
		},
	}
	maps.Copy(r.context, context)
	vpcPolicy := ""
	if x.endpoint != nil {
		r.context["aws:sourcevpce"], r.context["aws:sourcevpc"] = x.endpoint.id, x.endpoint.str("vpcId")
		vpcPolicy = x.endpoint.str("policy")
	}
	refuse := func(why string) *failure {
		if x.service.name == "s3" {
			return &failure{403, "AccessDenied",
				fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q %s", r.caller, action,
					resource, why)}
		}
		return &failure{400, "AccessDeniedException",
			fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", r.caller, action, resource,
				why)}
	}
	identity := evaluate(c.policiesOf(role), r, false)
	byResource := silent
	if d, err := parsePolicy(resourcePolicy, true); resourcePolicy != "" && err == nil {
		byResource = evaluate([]document{d}, r, true)
	}
	switch {
	case identity == denied:
		return refuse("with an explicit deny in an identity-based policy")
	case byResource == denied:
		return refuse("with an explicit deny in a resource-based policy")
	case identity != allowed && byResource != allowed:
		return refuse("because no identity-based policy allows the " + action + " action")
	}
	if d, err := parsePolicy(vpcPolicy, true); vpcPolicy != "" && err == nil &&
		evaluate([]document{d}, r, true) != allowed {
		return refuse("because no VPC endpoint policy allows the " + action + " action")
	}
	return nil
}

// fail answers with an error in the service's own form.
func (x *exchange) fail(f *failure) {
	x.c.log.Warn("refused", "service", x.service.name, "host", x.r.Host, "path", x.r.URL.Path, "code", f.code,
		"message", f.message)
	header := x.w.Header()
	switch {
	case x.service.name == "secretsmanager" || x.r.Header.Get("X-Amz-Target") != "":
		header.Set("Content-Type", "application/x-amz-json-1.1")
		header.Set("X-Amzn-Errortype", f.code)
		x.w.WriteHeader(f.status)
		// the caller has gone otherwise
		_ = json.NewEncoder(x.w).Encode(map[string]string{"__type": f.code, "message": f.message,
			"Message": f.message})
	case x.service.name == "s3":
		header.Set("Content-Type", "application/xml")
		x.w.WriteHeader(f.status)
		type body struct {
			XMLName                  xml.Name `xml:"Error"`
			Code, Message, RequestId string
		}
		x.writeXML(body{Code: f.code, Message: f.message, RequestId: strings.ToUpper(randomHex(8))})
	default:
		f = f.query()
		header.Set("Content-Type", "text/xml")
		x.w.WriteHeader(f.status)
		type inner struct{ Type, Code, Message string }
		type body struct {
			XMLName   xml.Name `xml:"http://monitoring.amazonaws.com/doc/2010-08-01/ ErrorResponse"`
			Error     inner
			RequestId string
		}
		x.writeXML(body{Error: inner{"Sender", f.code, f.message}, RequestId: randomHex(16)})
	}
}

// query is the failure in the words of services with the older query protocol.
func (f *failure) query() *failure {
	codes := map[string]string{
		"AccessDeniedException": "AccessDenied", "InvalidSignatureException": "SignatureDoesNotMatch",
		"UnrecognizedClientException":         "InvalidClientTokenId",
		"MissingAuthenticationTokenException": "MissingAuthenticationToken",
		"IncompleteSignatureException":        "IncompleteSignature", "ExpiredTokenException": "ExpiredToken",
	}
	if code, ok := codes[f.code]; ok {
		return &failure{403, code, f.message}
	}
	return f
}

func (x *exchange) writeXML(v any) {
	if x.r.Method == http.MethodHead {
		return
	}
	_, _ = io.WriteString(x.w, xml.Header) // the caller has gone otherwise
	_ = xml.NewEncoder(x.w).Encode(v)
}

// resolver answers an instance's questions for private names.
func (c *Cloud) resolver(instance string) func(string) []netip.Addr {
	return func(name string) []netip.Addr {
		c.mu.Lock()
		defer c.mu.Unlock()
		it := c.items[key{"instance", instance}]
		if it == nil {
			return nil
		}
		vpc := c.networkOf(it)
		if vpc == nil || !vpc.flag("enableDnsSupport") {
			return nil
		}
		return c.lookup(vpc, strings.TrimSuffix(strings.ToLower(name), "."), maxAliases)
	}
}
