package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/secretsmanager"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// The secrets' names.
const (
	gossipKey     = "gossip-key"
	clusterSecret = "cluster-secret"
	password      = "password"
)

// longestSecretPrefix leaves room for what Pulumi and AWS append.
const longestSecretPrefix = 200

// secrets are what nodes know and nobody else, but for the password, which is for clients.
type secrets struct {
	gossipKey, clusterSecret pulumi.StringInput // ARNs
	password                 pulumi.StringInput // another; empty where clients need none
	value                    pulumi.StringInput // the cluster secret itself, for seats
	word                     pulumi.StringInput // the password itself; nil where clients need none
	stored                   []pulumi.Resource
}

// secrets makes all and registers where AWS keeps them.
func (b *builder) secrets() (secrets, error) {
	key, err := random.NewRandomBytes(b.ctx, gossipKey, &random.RandomBytesArgs{Length: pulumi.Int(32)}, b.child())
	if err != nil {
		return secrets{}, err
	}
	value, err := b.word(clusterSecret)
	if err != nil {
		return secrets{}, err
	}
	out := secrets{value: value, password: pulumi.String("")}
	if out.gossipKey, err = b.secret(gossipKey, key.Base64, &out.stored); err != nil {
		return secrets{}, err
	}
	if out.clusterSecret, err = b.secret(clusterSecret, value, &out.stored); err != nil || !b.Config.Password {
		return out, err
	}
	word, err := b.word(password)
	if err != nil {
		return secrets{}, err
	}
	out.word = word
	out.password, err = b.secret(password, word, &out.stored)
	return out, err
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

// secret registers one with its value, and returns its ARN. What is deleted is gone at once: a secret that waits for its end keeps
// `pulumi destroy` from leaving nothing, and all in here is made anew with every cluster.
func (b *builder) secret(name string, value pulumi.StringOutput, stored *[]pulumi.Resource) (pulumi.StringInput, error) {
	secret, err := secretsmanager.NewSecret(b.ctx, name+"-secret", &secretsmanager.SecretArgs{
		NamePrefix: pulumi.String(b.prefix(name, longestSecretPrefix)), RecoveryWindowInDays: pulumi.Int(0), Tags: b.tags(name),
		Description: pulumi.String("Of the nodes of " + b.Plan.Cluster),
	}, b.child())
	if err != nil {
		return nil, err
	}
	version, err := secretsmanager.NewSecretVersion(b.ctx, name+"-stored", &secretsmanager.SecretVersionArgs{
		SecretId: secret.ID(), SecretString: pulumi.ToSecret(value).(pulumi.StringOutput),
	}, b.child())
	*stored = append(*stored, version)
	return secret.ID(), err
}
