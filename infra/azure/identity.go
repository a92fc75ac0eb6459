package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/authorization/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// Azure's built-in roles that a node's identity has, by the ids that are the same everywhere.
const (
	blobReader    = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1" // Storage Blob Data Reader
	secretsUser   = "4633458b-17de-408a-b874-0445c86b69e6" // Key Vault Secrets User
	metricsWriter = "3913510d-42f4-4e42-8a64-420c390055eb" // Monitoring Metrics Publisher
)

// right is one role over one scope. A nil scope is not there.
type right struct {
	name, role string
	scope      pulumi.StringInput
}

// rights lets a node's VM read the program and the secrets, and write its own metrics if there are alarms. A VM's identity comes to be
// with the VM, so a node boots without any right and asks again until it has them; its seat waits for these as well.
func (b *builder) rights(n plan.Node, vm *compute.VirtualMachine, a around) ([]pulumi.Resource, error) {
	wanted := []right{
		{n.Name + "-program-reader", blobReader, a.program.scope}, {n.Name + "-secrets-reader", secretsUser, a.secrets.scope},
	}
	if b.Config.VM.AlarmEmail != "" {
		wanted = append(wanted, right{n.Name + "-metrics-writer", metricsWriter, pulumi.String(b.vmID(n))})
	}
	var out []pulumi.Resource
	for _, w := range wanted {
		if w.scope == nil {
			continue
		}
		r, err := b.grant(vm, w)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// grant gives a VM a right. The assignment's name is the provider's to choose, a new one with every VM.
func (b *builder) grant(vm *compute.VirtualMachine, w right) (*authorization.RoleAssignment, error) {
	return authorization.NewRoleAssignment(b.ctx, w.name, &authorization.RoleAssignmentArgs{
		PrincipalId: vm.Identity.PrincipalId().Elem(),
		// Saying what it is spares Azure a look into the directory, where a new identity shows up late.
		PrincipalType: pulumi.String(string(authorization.PrincipalTypeServicePrincipal)),
		RoleDefinitionId: pulumi.String("/subscriptions/" + b.account.subscription +
			"/providers/Microsoft.Authorization/roleDefinitions/" + w.role),
		Scope: w.scope,
	}, b.child())
}
