package redisfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// parseManifest returns the names of the files that count, in order: the base, then the increments. Each line names a file,
// its number and its type: b, i, or h for what a rewrite has replaced.
func parseManifest(text string) (names []string, err error) {
	base, last := "", int64(-1)
	var increments []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, ownMark) {
			return nil, ErrOwn
		}
		if line == "" || line[0] == '#' {
			continue
		}
		name, seq, kind, err := manifestLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		switch {
		case kind == "b" && base == "":
			base = name
		case kind == "i" && seq > last:
			increments, last = append(increments, name), seq
		case kind == "h":
		default:
			return nil, fmt.Errorf("line %q is not where it belongs", line)
		}
	}
	if base != "" {
		names = append(names, base)
	}
	if names = append(names, increments...); len(names) == 0 {
		return nil, errors.New("names no file")
	}
	return names, nil
}

// manifestLine reads pairs of a word and its value. A name with blanks is quoted.
func manifestLine(line string) (name string, seq int64, kind string, err error) {
	rest, ok := strings.CutPrefix(line, "file ")
	if !ok {
		return "", 0, "", errors.New("does not begin with a file")
	}
	if strings.HasPrefix(rest, `"`) {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", 0, "", err
		}
		if name, err = strconv.Unquote(quoted); err != nil {
			return "", 0, "", err
		}
		rest = rest[len(quoted):]
	} else {
		name, rest, _ = strings.Cut(rest, " ")
	}
	if _, err := fmt.Sscanf(strings.TrimSpace(rest), "seq %d type %s", &seq, &kind); err != nil {
		return "", 0, "", err
	}
	if name == "" || strings.ContainsAny(name, "/\\") {
		return "", 0, "", errors.New("names no file of the directory")
	}
	return name, seq, kind, nil
}
