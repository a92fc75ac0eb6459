package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Key describes one key of the configuration.
type Key struct {
	Path    string // like "network.resp_port"
	Env     string // like "HYPERCACHE_NETWORK_RESP_PORT"
	Default string // as it would be written in a file
	Secret  bool   // its value must not be shown
}

// field is a Key together with the way to its value in a Config.
type field struct {
	Key
	index []int
}

// schema lists every key in the order of the struct; schemaByPath indexes it.
// Both are read-only after package initialisation.
var schema, schemaByPath = buildSchema()

// aliases are other spellings that files may use.
var aliases = map[string]string{"cluster.seed_nodes": "cluster.seeds"}

const envPrefix = "HYPERCACHE_"

func buildSchema() ([]field, map[string]field) {
	var fields []field
	byPath := map[string]field{}
	defaults := Default()
	root := reflect.TypeFor[Config]()
	for i := range root.NumField() {
		section := root.Field(i).Tag.Get("key")
		if section == "-" {
			continue
		}
		for j := range root.Field(i).Type.NumField() {
			name, opt, _ := strings.Cut(root.Field(i).Type.Field(j).Tag.Get("key"), ",")
			f := field{index: []int{i, j}}
			f.Path = section + "." + name
			f.Env = envPrefix + strings.ToUpper(section+"_"+name)
			f.Secret = opt == "secret"
			f.Default = render(f.of(&defaults))
			fields = append(fields, f)
			byPath[f.Path] = f
		}
	}
	return fields, byPath
}

// Keys lists every key, in the order the reference file has them.
func Keys() []Key {
	keys := make([]Key, len(schema))
	for i, f := range schema {
		keys[i] = f.Key
	}
	return keys
}

// Sections lists the top-level names.
func sections() []string {
	var out []string
	for _, f := range schema {
		s, _, _ := strings.Cut(f.Path, ".")
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return out
}

func (f field) of(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(f.index) }

// render writes a value the way a YAML file would hold it.
func render(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return quote(x)
	case []string:
		items := make([]string, len(x))
		for i, s := range x {
			items[i] = quote(s)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case time.Duration:
		return shortDuration(x)
	default:
		return fmt.Sprint(x)
	}
}

// quote leaves plain words bare, as people write them.
func quote(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == ""
	switch _, err := strconv.ParseFloat(s, 64); {
	case !plain, err == nil, strings.ContainsAny(s[:1], "0123456789-."):
		return strconv.Quote(s)
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return strconv.Quote(s)
	}
	return s
}

// shortDuration is Duration.String without the zero units: 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// set converts raw, a value as YAML or a string source gives it, and stores it.
// fromText says that raw came from the environment or a flag, where everything
// is text. The error says what would be right.
func (f field) set(c *Config, raw any, fromText bool) error {
	v := f.of(c)
	text, isText := raw.(string)
	switch v.Interface().(type) {
	case string:
		if !isText {
			return wrongType(raw, "text; quote it: "+strconv.Quote(fmt.Sprint(raw)))
		}
		v.SetString(text)
	case []string:
		list, err := toList(raw)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(list))
	case bool:
		b, err := toBool(raw)
		if err != nil {
			return err
		}
		v.SetBool(b)
	case int:
		n, ok := toInt(raw, fromText)
		if !ok || n != int64(int(n)) {
			return wrongType(raw, "a whole number, like "+f.example("8080"))
		}
		v.SetInt(n)
	case Size:
		if isText {
			n, err := ParseSize(text)
			v.SetInt(int64(n))
			return err
		}
		n, ok := toInt(raw, false)
		if !ok {
			return wrongType(raw, "a size, like 512MB, or a number of bytes")
		}
		v.SetInt(n)
	case time.Duration:
		if n, ok := toInt(raw, fromText); ok && n == 0 {
			v.SetInt(0)
			return nil
		}
		d, err := time.ParseDuration(text)
		if !isText || err != nil {
			return wrongType(raw, "a duration with its unit, like "+f.example("30s"))
		}
		v.SetInt(int64(d))
	default:
		panic("config: no conversion for " + f.Path)
	}
	return nil
}

// example is the default of the key where that says something.
func (f field) example(otherwise string) string {
	if f.Default == "0" || f.Default == "0s" || f.Default == `""` {
		return otherwise
	}
	return f.Default
}

func wrongType(raw any, want string) error {
	return fmt.Errorf("is %s; want %s", describe(raw), want)
}

// describe names a raw value in a message, without pouring a whole file into it.
func describe(raw any) string {
	const limit = 60
	var s string
	switch x := raw.(type) {
	case string:
		s = x
		if len(s) > limit {
			s = s[:limit] + "…"
		}
		return "the text " + strconv.Quote(s)
	case bool:
		return fmt.Sprintf("the truth value %t", x)
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "a block of keys"
	case nil:
		return "empty"
	default:
		s = fmt.Sprint(x)
		if len(s) > limit {
			s = s[:limit] + "…"
		}
		return "the number " + s
	}
}

func toInt(raw any, fromText bool) (int64, bool) {
	switch x := raw.(type) {
	case int:
		return int64(x), true
	case int64:
		return x, true
	case uint64:
		return int64(x), x <= math.MaxInt64
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(x), 10, 64)
		return n, fromText && err == nil
	}
	return 0, false
}

func toBool(raw any) (bool, error) {
	switch x := raw.(type) {
	case bool:
		return x, nil
	case string:
		switch strings.ToLower(strings.TrimSpace(x)) {
		case "true", "yes", "on", "1":
			return true, nil
		case "false", "no", "off", "0":
			return false, nil
		}
	}
	return false, wrongType(raw, "true or false")
}

// toList takes a YAML list of texts, or one text with commas as the environment has it.
func toList(raw any) ([]string, error) {
	var out []string
	switch x := raw.(type) {
	case string:
		for item := range strings.SplitSeq(x, ",") {
			if item = strings.TrimSpace(item); item != "" {
				out = append(out, item)
			}
		}
		return out, nil
	case []any:
		for i, item := range x {
			s, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("item %d %w", i+1, wrongType(item, "text"))
			}
			out = append(out, strings.TrimSpace(s))
		}
		return out, nil
	}
	return nil, wrongType(raw, "a list")
}
