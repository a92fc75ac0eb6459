package azure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/infra/plan"
)

// row is one line of the firewall's table, whatever the cloud.
type row struct {
	protocol    string
	first, last int
	from        string
}

// table turns the registered rules that let something in back into rows.
func table(t *testing.T, r *recorder, p plan.Plan) []row {
	t.Helper()
	var out []row
	for _, v := range r.resources["firewall"].inputs["securityRules"].ArrayValue() {
		rule := v.ObjectValue()
		text := func(key string) string {
			for k, v := range rule {
				if string(k) == key && v.IsString() {
					return v.StringValue()
				}
			}
			return ""
		}
		if text("direction") != "Inbound" || text("access") != "Allow" {
			continue
		}
		low, high, ranged := strings.Cut(text("destinationPortRange"), "-")
		if !ranged {
			high = low
		}
		first, err1 := strconv.Atoi(low)
		last, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil {
			t.Fatalf("ports %s", text("destinationPortRange"))
		}
		var from []string
		if tag := text("sourceAddressPrefix"); tag == balancerTag {
			for _, c := range p.Network.Sources[plan.FromBalancer] { // the tag stands for the balancer's probes
				from = append(from, c.String())
			}
		} else if tag != "" {
			t.Errorf("%s lets in the tag %s", text("name"), tag)
		} else {
			for _, c := range rule["sourceAddressPrefixes"].ArrayValue() {
				from = append(from, c.StringValue())
			}
		}
		for _, f := range from {
			out = append(out, row{strings.ToLower(text("protocol")), first, last, f})
		}
	}
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

// wanted is the plan's table in rows.
func wanted(p plan.Plan) []row {
	var out []row
	for _, r := range p.Rules {
		for _, c := range p.Network.Sources[r.Source] {
			out = append(out, row{r.Protocol, r.FirstPort, r.LastPort, c.String()})
		}
	}
	slices.SortFunc(out, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return out
}

func TestTheFirewallIsThePlansTable(t *testing.T) {
	for _, set := range []map[string]string{
		nil, everything(), {"sshCidrs": `["198.51.100.0/24"]`, "clusterCidrs": `["10.0.1.0/25","10.0.1.128/25"]`}, {"nat": "none"},
	} {
		c := knobs(t, set)
		p, err := plan.Build(c, "test")
		if err != nil {
			t.Fatal(err)
		}
		r := deploy(t, set)
		if got, want := table(t, r, p), wanted(p); !slices.Equal(got, want) {
			t.Errorf("%v:\n got %v\nwant %v", set, got, want)
		}
	}
}

func TestEverythingElseIsRefusedLast(t *testing.T) {
	for _, set := range []map[string]string{nil, everything(), {"nat": "none"}} {
		r := deploy(t, set)
		priorities := map[string][]float64{}
		refused := 0
		for _, v := range r.resources["firewall"].inputs["securityRules"].ArrayValue() {
			rule := v.ObjectValue()
			direction, priority := rule["direction"].StringValue(), rule["priority"].NumberValue()
			if slices.Contains(priorities[direction], priority) {
				t.Errorf("two rules have the priority %v", priority)
			}
			priorities[direction] = append(priorities[direction], priority)
			if direction == "Inbound" && rule["access"].StringValue() == "Deny" {
				refused++
				if rule["protocol"].StringValue() != "*" || rule["sourceAddressPrefix"].StringValue() != "*" ||
					rule["destinationPortRange"].StringValue() != "*" || priority != slices.Max(priorities[direction]) || priority > 4096 {
					t.Errorf("%v refuses too little", rule)
				}
			}
		}
		if refused != 1 {
			t.Errorf("%d rules refuse", refused)
		}
	}
}

func TestNodesWithoutAWayOutReachOnlyTheStores(t *testing.T) {
	r := deploy(t, map[string]string{"nat": "none"})
	var out []string
	for _, v := range r.resources["firewall"].inputs["securityRules"].ArrayValue() {
		if rule := v.ObjectValue(); rule["direction"].StringValue() == "Outbound" {
			out = append(out, rule["access"].StringValue()+" "+rule["destinationAddressPrefix"].StringValue())
		}
	}
	if want := []string{"Allow Storage", "Allow AzureKeyVault", "Deny Internet"}; !slices.Equal(out, want) {
		t.Errorf("outbound is %q, want %q", out, want)
	}
	if got := r.input(t, "nodes", "natGateway"); got != nil {
		t.Errorf("the subnet has the gateway %v", got)
	}
	if got := r.input(t, "nodes", "serviceEndpoints[1].service"); got != "Microsoft.Storage" {
		t.Errorf("the subnet has the endpoint %v", got)
	}
}

func TestTheFirewallIsOnTheSubnetAndOnEveryInterface(t *testing.T) {
	r := deploy(t, nil)
	for _, name := range append(perNode(3, "nic"), "nodes") {
		if got := r.input(t, name, "networkSecurityGroup.id"); got != "/id/firewall" {
			t.Errorf("%s has the firewall %v", name, got)
		}
	}
}
