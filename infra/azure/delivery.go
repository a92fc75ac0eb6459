package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/storage/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/provisioning/cloudinit"
)

// container is the name of the only one in the storage account.
const container = "program"

// program is how nodes get the node program.
type program struct {
	scope  pulumi.StringInput // what a node must be let into to read it; nil when it comes from an address of the stack's
	upload []pulumi.Resource  // what must be there before a node boots
}

// delivery registers the store with the program in it, unless nodes fetch it from elsewhere.
func (b *builder) delivery() (program, error) {
	if b.load.Program.URL != "" {
		return program{}, nil
	}
	account, err := storage.NewStorageAccount(b.ctx, "program-store", &storage.StorageAccountArgs{
		ResourceGroupName: b.group, AccountName: b.store, Location: b.region(), Tags: b.tags("program-store"),
		Kind: pulumi.String(string(storage.KindStorageV2)), Sku: storage.SkuArgs{Name: pulumi.String(string(storage.SkuName_Standard_ZRS))},
		MinimumTlsVersion: pulumi.String(string(storage.MinimumTlsVersion_TLS1_2)), EnableHttpsTrafficOnly: pulumi.Bool(true),
		AllowBlobPublicAccess: pulumi.Bool(false), AllowCrossTenantReplication: pulumi.Bool(false),
		// Pulumi uploads with the account's key, so keys stay allowed; and from wherever the operator is, so every network is.
		AllowSharedKeyAccess: pulumi.Bool(true),
		NetworkRuleSet:       storage.NetworkRuleSetArgs{DefaultAction: storage.DefaultActionAllow},
	}, b.child())
	if err != nil {
		return program{}, err
	}
	box, err := storage.NewBlobContainer(b.ctx, "program-container", &storage.BlobContainerArgs{
		ResourceGroupName: b.group, AccountName: account.Name, ContainerName: pulumi.String(container),
		PublicAccess: storage.PublicAccessNone,
	}, b.child())
	if err != nil {
		return program{}, err
	}
	// A changed program is another resource, and the old one goes last, after all VMs.
	blob, err := storage.NewBlob(b.ctx, b.load.Program.Resource(), &storage.BlobArgs{
		ResourceGroupName: b.group, AccountName: account.Name, ContainerName: box.Name,
		BlobName: pulumi.String(b.load.Program.Key()), Type: storage.BlobTypeBlock,
		Source: pulumi.NewFileAsset(b.load.Program.Path),
	}, b.child())
	if err != nil {
		return program{}, err
	}
	return program{scope: box.ID().ToStringOutput(), upload: []pulumi.Resource{blob}}, nil
}

// binary is the program as a node is told to fetch it. Its address is made from names: an output of the blob in a VM's inputs would
// have Pulumi delete all VMs at once when the blob is replaced.
func (b *builder) binary(store string) cloudinit.Binary {
	p := b.load.Program
	if p.URL != "" {
		return cloudinit.Binary{URL: p.URL, SHA256: p.SHA256}
	}
	return cloudinit.Binary{
		URL: "https://" + store + ".blob.core.windows.net/" + container + "/" + p.Key(), SHA256: p.SHA256, Signed: true,
	}
}
