package azure

import (
	"os"
	"strings"
	"testing"

	"hypercache/infra/config"
)

// The stack file is what a newcomer starts from, as it is or with what it suggests.
func TestTheStackFileIsPossibleWithAndWithoutItsSuggestions(t *testing.T) {
	project, err := os.ReadFile("../../Pulumi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile("../../Pulumi.azure.yaml")
	if err != nil {
		t.Fatal(err)
	}
	suggested := strings.ReplaceAll(string(plain), "  # hypercache:", "  hypercache:")
	if suggested == string(plain) {
		t.Error("the file suggests nothing")
	}
	for _, text := range []string{string(plain), suggested} {
		get, err := config.FromFiles(project, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(get, []string{"local", "azure"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, c, "azure", azure()); err != nil {
			t.Errorf("%v with\n%s", err, text)
		}
	}
}
