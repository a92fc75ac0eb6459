package awscloud

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
	"hypercache/infra/cloudtest/fabric"
)

// rule are the inputs of an ingress rule that lets one port in.
func (a *account) rule(port int, changes m) m {
	return driver.With(m{"securityGroupId": a.id("nodes"), "ipProtocol": "tcp", "fromPort": port, "toPort": port,
		"cidrIpv4": "10.0.0.0/16"}, changes)
}

// passes asks the machine's packet filter.
func (a *account) passes(side, instance, peer string, port int) bool {
	f := a.memory.Filter(a.id(instance))
	rules := f.Ingress
	if side == "egress" {
		rules = f.Egress
	}
	return lets(rules, netip.MustParseAddr(peer), port)
}

func TestAGroupLetsNothingThroughThatNoRuleNames(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	if a.passes("egress", "node", "10.0.1.11", 443) || a.passes("ingress", "node", "10.0.1.11", 8080) {
		t.Error("a group without rules lets something through")
	}
	a.make(ingressType, "resp", a.rule(8080, nil))
	a.egress()
	if !a.passes("ingress", "node", "10.0.1.11", 8080) || a.passes("ingress", "node", "10.0.1.11", 8081) ||
		a.passes("ingress", "node", "192.0.2.1", 8080) || !a.passes("egress", "node", "192.0.2.1", 443) {
		t.Errorf("filter %+v", a.memory.Filter(a.id("node")))
	}
}

func TestRulesTakeEffectOnRunningMachines(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(ingressType, "resp", a.rule(8080, nil))
	if _, plan, err := a.Apply("resp", a.rule(8090, nil)); err != nil || plan != driver.Update {
		t.Fatal(plan, err)
	}
	if a.passes("ingress", "node", "10.0.1.11", 8080) || !a.passes("ingress", "node", "10.0.1.11", 8090) {
		t.Error("the change does not count")
	}
	if err := a.cloud.RevokeRule(t.Context(), "resp"); err != nil {
		t.Fatal(err)
	}
	if a.passes("ingress", "node", "10.0.1.11", 8090) {
		t.Error("the revoked rule still counts")
	}
	if found, err := a.Refresh("resp"); err != nil || found {
		t.Errorf("refresh finds the revoked rule: %v, %v", found, err)
	}
}

func TestAGroupAsSourceIsItsMembersAddresses(t *testing.T) {
	a := open(t).network()
	a.make(ingressType, "gossip", a.rule(7946, m{"cidrIpv4": nil, "referencedSecurityGroupId": a.id("nodes")}))
	a.make(instanceKind, "one", a.node(nil))
	if a.passes("ingress", "one", "10.0.1.11", 7946) {
		t.Error("an address that nobody has may come in")
	}
	a.make(instanceKind, "two", a.node(m{"privateIp": "10.0.1.11"}))
	if !a.passes("ingress", "one", "10.0.1.11", 7946) || !a.passes("ingress", "two", "10.0.1.10", 7946) {
		t.Error("members do not reach each other")
	}
	if err := a.Delete("two"); err != nil {
		t.Fatal(err)
	}
	if a.passes("ingress", "one", "10.0.1.11", 7946) {
		t.Error("a member that is gone may still come in")
	}
}

func TestAMachineHasItsFilterBeforeItRuns(t *testing.T) {
	a := open(t).network()
	a.make(ingressType, "resp", a.rule(8080, nil))
	var first fabric.Filter
	a.memory.Boot = func(vm fabric.Machine) error { first = vm.Filter; return nil }
	a.make(instanceKind, "node", a.node(nil))
	if len(first.Ingress) != 1 || first.Ingress[0].Name != "resp" {
		t.Errorf("it boots with %+v", first)
	}
}

func TestRulesAreRefusedAsEC2Does(t *testing.T) {
	a := open(t).network()
	a.make(vpcType, "other", m{"cidrBlock": "10.9.0.0/16"})
	a.make(groupType, "foreign", m{"vpcId": a.id("other")})
	a.make(ingressType, "resp", a.rule(8080, nil))
	for words, change := range map[string]m{
		"InvalidPermission.Duplicate": {}, "exactly one of": {"cidrIpv4": nil},
		"have 2":                       {"referencedSecurityGroupId": "sg-1"},
		"did you mean \"10.0.0.0/16\"": {"cidrIpv4": "10.0.0.1/16"}, "range (0 - 65535)": {"toPort": 70000},
		"unknown protocol":  {"ipProtocol": "tpc"},
		"Must specify both": {"toPort": nil}, "InvalidGroup.NotFound": {"securityGroupId": "sg-1"},
		"different networks": {"cidrIpv4": nil, "referencedSecurityGroupId": a.id("foreign")},
		"description":        {"description": "ünlike"},
	} {
		a.refuse(ingressType, a.rule(8080, change), words)
	}
	a.refuse(ingressType, a.rule(8080, m{"fromPort": 9000}), "Must specify both")
	for i := range rulesPerGroup - 1 {
		a.make(ingressType, fmt.Sprint("r", i), a.rule(9000+i, nil))
	}
	a.refuse(ingressType, a.rule(1, nil), "RulesPerSecurityGroupLimitExceeded")
}

