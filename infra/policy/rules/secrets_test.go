package rules

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
	"pgregory.net/rapid"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func zipped(s string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return out.String()
}

// wrapped breaks a text into lines, as YAML does with !!binary.
func wrapped(s string) string {
	var lines []string
	for ; len(s) > 76; s = s[76:] {
		lines = append(lines, s[:76])
	}
	return strings.Join(append(lines, s), "\n      ")
}

// made at run time, so that scanners of this repository find nothing to complain about.
var (
	pem       = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\n"
	accessKey = "AKIA" + "ABCDEFGHIJKLMNOP"
	key32     = b64("0123456789abcdef0123456789abcdef")
)

// harmless are texts that mention secrets and hold none.
var harmless = []string{
	"", "#cloud-config\nhostname: node-1\nssh_pwauth: false\nlock_passwd: true\n",
	"gossip_encrypt_key: \"\"", "gossip_encrypt_key: ${GOSSIP_KEY}", "HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY=$(fetch)",
	"printf 'HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY=%s\\n' \"$key\"", "HYPERCACHE_TLS_KEY=/opt/hypercache/configs/node.key",
	"secret_file: /opt/hypercache/configs/cluster.secret", "requirepass: \"\"", "password=\"$1\"", "password: <from the vault>",
	"sha256: " + strings.Repeat("0a1b2c3d", 8), "-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----", "AKIA is a prefix",
	"arn:aws:secretsmanager:eu-west-1:123456789012:secret:hypercache-prod-gossip-AbCdEf",
	"https://vault.vault.azure.net/secrets/gossip-key?api-version=7.4", "HC_PASSWORD=''\nHC_METRIC='DataDiskUsedPercent'",
	"HC_PASSWORD='arn:aws:secretsmanager:eu-west-1:123456789012:secret:hypercache-prod-password-2026-AbCdEf'",
	"HC_PASSWORD='https://hypercacheprod1a2b.vault.azure.net/secrets/password'\n",
	"HYPERCACHE_AUTH_PASSWORD_FILE=/opt/hypercache/configs/password", "auth:\n  password_file: \"/opt/hypercache/configs/password\"",
	"ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdkc2ZqaGdzZGZqaGdzZGZqaGdzZGZqaGdzZGZq ops]",
}

// telling are texts with a secret, and its kind.
var telling = map[string]string{
	pem:                                    "a private key",
	"-----BEGIN " + "PRIVATE KEY-----":     "a private key",
	"key = " + accessKey + "\n":            "an AWS access key",
	"ASIA" + "ABCDEFGHIJKLMNOP":            "an AWS access key",
	"gossip_encrypt_key: " + key32:         "a gossip key",
	"\"gossip_encrypt_key\": '" + key32:    "a gossip key",
	"GOSSIP_ENCRYPT_KEY=\"" + key32 + "\"": "a gossip key",
	"HYPERCACHE_CLUSTER_SECRET=" + key32:   "a HyperCache secret",
	"requirepass: hunter22":                "a password",
	"DB_PASSWORD=hunter22":                 "a password",
	"HC_PASSWORD='hunter22'":               "a password",
	// An address with more in it than where a secret is kept.
	"HC_PASSWORD='https://me:hunter22@x.vault.azure.net/secrets/password'":                  "a password",
	"HC_PASSWORD='https://x.vault.azure.net.example.com/secrets/password?hunter22'":         "a password",
	"aws_secret_access_key = " + strings.Repeat("aB3/", 10) + "\n":                          "an AWS secret key",
	"passwd: $6$rounds=4096$salt$hash":                                                      "a password hash",
	"DefaultEndpointsProtocol=https;AccountKey=" + strings.Repeat("aB3/", 21) + "==":        "a storage account key",
	"curl https://x.blob.core.windows.net/c/b?sv=2024&sig=" + strings.Repeat("aB3%2F", 8):   "a signed address",
	"https://b.s3.amazonaws.com/o?X-Amz-Signature=" + strings.Repeat("0123456789abcdef", 4): "a signed address",
}

// packings are how a text can be hidden in user data.
var packings = map[string]func(string) string{
	"plain":          func(s string) string { return s },
	"base64":         b64,
	"gzip in base64": func(s string) string { return b64(zipped(s)) },
	"a file in base64 of gzip in a document in base64 of gzip": func(s string) string {
		return b64(zipped("write_files:\n  - encoding: gz+b64\n    content: !!binary |\n      " + wrapped(b64(zipped(s+"\n"+strings.Repeat("padding ", 40)))) + "\n"))
	},
}

