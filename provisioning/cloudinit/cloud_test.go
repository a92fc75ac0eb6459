package cloudinit

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hypercache/internal/need"
	"hypercache/node/config"
)

// What the clouds of these tests hand out and keep.
const (
	roleSecret = "wJalrXUtnFEMI/role+secret"
	roleToken  = "IQoJb3JpZ2luX2VjEHo=session"
	azureToken = "eyJ0eXAiOiJKV1QifQ.azure.token"
	gossipKey  = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	nodeSecret = "a-secret-of-enough-bytes"
	passwords  = "the-new-password\n  the old password\r\n\n"
)

// cloudDouble is metadata service and services of a cloud in one: it counts requests and refuses what the real ones
// would.
type cloudDouble struct {
	t      *testing.T
	server *httptest.Server

	mu       sync.Mutex
	service  http.HandlerFunc // answers what is not metadata
	requests int              // to the service
	early    int              // how many of the first requests find no role yet
}

func newCloud(t *testing.T, service http.HandlerFunc) *cloudDouble {
	c := &cloudDouble{t: t, service: service}
	c.server = httptest.NewServer(c)
	t.Cleanup(c.server.Close)
	return c
}

func (c *cloudDouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const roles = "/latest/meta-data/iam/security-credentials/"
	switch {
	case r.URL.Path == "/latest/api/token":
		if r.Method != http.MethodPut || r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, "imds-token")
	case strings.HasPrefix(r.URL.Path, roles):
		c.role(w, r, strings.TrimPrefix(r.URL.Path, roles))
	case r.URL.Path == "/metadata/identity/oauth2/token":
		if r.Header.Get("Metadata") != "true" || r.URL.Query().Get("api-version") != "2018-02-01" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": azureToken + r.URL.Query().Get("resource")})
	default:
		c.count()(w, r)
	}
}

// serves changes who answers, and how many of the next requests find no role yet.
func (c *cloudDouble) serves(service http.HandlerFunc, early int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.service, c.early = service, early
}

func (c *cloudDouble) count() http.HandlerFunc {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	return c.service
}

func (c *cloudDouble) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests
}

func (c *cloudDouble) role(w http.ResponseWriter, r *http.Request, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds-token":
		http.Error(w, "", http.StatusUnauthorized)
	case c.early > 0:
		c.early--
		http.NotFound(w, r)
	case name == "":
		_, _ = io.WriteString(w, "node-role\n")
	case name == "node-role":
		_ = json.NewEncoder(w).Encode(map[string]string{"Code": "Success", "AccessKeyId": "ASIAEXAMPLE",
			"SecretAccessKey": roleSecret, "Token": roleToken})
	default:
		http.NotFound(w, r)
	}
}