func TestGroupsAreRefusedAsEC2Does(t *testing.T) {
	a := open(t).network()
	a.make(groupType, "named", m{"vpcId": a.id("vpc"), "name": "web"})
	a.refuse(groupType, m{"vpcId": a.id("vpc"), "name": "web"}, "InvalidGroup.Duplicate")
	a.refuse(groupType, m{"vpcId": a.id("vpc"), "name": "sg-web"}, "cannot begin with sg-")
	a.refuse(groupType, m{"name": "nowhere"}, "VPCIdNotSpecified")
	a.make(ingressType, "cross", m{"securityGroupId": a.id("nodes"), "ipProtocol": "-1",
		"referencedSecurityGroupId": a.id("named")})
	wants(t, a.Delete("named"), "DependencyViolation")
}

func TestInlineRulesWipeSingleOnesOfTheSameSide(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(ingressType, "resp", a.rule(8080, nil))
	inline := m{"vpcId": a.id("vpc"), "ingress": []any{m{"protocol": "tcp", "fromPort": 22, "toPort": 22,
		"cidrBlocks": []string{"10.0.0.0/16"}}}}
	if _, plan, err := a.Apply("nodes", inline); err != nil || plan != driver.Update {
		t.Fatal(plan, err)
	}
	if a.passes("ingress", "node", "10.0.1.11", 8080) || !a.passes("ingress", "node", "10.0.1.11", 22) {
		t.Errorf("filter %+v", a.memory.Filter(a.id("node")))
	}
}

func TestADroppedRuleIsMissedByTheMachineOnly(t *testing.T) {
	a := open(t).network()
	a.cloud.Provider().SetIntercept(func(stage, _ string, c *cloud.Call) error {
		if stage == cloud.StageCreate && c.Name == "resp" {
			return cloud.ErrSkip
		}
		return nil
	})
	a.make(instanceKind, "node", a.node(nil))
	r := a.make(ingressType, "resp", a.rule(8080, nil))
	if a.passes("ingress", "node", "10.0.1.11", 8080) || !strings.HasPrefix(r.ID, "skipped-") {
		t.Errorf("%s lets through", r.ID)
	}
}

func TestChangesAtOnceAllCount(t *testing.T) {
	a := open(t).network()
	const n = 6
	inputs := make([]m, n)
	for i := range inputs {
		inputs[i] = a.node(m{"privateIp": fmt.Sprintf("10.0.1.%d", 10+i), "tags": m{"Name": fmt.Sprint("n", i)}})
	}
	var wait sync.WaitGroup
	errs := make(chan error, 2*n)
	create := func(token, name string, in m) {
		wait.Go(func() {
			st, err := plugin.MarshalProperties(cloud.Values(in), plugin.MarshalOptions{})
			if err != nil {
				errs <- err
				return
			}
			urn := string(resource.NewURN("test", "cloudtest", "", tokens.Type(token), name))
			_, err = a.Client().Create(t.Context(), &pulumirpc.CreateRequest{Urn: urn, Properties: st})
			errs <- err
		})
	}
	for i := range n {
		create(instanceKind, fmt.Sprint("n", i), inputs[i])
		create(ingressType, fmt.Sprint("r", i), a.rule(9000+i, m{"cidrIpv4": nil, "referencedSecurityGroupId": a.id("nodes")}))
	}
	wait.Wait()
	for range 2 * n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	ids := a.cloud.InstanceIDs()
	if len(ids) != n {
		t.Errorf("instances %v", ids)
	}
	for _, id := range ids {
		f := a.memory.Filter(id)
		if len(f.Ingress) != n {
			t.Errorf("%s has %d rules of %d", id, len(f.Ingress), n)
		}
		for _, r := range f.Ingress {
			if len(r.Peers) != n {
				t.Errorf("%s: rule %s knows %d members of %d", id, r.Name, len(r.Peers), n)
			}
		}
	}
}
