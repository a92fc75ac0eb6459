package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with a configuration.
type Problem struct {
	Path    string // the key, like "network.resp_port"; empty when it is about the file as a whole
	Origin  string // where the value came from: "node.yaml:12", "environment NODE_ID", "flag --node-id", or empty for a default
	Message string // what is wrong and what would be right
}

func (p Problem) String() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Origin != "" {
		s = p.Origin + ": " + s
	}
	return s
}

// InvalidError lists everything that is wrong with a configuration.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	var b strings.Builder
	if len(e.Problems) == 1 {
		b.WriteString("the configuration has 1 problem")
	} else {
		fmt.Fprintf(&b, "the configuration has %d problems", len(e.Problems))
	}
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// didYouMean finds the key somebody probably had in mind, or "".
func didYouMean(path string) string {
	section, name, dotted := strings.Cut(path, ".")
	if !dotted {
		if s := nearest(section, sections()); s != "" {
			return s
		}
		// A key of a section written at the top level.
		return withName(section)
	}
	var inSection []string
	for _, f := range schema {
		if s, n, _ := strings.Cut(f.Path, "."); s == section {
			inSection = append(inSection, n)
		}
	}
	if n := nearest(name, inSection); n != "" {
		return section + "." + n
	}
	if len(inSection) == 0 {
		if s := nearest(section, sections()); s != "" && s != section {
			return didYouMeanIn(s, name)
		}
	}
	return withName(name)
}

func didYouMeanIn(section, name string) string {
	if _, ok := schemaByPath[section+"."+name]; ok {
		return section + "." + name
	}
	return section
}

// withName is the only key whose last part is name, in whatever section.
func withName(name string) string {
	found := ""
	for _, f := range schema {
		if _, n, _ := strings.Cut(f.Path, "."); n == name {
			if found != "" {
				return ""
			}
			found = f.Path
		}
	}
	return found
}

// nearest is the candidate that takes the fewest edits, if that is few.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, c := range candidates {
		if len(c)-len(word) > 8 || len(word)-len(c) > 8 {
			continue
		}
		if d := editDistance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
		// "tls" for "tls_enabled", "seed" for "seeds".
		if len(word) >= 3 && strings.HasPrefix(c, word) && bestDistance > 1 {
			best, bestDistance = c, 1
		}
	}
	return best
}

// editDistance is Levenshtein's, on bytes, with two rows.
func editDistance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j]+cost, prev[j+1]+1, row[j]+1)
		}
		prev = row
	}
	return prev[len(b)]
}
