package acl

import (
	"slices"
	"testing"
)

func names(users []*User) (out []string) {
	for _, u := range users {
		out = append(out, u.Name())
	}
	slices.Sort(out)
	return out
}

func TestTheTableFollowsTheCluster(t *testing.T) {
	u := NewUsers(nil)
	if d := u.Default(); !d.Rights().Open() || !d.Rights().Everything() {
		t.Fatalf("default begins as %s", d.Rights())
	}
	if changed, unread := u.Set([]Entry{{"ann", "on nopass ~* resetchannels -@all +get"}, {"bob", "off resetchannels -@all"}}); len(changed) > 0 || unread != nil {
		t.Errorf("new users count as changed: %v, %v", names(changed), unread)
	}
	ann := u.Find("ann")
	if !slices.Equal(u.Names(), []string{"ann", "bob", "default"}) || u.Authenticate("ann", "x") != ann || u.Authenticate("bob", "x") != nil ||
		u.Authenticate("eve", "x") != nil {
		t.Errorf("the users are %q", u.Names())
	}
	changed, _ := u.Set([]Entry{{"ann", "off resetchannels -@all"}, {"default", "on resetchannels -@all"}})
	if !slices.Equal(names(changed), []string{"ann", "bob", "default"}) {
		t.Errorf("changed: %q", names(changed))
	}
	if u.Find("ann") != ann || ann.Rights().Accepts("x") || u.Default().Rights().Open() {
		t.Error("a change made another user, or none")
	}
	bob := changed[slices.IndexFunc(changed, func(u *User) bool { return u.Name() == "bob" })]
	if !bob.Gone() || bob.Rights().String() != None().String() {
		t.Errorf("a deleted user keeps %s", bob.Rights())
	}
	changed, _ = u.Set(nil)
	if !slices.Equal(names(changed), []string{"ann", "default"}) || !u.Default().Rights().Open() {
		t.Errorf("without entries default is %s; changed: %q", u.Default().Rights(), names(changed))
	}
}

func TestWhatCannotBeReadDisablesItsUser(t *testing.T) {
	u := NewUsers(nil)
	_, unread := u.Set([]Entry{{"ann", "on nopass %~ +@all"}, {"bob", "on nopass ~* &* +@all"}})
	if unread["ann"] == nil || len(unread) != 1 || u.Authenticate("ann", "x") != nil || u.Authenticate("bob", "x") == nil {
		t.Errorf("unread: %v", unread)
	}
}

func TestTheConfigurationsPasswordsAreDefaultsAlone(t *testing.T) {
	u := NewUsers([]string{"first", "second"})
	for password, want := range map[string]bool{"first": true, "second": true, "third": false, "": false} {
		if got := u.Authenticate(Default, password) != nil; got != want {
			t.Errorf("%q: %v", password, got)
		}
	}
	kept, rights := u.Kept(Default)
	if kept.Rules != "" || !u.Configured() {
		t.Errorf("the cluster has %q", kept.Rules)
	}
	if next, err := rights.Change([]string{"-debug"}); err != nil || !next.SamePasswords(rights) {
		t.Errorf("%v: -debug changes the passwords", err)
	}
	for _, rule := range []string{"nopass", "resetpass", ">third", "<first", "reset"} {
		if next, err := rights.Change([]string{rule}); err != nil || next.SamePasswords(rights) {
			t.Errorf("%s: %v, and the passwords are the same", rule, err)
		}
	}
	u.Set([]Entry{{Default, "on nopass ~* &* +@all -debug"}})
	if u.Default().Rights().Open() || u.Authenticate(Default, "first") == nil || u.Authenticate(Default, "x") != nil {
		t.Errorf("the cluster's rules opened default: %s", u.Default().Rights())
	}
	u.Set([]Entry{{Default, "off resetchannels -@all"}})
	if u.Authenticate(Default, "first") != nil {
		t.Error("a disabled user comes in")
	}
	u.Set(nil)
	if u.Authenticate(Default, "first") == nil || u.Default().Rights().Open() {
		t.Error("without an entry default is not what the configuration says")
	}
}

func TestTheLogCountsWhatIsTheSame(t *testing.T) {
	var l Log
	add := func(object string, at int64) {
		l.Add(Refusal{Reason: DeniedKey, Context: TopLevel, Object: object, User: "ann", At: at}, 3)
	}
	add("a", 0)
	add("b", 1)
	add("a", 2)
	got := l.Latest(10)
	if len(got) != 2 || got[0].Object != "a" || got[0].Count != 2 || got[0].At != 2 || got[1].Object != "b" {
		t.Errorf("%+v", got)
	}
	add("a", groupWithin+3)
	if got := l.Latest(1); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("after more than a minute: %+v", got)
	}
	add("c", groupWithin+4)
	add("d", groupWithin+5)
	if got := l.Latest(10); len(got) != 3 || got[0].Object != "d" || l.Count(DeniedKey) != 6 || l.Count(DeniedCommand) != 0 {
		t.Errorf("%d counted; %+v", l.Count(DeniedKey), got)
	}
	l.Reset()
	if got := l.Latest(10); len(got) != 0 || l.Count(DeniedKey) != 6 {
		t.Errorf("after a reset: %+v", got)
	}
}