// run runs cloud.py with the variables of a machine and more, and returns exit status and output.
func (c *cloudDouble) run(m Machine, more []string, args ...string) (int, string) {
	c.t.Helper()
	cmd := exec.Command(need.Program(c.t, "python3"), append([]string{"-I", "-B", "cloud.py"}, args...)...)
	cmd.Env = append(os.Environ(), "HC_IMDS="+c.server.URL, "HC_ENDPOINT="+c.server.URL, "HC_VAULT=https://vault.azure.net", "HC_WAIT=20")
	for _, v := range variables(m) {
		cmd.Env = append(cmd.Env, v.name+"="+v.value)
	}
	cmd.Env = append(cmd.Env, more...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	for _, credential := range []string{roleSecret, roleToken, azureToken, gossipKey, nodeSecret, "the-new-password", "the old password", "imds-token"} {
		if strings.Contains(string(out), credential) {
			c.t.Errorf("the log shows a credential:\n%s", out)
		}
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// signedFor refuses a request that AWS would refuse.
func signedFor(w http.ResponseWriter, r *http.Request, service string) ([]byte, bool) {
	body, _ := io.ReadAll(r.Body)
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	want, got := signature(r, body, roleSecret)
	authorization := r.Header.Get("Authorization")
	scope := at.Format("20060102") + "/eu-west-1/" + service + "/aws4_request,"
	if err != nil || time.Since(at).Abs() > 5*time.Minute || want != got || !strings.Contains(authorization, scope) ||
		!strings.Contains(authorization, "x-amz-security-token") || r.Header.Get("X-Amz-Security-Token") != roleToken {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>%s</CanonicalRequest></Error>", roleToken)
		return nil, false
	}
	return body, true
}

func fileIn(t *testing.T) string { return filepath.Join(t.TempDir(), "file") }

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAWSGivesTheProgramToTheRole(t *testing.T) {
	c := newCloud(t, nil)
	c.serves(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := signedFor(w, r, "s3"); ok {
			_, _ = io.WriteString(w, "the program at "+r.URL.EscapedPath())
		}
	}, 2) // the role arrives after the machine
	m, file := onAWS(t), fileIn(t)
	m.Binary.URL = c.server.URL + "/hyper%20cache"
	if status, out := c.run(m, nil, "program", file); status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	if got := read(t, file); got != "the program at /hyper%20cache" {
		t.Errorf("program reads %q", got)
	}
}

func TestAWSGivesSecretsToTheRole(t *testing.T) {
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		body, ok := signedFor(w, r, "secretsmanager")
		if !ok {
			return
		}
		var ask struct{ SecretId string }
		err := json.Unmarshal(body, &ask)
		if err != nil || r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || r.Method != http.MethodPost ||
			r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		answer := map[string]string{"SecretString": gossipKey}
		switch {
		case strings.Contains(ask.SecretId, "password"):
			answer = map[string]string{"SecretString": passwords}
		case strings.Contains(ask.SecretId, "cluster"):
			answer = map[string]string{"SecretBinary": base64.StdEncoding.EncodeToString([]byte(nodeSecret))}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
	c.secretsArrive(onAWS(t))
}

func TestAzureGivesSecretsToTheIdentity(t *testing.T) {
	c := newCloud(t, nil)
	c.serves(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+azureToken+"https://vault.azure.net" || r.URL.Query().Get("api-version") != "7.4" {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		if c.asked() <= 3 { // a role assignment spreads
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"error":{"code":"Forbidden","message":"`+r.Header.Get("Authorization")+`"}}`)
			return
		}
		value := map[string]string{"/secrets/gossip-key": gossipKey, "/secrets/cluster-secret": nodeSecret + "\n", "/secrets/password": passwords}[r.URL.Path]
		_ = json.NewEncoder(w).Encode(map[string]string{"value": value})
	}, 0)
	m := onAzure(t)
	at := c.server.URL + "/secrets/"
	m.Secrets = Secrets{GossipKey: at + "gossip-key", ClusterSecret: at + "cluster-secret", Password: at + "password"}
	c.secretsArrive(m)
}

// secretsArrive checks that all secrets are written as the unit and the node read them, for their owner alone.
func (c *cloudDouble) secretsArrive(m Machine) {
	c.t.Helper()
	for verb, want := range map[string]string{
		"gossip-key": "HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY=" + gossipKey +
			"\nHYPERCACHE_CLUSTER_SECRET_FILE=/opt/hypercache/configs/cluster.secret" +
			"\nHYPERCACHE_AUTH_PASSWORD_FILE=/opt/hypercache/configs/password\n",
		"cluster-secret": nodeSecret + "\n",
		"password":       "the-new-password\nthe old password\n",
	} {
		file := fileIn(c.t)
		if err := os.WriteFile(file, []byte("of an attempt that was cut short, and longer than what comes now: "+want), 0o644); err != nil {
			c.t.Fatal(err)
		}
		if status, out := c.run(m, nil, verb, file); status != 0 {
			c.t.Errorf("%s: status %d:\n%s", verb, status, out)
			continue
		}
		info, err := os.Stat(file)
		if got := read(c.t, file); got != want || err != nil || info.Mode().Perm() != 0o600 {
			c.t.Errorf("%s: %v, %v, reads %q, want %q", verb, info.Mode(), err, got, want)
		}
	}
	m.Secrets.Password = ""
	file := fileIn(c.t)
	if status, out := c.run(m, nil, "gossip-key", file); status != 0 || strings.Contains(read(c.t, file), "PASSWORD") {
		c.t.Errorf("status %d, a node without a password is told of one:\n%s", status, out)
	}
}

// TestTheNodeReadsWhatItIsGiven holds the names in secrets.env against the node's own.
func TestTheNodeReadsWhatItIsGiven(t *testing.T) {
	c := newCloud(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"value": gossipKey})
	})
	m, file := onAzure(t), fileIn(t)
	m.Secrets.GossipKey = c.server.URL + "/secrets/gossip-key"
	if status, out := c.run(m, nil, "gossip-key", file); status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	got, err := config.Load(config.Sources{Env: strings.Fields(read(t, file)), Search: []string{}})
	if err != nil || got.Cluster.GossipEncryptKey != gossipKey || got.Cluster.SecretFile != configDir+"cluster.secret" ||
		got.Auth.PasswordFile != configDir+"password" {
		t.Errorf("the node reads %+v, %+v, %v", got.Cluster, got.Auth, err)
	}
}

func TestAzureGivesTheProgramToTheIdentity(t *testing.T) {
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+azureToken+"https://storage.azure.com/" || r.Header.Get("X-Ms-Version") < "2017-11-09" {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "the program")
	})
	m, file := onAzure(t), fileIn(t)
	m.Binary.URL = c.server.URL + "/programs/hypercache"
	if status, out := c.run(m, nil, "program", file); status != 0 || read(t, file) != "the program" {
		t.Errorf("status %d:\n%s", status, out)
	}
}

func TestABrokenDownloadIsTriedAgain(t *testing.T) {
	c := newCloud(t, nil)
	c.serves(func(w http.ResponseWriter, r *http.Request) {
		switch c.asked() {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // fewer bytes than announced
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "the pro")
		case 3:
			panic(http.ErrAbortHandler)
		default:
			if r.Header.Get("Authorization") != "" {
				t.Error("an address for everybody is sent a credential")
			}
			_, _ = io.WriteString(w, "the program")
		}
	}, 0)
	m, file := onAWS(t), fileIn(t)
	m.Binary = Binary{URL: c.server.URL + "/hypercache", SHA256: m.Binary.SHA256}
	if status, out := c.run(m, nil, "program", file); status != 0 || read(t, file) != "the program" {
		t.Errorf("status %d:\n%s", status, out)
	}
}

func TestARedirectGetsNoCredential(t *testing.T) {
	other := newCloud(t, func(http.ResponseWriter, *http.Request) {})
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.server.URL+"/elsewhere", http.StatusTemporaryRedirect)
	})
	m := onAzure(t)
	m.Binary.URL = c.server.URL + "/hypercache"
	if status, out := c.run(m, []string{"HC_WAIT=1"}, "program", fileIn(t)); status != 1 || !strings.Contains(out, "307") || other.asked() > 0 {
		t.Errorf("status %d, the other host was asked %d times:\n%s", status, other.asked(), out)
	}
}

func TestWhatOnlyAPersonCanMendIsNotTriedAgain(t *testing.T) {
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hypercache" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"value": "short"})
	})
	m := onAzure(t)
	m.Binary = Binary{URL: c.server.URL + "/hypercache", SHA256: m.Binary.SHA256}
	m.Secrets = Secrets{GossipKey: c.server.URL + "/secrets/a", ClusterSecret: c.server.URL + "/secrets/b", Password: c.server.URL + "/secrets/c"}
	for verb, want := range map[string]string{"program": "404", "gossip-key": "base64", "cluster-secret": "16 bytes", "password": "8 bytes"} {
		before := c.asked()
		status, out := c.run(m, nil, verb, fileIn(t))
		if status != 78 || !strings.Contains(out, want) || c.asked() != before+1 {
			t.Errorf("%s: status %d after %d requests, want 78 after one, and %q in:\n%s", verb, status, c.asked()-before, want, out)
		}
	}
}

func TestARefusalThatStaysIsToldWithWhatWouldBeRight(t *testing.T) {
	c := newCloud(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"__type":"AccessDeniedException","Message":"the canonical string %s"}`, roleToken)
	})
	status, out := c.run(onAWS(t), []string{"HC_WAIT=0.5"}, "gossip-key", fileIn(t))
	if status != 1 || c.asked() < 2 || !strings.Contains(out, "AccessDeniedException") || !strings.Contains(out, "must be allowed to read it") {
		t.Errorf("status %d after %d requests:\n%s", status, c.asked(), out)
	}
}

// homeOf makes the directories of a machine without a data disk.
func homeOf(t *testing.T) string {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	return "HC_HOME=" + home
}

func TestDiskUseIsPublishedToCloudWatch(t *testing.T) {
	bodies := make(chan string, 1)
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		if body, ok := signedFor(w, r, "monitoring"); ok {
			bodies <- string(body)
		}
	})
	m := onAWS(t)
	m.DataDevices = nil
	if status, out := c.run(m, []string{homeOf(t), "HC_WAIT=1"}, "metric"); status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	sent, err := url.ParseQuery(<-bodies)
	if err != nil {
		t.Fatal(err)
	}
	const member = "MetricData.member.1."
	for key, want := range map[string]string{
		"Action": "PutMetricData", "Version": "2010-08-01", "Namespace": "hypercache", member + "MetricName": DiskMetric,
		member + "Unit": "Percent", member + "Dimensions.member.1.Name": "Node", member + "Dimensions.member.1.Value": "node-1",
	} {
		if sent.Get(key) != want {
			t.Errorf("%s is %q, want %q", key, sent.Get(key), want)
		}
	}
	if v, err := strconv.ParseFloat(sent.Get(member+"Value"), 64); err != nil || v < 0 || v > 100 {
		t.Errorf("value %q, want a percentage", sent.Get(member+"Value"))
	}
}

