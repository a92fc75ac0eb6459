package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

func lookup(values map[string]string) Lookup {
	return func(key string) (string, bool) {
		v, ok := values[key]
		return v, ok
	}
}

func TestEmptyStackIsThreeLocalNodes(t *testing.T) {
	c, err := Parse(lookup(nil), []string{"local"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Cloud != "local" || c.NodeCount != 3 || len(c.Zones) != 3 || c.Binary != "bin/hypercache" ||
		c.ReadyTimeout != 2*time.Minute || c.ForceDelete || c.Password {
		t.Errorf("got %+v", c)
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	_, err := Parse(lookup(map[string]string{
		"cloud": "moon", "nodeCount": "0", "portOffset": "-1", "zones": `["a b","c","c"]`, "writeAcks": "most",
		"settings": `{"cluster.write_acks":"one","x":[1]}`, "readyTimeout": "soon", "forceDelete": "perhaps",
		"replicationFactor": "8", "password": "hunter22",
	}), []string{"local", "aws"})
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v, want an *Error", err)
	}
	for _, want := range []string{
		`cloud: "moon" is not one of local, aws`, "nodeCount:", "portOffset:", `zones: "a b"`, `zones: "c" is there twice`,
		"writeAcks:", `settings: "cluster.write_acks" has a knob`, `settings: "x"`, "readyTimeout:", "forceDelete:", "replicationFactor:",
		`password: "hunter22" is not one of generated, none`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in\n%v", want, err)
		}
	}
	if len(all.Problems) != 12 {
		t.Errorf("%d problems, want 12:\n%v", len(all.Problems), err)
	}
}

func TestSettingsKeepTheirValues(t *testing.T) {
	c, err := Parse(lookup(map[string]string{
		"settings": `{"cache.max_value_bytes": 1048576, "persistence.enabled": false, "cluster.ack_timeout": "3s"}`, "maxMemory": "1gb",
	}), []string{"local"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"cache.max_value_bytes": "1048576", "persistence.enabled": "false", "cluster.ack_timeout": "3s",
		"cache.max_memory": "1gb", "cache.eviction_policy": "noeviction", "cluster.replication_factor": "3",
		"cluster.write_acks": "quorum", "persistence.fsync": "everysec", "logging.level": "info",
	}
	if !reflect.DeepEqual(c.Settings, want) {
		t.Errorf("got %v, want %v", c.Settings, want)
	}
}

// TestPulumiYAMLDeclaresExactlyOurKnobs keeps the project file, where users read about the knobs, true.
func TestPulumiYAMLDeclaresExactlyOurKnobs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "Pulumi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var project struct {
		Config map[string]struct {
			Type, Description string
			Default           any
		}
	}
	if err := yaml.Unmarshal(data, &project); err != nil {
		t.Fatal(err)
	}
	var read, declared []string
	if _, err := Parse(func(key string) (string, bool) { read = append(read, key); return "", false }, []string{"local"}); err != nil {
		t.Fatal(err)
	}
	for key, knob := range project.Config {
		declared = append(declared, key)
		if knob.Type == "" || knob.Description == "" || knob.Default == nil {
			t.Errorf("%s: type %q, description %q, default %v: all three are needed", key, knob.Type, knob.Description, knob.Default)
		}
	}
	slices.Sort(read)
	slices.Sort(declared)
	if !slices.Equal(read, declared) {
		t.Errorf("the program reads %v\nPulumi.yaml declares %v", read, declared)
	}
	defaults, err := Parse(Defaults(data), []string{"local"})
	if err != nil {
		t.Fatal(err)
	}
	if builtIn, _ := Parse(lookup(nil), []string{"local"}); !reflect.DeepEqual(defaults, builtIn) {
		t.Errorf("Pulumi.yaml's defaults give\n%+v\nthe program's give\n%+v", defaults, builtIn)
	}
}

func TestStackFileWinsOverTheProject(t *testing.T) {
	project := []byte("name: p\nconfig:\n  nodeCount: {type: integer, default: 3}\n  zones: {type: array, default: [a, b]}\n")
	stack := []byte("config:\n  p:nodeCount: 5\n")
	get, err := FromFiles(project, stack)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := get("nodeCount"); v != "5" {
		t.Errorf("nodeCount %q, want 5", v)
	}
	if v, _ := get("zones"); v != `["a","b"]` {
		t.Errorf("zones %q, want the default as JSON", v)
	}
}
