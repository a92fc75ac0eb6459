package outputs

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

func TestThePasswordIsASecretOrTheEmptyText(t *testing.T) {
	p := plan.Plan{Nodes: []plan.Node{{Name: "node-1", Address: "10.0.1.4"}}}
	with, ok := Of(p, nil, pulumi.String("sesame"))["password"].(pulumi.Output)
	if !ok || !pulumi.IsSecret(with) {
		t.Errorf("a password that comes plain goes plain: %#v", with)
	}
	if without := Of(p, nil, nil)["password"]; without != pulumi.String("") {
		t.Errorf("without one the output is %#v, want the empty text", without)
	}
}
