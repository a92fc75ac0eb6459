//go:build e2e

package need

const demanded = true
