// Package e2e deploys real clusters with the real Pulumi CLI and asks them what users would ask. Its tests need the build tag e2e
// and what `make e2e` builds and installs; they keep their state in a temporary directory and their ports out of the way.
package e2e
