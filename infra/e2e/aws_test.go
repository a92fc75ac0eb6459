//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"hypercache/infra/cloudtest/awscloud"
	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// aws is the account of AWS on the lab.
type aws struct{ *awscloud.Cloud }

func (a aws) machine(node string) string {
	for name, id := range a.InstanceIDs() {
		if strings.HasSuffix(name, node) || name == node+"-vm" {
			return id
		}
	}
	return ""
}

func (a aws) destroy(ctx context.Context, node string) error {
	return a.TerminateInstance(ctx, a.machine(node))
}

func (a aws) network() string { return created(a.Provider(), "aws:ec2/vpc:Vpc") }

// created is the ID of the one resource of a type that the program made.
func created(p *cloud.Provider, token string) string {
	id := ""
	for _, e := range p.Events() {
		if e.Stage == cloud.StageCreate && e.Token == token && e.Err == nil {
			id = e.ID
		}
	}
	return id
}

var awsSite = site{
	cloud: "aws", region: "eu-west-1",
	nodes: []string{"10.0.1.4", "10.0.1.68", "10.0.1.132", "10.0.1.5", "10.0.1.69"},
	open: func(t *testing.T, lab *fabric.Lab, dir string) emulated {
		c, err := awscloud.New(awscloud.Options{Compute: lab, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return aws{c}
	},
}

func TestAWS(t *testing.T) { story(t, awsSite) }
