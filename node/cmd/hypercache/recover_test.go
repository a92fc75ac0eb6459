package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/node/nodetest"
	"hypercache/node/recovery"
)

func TestRecoverCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"recover"}, 2, "recover inspect, recover plan or recover apply"},
		{[]string{"recover", "everything"}, 2, "recover inspect, recover plan or recover apply"},
		{[]string{"recover", "plan"}, 2, "want: recover plan NODE.json"},
		{[]string{"recover", "plan", "/no/such.json"}, 1, "/no/such.json"},
		{[]string{"recover", "apply"}, 2, "takes 1 argument"},
		{[]string{"recover", "inspect", "--nonsense"}, 2, "nonsense"},
		{[]string{"recover", "-h"}, 0, ""},
		{[]string{"recover", "plan", "-h"}, 0, ""},
	} {
		r := fixture{}.run(tt.args...)
		if r.code != tt.code || !strings.Contains(r.errOut, tt.want) || tt.code == 0 && !strings.Contains(r.out, "Usage") {
			t.Errorf("%v: %+v", tt.args, r)
		}
	}
}

// TestRecoverStepByStep goes the way that docs/operations.md describes, with the files that it names.
func TestRecoverStepByStep(t *testing.T) {
	c := nodetest.Start(t, 1, nil)
	n := c.Nodes()[0]
	keys := n.Fill("k", 100)
	dir := t.TempDir()
	conf := "--config=" + filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(filepath.Join(dir, "node.yaml"), []byte(n.Config.YAML()), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := (fixture{}).run("recover", "inspect", conf); r.code != 1 || !strings.Contains(r.errOut, "in use by a running node") {
		t.Errorf("a running node: %+v", r)
	}
	n.Stop()
	if r := (fixture{}).run("recover", "inspect", conf); r.code != 0 || !strings.Contains(r.out, "100 keys in 256 groups, 256 of them complete, 0 damaged") {
		t.Errorf("inspect: %+v", r)
	}
	if err := os.RemoveAll(filepath.Join(n.Config.Persistence.DataDir, "topology")); err != nil {
		t.Fatal(err)
	}
	save := func(name string, r result) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(r.out), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	inspection := save("n0.json", (fixture{}).run("recover", "inspect", conf, "--json"))
	r := (fixture{}).run("recover", "plan", inspection)
	if r.code != 1 || r.out != "" || !strings.Contains(r.errOut, "POSSIBLE LOSS: 256 of 256 groups (0-255): 1 of 3 replicas") || !strings.Contains(r.errOut, "--accept-loss") {
		t.Errorf("plan: %+v", r)
	}
	r = (fixture{}).run("recover", "plan", inspection, "--accept-loss")
	var p recovery.Plan
	if r.code != 0 || json.Unmarshal([]byte(r.out), &p) != nil || !strings.Contains(r.errOut, "apply it on n0") {
		t.Errorf("plan: code %d, %s", r.code, r.errOut)
	}
	plan := save("plan.json", r)
	if r := (fixture{}).run("recover", "plan", plan); r.code != 1 || !strings.Contains(r.errOut, plan) {
		t.Errorf("a plan as an inspection: %+v", r)
	}
	if r := (fixture{}).run("recover", "apply", conf, inspection); r.code != 1 || !strings.Contains(r.errOut, inspection) {
		t.Errorf("an inspection as a plan: %+v", r)
	}
	if r := (fixture{}).run("recover", "apply", conf, plan); r.code != 0 || !strings.Contains(r.out, "applied; the old topology is in ") {
		t.Errorf("apply: %+v", r)
	}
	if r := (fixture{}).run("recover", "apply", conf, plan); r.code != 0 || !strings.Contains(r.out, "applied already") {
		t.Errorf("apply once more: %+v", r)
	}
	n.Start()
	n.AwaitReady()
	n.Holds(keys)
	n.Stop()
	inspection = save("n0.json", (fixture{}).run("recover", "inspect", conf, "--json"))
	again := save("again.json", (fixture{}).run("recover", "plan", inspection))
	n.Start()
	n.AwaitReady()
	n.Fill("more", 300)
	n.Stop()
	if r := (fixture{}).run("recover", "apply", conf, again); r.code != 1 || !strings.Contains(r.errOut, "have changed since it was inspected") {
		t.Errorf("a plan from before the last run: %+v", r)
	}
}
