package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"gopkg.in/yaml.v3"
)

const samples = "../../configs"

func TestEverySampleLoads(t *testing.T) {
	files, err := filepath.Glob(samples + "/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	for _, f := range files {
		if _, err := Load(Sources{Path: f, Addresses: noAddresses}); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}

// TestTheReferenceHoldsEveryKeyWithItsDefault keeps hypercache.yaml true.
func TestTheReferenceHoldsEveryKeyWithItsDefault(t *testing.T) {
	data, err := os.ReadFile(samples + "/hypercache.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	var inFile []string
	for section, keys := range doc {
		for name := range keys {
			inFile = append(inFile, section+"."+name)
		}
	}
	var want []string
	for _, k := range Keys() {
		want = append(want, k.Path)
		line := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(k.Path[len(sectionOf(k.Path))+1:]) + `: ` + regexp.QuoteMeta(k.Default) + `$`)
		if !line.Match(data) {
			t.Errorf("the reference does not show %s: %s", k.Path, k.Default)
		}
	}
	slices.Sort(inFile)
	slices.Sort(want)
	if !slices.Equal(inFile, want) {
		t.Errorf("keys in the reference\n%v\nkeys there are\n%v", inFile, want)
	}
	loaded, err := Load(Sources{Path: samples + "/hypercache.yaml", Addresses: noAddresses})
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := Load(Sources{Search: []string{}, Addresses: noAddresses})
	if err != nil {
		t.Fatal(err)
	}
	loaded.File = ""
	if len(loaded.Cluster.Seeds) == 0 {
		loaded.Cluster.Seeds = nil
	}
	if !reflect.DeepEqual(loaded, defaults) {
		t.Errorf("the reference changes something:\n%s\nagainst\n%s", loaded, defaults)
	}
}

func sectionOf(path string) string {
	for i := range path {
		if path[i] == '.' {
			return path[:i]
		}
	}
	return path
}

func TestTheThreeMachinesFormOneCluster(t *testing.T) {
	for i, f := range []string{"vm1-config.yaml", "vm2-config.yaml", "vm3-config.yaml"} {
		c, err := Load(Sources{Path: filepath.Join(samples, f), Addresses: noAddresses})
		if err != nil {
			t.Fatal(err)
		}
		if c.Network.RESPPort != 8080+i || c.Network.HTTPPort != 9080+i || c.Cluster.Expect() != 3 || c.Cluster.ReplicationFactor != 3 ||
			!slices.Contains(c.Cluster.Seeds, c.Network.Advertised(c.Network.GossipPort)) {
			t.Errorf("%s: %s", f, c)
		}
	}
}
