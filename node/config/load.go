package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
)

// Sources are where Load looks. The zero value means defaults and the usual
// places for a file: no environment, no flags.
type Sources struct {
	// Path is the YAML file named on the command line; it must exist. Empty:
	// HYPERCACHE_CONFIG from Env, then the first of Search that exists.
	Path string
	// Env is the environment as os.Environ gives it. Empty values count as unset.
	Env []string
	// Flags are values from the command line by key, like "server.node_id".
	Flags map[string]string
	// Search replaces SearchPaths; an empty non-nil slice means no file.
	Search []string
	// Addresses lists the machine's own addresses, for the default of
	// advertise_addr. Nil: asks the system.
	Addresses func() []netip.Addr
}

// SearchPaths are tried in order when no file is named.
var SearchPaths = []string{"/config/config.yaml", "/etc/hypercache/config.yaml"}

// maxFileBytes bounds a configuration file: a wrong path, say to a data file,
// must not be read whole.
const maxFileBytes = 1 << 20

// Load lays defaults, file, environment and flags over each other, checks the
// result and fills in what is derived. Its error is a *FileError when the file
// cannot be read, and an *InvalidError that lists every problem when the content
// cannot be right.
func Load(src Sources) (Config, error) {
	path, data, err := readFile(src)
	if err != nil {
		return Config{}, err
	}
	l := &loader{k: koanf.New("."), origin: map[string]string{}, text: map[string]bool{}}
	if data != nil {
		parser := &yamlParser{file: path}
		if err := l.k.Load(rawbytes.Provider(data), parser); err != nil {
			return Config{}, &InvalidError{[]Problem{{Origin: path, Message: err.Error()}}}
		}
		l.problems = append(l.problems, parser.problems...)
		l.origin = parser.origin
	}
	l.environment(src.Env)
	l.flags(src.Flags)

	cfg := Default()
	cfg.File = path
	if l.err != nil {
		return Config{}, fmt.Errorf("merge configuration: %w", l.err)
	}
	l.decode(&cfg)
	l.problems = append(l.problems, cfg.problems(l.origin)...)
	if len(l.problems) > 0 {
		return Config{}, &InvalidError{l.problems}
	}
	addresses := src.Addresses
	if addresses == nil {
		addresses = systemAddresses
	}
	cfg.derive(addresses)
	return cfg, nil
}

// FileError says that a configuration file cannot be read; the cause names it.
type FileError struct{ Err error }

func (e *FileError) Error() string { return "read configuration: " + e.Err.Error() }

// Unwrap gives the cause, often fs.ErrNotExist.
func (e *FileError) Unwrap() error { return e.Err }

// readFile finds and reads the file; no file at all is fine unless one was named.
func readFile(src Sources) (string, []byte, error) {
	named := src.Path
	if named == "" {
		for _, kv := range src.Env {
			if v, ok := strings.CutPrefix(kv, envPrefix+"CONFIG="); ok {
				named = v
			}
		}
	}
	if named != "" {
		data, err := readBounded(named)
		if err != nil {
			return "", nil, &FileError{err}
		}
		return named, data, nil
	}
	search := src.Search
	if search == nil {
		search = SearchPaths
	}
	for _, path := range search {
		data, err := readBounded(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			// A file that is there and cannot be read was meant to be used.
			return "", nil, &FileError{err}
		}
		return path, data, nil
	}
	return "", nil, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read-only
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than 1 MiB, so it is not a configuration file", path)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// loader gathers the layers in k and remembers for each key who set it last.
type loader struct {
	k        *koanf.Koanf
	origin   map[string]string
	text     map[string]bool // keys whose value came from the environment or a flag
	problems []Problem
	err      error
}

func (l *loader) put(path, value, origin string) {
	if err := l.k.Load(confmap.Provider(map[string]any{path: value}, "."), nil); err != nil {
		l.err = errors.Join(l.err, err)
	}
	l.origin[path] = origin
	l.text[path] = true
}

// shortEnv are the names that containers are given; the long form of a key wins.
var shortEnv = []struct {
	name string
	keys []string
}{
	{"NODE_ID", []string{"server.node_id"}},
	{"BIND_ADDR", []string{"network.resp_bind_addr", "network.http_bind_addr"}},
	{"ADVERTISE_ADDR", []string{"network.advertise_addr"}},
	{"SEED_NODES", []string{"cluster.seeds"}},
}

func (l *loader) environment(env []string) {
	values := map[string]string{}
	for _, kv := range env {
		if name, value, ok := strings.Cut(kv, "="); ok && value != "" {
			values[name] = value
		}
	}
	for _, short := range shortEnv {
		if v, ok := values[short.name]; ok {
			for _, key := range short.keys {
				l.put(key, v, "environment "+short.name)
			}
		}
	}
	for _, f := range schema {
		if v, ok := values[f.Env]; ok {
			l.put(f.Path, v, "environment "+f.Env)
		}
	}
	for alias, path := range aliases {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(alias, ".", "_"))
		if v, ok := values[name]; ok {
			l.put(path, v, "environment "+name)
		}
	}
	l.unknownEnvironment(values)
}

