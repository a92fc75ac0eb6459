package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"hypercache/node/config"
)

// config is `config check FILE`. It looks at the file alone: the environment of the
// person who checks is not the environment of the node.
func (p *program) config(_ context.Context, args []string) error {
	if len(args) == 0 || args[0] != "check" {
		return usagef("want: config check FILE")
	}
	f := p.flags("config check", "FILE [flags]")
	asJSON := f.Bool("json", false, "print JSON")
	var files []string
	// Flags may stand on either side of the file.
	for rest := args[1:]; ; rest = f.Args()[1:] {
		if err := f.Parse(rest); err != nil {
			return usagef("config check: %v", err)
		}
		if f.NArg() == 0 {
			break
		}
		files = append(files, f.Arg(0))
	}
	if len(files) != 1 {
		return usagef("want: config check FILE")
	}
	cfg, err := config.Load(config.Sources{Path: files[0]})
	if *asJSON {
		return p.checkedJSON(cfg, err)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(p.stdout, "%s", cfg)
	for _, w := range cfg.Warnings() {
		_, _ = fmt.Fprintln(p.stdout, "# note:", w)
	}
	_, err = fmt.Fprintf(p.stdout, "# %s is fine\n", files[0])
	return err
}

func (p *program) checkedJSON(cfg config.Config, err error) error {
	answer := struct {
		OK       bool             `json:"ok"`
		Problems []config.Problem `json:"problems"`
		Notes    []string         `json:"notes"`
	}{OK: err == nil, Problems: []config.Problem{}, Notes: []string{}}
	var invalid *config.InvalidError
	switch {
	case errors.As(err, &invalid):
		answer.Problems = invalid.Problems
	case err != nil:
		answer.Problems = []config.Problem{{Message: err.Error()}}
	default:
		answer.Notes = append(answer.Notes, cfg.Warnings()...)
	}
	if printErr := p.printJSON(answer); printErr != nil {
		return printErr
	}
	return err
}

func (p *program) keygen(_ context.Context, args []string) error {
	f := p.flags("keygen", "[flags]")
	asJSON := f.Bool("json", false, "print JSON")
	if err := parse(f, args, 0); err != nil {
		return err
	}
	random := func() []byte {
		b := make([]byte, 32)
		_, _ = rand.Read(b) // crypto/rand never fails: it ends the process instead
		return b
	}
	key, secret := base64.StdEncoding.EncodeToString(random()), hex.EncodeToString(random())
	if *asJSON {
		return p.printJSON(map[string]string{"gossip_encrypt_key": key, "cluster_secret": secret})
	}
	_, err := fmt.Fprintf(p.stdout, `# The same on every node. Keep both out of version control.
# cluster.gossip_encrypt_key, or HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY in the environment:
%s
# the content of cluster.secret_file, readable by the node alone:
%s
`, key, secret)
	return err
}

// build describes the binary.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // built from a tree with changes
	Time     string `json:"time"`     // of the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func describeBuild() build {
	b := build{Version: nodeVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "vcs.time":
			b.Time = s.Value
		}
	}
	return b
}

func (p *program) version(_ context.Context, args []string) error {
	f := p.flags("version", "[flags]")
	asJSON := f.Bool("json", false, "print JSON")
	if err := parse(f, args, 0); err != nil {
		return err
	}
	b := describeBuild()
	if *asJSON {
		return p.printJSON(b)
	}
	commit := ""
	if len(b.Commit) >= 12 {
		commit = "commit " + b.Commit[:12]
		if b.Modified {
			commit += " with changes"
		}
		commit += ", "
	}
	_, err := fmt.Fprintf(p.stdout, "hypercache %s (%s%s, %s)\n", b.Version, commit, b.Go, b.Platform)
	return err
}