func TestUserDataHoldsNoSecret(t *testing.T) {
	for packing, pack := range packings {
		var samples []sample
		for _, s := range harmless {
			samples = append(samples, sample{s, instance, m{"userDataBase64": pack(s)}, nil})
		}
		for s, what := range telling {
			padded := "# some text before it, long enough to be looked at\n" + s
			samples = append(samples, sample{s, instance, m{"userDataBase64": pack(padded)}, []string{"userDataBase64 holds " + what}})
		}
		t.Run(packing, func(t *testing.T) { judge(t, "user-data-holds-no-secret", samples) })
	}
}

// TestOurMachinesBootWithoutASecret judges the golden files of package cloudinit.
func TestOurMachinesBootWithoutASecret(t *testing.T) {
	for _, cloud := range []string{"aws", "azure"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "provisioning", "cloudinit", "testdata", cloud+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if found := secretsIn(b64(zipped(string(text)))); len(found) > 0 || !strings.Contains(string(text), "HC_PASSWORD=") {
			t.Errorf("%s: found %q", cloud, found)
		}
	}
}

func TestUserDataIsFoundWhereverItIs(t *testing.T) {
	judge(t, "user-data-holds-no-secret", []sample{
		{"instance", instance, m{"userData": pem}, []string{"userData holds a private key"}},
		{"azure", azureVM, m{"osProfile": m{"customData": b64(pem)}, "userData": b64(pem)},
			[]string{"osProfile.customData holds", "userData holds"}},
		{"a list", "some:other:Thing", m{"machines": []any{m{"user": pem}, m{"userData": pem}}}, []string{"machines[1].userData holds"}},
		{"elsewhere", instance, m{"keyMaterial": pem}, nil},
		{"not known", instance, m{"userDataBase64": unknown}, nil},
		{"a Pulumi secret", instance, m{"userDataBase64": property.New("aGFybWxlc3M=").WithSecret(true)}, []string{"made from a Pulumi secret"}},
		{"a Pulumi secret not known", instance, m{"userDataBase64": unknown.WithSecret(true)}, []string{"made from a Pulumi secret"}},
	})
}

func TestOutputsHoldNoSecret(t *testing.T) {
	stack := func(p m) []Finding {
		return plainOutputs([]Resource{{Type: "pulumi:pulumi:Stack", URN: "stack", Properties: props(t, p)},
			{Type: instance, URN: "vm", Properties: props(t, m{"userData": pem})}})
	}
	if found := stack(m{"endpoints": []any{"10.0.1.4:8080"}, "key": property.New(pem).WithSecret(true),
		"all": property.New(property.NewMap(map[string]property.Value{"key": property.New(pem)})).WithSecret(true)}); len(found) > 0 {
		t.Errorf("found %v in good outputs", found)
	}
	if found := stack(m{"password": ""}); len(found) > 0 {
		t.Errorf("found %v where clients need none", found)
	}
	if found := stack(m{"password": property.New("hunter22").WithSecret(true)}); len(found) > 0 {
		t.Errorf("found %v in a marked password", found)
	}
	if found := stack(m{"password": "hunter22"}); len(found) != 1 || !strings.Contains(found[0].Message, "output password holds a password") {
		t.Errorf("found %v, want the password", found)
	}
	found := stack(m{"nodes": []any{m{"key": pem}}})
	if len(found) != 1 || found[0].URN != "stack" || !strings.Contains(found[0].Message, "nodes[0].key holds a private key") {
		t.Errorf("found %v, want the key of the first node, once", found)
	}
}

// Whatever is around a secret, however deep it is packed, it is found.
func TestSecretsAreFoundInAnyPacking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[ -~\n]{0,200}`).Draw(t, "before") + "\n" + pem + rapid.StringMatching(`[ -~\n]{0,200}`).Draw(t, "after")
		for range rapid.IntRange(0, 3).Draw(t, "layers") {
			if rapid.Bool().Draw(t, "zip") {
				s = zipped(s)
			}
			s = b64(s)
		}
		if found := secretsIn(s); len(found) == 0 || found[0] != "a private key" && len(found) == 1 {
			t.Errorf("found %q, want the private key", found)
		}
	})
}

func FuzzAnyTextIsScannedToTheEnd(f *testing.F) {
	f.Add(b64(zipped(pem)))
	f.Add("\x1f\x8b\x08")
	f.Fuzz(func(_ *testing.T, s string) { secretsIn(s) })
}