// unknownEnvironment refuses mistyped names. Only names that begin like one of
// our sections count: Kubernetes gives every container variables named after
// the services around it, and ours may well be called hypercache-service.
func (l *loader) unknownEnvironment(values map[string]string) {
	known := map[string]bool{envPrefix + "CONFIG": true}
	for _, f := range schema {
		known[f.Env] = true
	}
	for alias := range aliases {
		known[envPrefix+strings.ToUpper(strings.ReplaceAll(alias, ".", "_"))] = true
	}
	var unknown []string
	for name := range values {
		if !known[name] && !isServiceLink(name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		for _, section := range sections() {
			key, ok := strings.CutPrefix(rest, strings.ToUpper(section)+"_")
			if !ok {
				continue
			}
			message := "there is no such key"
			if guess := didYouMean(section + "." + strings.ToLower(key)); guess != "" {
				message += "; did you mean " + envPrefix + strings.ToUpper(strings.ReplaceAll(guess, ".", "_")) + "?"
			}
			l.problems = append(l.problems, Problem{Origin: "environment " + name, Message: message})
		}
	}
}

// isServiceLink recognises the variables that Kubernetes and Docker links make
// for a service: X_SERVICE_HOST, X_SERVICE_PORT[_NAME], X_PORT, X_PORT_80_TCP[_…].
func isServiceLink(name string) bool {
	if strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") || strings.HasSuffix(name, "_PORT") {
		return true
	}
	_, after, ok := strings.Cut(name, "_PORT_")
	return ok && (strings.Contains(after, "_TCP") || strings.Contains(after, "_UDP"))
}

func (l *loader) flags(flags map[string]string) {
	paths := make([]string, 0, len(flags))
	for path := range flags {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		if _, ok := schemaByPath[path]; !ok {
			l.problems = append(l.problems, Problem{Path: path, Origin: "flag", Message: unknownKey(path)})
			continue
		}
		l.put(path, flags[path], "flag")
	}
}

// decode writes the merged values into cfg.
func (l *loader) decode(cfg *Config) {
	for _, f := range schema {
		raw := l.k.Get(f.Path)
		if raw == nil {
			continue
		}
		if err := f.set(cfg, raw, l.text[f.Path]); err != nil {
			l.problems = append(l.problems, Problem{Path: f.Path, Origin: l.origin[f.Path], Message: err.Error()})
			// The default stands in, so that one mistake is not reported twice.
			def := Default()
			f.of(cfg).Set(f.of(&def))
		}
	}
}

func unknownKey(path string) string {
	if guess := didYouMean(path); guess != "" {
		return "there is no such key; did you mean " + guess + "?"
	}
	return "there is no such key"
}
