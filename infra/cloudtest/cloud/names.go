package cloud

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// AutoName is how Pulumi names a resource for which the program gives no name: the Pulumi name, a dash and seven
// random hex digits.
type AutoName struct {
	Property string
	// MaxLength cuts the Pulumi name so that the whole fits; zero for no limit.
	MaxLength int
	// Transform makes the name one that the cloud accepts, for example lower case. Nil leaves it.
	Transform func(string) string
	// Separator comes before the random digits; empty means "-", NoSeparator none.
	Separator string
	// Unless are inputs that take the name's place, such as "namePrefix".
	Unless []string
}

// NoSeparator puts the random digits directly behind the name.
const NoSeparator = "\x00"

// defaultsKey lists the inputs that the provider chose itself, in the inputs.
const defaultsKey = "__defaults"

// fill gives the input its name, the one that it had before if the program did not choose that one.
func (a *AutoName) fill(c *Call, seed []byte, opts *pulumirpc.CheckRequest_AutonamingOptions) []Problem {
	key := resource.PropertyKey(a.Property)
	if _, ok := c.Inputs[key]; ok {
		return nil
	}
	for _, other := range a.Unless {
		if _, ok := c.Inputs[resource.PropertyKey(other)]; ok {
			return nil
		}
	}
	chosen := resource.NewArrayProperty([]resource.PropertyValue{resource.NewStringProperty(a.Property)})
	if old, ok := c.OldInputs[key]; ok && len(List(c.OldInputs, defaultsKey)) > 0 {
		c.Inputs[key], c.Inputs[defaultsKey] = old, chosen
		return nil
	}
	name := a.name(c.Name, seed)
	if opts != nil {
		switch opts.Mode {
		case pulumirpc.CheckRequest_AutonamingOptions_DISABLE:
			return []Problem{Problemf(a.Property, "automatic naming is disabled: the program must set %s",
				a.Property)}
		case pulumirpc.CheckRequest_AutonamingOptions_ENFORCE, pulumirpc.CheckRequest_AutonamingOptions_PROPOSE:
			if opts.ProposedName != "" {
				name = opts.ProposedName
			}
		}
	}
	c.Inputs[key], c.Inputs[defaultsKey] = resource.NewStringProperty(name), chosen
	return nil
}

func (a *AutoName) name(base string, seed []byte) string {
	if len(seed) == 0 {
		seed = make([]byte, 16)
		rand.Read(seed) // never fails: it aborts the program instead
	}
	sum := sha256.Sum256(append([]byte(base+"\x00"), seed...))
	separator := a.Separator
	switch separator {
	case "":
		separator = "-"
	case NoSeparator:
		separator = ""
	}
	tail := separator + hex.EncodeToString(sum[:])[:7]
	if a.Transform != nil {
		base = a.Transform(base)
	}
	if limit := a.MaxLength - len(tail); a.MaxLength > 0 && len(base) > limit {
		base = strings.TrimRight(base[:max(limit, 0)], "-_")
	}
	return base + tail
}
