//go:build !e2e

package cloudinit

// demanded: with the tag e2e a missing program fails a test instead of skipping it.
const demanded = false
