package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Site is the directory that one local cluster lives in:
//
//	roster.json         the nodes that are meant to stay; absent before the first and during the last hour
//	bin/SHA/hypercache  immutable copies of the node program, one for each that runs
//	NAME/node.json      what runs as node NAME
//	NAME/config.yaml    its configuration with the gossip key, mode 0600
//	NAME/secret         the cluster secret, mode 0600
//	NAME/password       the password of clients, mode 0600, if they need one or once did: going back would need it
//	NAME/log, log.1     its output
//	NAME/data/          its data
type Site struct {
	Dir string
	// Say reports progress to the user; nil is silence.
	Say func(format string, args ...any)
}

func (s Site) say(format string, args ...any) {
	if s.Say != nil {
		s.Say(format, args...)
	}
}

// Record is what a site knows about one of its nodes.
type Record struct {
	Name    string  `json:"name"`
	HTTP    string  `json:"http"` // base URL of its HTTP interface
	Binary  string  `json:"binary"`
	Process Process `json:"process"`
}

const (
	recordFile = "node.json"
	rosterFile = "roster.json"
	binaryName = "hypercache"
)

// NodeDir is the directory of one node.
func (s Site) NodeDir(name string) string { return filepath.Join(s.Dir, name) }

// DataDir is where a node's persistent data belongs.
func (s Site) DataDir(name string) string { return filepath.Join(s.NodeDir(name), "data") }

// Records returns what is known about all nodes, by name.
func (s Site) Records() ([]Record, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*", recordFile))
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var out []Record
	for _, f := range files {
		r, err := s.record(filepath.Base(filepath.Dir(f)))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// record reads one node's record; fs.ErrNotExist if there is none.
func (s Site) record(name string) (Record, error) {
	var r Record
	data, err := os.ReadFile(filepath.Join(s.NodeDir(name), recordFile))
	if err != nil {
		return Record{}, fmt.Errorf("read record of %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("read record of %s: %w", name, err)
	}
	return r, nil
}

// others are the records of all nodes but one.
func (s Site) others(name string) ([]Record, error) {
	all, err := s.Records()
	return slices.DeleteFunc(all, func(r Record) bool { return r.Name == name }), err
}

func (s Site) writeRecord(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write record of %s: %w", r.Name, err)
	}
	return writeFile(filepath.Join(s.NodeDir(r.Name), recordFile), data, 0o600)
}

// writeFile replaces a file in one step, so that a crash leaves the old or the new one.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// SetRoster notes which nodes are meant to stay. From then on a node that is removed hands its data over first.
func (s Site) SetRoster(names []string) error {
	data, err := json.Marshal(names)
	if err != nil {
		return fmt.Errorf("write roster: %w", err)
	}
	return writeFile(filepath.Join(s.Dir, rosterFile), data, 0o600)
}

// Roster returns the nodes that are meant to stay, none if the cluster is not complete yet or is being taken down.
func (s Site) Roster() ([]string, error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, rosterFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(data, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("read roster: %w", err)
	}
	return names, nil
}

// Disband forgets the roster: the whole cluster goes, and nobody is left to hand data to.
func (s Site) Disband() error {
	if err := os.Remove(filepath.Join(s.Dir, rosterFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove roster: %w", err)
	}
	return nil
}

// install copies the program to its place under the site, so that building a new one never touches a running one. sum is
// its SHA-256 in hex; a file that has another is refused.
func (s Site) install(program, sum string) (string, error) {
	place := filepath.Join(s.Dir, "bin", sum, binaryName)
	if got, err := FileSHA256(place); err == nil && got == sum {
		return place, nil
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return "", fmt.Errorf("install node program: %w", err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return "", fmt.Errorf("install node program: %w", err)
	}
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
		return "", fmt.Errorf("install node program: %s changed while it was deployed; run pulumi up again", program)
	}
	if err := writeFile(place, data, 0o700); err != nil {
		return "", fmt.Errorf("install node program: %w", err)
	}
	return place, nil
}

// FileSHA256 is a file's SHA-256 in hex.
func FileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sweepBinaries removes copies of the program that no node runs.
func (s Site) sweepBinaries() error {
	records, err := s.Records()
	if err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(s.Dir, "bin", "*"))
	if err != nil {
		return fmt.Errorf("list node programs: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		used := slices.ContainsFunc(records, func(r Record) bool { return filepath.Dir(r.Binary) == dir })
		if !used {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// The node's log is bounded by turning it over when it is above maxLog: at each start, and at each look at the node.
const maxLog = 8 << 20

func (s Site) logFile(name string) string { return filepath.Join(s.NodeDir(name), "log") }

// turnLog keeps the last maxLog bytes of a large log as log.1 and empties it. Nodes append, so a running one goes on at
// the new end.
func (s Site) turnLog(name string) error {
	path := s.logFile(name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() <= maxLog {
		return nil
	}
	if err == nil {
		err = copyTail(path, path+".1", info.Size()-maxLog)
	}
	if err == nil {
		err = os.Truncate(path, 0)
	}
	if err != nil {
		return fmt.Errorf("turn log of %s: %w", name, err)
	}
	return nil
}

func copyTail(from, to string, offset int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(in, offset, maxLog))
	return errors.Join(err, out.Close())
}

// logTail returns the last lines that a node wrote since offset bytes into its log.
func (s Site) logTail(name string, offset int64) string {
	const lines, window = 15, 8 << 10
	f, err := os.Open(s.logFile(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() <= offset {
		return "(it wrote nothing)"
	}
	offset = max(offset, info.Size()-window)
	data, err := io.ReadAll(io.NewSectionReader(f, offset, window))
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
