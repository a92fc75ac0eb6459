package azurecloud

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// books are one kind's rules. Everything is a PUT in Azure: creating and updating share them.
type books struct {
	token, kind string
	// path are the inputs with the names of its parents and, last, its own. A literal part of the id begins with "=".
	path []string
	// rule is what its own name may be. chosen is the name that the provider makes of Pulumi's; nil: that one and
	// random digits.
	rule   nameRule
	chosen func(name string) string
	// located says that it has a location; global that this can only be "global".
	located, global bool
	// mostTags is how many tags it takes; 0: it has none.
	mostTags int

	// check adds to what planning finds.
	check func(call *cloud.Call) []cloud.Problem
	// put refuses, or fills it.out; it has the new inputs, old is what was there or nil. c.mu is held.
	put func(call *cloud.Call, it, old *item) error
	// made and changed do what takes long, after the books have it; c.mu is not held. An error of made takes it out of
	// the books again unless keep.
	made    func(ctx context.Context, it *item) error
	changed func(ctx context.Context, it, old *item) error
	keep    bool
	// remove refuses a deletion; c.mu is held. undo does what takes long, before the books forget it; c.mu is not held.
	remove func(it *item) error
	undo   func(ctx context.Context, it *item) error
	// refilter says that packet filters hang on it.
	refilter bool
	// read reports on a thing beyond its outputs, or that it is gone; nil: nothing more.
	read func(it *item) resource.PropertyMap

	replace []string
	secret  []string
}

// kindOf makes the engine's Kind of books.
func (c *Cloud) kindOf(b *books) *cloud.Kind {
	k := &cloud.Kind{
		Check:  func(call *cloud.Call) []cloud.Problem { return c.check(b, call) },
		Create: func(call *cloud.Call) (string, resource.PropertyMap, error) { return c.create(b, call) },
		Read:   func(call *cloud.Call) (resource.PropertyMap, bool, error) { return c.read(b, call) },
		Update: func(call *cloud.Call) (resource.PropertyMap, error) { return c.update(b, call) },
		Delete: func(call *cloud.Call) error { return c.erase(call.Ctx, b, call.ID) },
		Same:   sameLocation, Secret: b.secret, Replace: slices.Clone(b.replace),
	}
	for _, p := range b.path {
		if !strings.HasPrefix(p, "=") {
			k.Replace = append(k.Replace, p)
		}
	}
	if b.kind != kindGroup {
		k.Replace = append(k.Replace, "resourceGroupName")
	}
	if own := b.path[len(b.path)-1]; b.chosen == nil {
		k.Auto = &cloud.AutoName{Property: own, MaxLength: b.rule.most, Transform: b.rule.tame,
			Separator: cloud.NoSeparator}
	}
	return k
}

// sameLocation ignores how a location is written: "West Europe" is westeurope.
func sameLocation(path string, older, newer resource.PropertyValue) bool {
	return path == "location" && older.IsString() && newer.IsString() &&
		plainRegion(older.StringValue()) == plainRegion(newer.StringValue())
}

// check is what the provider finds out without asking Azure, and the inputs that it fills in.
func (c *Cloud) check(b *books, call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	own := resource.PropertyKey(b.path[len(b.path)-1])
	if _, ok := in[own]; !ok && b.chosen != nil {
		in[own] = resource.NewStringProperty(b.chosen(call.Name))
		if old, ok := call.OldInputs[own]; ok {
			in[own] = old
		}
	}
	var problems []cloud.Problem
	if cloud.Known(in, string(own)) {
		problems = b.rule.problems(string(own), cloud.Str(in, string(own)))
	}
	c.locate(b, call)
	if b.check != nil {
		problems = append(problems, b.check(call)...)
	}
	return problems
}

