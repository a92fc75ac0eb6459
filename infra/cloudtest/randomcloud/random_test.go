package randomcloud

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

func drive(t *testing.T) *driver.Driver {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	d, err := driver.Serve(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func create(t *testing.T, d *driver.Driver, kind, name string, inputs map[string]any) *driver.Resource {
	t.Helper()
	r, err := d.Create("random:index/random"+kind+":Random"+strings.ToUpper(kind[:1])+kind[1:], name, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBytesComeInBothEncodingsAndSecret(t *testing.T) {
	r := create(t, drive(t), "Bytes", "key", map[string]any{"length": 32})
	a, err1 := base64.StdEncoding.DecodeString(r.Out("base64"))
	b, err2 := hex.DecodeString(r.Out("hex"))
	if err1 != nil || err2 != nil || len(a) != 32 || string(a) != string(b) {
		t.Errorf("base64 %q (%v), hex %q (%v)", r.Out("base64"), err1, r.Out("hex"), err2)
	}
	if !r.Outputs["base64"].IsSecret() || !r.Outputs["hex"].IsSecret() {
		t.Error("they are not marked secret")
	}
}

func TestAnIDHasItsPrefixInEveryForm(t *testing.T) {
	r := create(t, drive(t), "Id", "id", map[string]any{"byteLength": 4, "prefix": "p-"})
	for _, form := range []string{"hex", "dec", "b64Std", "b64Url"} {
		if !strings.HasPrefix(r.Out(form), "p-") {
			t.Errorf("%s is %q", form, r.Out(form))
		}
	}
	if len(r.Out("hex")) != 2+8 || r.Out("b64Url") != "p-"+r.ID {
		t.Errorf("outputs %v", r.Outputs)
	}
}

func TestAPasswordHashIsThePasswords(t *testing.T) {
	r := create(t, drive(t), "Password", "pw", map[string]any{"length": 20})
	if err := bcrypt.CompareHashAndPassword([]byte(r.Out("bcryptHash")), []byte(r.Out("result"))); err != nil {
		t.Error(err)
	}
}

func TestKeepersForceANewResult(t *testing.T) {
	d := drive(t)
	inputs := func(v string) map[string]any { return map[string]any{"length": 8, "keepers": map[string]any{"v": v}} }
	before := create(t, d, "Bytes", "key", inputs("1")).Out("hex")
	if _, plan, err := d.Apply("key", inputs("1")); err != nil || plan != driver.Same {
		t.Errorf("same keepers: %s, %v", plan, err)
	}
	after, plan, err := d.Apply("key", inputs("2"))
	if err != nil || plan != driver.Replace || after.Out("hex") == before {
		t.Errorf("other keepers: %s, %v, result %q after %q", plan, err, after.Out("hex"), before)
	}
}

func TestImpossibleWordsAreRefused(t *testing.T) {
	d := drive(t)
	for _, in := range []map[string]any{
		{"length": 0}, {"length": 2, "minUpper": 2, "minLower": 1}, {},
		{"length": 4, "upper": false, "lower": false, "numeric": false, "special": false},
	} {
		if _, err := d.Check("random:index/randomString:RandomString", "s", in, nil); err == nil {
			t.Errorf("%v is accepted", in)
		}
	}
}

func TestWordsKeepToTheirAlphabets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := cloud.Values(map[string]any{
			"length": rapid.IntRange(12, 40).Draw(t, "length"), "lower": true,
			"upper": rapid.Bool().Draw(t, "upper"), "special": rapid.Bool().Draw(t, "special"),
			"numeric":    rapid.Bool().Draw(t, "numeric"),
			"minUpper":   rapid.IntRange(0, 4).Draw(t, "minUpper"),
			"minNumeric": rapid.IntRange(0, 4).Draw(t, "minNumeric"),
		})
		w, err := word(in)
		if err != nil || len(w) != cloud.Int(in, "length") || !looks(w, in) {
			t.Fatalf("word %q (%v) of %v", w, err, in)
		}
	})
}

// looks reports whether a word has only letters of the alphabets that its inputs allow.
func looks(w string, in resource.PropertyMap) bool {
	for _, k := range classes(in) {
		have := 0
		for _, r := range w {
			if strings.ContainsRune(k.letters, r) {
				have++
			}
		}
		if !k.allowed && have > cloud.Int(in, k.minimum) || have < cloud.Int(in, k.minimum) {
			return false
		}
	}
	return true
}