// customMetric is what Azure is sent.
type customMetric struct {
	Time time.Time
	Data struct {
		BaseData struct {
			Metric, Namespace string
			DimNames          []string
			Series            []struct {
				DimValues     []string
				Min, Max, Sum float64
				Count         int
			}
		}
	}
}

func TestDiskUseIsPublishedToAzureMonitor(t *testing.T) {
	m := onAzure(t)
	m.DataDevices = nil
	sent := make(chan customMetric, 1)
	c := newCloud(t, func(w http.ResponseWriter, r *http.Request) {
		var body customMetric
		if r.URL.Path != m.Metric.ResourceID+"/metrics" || r.Method != http.MethodPost ||
			r.Header.Get("Authorization") != "Bearer "+azureToken+"https://monitoring.azure.com/" ||
			r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&body) != nil {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		sent <- body
	})
	if status, out := c.run(m, []string{homeOf(t), "HC_WAIT=1"}, "metric"); status != 0 {
		t.Fatalf("status %d:\n%s", status, out)
	}
	body := <-sent
	b := body.Data.BaseData
	if b.Metric != DiskMetric || b.Namespace != "hypercache" || len(b.DimNames) != 1 || b.DimNames[0] != "Node" ||
		len(b.Series) != 1 || time.Since(body.Time).Abs() > time.Minute {
		t.Fatalf("sent %+v", body)
	}
	if s := b.Series[0]; s.DimValues[0] != "node-1" || s.Count != 1 || s.Min != s.Max || s.Max != s.Sum || s.Sum < 0 || s.Sum > 100 {
		t.Errorf("sent %+v", s)
	}
}

func TestTheOSDiskIsNotReportedAsTheDataDisk(t *testing.T) {
	c := newCloud(t, func(http.ResponseWriter, *http.Request) {})
	status, out := c.run(onAWS(t), []string{homeOf(t)}, "metric")
	if status != 1 || !strings.Contains(out, "no data disk is mounted") || c.asked() > 0 {
		t.Errorf("status %d after %d requests:\n%s", status, c.asked(), out)
	}
}

func TestAWrongCommandLineIsExplained(t *testing.T) {
	c := newCloud(t, nil)
	for _, args := range [][]string{nil, {"nonsense"}, {"program"}} {
		if status, out := c.run(onAWS(t), nil, args...); status != 1 || !strings.Contains(out, "cloud cluster-secret FILE") {
			t.Errorf("%q: status %d:\n%s", args, status, out)
		}
	}
}
