package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/keyvault/v2"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/provisioning/cloudinit"
)

// The secrets' names in the vault.
const (
	gossipKey     = "gossip-key"
	clusterSecret = "cluster-secret"
	password      = "password"
)

// secrets are what nodes know and nobody else, but for the password, which is for clients.
type secrets struct {
	scope   pulumi.StringInput // the vault, which holds these and nothing else
	cluster pulumi.StringInput // the cluster secret itself, for seats
	word    pulumi.StringInput // the password itself; nil where clients need none
	stored  []pulumi.Resource
}

// stored is a secret under its name in the vault.
type stored struct {
	name  string
	value pulumi.StringOutput
}

// secrets registers the vault and what is in it. The values are written through Azure's management side, for which an operator
// needs no right to read any secret.
func (b *builder) secrets(net network) (secrets, error) {
	key, err := random.NewRandomBytes(b.ctx, gossipKey, &random.RandomBytesArgs{Length: pulumi.Int(32)}, b.child())
	if err != nil {
		return secrets{}, err
	}
	cluster, err := b.word(clusterSecret)
	if err != nil {
		return secrets{}, err
	}
	all, out := []stored{{gossipKey, key.Base64}, {clusterSecret, cluster}}, secrets{cluster: cluster}
	if b.Config.Password {
		word, err := b.word(password)
		if err != nil {
			return secrets{}, err
		}
		all, out.word = append(all, stored{password, word}), word
	}
	vault, err := b.vault(net)
	if err != nil {
		return secrets{}, err
	}
	out.scope = vault.ID().ToStringOutput()
	for _, s := range all {
		r, err := b.secret(vault, s.name, s.value)
		if err != nil {
			return secrets{}, err
		}
		out.stored = append(out.stored, r)
	}
	return out, nil
}

// word makes a secret of letters and digits.
func (b *builder) word(name string) (pulumi.StringOutput, error) {
	word, err := random.NewRandomPassword(b.ctx, name, &random.RandomPasswordArgs{
		Length: pulumi.Int(48), Special: pulumi.Bool(false),
	}, b.child())
	if err != nil {
		return pulumi.StringOutput{}, err
	}
	return pulumi.ToSecret(word.Result).(pulumi.StringOutput), nil
}

// secret writes one into the vault. It goes along with the vault: by itself Azure deletes a secret only on the data side, which
// an operator may have no right to and the vault's network rules shut.
func (b *builder) secret(vault *keyvault.Vault, name string, value pulumi.StringOutput) (*keyvault.Secret, error) {
	return keyvault.NewSecret(b.ctx, name+"-stored", &keyvault.SecretArgs{
		ResourceGroupName: b.group, VaultName: vault.Name, SecretName: pulumi.String(name), Tags: b.tags(name),
		Properties: keyvault.SecretPropertiesArgs{Value: pulumi.ToSecret(value).(pulumi.StringOutput)},
	}, b.child(), pulumi.DeletedWith(vault))
}

func (b *builder) vault(net network) (*keyvault.Vault, error) {
	rules := keyvault.NetworkRuleSetArgs{Bypass: pulumi.String("AzureServices"), DefaultAction: pulumi.String("Allow")}
	if b.own() { // a subnet of somebody else's may lack the endpoint by which the vault would know it
		rules.DefaultAction = pulumi.String("Deny")
		rules.VirtualNetworkRules = keyvault.VirtualNetworkRuleArray{keyvault.VirtualNetworkRuleArgs{Id: net.subnet}}
	}
	return keyvault.NewVault(b.ctx, "vault", &keyvault.VaultArgs{
		ResourceGroupName: b.group, VaultName: b.store, Location: b.region(), Tags: b.tags("vault"),
		Properties: keyvault.VaultPropertiesArgs{
			TenantId: pulumi.String(b.account.tenant),
			Sku:      keyvault.SkuArgs{Family: pulumi.String("A"), Name: keyvault.SkuNameStandard},
			// Purge protection stays off: once on it can never be turned off, and what is in here is made anew with every cluster.
			EnableRbacAuthorization: pulumi.Bool(true), EnableSoftDelete: pulumi.Bool(true), SoftDeleteRetentionInDays: pulumi.Int(7),
			NetworkAcls: rules,
		},
	}, b.child())
}

// where is what a node is told about the secrets: addresses, made from names for the same reason as that of the program.
func (b *builder) where(store string) cloudinit.Secrets {
	at := "https://" + store + ".vault.azure.net/secrets/"
	out := cloudinit.Secrets{GossipKey: at + gossipKey, ClusterSecret: at + clusterSecret}
	if b.Config.Password {
		out.Password = at + password
	}
	return out
}
