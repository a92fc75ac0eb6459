// Package provisioning is the parent of everything a machine gets before it is a cache node: its configuration
// file today, its service unit and first-boot instructions beside it. The packages below import node/config at most and
// never Pulumi, so that they serve a shell script as well as a cloud.
package provisioning
