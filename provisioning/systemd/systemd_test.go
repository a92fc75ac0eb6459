package systemd

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/config"
)

// unit is the lines of a unit: section and key to values, in order.
type unit map[string][]string

func parse(t *testing.T, text string) unit {
	t.Helper()
	u := unit{}
	section := ""
	for i, line := range strings.Split(text, "\n") {
		switch name, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1:len(line)-1] + "."
		case ok && name == strings.TrimSpace(name) && value == strings.TrimSpace(value):
			u[section+name] = append(u[section+name], value)
		default:
			t.Errorf("line %d: %q is neither comment, section nor setting", i+1, line)
		}
	}
	return u
}

func (u unit) one(key string) string {
	if v := u[key]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// words are all values of a key that takes a list.
func (u unit) words(key string) []string { return strings.Fields(strings.Join(u[key], " ")) }

func TestTheNodeIsStartedAsTheGuideSays(t *testing.T) {
	u := parse(t, Service())
	for key, want := range map[string]string{
		"Service.ExecStart": "/opt/hypercache/bin/hypercache --config=/opt/hypercache/configs/hypercache.yaml",
		"Service.User":      "hypercache", "Service.Group": "hypercache", "Service.WorkingDirectory": "/opt/hypercache",
		"Service.Type": "notify", "Service.NotifyAccess": "main", "Install.WantedBy": "multi-user.target",
		"Service.EnvironmentFile": "/opt/hypercache/configs/secrets.env", "Unit.RequiresMountsFor": "/opt/hypercache/data",
	} {
		if u.one(key) != want {
			t.Errorf("%s is %q, want %q", key, u[key], want)
		}
	}
	if rw := u.words("Service.ReadWritePaths"); !slices.Equal(rw, []string{"/opt/hypercache/data", "/opt/hypercache/logs"}) {
		t.Errorf("the node may write to %q", rw)
	}
}

func TestTheNodeNeverStartsWithoutItsSetup(t *testing.T) {
	u := parse(t, Service())
	for _, key := range []string{"Unit.Requires", "Unit.After"} {
		if !slices.Contains(u.words(key), "hypercache-setup.service") {
			t.Errorf("%s is %q", key, u[key])
		}
	}
	s := parse(t, Setup())
	if s.one("Service.Type") != "oneshot" || s.one("Service.RemainAfterExit") != "yes" {
		t.Errorf("setup is of type %q and remains: %q", s["Service.Type"], s["Service.RemainAfterExit"])
	}
	if len(s["Install.WantedBy"]) > 0 {
		t.Error("setup runs even if the node is disabled")
	}
}

// TestNoUnitWaitsForCloudInit: the first boot starts them from cloud-init's last stage and waits for them.
func TestNoUnitWaitsForCloudInit(t *testing.T) {
	for _, text := range []string{Service(), Setup(), Disk(), DiskTimer()} {
		u := parse(t, text)
		for _, key := range []string{"Unit.After", "Unit.Requires", "Unit.Wants"} {
			for _, w := range u.words(key) {
				if strings.HasPrefix(w, "cloud-") || w == "multi-user.target" {
					t.Errorf("%s: %s=%s", u.one("Unit.Description"), key, w)
				}
			}
		}
	}
}

func TestAStopLeavesTimeForTheHandover(t *testing.T) {
	seconds, err := strconv.Atoi(parse(t, Service()).one("Service.TimeoutStopSec"))
	if err != nil {
		t.Fatal(err)
	}
	if got, need := time.Duration(seconds)*time.Second, config.Default().Cluster.HandoverTimeout+config.Default().Cluster.Linger+30*time.Second; got < need {
		t.Errorf("killed after %v, want at least %v", got, need)
	}
}

func TestNothingGivesUpForGood(t *testing.T) {
	for text, restart := range map[string]string{Service(): "always", Setup(): "on-failure"} {
		u := parse(t, text)
		if u.one("Service.Restart") != restart || u.one("Unit.StartLimitIntervalSec") != "0" || u.one("Service.RestartSec") == "" {
			t.Errorf("%s: restart %q, limit %q", u.one("Unit.Description"), u["Service.Restart"], u["Unit.StartLimitIntervalSec"])
		}
	}
	// The node's start job is gone when a later attempt of setup succeeds.
	if post := parse(t, Setup()).one("Service.ExecStartPost"); !strings.HasSuffix(post, "--no-block start hypercache.service") {
		t.Errorf("after a late setup: %q", post)
	}
}

func TestTheNodeHasFilesForItsClients(t *testing.T) {
	files, err := strconv.Atoi(parse(t, Service()).one("Service.LimitNOFILE"))
	limits := config.Default().Limits
	if need := limits.MaxClients + limits.HTTPMaxConns + 1000; err != nil || files < need {
		t.Errorf("%d files, %v, want at least %d", files, err, need)
	}
}

// TestTheBootIDIsVisible: without it every restart of the node counts as a power loss.
func TestTheBootIDIsVisible(t *testing.T) {
	if v := parse(t, Service())["Service.ProcSubset"]; len(v) > 0 {
		t.Errorf("ProcSubset=%s hides /proc/sys/kernel/random/boot_id", v)
	}
}

// TestSetupMountsWhereAllSeeIt: each of these settings gives a unit a mount namespace of its own.
func TestSetupMountsWhereAllSeeIt(t *testing.T) {
	for key := range parse(t, Setup()) {
		name := strings.TrimPrefix(key, "Service.")
		for _, prefix := range []string{"Private", "Protect", "ReadWrite", "ReadOnly", "Inaccessible", "Bind", "Root", "Temporary", "Dynamic"} {
			if strings.HasPrefix(name, prefix) {
				t.Errorf("%s: the data disk would be mounted in a namespace that ends with setup", name)
			}
		}
	}
}

func TestTheDiskIsReportedEveryFiveMinutes(t *testing.T) {
	if u := parse(t, DiskTimer()); u.one("Timer.OnCalendar") != "*:0/5" || u.one("Install.WantedBy") != "timers.target" {
		t.Errorf("the timer is %v", u)
	}
	if u := parse(t, Disk()); u.one("Service.ExecStart") != "/opt/hypercache/bin/cloud metric" || u.one("Service.DynamicUser") != "yes" {
		t.Errorf("the service is %v", u)
	}
}
