package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hypercache/node/config"
	"hypercache/node/recovery"
)

// recover is `recover inspect|plan|apply`: a new topology for a cluster that has lost its own.
func (p *program) recover(ctx context.Context, args []string) error {
	const want = "want: recover inspect, recover plan or recover apply; `hypercache recover -h` tells more"
	if len(args) == 0 {
		return usagef(want)
	}
	switch args[0] {
	case "inspect":
		return p.recoverInspect(ctx, args[1:])
	case "plan":
		return p.recoverPlan(ctx, args[1:])
	case "apply":
		return p.recoverApply(ctx, args[1:])
	case "-h", "-help", "--help", "help":
		_, err := fmt.Fprint(p.stdout, recoverHelp)
		return err
	}
	return usagef(want)
}

const recoverHelp = `Usage: hypercache recover inspect --config=FILE --json > NODE.json    on each node, stopped
       hypercache recover plan NODE.json ... > plan.json                anywhere
       hypercache recover apply --config=FILE plan.json                 on each node, still stopped

For a cluster whose topology is lost: a majority of the Raft voters is gone for
good, or Raft's files of all nodes are. Nothing is deleted: what is replaced is
set aside in the data directory. See docs/operations.md, "When the topology is
lost". While a majority of the voters can be started, start those instead.
`

// stoppedConfig loads the configuration of the node that is worked on.
func (p *program) stoppedConfig(f *flag.FlagSet, args []string, positional int) (config.Config, error) {
	src := config.Sources{Env: p.env, Search: p.search}
	keyFlags(f, &src)
	if err := parse(f, args, positional); err != nil {
		return config.Config{}, err
	}
	return config.Load(src)
}

func (p *program) recoverInspect(_ context.Context, args []string) error {
	f := p.flags("recover inspect", "[flags]")
	asJSON := f.Bool("json", false, "print JSON, for `recover plan`")
	cfg, err := p.stoppedConfig(f, args, 0)
	if err != nil {
		return err
	}
	in, err := recovery.Inspect(cfg)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	if *asJSON {
		return p.printJSON(in)
	}
	return p.printInspection(&cfg, in)
}

func (p *program) printInspection(cfg *config.Config, in *recovery.Inspection) error {
	held, complete, damaged, top, promised := 0, 0, 0, uint64(0), uint64(0)
	for _, g := range in.Groups {
		if g.Seq > 0 {
			held++
			if g.Complete {
				complete++
			}
		}
		if g.Damaged {
			damaged++
		}
		top, promised = max(top, g.Term), max(promised, g.Promised)
	}
	topology := "none"
	switch t := in.Topology; {
	case in.TopologyProblem != "":
		topology = "can't be read: " + in.TopologyProblem
	case t != nil:
		topology = fmt.Sprintf("epoch %d, %d members, raft term %d, index %d", t.State.Epoch, len(t.State.Members), t.Term, t.Index)
	}
	if in.Interrupted != "" {
		topology += "; " + in.Interrupted + " was begun and has not ended"
	}
	data := fmt.Sprintf("%d keys in %d groups, %d of them complete, %d damaged; highest term %d, promised %d", in.Keys, held, complete, damaged, top, promised)
	if in.Empty {
		data = "none"
	}
	cluster := in.ClusterID
	if cluster == "" {
		cluster = "not known"
	}
	return p.table([][]string{
		{"node", in.ID()}, {"directory", cfg.Persistence.DataDir}, {"cluster", cluster}, {"topology", topology}, {"data", data},
	})
}

func (p *program) recoverPlan(_ context.Context, args []string) error {
	f := p.flags("recover plan", "NODE.json ... [flags]")
	accept := f.Bool("accept-loss", false, "go on although acknowledged writes may be missing")
	files, err := manyFiles(f, args)
	if err != nil {
		return err
	}
	var list []*recovery.Inspection
	var problems []error
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		in, err := recovery.ReadInspection(b)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %w", name, err))
			continue
		}
		list = append(list, in)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return p.makePlan(list, *accept)
}

func (p *program) makePlan(list []*recovery.Inspection, accept bool) error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // crypto/rand never fails: it ends the process instead
	plan, notes, err := recovery.NewPlan(list, recovery.Choices{AcceptLoss: accept, ClusterID: hex.EncodeToString(id[:]), Now: time.Now()})
	var loss *recovery.LossError
	var losses []recovery.Loss
	switch {
	case errors.As(err, &loss):
		losses = loss.Losses
	case err == nil:
		losses = plan.Accepted
	}
	for _, l := range losses {
		_, _ = fmt.Fprintln(p.stderr, "POSSIBLE LOSS:", l)
	}
	for _, n := range notes {
		_, _ = fmt.Fprintln(p.stderr, "note:", n)
	}
	if err != nil {
		return fmt.Errorf("no plan was made: %w", err)
	}
	nodes := make([]string, 0, len(plan.Nodes))
	for n := range plan.Nodes {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	_, _ = fmt.Fprintf(p.stderr, "apply it on %s, then start them; voters are %s\n", strings.Join(nodes, ", "), strings.Join(plan.Rebuilt.Voters, ", "))
	return p.printJSON(plan)
}

func (p *program) recoverApply(_ context.Context, args []string) error {
	f := p.flags("recover apply", "[flags] plan.json")
	cfg, err := p.stoppedConfig(f, args, 1)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(f.Arg(0))
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	plan, err := recovery.ReadPlan(b)
	if err != nil {
		return fmt.Errorf("apply: %s %w", f.Arg(0), err)
	}
	aside, err := recovery.Apply(cfg, plan, newLogger(p.stderr, cfg.Logging))
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if aside == "" {
		_, err = fmt.Fprintln(p.stdout, "applied already: nothing was changed")
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "applied; the old topology is in %s\n", aside)
	return err
}

// manyFiles parses flags among file names.
func manyFiles(f *flag.FlagSet, args []string) (files []string, err error) {
	for rest := args; ; rest = f.Args()[1:] {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usagef("%s: %v", f.Name(), err)
		}
		if f.NArg() == 0 {
			break
		}
		files = append(files, f.Arg(0))
	}
	if len(files) == 0 {
		return nil, usagef("want: %s NODE.json ...", f.Name())
	}
	return files, nil
}
