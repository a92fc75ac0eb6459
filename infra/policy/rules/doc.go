// Package rules decides whether what a stack would make is safe: who reaches which port, what is encrypted, where
// secrets are. It owns those decisions as pure functions over a resource's properties, and the words in which a user
// reads them. It refuses to guess: a value that a preview does not know yet breaks no rule, and is judged when the
// update knows it. Loading, reporting and enforcing are left to the policy pack that runs the rules, and what a
// provider would refuse anyway to the provider.
//
// The rules know the resources of AWS and Azure by their type, those that the program makes and those next to them that
// somebody could add. A type that no rule knows breaks none.
package rules

// Rule judges resources one at a time.
type Rule struct {
	Name        string
	Description string
	// Check returns what is wrong with a resource, a sentence for each mistake.
	Check func(Resource) []string
}

// StackRule judges what only shows when all resources are there.
type StackRule struct {
	Name        string
	Description string
	Check       func([]Resource) []Finding
}

// Finding is a mistake and the resource that has it.
type Finding struct{ URN, Message string }

// All are the rules for single resources.
func All() []Rule {
	return []Rule{
		{"admin-ports-stay-private", "SSH and RDP are open to private addresses only.", staysPrivate(adminPorts)},
		{
			"internal-ports-stay-private",
			"Gossip and the internal port are open to private addresses only.",
			staysPrivate(internalPorts),
		},
		{
			"world-sees-only-the-cache",
			"The whole internet may reach RESP (8080-8082) and HTTP (9080-9082) at most.",
			worldPorts,
		},
		{"disks-are-encrypted", "Every disk is encrypted.", encryptedDisks},
		{
			"metadata-needs-a-token",
			"Instances answer metadata requests with a token only, and only their own (IMDSv2, hop limit 1).",
			tokenMetadata,
		},
		{"vms-boot-trusted", "Azure VMs start with secure boot and a virtual TPM.", trustedLaunch},
		{
			"user-data-holds-no-secret",
			"User data can be read by whoever may look at a VM, so no secret is in it.",
			userData,
		},
		{
			"stores-are-private",
			"Buckets and storage accounts give nothing to the public and speak TLS 1.2 or later.",
			privateStores,
		},
		{"load-balancers-are-internal", "No load balancer has a public address.", internalBalancers},
		{
			"secrets-are-marked",
			"The value of a stored secret is a secret to Pulumi too, and encrypted in the state.",
			markedSecrets,
		},
		{
			"everything-is-tagged",
			"What can have tags says by Cluster to which cluster it belongs, and by Name what it is.",
			tagged,
		},
	}
}

// Stacks are the rules for whole stacks.
func Stacks() []StackRule {
	return []StackRule{
		{"buckets-block-public-access", "Every bucket has a public access block.", blockedBuckets},
		{"outputs-hold-no-secret", "Stack outputs show no secret in plain text.", plainOutputs},
	}
}