// locate fills in a location that the program does not give: the one it had, the configured one, or the resource
// group's.
func (c *Cloud) locate(b *books, call *cloud.Call) {
	if _, ok := call.Inputs["location"]; ok || !b.located || b.global {
		return
	}
	if old, ok := call.OldInputs["location"]; ok {
		call.Inputs["location"] = old
		return
	}
	if l := cloud.Str(call.Config, "location"); l != "" {
		call.Inputs["location"] = resource.NewStringProperty(l)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.get(kindGroup, c.groupID(cloud.Str(call.Inputs, "resourceGroupName"))); g != nil {
		call.Inputs["location"] = resource.NewStringProperty(g.location)
	}
}

func (c *Cloud) groupID(name string) string {
	return "/subscriptions/" + c.subscription + "/resourceGroups/" + name
}

// idOf is the id that the inputs make.
func (c *Cloud) idOf(b *books, in resource.PropertyMap) string {
	if b.kind == kindGroup {
		return c.groupID(cloud.Str(in, "resourceGroupName"))
	}
	if b.kind == kindAssignment {
		return "/" + strings.Trim(cloud.Str(in, "scope"), "/") + "/providers/" + kindAssignment + "/" + cloud.Str(in,
			"roleAssignmentName")
	}
	parts := strings.Split(b.kind, "/")
	id := c.groupID(cloud.Str(in, "resourceGroupName")) + "/providers/" + parts[0]
	for i, part := range parts[1:] {
		name := b.path[i]
		switch {
		case strings.HasPrefix(name, "="):
			name = name[1:]
		default:
			name = cloud.Str(in, name)
		}
		switch {
		case b.kind == kindRecord && part == "records":
			part = strings.ToUpper(cloud.Str(in, "recordType"))
		case b.kind == kindBlob && part == "blobs":
			name = url.PathEscape(name) // it may have slashes
		}
		id += "/" + part + "/" + name
	}
	return id
}

// draft is an item as the inputs want it, checked as far as every kind is; c.mu is held.
func (c *Cloud) draft(b *books, call *cloud.Call, old *item) (*item, error) {
	it := &item{kind: b.kind, pulumi: call.Name, in: withoutHidden(call.Inputs), out: resource.PropertyMap{}}
	if old != nil {
		it.id, it.name, it.location, it.seq = old.id, old.name, old.location, old.seq
		it.out, it.extra = maps.Clone(old.out), old.extra
	} else {
		it.id = c.idOf(b, call.Inputs)
		it.name = last(it.id)
		it.out["name"], it.out["type"] = resource.NewStringProperty(it.name), resource.NewStringProperty(b.kind)
	}
	steps := []func(*books, *item, *item) error{c.mayName, c.mayHome, c.mayLocate, mayTag}
	for _, step := range steps {
		if err := step(b, it, old); err != nil {
			return nil, err
		}
	}
	return it, nil
}

// withoutHidden are inputs without what only the provider keeps there.
func withoutHidden(in resource.PropertyMap) resource.PropertyMap {
	out := maps.Clone(in)
	maps.DeleteFunc(out,
		func(k resource.PropertyKey, _ resource.PropertyValue) bool { return strings.HasPrefix(string(k), "__") })
	return out
}

func (c *Cloud) mayName(b *books, it, old *item) error {
	if old != nil {
		return nil
	}
	if there := c.items[lower(it.id)]; there != nil {
		return fmt.Errorf("cannot create already existing resource '%s'", it.id)
	}
	if p := b.rule.problems("", it.name); len(p) > 0 {
		return badRequest("InvalidResourceName", "Resource name %s is invalid. %s", it.name, p[0].Reason)
	}
	return nil
}

// mayHome checks that what it is in exists.
func (c *Cloud) mayHome(b *books, it, _ *item) error {
	r, ok := parseID(it.id)
	if !ok || b.kind == kindGroup || b.kind == kindAssignment {
		return nil
	}
	if c.get(kindGroup, c.groupID(r.group)) == nil {
		return refuse(404, "ResourceGroupNotFound", "Resource group '%s' could not be found.", r.group)
	}
	parts := strings.Split(b.kind, "/")
	for n := 2; n < len(parts); n++ {
		kind := strings.Join(parts[:n], "/")
		if c.books[kind] == nil {
			continue // a literal part
		}
		id := parentID(it.id, len(parts)-n)
		if c.get(kind, id) == nil {
			return refuse(404, "ParentResourceNotFound", "Failed to perform 'write' on resource(s) of type '%s', "+
				"because the parent resource '%s' could not be found.", b.kind, id)
		}
	}
	return nil
}

// parentID is the id n levels up.
func parentID(id string, n int) string {
	for range 2 * n {
		id = id[:strings.LastIndex(id, "/")]
	}
	return id
}

func (c *Cloud) mayLocate(b *books, it, old *item) error {
	if !b.located {
		return nil
	}
	wanted := plainRegion(cloud.Str(it.in, "location"))
	switch {
	case wanted == "" && b.global:
		wanted = "global"
	case wanted == "":
		return badRequest("LocationRequired", "The location property is required for this definition.")
	case b.global && wanted != "global" || !b.global && regions()[wanted] == nil:
		return badRequest("LocationNotAvailableForResourceType", "The provided location '%s' is not available for "+
			"resource type '%s'.",
			cloud.Str(it.in, "location"), b.kind)
	}
	if old != nil && old.location != wanted {
		return conflict("InvalidResourceLocation", "The resource '%s' already exists in location '%s' in resource "+
			"group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new "+
			"resource name.", it.name, old.location, it.group(), wanted)
	}
	it.location = wanted
	it.out["location"] = it.in["location"]
	if it.out["location"].IsNull() {
		it.out["location"] = resource.NewStringProperty(wanted)
	}
	return nil
}

// mayTag checks tags against the limits of all resources.
func mayTag(b *books, it, _ *item) error {
	if b.mostTags == 0 {
		return nil
	}
	tags := cloud.StrMap(it.in, "tags")
	if len(tags) > b.mostTags {
		return badRequest("InvalidTags", "The number of tags (%d) is more than %d, the most for type '%s'.", len(tags),
			b.mostTags, b.kind)
	}
	seen := map[string]bool{}
	longest := 512
	if b.kind == kindAccount {
		longest = 128
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case key == "" || len(key) > longest || strings.ContainsAny(key, `<>%&\?/`) || seen[lower(key)]:
			return badRequest("InvalidTagNameCharacters", "The tag name '%s' is empty, longer than %d, there twice, "+
				"or has one of <>%%&\\?/.", key, longest)
		case len(tags[key]) > 256:
			return badRequest("InvalidTagValueLength", "Tag value too large. Following tag value '%s' exceeded the "+
				"maximum length. Maximum allowed length for tag value - '256' characters.", tags[key])
		}
		seen[lower(key)] = true
	}
	return nil
}

