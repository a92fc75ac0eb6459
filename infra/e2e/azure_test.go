//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"hypercache/infra/cloudtest/azurecloud"
	"hypercache/infra/cloudtest/fabric"
)

// azure is the subscription on the lab.
type azure struct{ *azurecloud.Cloud }

func (a azure) machine(node string) string {
	for name, id := range a.MachineIDs() {
		if strings.HasSuffix(name, node) {
			return id
		}
	}
	return ""
}

func (a azure) destroy(ctx context.Context, node string) error { return a.DeleteVM(ctx, node+"-vm") }

func (a azure) network() string {
	for _, id := range a.NetworkIDs() {
		return id
	}
	return ""
}

var azureSite = site{
	cloud: "azure", region: "westeurope",
	nodes: []string{"10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.7", "10.0.1.8"},
	open: func(t *testing.T, lab *fabric.Lab, dir string) emulated {
		c, err := azurecloud.New(azurecloud.Options{Compute: lab, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return azure{c}
	},
}

func TestAzure(t *testing.T) { story(t, azureSite) }
