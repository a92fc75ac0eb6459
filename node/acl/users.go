package acl

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Default is the user that everybody is who gives no name.
const Default = "default"

// User is a user of a node's table. It stays the same while the cluster has it, its rights change. Its methods are safe for
// concurrent use.
type User struct {
	name   string
	rights atomic.Pointer[Rights]
	gone   atomic.Bool
}

// Name is the user's.
func (u *User) Name() string { return u.name }

// Rights are the user's at the moment. Those of a user that was deleted allow nothing.
func (u *User) Rights() *Rights { return u.rights.Load() }

// Gone says that the user was deleted; one of the same name made later is another one.
func (u *User) Gone() bool { return u.gone.Load() }

// Entry is a user as the cluster keeps it.
type Entry struct{ Name, Rules string }

// Users is a node's table. It is safe for concurrent use.
type Users struct {
	fixed []string // hashes of the passwords of Default that the node's configuration has

	mu  sync.Mutex // of Set
	now atomic.Pointer[table]
}

// table never changes.
type table struct {
	users map[string]*User
	kept  map[string]string // the cluster's rules, by name
}

// NewUsers returns a table with the user default alone. passwords are those that the node's configuration gives that user;
// without any it needs none until the cluster says otherwise.
func NewUsers(passwords []string) *Users {
	u := &Users{}
	for _, p := range passwords {
		u.fixed = append(u.fixed, HashPassword(p))
	}
	d := &User{name: Default}
	d.rights.Store(u.own(Full()))
	u.now.Store(&table{users: map[string]*User{Default: d}})
	return u
}

// own puts the configuration's passwords in the place of the cluster's.
func (u *Users) own(r *Rights) *Rights {
	if len(u.fixed) == 0 {
		return r
	}
	return r.WithPasswords(u.fixed)
}

// Configured says that the passwords of Default are those of the configuration.
func (u *Users) Configured() bool { return len(u.fixed) > 0 }

// Default is the user of that name.
func (u *Users) Default() *User { return u.Find(Default) }

// Find returns the user of that name, nil if there is none.
func (u *Users) Find(name string) *User { return u.now.Load().users[name] }

// Names are those of all users, in order.
func (u *Users) Names() []string { return slices.Sorted(maps.Keys(u.now.Load().users)) }

// Kept is the cluster's entry of a user, with empty rules if it has none; rights are what a change of it starts from.
func (u *Users) Kept(name string) (e Entry, rights *Rights) {
	now := u.now.Load()
	e = Entry{name, now.kept[name]}
	if user := now.users[name]; user != nil {
		return e, user.Rights()
	}
	return e, None()
}

// Set makes the table what the cluster's list says. changed are the users whose rights are others now or that are gone;
// unread tells of entries that could not be read, whose users are disabled.
func (u *Users) Set(list []Entry) (changed []*User, unread map[string]error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, next := u.now.Load(), &table{make(map[string]*User, len(list)+1), make(map[string]string, len(list))}
	for _, e := range list {
		next.kept[e.Name] = e.Rules
		user := old.users[e.Name]
		if user != nil && old.kept[e.Name] == e.Rules {
			next.users[e.Name] = user
			continue
		}
		rights, err := Parse(e.Rules)
		if err != nil {
			if unread == nil {
				unread = map[string]error{}
			}
			unread[e.Name], rights = err, None()
		} else if e.Name == Default {
			rights = u.own(rights)
		}
		if user == nil {
			user = &User{name: e.Name}
		} else {
			changed = append(changed, user)
		}
		user.rights.Store(rights)
		next.users[e.Name] = user
	}
	if next.users[Default] == nil {
		next.users[Default] = old.users[Default]
		if _, was := old.kept[Default]; was {
			next.users[Default].rights.Store(u.own(Full()))
			changed = append(changed, next.users[Default])
		}
	}
	for name, user := range old.users {
		if next.users[name] == nil {
			user.gone.Store(true)
			user.rights.Store(None())
			changed = append(changed, user)
		}
	}
	u.now.Store(next)
	return changed, unread
}

// Authenticate returns the user of that name if it may come in with the password, nil if not.
func (u *Users) Authenticate(name, password string) *User {
	user := u.Find(name)
	if user == nil {
		// As long as for one that exists, so that nobody learns the names.
		_ = HashPassword(password)
		return nil
	}
	if !user.Rights().Accepts(password) {
		return nil
	}
	return user
}

// NameProblem says why a user can't have that name, "" if it can.
func NameProblem(name string) string {
	switch {
	case name == "":
		return "ERR Usernames can't be empty"
	case spaced(name):
		return "ERR Usernames can't contain spaces or null characters"
	}
	return ""
}