func (c *Cloud) create(b *books, call *cloud.Call) (string, resource.PropertyMap, error) {
	c.mu.Lock()
	it, err := c.draft(b, call, nil)
	if err == nil && b.put != nil {
		err = b.put(call, it, nil)
	}
	if err != nil {
		c.mu.Unlock()
		return "", nil, err
	}
	c.add(it)
	c.mu.Unlock()
	if b.made != nil {
		if err := b.made(call.Ctx, it); err != nil {
			if b.keep {
				return it.id, c.outputs(b, it), err
			}
			c.forget(it)
			return "", nil, err
		}
	}
	return it.id, c.outputs(b, it), c.settle(call.Ctx, b)
}

// add enters a new item; c.mu is held.
func (c *Cloud) add(it *item) {
	c.seq++
	it.seq = c.seq
	c.items[lower(it.id)] = it
}

func (c *Cloud) forget(it *item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.items, lower(it.id))
}

// settle brings packet filters up to date if the kind has to do with them.
func (c *Cloud) settle(ctx context.Context, b *books) error {
	if !b.refilter {
		return nil
	}
	return c.setFilters(ctx)
}

func (c *Cloud) outputs(b *books, it *item) resource.PropertyMap {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := maps.Clone(it.out)
	if b.read != nil {
		maps.Copy(out, b.read(it))
	}
	return out
}

func (c *Cloud) read(b *books, call *cloud.Call) (resource.PropertyMap, bool, error) {
	c.mu.Lock()
	it := c.get(b.kind, call.ID)
	c.mu.Unlock()
	if it == nil {
		return nil, false, nil
	}
	out := maps.Clone(it.in)
	maps.Copy(out, c.outputs(b, it))
	return out, true, nil
}

func (c *Cloud) update(b *books, call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	it := c.get(b.kind, call.ID)
	if it == nil {
		c.mu.Unlock()
		return nil, refuse(404, "ResourceNotFound", "The Resource '%s' was not found.", call.ID)
	}
	next, err := c.draft(b, call, it)
	if err == nil && b.put != nil {
		err = b.put(call, next, it)
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	old := *it
	*it = *next
	c.mu.Unlock()
	if b.changed != nil {
		if err := b.changed(call.Ctx, it, &old); err != nil {
			c.mu.Lock()
			*it = old
			c.mu.Unlock()
			return nil, err
		}
	}
	return c.outputs(b, it), c.settle(call.Ctx, b)
}

// erase deletes something and all that is in it. What is gone already is no error.
func (c *Cloud) erase(ctx context.Context, b *books, id string) error {
	c.mu.Lock()
	it := c.get(b.kind, id)
	if it == nil {
		c.mu.Unlock()
		return nil
	}
	if b.remove != nil {
		if err := b.remove(it); err != nil {
			c.mu.Unlock()
			return err
		}
	}
	it.gone = true
	c.mu.Unlock()
	if b.undo != nil {
		if err := b.undo(ctx, it); err != nil {
			c.mu.Lock()
			it.gone = false
			c.mu.Unlock()
			return err
		}
	}
	c.mu.Lock()
	maps.DeleteFunc(c.items, func(key string, _ *item) bool { return within(key, it.id) })
	c.mu.Unlock()
	return c.settle(ctx, b)
}
