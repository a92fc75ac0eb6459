package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hypercache/node/ring"
	"hypercache/node/topology"
)

// Plan is what Apply carries out on each node: the same file everywhere.
type Plan struct {
	Format int `json:"format"`
	// From is the cluster whose data these are; empty if no directory says so any more.
	From string `json:"from"`
	// Source is the node whose topology was taken; empty: the topology was made from the logs.
	Source string `json:"source"`
	// Nodes are those that are to apply it, by id.
	Nodes   map[string]NodePlan `json:"nodes"`
	Rebuilt topology.Rebuilt    `json:"rebuilt"`
	// Accepted are the losses that were accepted.
	Accepted []Loss `json:"accepted,omitempty"`
	// Sum is a checksum of everything above.
	Sum string `json:"sum"`
}

// NodePlan is what one node does beside taking over the topology.
type NodePlan struct {
	// Heads identifies what the node's logs ended with when it was inspected.
	Heads string `json:"heads"`
	// Complete lists groups of which the node's copy counts as complete from now on, since a loss was accepted and nobody
	// has more.
	Complete []uint16 `json:"complete,omitempty"`
}

// Loss is a reason why acknowledged writes may be missing, and the groups it concerns: of a node that was not given,
// none.
type Loss struct {
	Groups []uint16 `json:"groups,omitempty"`
	Reason string   `json:"reason"`
}

// String names the groups as ranges, and how much of the keyspace they are.
func (l Loss) String() string {
	if len(l.Groups) == 0 {
		return l.Reason
	}
	var ranges []string
	for i := 0; i < len(l.Groups); {
		j := i
		for j+1 < len(l.Groups) && l.Groups[j+1] == l.Groups[j]+1 {
			j++
		}
		if r := fmt.Sprint(l.Groups[i]); j > i {
			ranges = append(ranges, fmt.Sprintf("%s-%d", r, l.Groups[j]))
		} else {
			ranges = append(ranges, r)
		}
		i = j + 1
	}
	return fmt.Sprintf("%d of %d groups (%s): %s", len(l.Groups), ring.Groups, strings.Join(ranges, ","), l.Reason)
}

// LossError refuses to plan: what may be lost has to be accepted first.
type LossError struct{ Losses []Loss }

func (e *LossError) Error() string {
	return "acknowledged writes may be missing from what the given nodes have; bring more of the cluster's nodes, or accept that with --accept-loss"
}

// Choices are what a person decides, and what a plan cannot derive.
type Choices struct {
	AcceptLoss bool
	ClusterID  string // the new cluster's
	Now        time.Time
}

// termGap is by how much new terms are above all that were seen: the highest below the new term is promised by every
// node before it starts, so that the election of the new one is not refused.
const termGap = 2

// ErrNothing says that there is neither a topology nor a record.
var ErrNothing = errors.New("none of the given nodes has a topology or a record: there is nothing to recover")

// NewPlan decides from inspections of stopped nodes. Notes are for a person to read. A *LossError comes with notes, too.
func NewPlan(list []*Inspection, c Choices) (plan *Plan, notes []string, err error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *Inspection) int { return strings.Compare(a.ID(), b.ID()) })
	if err := check(list); err != nil {
		return nil, nil, err
	}
	b := newBuilder(list)
	if b.source == nil && !b.anyRecords() {
		return nil, nil, ErrNothing
	}
	b.members()
	for i := range ring.Groups {
		b.group(i)
	}
	b.place()
	b.note()
	losses := b.losses()
	if len(losses) > 0 && !c.AcceptLoss {
		return nil, b.notes, &LossError{losses}
	}
	return b.plan(c, losses), b.notes, nil
}

// check names every contradiction between the inspections.
func check(list []*Inspection) error {
	if len(list) == 0 {
		return errors.New("no inspections are given")
	}
	var problems []error
	addrs, clusters := map[string]string{}, map[string][]string{}
	for i, in := range list {
		if i > 0 && list[i-1].ID() == in.ID() {
			problems = append(problems, fmt.Errorf("node %s is given twice", in.ID()))
			continue
		}
		if other, ok := addrs[in.Member.Addr]; ok {
			problems = append(problems, fmt.Errorf("nodes %s and %s have the same address %s", other, in.ID(), in.Member.Addr))
		}
		addrs[in.Member.Addr] = in.ID()
		if in.ClusterID != "" {
			clusters[in.ClusterID] = append(clusters[in.ClusterID], in.ID())
		}
	}
	if len(clusters) > 1 {
		var each []string
		for id, nodes := range clusters {
			each = append(each, fmt.Sprintf("%s of cluster %s", strings.Join(nodes, ", "), id))
		}
		slices.Sort(each)
		problems = append(problems, fmt.Errorf("the nodes are of different clusters: %s", strings.Join(each, "; ")))
	}
	return errors.Join(problems...)
}

func (b *builder) plan(c Choices, losses []Loss) *Plan {
	p := &Plan{Format: format, Nodes: map[string]NodePlan{}, Accepted: losses}
	for _, in := range b.list {
		if in.ClusterID != "" {
			p.From = in.ClusterID
		}
		p.Nodes[in.ID()] = NodePlan{Heads: in.heads(), Complete: b.complete[in.ID()]}
	}
	if b.source != nil {
		p.Source = b.source.ID()
	}
	b.state.ClusterID = c.ClusterID
	p.Rebuilt = topology.Rebuilt{
		Recovery: "recovery-" + c.Now.UTC().Format("20060102T150405Z"), State: &b.state, Voters: b.voters(),
		Index: b.raftIndex + 1, Term: b.raftTerm + 1,
	}
	p.Sum = p.sum()
	return p
}

func (p *Plan) sum() string {
	c := *p
	c.Sum = ""
	return sumOf(&c)
}

// ReadPlan parses a plan, and refuses what was cut off, edited or made by another version.
func ReadPlan(b []byte) (*Plan, error) {
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("is no plan of `hypercache recover plan`: %w", err)
	}
	switch {
	case p.Format != format:
		return nil, fmt.Errorf("has format %d, this program knows %d: plan again with this version", p.Format, format)
	case p.Sum != p.sum():
		return nil, errors.New("fails its checksum: it is not whole, or was edited; plan again")
	case p.Rebuilt.State == nil || len(p.Nodes) == 0:
		return nil, errors.New("is incomplete; plan again")
	}
	return &p, nil
}
