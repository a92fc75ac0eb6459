package config

import (
	"fmt"
	"log/slog"
	"strings"
)

// YAML writes the whole configuration as a file that Load reads back, secrets
// included.
func (c Config) YAML() string { return c.yaml(false) }

// String is YAML with secrets replaced, fit for logs.
func (c Config) String() string { return c.yaml(true) }

// GoString keeps secrets out of %#v.
func (c Config) GoString() string { return c.String() }

// LogValue keeps secrets out of structured logs.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, f := range schema {
		attrs = append(attrs, slog.String(f.Path, f.shown(&c, true)))
	}
	return slog.GroupValue(attrs...)
}

func (f field) shown(c *Config, redact bool) string {
	text := render(f.of(c))
	if redact && f.Secret && text != `""` {
		return `"(secret)"`
	}
	return text
}

func (c Config) yaml(redact bool) string {
	var b strings.Builder
	last := ""
	for _, f := range schema {
		section, name, _ := strings.Cut(f.Path, ".")
		if section != last {
			fmt.Fprintf(&b, "%s:\n", section)
			last = section
		}
		fmt.Fprintf(&b, "  %s: %s\n", name, f.shown(&c, redact))
	}
	return b.String()
}
