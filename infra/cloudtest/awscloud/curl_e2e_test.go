//go:build e2e

package awscloud

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// curl runs the program as a machine would, with its names leading to server and its secrets in a file.
func curl(t *testing.T, g *guest, server *httptest.Server, service string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "curl")
	text := "aws-sigv4 = \"aws:amz:" + home + ":" + service + "\"\nuser = \"" + g.access + ":" + g.secret +
		"\"\nheader = \"X-Amz-Security-Token: " + g.token + "\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "curl", append([]string{
		"--silent", "--show-error", "--insecure", "--config", config, "--connect-to", "::" + host + ":" + port,
	}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

// What curl signs is what we compute: somebody else's implementation agrees with ours.
func TestCurlsSignaturesAreTaken(t *testing.T) {
	a, g := full(t)
	a.clock.add(time.Since(a.clock.now())) // curl signs with the true time
	g.role()
	a.make(policyType, "metrics", m{"role": a.id("role"), "policy": allow([]string{"cloudwatch:PutMetricData"}, "*")})
	a.make(objectType, "odd", m{"bucket": a.id("bucket"), "key": "bin/a b+c=d", "content": "odd"})
	server := httptest.NewTLSServer(g.machine.Services)
	t.Cleanup(server.Close)
	domain := "." + home + ".amazonaws.com/"
	for name, tc := range map[string]struct {
		service, want string
		args          []string
	}{
		"object": {"s3", "program", []string{"--header", "x-amz-content-sha256: " + sha(""), "https://store-1.s3" +
			domain + "bin/cache"}},
		"odd": {"s3", "odd", []string{"--header", "x-amz-content-sha256: " + sha(""), "https://store-1.s3" +
			domain + "bin/a%20b%2Bc%3Dd"}},
		"secret": {"secretsmanager", "s3cret", []string{
			"--header", "X-Amz-Target: secretsmanager.GetSecretValue", "--header",
			"Content-Type: application/x-amz-json-1.1",
			"--data", `{"SecretId":"gossip"}`, "https://secretsmanager" + domain,
		}},
		"metric": {"monitoring", "PutMetricDataResponse", []string{
			"--data", "Action=PutMetricData&Version=2010-08-01&Namespace=X&MetricData.member.1.MetricName=A&MetricData.member.1.Value=1", "https://monitoring" + domain,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if out := curl(t, g, server, tc.service, tc.args...); !strings.Contains(out, tc.want) {
				t.Errorf("curl says %q, want %q", out, tc.want)
			}
		})
	}
	g.secret = "wrong"
	if out := curl(t, g, server, "s3", "--header", "x-amz-content-sha256: "+sha(""),
		"https://store-1.s3"+domain+"bin/cache"); !strings.Contains(out, "SignatureDoesNotMatch") {
		t.Errorf("with a wrong key curl says %q", out)
	}
}
