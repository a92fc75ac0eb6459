// Package need is for tests that use programs of the machine, redis-server above all.
//
// On a machine that has nothing but Go such a test says what it is about and is skipped. Where everything is to be tested (.ci/run sets
// HYPERCACHE_DEMAND=1, and the end-to-end runs have the build tag e2e) a missing program is a failure: there, nothing is passed
// over.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a program, or ends the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case demanded || os.Getenv("HYPERCACHE_DEMAND") != "":
		t.Fatalf("%s is missing; scripts/install-test-deps.sh installs it", name)
	}
	t.Skipf("%s is missing: what this test is about is not tested; scripts/install-test-deps.sh installs it", name)
	return ""
}
