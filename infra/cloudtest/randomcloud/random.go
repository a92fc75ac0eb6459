// Package randomcloud stands in for Pulumi's `random` provider, with real randomness: RandomId, RandomBytes,
// RandomPassword and RandomString.
//
// As with the true one, nothing of a resource can change without a replacement; keepers exist to force one. Results
// are known only to Pulumi's state: this package keeps nothing.
package randomcloud

import (
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"golang.org/x/crypto/bcrypt"

	"hypercache/infra/cloudtest/cloud"
)

//go:generate go run hypercache/infra/cloudtest/cloud/shapegen github.com/pulumi/pulumi-random/sdk/v4
//go:embed shapes.json
var shapes []byte

// The alphabets of passwords, as the true provider has them.
const (
	lower    = "abcdefghijklmnopqrstuvwxyz"
	upper    = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
	specials = "!@#$%&*()-_=+[]{}<>:?"
)

// bcryptLimit is how much of a password bcrypt takes.
const bcryptLimit = 72

// New returns the provider.
func New() (*cloud.Provider, error) {
	s, err := cloud.ParseShapes(shapes)
	if err != nil {
		return nil, err
	}
	words := []string{"keepers", "length", "lower", "minLower", "minNumeric", "minSpecial", "minUpper", "numeric",
		"number", "overrideSpecial", "special", "upper"}
	return &cloud.Provider{
		Name: "random", Shapes: s,
		Kinds: map[string]*cloud.Kind{
			"random:index/randomId:RandomId": {
				Check: atLeastOne("byteLength"), Create: createID,
				Replace: []string{"byteLength", "keepers", "prefix"},
			},
			"random:index/randomBytes:RandomBytes": {
				Check: atLeastOne("length"), Create: createBytes, Replace: []string{"length", "keepers"},
				Secret: []string{"base64", "hex"},
			},
			"random:index/randomPassword:RandomPassword": {
				Check: checkWord, Create: createPassword, Replace: words, Secret: []string{"result", "bcryptHash"},
			},
			"random:index/randomString:RandomString": {Check: checkWord, Create: createString, Replace: words},
		},
	}, nil
}

func atLeastOne(property string) func(*cloud.Call) []cloud.Problem {
	return func(c *cloud.Call) []cloud.Problem {
		if n := cloud.Int(c.Inputs, property); cloud.Known(c.Inputs, property) && n < 1 {
			return []cloud.Problem{cloud.Problemf(property, "expected %s to be at least (1), got %d", property, n)}
		}
		return nil
	}
}

func draw(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it aborts the program instead
	return b
}

func createID(c *cloud.Call) (string, resource.PropertyMap, error) {
	b, prefix := draw(cloud.Int(c.Inputs, "byteLength")), cloud.Str(c.Inputs, "prefix")
	id := base64.RawURLEncoding.EncodeToString(b)
	return id, cloud.Values(map[string]any{
		"b64Url": prefix + id, "b64Std": prefix + base64.StdEncoding.EncodeToString(b),
		"hex": prefix + hex.EncodeToString(b), "dec": prefix + new(big.Int).SetBytes(b).String(),
	}), nil
}

func createBytes(c *cloud.Call) (string, resource.PropertyMap, error) {
	b := draw(cloud.Int(c.Inputs, "length"))
	return "none", cloud.Values(map[string]any{"base64": base64.StdEncoding.EncodeToString(b),
		"hex": hex.EncodeToString(b)}), nil
}

// class is one alphabet of a word and how many letters of it there must be.
type class struct {
	letters, minimum string
	allowed          bool
}

func classes(in resource.PropertyMap) []class {
	special := specials
	if cloud.Str(in, "overrideSpecial") != "" {
		special = cloud.Str(in, "overrideSpecial")
	}
	numeric := cloud.Bool(in, "numeric", cloud.Bool(in, "number", true))
	return []class{
		{lower, "minLower", cloud.Bool(in, "lower", true)}, {upper, "minUpper", cloud.Bool(in, "upper", true)},
		{digits, "minNumeric", numeric}, {special, "minSpecial", cloud.Bool(in, "special", true)},
	}
}

func checkWord(c *cloud.Call) []cloud.Problem {
	if !cloud.Known(c.Inputs, "length") {
		return nil
	}
	problems := atLeastOne("length")(c)
	least, any := 0, false
	for _, k := range classes(c.Inputs) {
		least += cloud.Int(c.Inputs, k.minimum)
		any = any || k.allowed
	}
	if n := cloud.Int(c.Inputs, "length"); n < least {
		problems = append(problems, cloud.Problemf("length",
			"length %d is less than minLower + minUpper + minNumeric + minSpecial, %d", n, least))
	}
	if !any {
		problems = append(problems, cloud.Problemf("", "at least one of lower, upper, numeric, special must be true"))
	}
	return problems
}

// pick is a letter of the alphabet, each as likely as any other.
func pick(alphabet string) (byte, error) {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
	if err != nil {
		return 0, fmt.Errorf("draw a letter: %w", err)
	}
	return alphabet[i.Int64()], nil
}

func word(in resource.PropertyMap) (string, error) {
	var all string
	var out []byte
	for _, k := range classes(in) {
		if k.allowed {
			all += k.letters
		}
		for range cloud.Int(in, k.minimum) {
			b, err := pick(k.letters)
			if err != nil {
				return "", err
			}
			out = append(out, b)
		}
	}
	for len(out) < cloud.Int(in, "length") {
		b, err := pick(all)
		if err != nil {
			return "", err
		}
		out = append(out, b)
	}
	for i := len(out) - 1; i > 0; i-- {
		j, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
		if err != nil {
			return "", fmt.Errorf("shuffle: %w", err)
		}
		out[i], out[j.Int64()] = out[j.Int64()], out[i]
	}
	return string(out), nil
}

func createPassword(c *cloud.Call) (string, resource.PropertyMap, error) {
	w, err := word(c.Inputs)
	if err != nil {
		return "", nil, err
	}
	head := w[:min(len(w), bcryptLimit)]
	hash, err := bcrypt.GenerateFromPassword([]byte(head), bcrypt.DefaultCost)
	if err != nil {
		return "", nil, fmt.Errorf("hash password: %w", err)
	}
	return "none", cloud.Values(map[string]any{"result": w, "bcryptHash": string(hash)}), nil
}

func createString(c *cloud.Call) (string, resource.PropertyMap, error) {
	w, err := word(c.Inputs)
	return w, cloud.Values(map[string]any{"result": w}), err
}
