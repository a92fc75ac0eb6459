// Package cloud is the engine under the emulated clouds: a Pulumi resource provider, served to the stock Pulumi CLI
// over gRPC, whose resources are plain Go functions.
//
// The CLI attaches to it in place of a downloaded plugin:
//
//	PULUMI_DEBUG_PROVIDERS="aws:PORT,random:PORT" pulumi up
//
// It owns everything that is the same for every provider: the protocol, secrets and unknown values, checking inputs
// against the shapes that the published SDK has, names that Pulumi chooses, what a change of an input means (an
// update, a replacement, or an update that the cloud then refuses), and a record of what the CLI asked for. It owns
// nothing of a cloud: kinds, their rules and their state are packages awscloud, azurecloud and randomcloud. Below
// them is Compute, the machines and networks that package fabric makes of this machine; Memory is a Compute of
// nothing but bookkeeping.
//
// It refuses, as the real providers do, resource types and functions that do not exist, inputs that their types do
// not have, missing ones, and values of the wrong kind.
//
// What it leaves out, because nothing here needs it: construct and call (components in a provider), parameterization,
// mappings of other tools' names, and the schema, which is empty.
//
// # Shapes
//
// The SDK modules carry no schema, but their Go sources have all of it. Program shapegen reads them and writes
// shapes.json, which the clouds embed; each has a go:generate line that makes it again:
//
//	go generate ./infra/cloudtest/...
package cloud
