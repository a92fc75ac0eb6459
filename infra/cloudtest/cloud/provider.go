package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// ErrSkip is what Provider.Intercept returns to have an operation do nothing and succeed: a resource that the program
// believes in and the cloud never heard of.
var ErrSkip = errors.New("skipped by the test")

// Stages of a resource's life, for Provider.Intercept and Event.
const (
	StageCheck  = "check"
	StageCreate = "create"
	StageRead   = "read"
	StageUpdate = "update"
	StageDelete = "delete"
	StageInvoke = "invoke"
)

// Provider stands in for one plugin. Its fields are set before Serve and not changed after, except through
// SetIntercept.
type Provider struct {
	// Name is the plugin's, such as "aws".
	Name string
	// Kinds are the resource types by token, such as "aws:ec2/instance:Instance".
	Kinds map[string]*Kind
	// Functions are by token, such as "aws:ec2/getAmi:getAmi".
	Functions map[string]Function
	// Shapes are the published inputs. A token that it has and Kinds has not is refused as not emulated, one that
	// neither has as unknown.
	Shapes Shapes
	// Configure looks at the provider's configuration (Call.Inputs) before anything else. Nil accepts any.
	Configure func(c *Call) error
	// Dir is where relative paths of assets start, the directory of the Pulumi program. Empty: the process's own.
	Dir string
	// Intercept, when set, sees every operation before it is done. It may change Call.Inputs, fail, or return
	// ErrSkip. Change it with SetIntercept while the provider is served.
	Intercept func(stage, token string, c *Call) error

	mu      sync.Mutex
	events  []Event
	skipped map[string]bool // IDs whose create was skipped
}

// Kind is one resource type. Any function may be nil: then nothing is checked, Create takes the Pulumi name for ID
// and has no outputs of its own, Read finds what was there, Update changes nothing and Delete forgets.
type Kind struct {
	// Check adds problems beyond the shape, and may fill defaults into Call.Inputs. Values that are not known yet are
	// resource.Computed; it skips them.
	Check func(c *Call) []Problem
	// Create returns the new ID and what the outputs have beyond the inputs. An error together with an ID says that
	// the resource exists but did not come up: Pulumi keeps it in its state.
	Create func(c *Call) (id string, outputs resource.PropertyMap, err error)
	// Read returns the outputs as they are now (they are laid over the inputs), or found false if the resource is
	// gone.
	Read func(c *Call) (outputs resource.PropertyMap, found bool, err error)
	// Update applies Call.Inputs and returns the outputs that changed or, beyond inputs, all that there are.
	Update func(c *Call) (outputs resource.PropertyMap, err error)
	// Delete removes it. Something that is gone already is no error.
	Delete func(c *Call) error
	// Replace are input paths whose change makes the real provider plan a replacement, such as "subnetId" or
	// "osProfile.computerName"; a path covers everything below it, and list indexes are left out.
	Replace []string
	// ReplaceIf decides on further paths, which depend on other inputs. Nil: none.
	ReplaceIf func(c *Call, path string) bool
	// Immutable are input paths that the cloud refuses to change although the provider plans an update.
	Immutable []string
	// Same says that a change of this path is none in the provider's eyes, such as a difference in letter case. Nil:
	// every change counts.
	Same func(path string, older, newer resource.PropertyValue) bool
	// Auto is the input that Pulumi names if the program does not. Nil: none.
	Auto *AutoName
	// Secret are outputs that the provider marks secret by itself.
	Secret []string
}

// Function answers a lookup: Call.Inputs are its arguments.
type Function func(c *Call) (resource.PropertyMap, error)

// Problem is one thing wrong with a resource's inputs.
type Problem struct{ Property, Reason string }

// Problemf is a Problem with a formatted reason.
func Problemf(property, format string, args ...any) Problem {
	return Problem{Property: property, Reason: fmt.Sprintf(format, args...)}
}

// Call is one operation on one resource. Secrets are unwrapped in all of its values.
type Call struct {
	Ctx    context.Context
	URN    resource.URN
	Token  string // the type's or the function's
	Name   string // Pulumi's name of the resource
	ID     string // empty in check and create
	Inputs resource.PropertyMap
	// OldInputs and OldOutputs are what Pulumi has in its state.
	OldInputs, OldOutputs resource.PropertyMap
	// Config is the configuration of the provider instance that the call goes to.
	Config  resource.PropertyMap
	Preview bool
	// Changed are the input paths that differ, in an update.
	Changed []string

	dir string
}

// Event is one operation that was done, or refused, in order.
type Event struct {
	Stage, Token, Name, ID string
	Skipped                bool
	Err                    error
}

// String is for test logs.
func (e Event) String() string {
	s := fmt.Sprintf("%s %s %s (%s)", e.Stage, e.Token, e.Name, e.ID)
	if e.Skipped {
		s += " skipped"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Events are all creates, updates, deletes so far (previews are none).
func (p *Provider) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// ForgetEvents empties the record.
func (p *Provider) ForgetEvents() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = nil
}

// SetIntercept changes Intercept under way.
func (p *Provider) SetIntercept(f func(stage, token string, c *Call) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Intercept = f
}

func (p *Provider) intercept(stage string, c *Call) error {
	p.mu.Lock()
	f := p.Intercept
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(stage, c.Token, c)
}

func (p *Provider) record(stage string, c *Call, err error) {
	e := Event{Stage: stage, Token: c.Token, Name: c.Name, ID: c.ID}
	if errors.Is(err, ErrSkip) {
		e.Skipped = true
	} else {
		e.Err = err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

func (p *Provider) isSkipped(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.skipped[id]
}

func (p *Provider) setSkipped(id string, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.skipped == nil {
		p.skipped = map[string]bool{}
	}
	if is {
		p.skipped[id] = true
	} else {
		delete(p.skipped, id)
	}
}
