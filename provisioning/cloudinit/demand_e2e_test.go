//go:build e2e

package cloudinit

const demanded = true
