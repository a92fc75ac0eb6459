package cloud

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// change is one property that differs: path for people and Pulumi, with list indexes, and plain, without them, for
// rules.
type change struct {
	path, plain string
	kind        pulumirpc.PropertyDiff_Kind
}

// changes are the leaves in which two sets of inputs differ. A value that is not known yet differs from any.
func (k *Kind) changes(older, newer resource.PropertyMap) []change {
	d := differ{same: k.Same}
	d.object("", "", older, newer)
	return d.found
}

type differ struct {
	same  func(path string, older, newer resource.PropertyValue) bool
	found []change
}

func (d *differ) object(path, plain string, older, newer resource.PropertyMap) {
	keys := map[resource.PropertyKey]bool{}
	for key := range older {
		keys[key] = true
	}
	for key := range newer {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if strings.HasPrefix(string(key), "__") {
			continue
		}
		at := resource.PropertyPath{string(key)}.String()
		if path != "" && !strings.HasPrefix(at, "[") {
			at = "." + at
		}
		d.value(path+at, join(plain, string(key)), older[key], newer[key])
	}
}

func (d *differ) value(path, plain string, older, newer resource.PropertyValue) {
	switch {
	case older.IsNull() && newer.IsNull():
	case older.IsNull() || newer.IsNull():
		d.oneSided(path, plain, older, newer)
	case older.IsObject() && newer.IsObject():
		d.object(path, plain, older.ObjectValue(), newer.ObjectValue())
	case older.IsArray() && newer.IsArray():
		a, b := older.ArrayValue(), newer.ArrayValue()
		for i := range max(len(a), len(b)) {
			d.value(path+"["+strconv.Itoa(i)+"]", plain, at(a, i), at(b, i))
		}
	case older.DeepEqualsIncludeUnknowns(newer) && !newer.ContainsUnknowns():
	case d.same != nil && !newer.ContainsUnknowns() && d.same(plain, older, newer):
	default:
		d.found = append(d.found, change{path, plain, pulumirpc.PropertyDiff_UPDATE})
	}
}

// oneSided descends into what is new or gone, so that a rule about something below it still counts; what is empty is
// no difference.
func (d *differ) oneSided(path, plain string, older, newer resource.PropertyValue) {
	there, kind := newer, pulumirpc.PropertyDiff_ADD
	if newer.IsNull() {
		there, kind = older, pulumirpc.PropertyDiff_DELETE
	}
	switch {
	case there.IsObject() && kind == pulumirpc.PropertyDiff_ADD:
		d.object(path, plain, nil, there.ObjectValue())
	case there.IsObject():
		d.object(path, plain, there.ObjectValue(), nil)
	case there.IsArray():
		for i, e := range there.ArrayValue() {
			if kind == pulumirpc.PropertyDiff_ADD {
				d.value(path+"["+strconv.Itoa(i)+"]", plain, resource.NewNullProperty(), e)
			} else {
				d.value(path+"["+strconv.Itoa(i)+"]", plain, e, resource.NewNullProperty())
			}
		}
	case d.same != nil && !there.IsComputed() && d.same(plain, older, newer):
	default:
		d.found = append(d.found, change{path, plain, kind})
	}
}

func at(list []resource.PropertyValue, i int) resource.PropertyValue {
	if i < len(list) {
		return list[i]
	}
	return resource.NewNullProperty()
}

// covers reports whether a rule's path is the changed one or above it.
func covers(rules []string, plain string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool {
		return plain == rule || strings.HasPrefix(plain, rule+".")
	})
}

// response tells the engine what changed and what that takes.
func (k *Kind) response(c *Call, found []change) *pulumirpc.DiffResponse {
	resp := &pulumirpc.DiffResponse{
		Changes: pulumirpc.DiffResponse_DIFF_NONE, HasDetailedDiff: true,
		DetailedDiff: map[string]*pulumirpc.PropertyDiff{},
	}
	for _, ch := range found {
		resp.Changes = pulumirpc.DiffResponse_DIFF_SOME
		top := topKey(ch.plain)
		if !slices.Contains(resp.Diffs, top) {
			resp.Diffs = append(resp.Diffs, top)
		}
		kind := ch.kind
		if covers(k.Replace, ch.plain) || k.ReplaceIf != nil && k.ReplaceIf(c, ch.plain) {
			kind++ // each kind's replacing variant follows it
			if !slices.Contains(resp.Replaces, top) {
				resp.Replaces = append(resp.Replaces, top)
			}
		}
		resp.DetailedDiff[ch.path] = &pulumirpc.PropertyDiff{Kind: kind, InputDiff: true}
	}
	return resp
}

func topKey(plain string) string {
	top, _, _ := strings.Cut(plain, ".")
	return top
}
