package topology

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

const (
	// MaxUser and MaxUsers bound the bytes of names and rules, of one user and of all. Every node keeps them in memory, in Raft's log
	// and in snapshots.
	MaxUser  = 64 << 10
	MaxUsers = 4 << 20
)

// User is a user of the cluster. It is immutable.
type User struct {
	Name  string // any bytes
	Rules string // what ACL LIST shows behind the name, any bytes but never none: the state machine does not look inside
}

// Size is what counts against the limits.
func (u *User) Size() int { return len(u.Name) + len(u.Rules) }

// UserChange is applied as a whole or not at all. What it deletes goes first, so that a user in both Delete and Set is there
// afterwards, and counts as deleted.
type UserChange struct {
	// ID is the change's own: asked for twice, it is done once. ChangeUsers fills it in.
	ID string
	// Expect are the users named in Set as the change's author knew them; Rules "": not there. If one is another meanwhile, the
	// change is refused: rules are made from those before, and of two such changes the second would undo the first.
	Expect []User
	// Set adds or replaces users.
	Set []User
	// Delete takes users out; those that are not there are passed over.
	Delete []string
}

// UserProblem says why a change was refused.
type UserProblem string

// The reasons of a refusal.
const (
	UserChanged  UserProblem = "user-changed"    // one of Expect is another meanwhile: look again
	UserTooLarge UserProblem = "user-too-large"  // one has more than MaxUser bytes
	UsersTooMany UserProblem = "users-too-large" // all have more than MaxUsers bytes
)

// UserError is the refusal of a change. Nothing was changed.
type UserError struct {
	Problem UserProblem
	Name    string // of the user
}

func (e *UserError) Error() string {
	return fmt.Sprintf("users not changed: %q: %s", e.Name, e.Problem)
}

// doneUsers is a change that was made, and its answer.
type doneUsers struct {
	ID      string `json:"id"`
	Deleted int    `json:"deleted,omitempty"`
}

// changeUsers returns the users and the list of changes as c leaves them, and how many it deleted; the lists of s if it changes nothing.
func (s *State) changeUsers(c *UserChange) (list []User, done []doneUsers, deleted int, refused *UserError) {
	if i := slices.IndexFunc(s.UserChanges, func(d doneUsers) bool { return d.ID == c.ID }); i >= 0 && c.ID != "" {
		return s.Users, s.UserChanges, s.UserChanges[i].Deleted, nil
	}
	now := make(map[string]string, len(s.Users)) // rules by name
	for _, u := range s.Users {
		now[u.Name] = u.Rules
	}
	for _, u := range c.Expect {
		if now[u.Name] != u.Rules {
			return s.Users, s.UserChanges, 0, &UserError{UserChanged, u.Name}
		}
	}
	for _, name := range c.Delete {
		if _, there := now[name]; there {
			delete(now, name)
			deleted++
		}
	}
	if refused = setUsers(now, c.Set); refused != nil {
		return s.Users, s.UserChanges, 0, refused
	}
	for name, rules := range now {
		list = append(list, User{name, rules})
	}
	slices.SortFunc(list, func(a, b User) int { return cmp.Compare(a.Name, b.Name) })
	if slices.Equal(list, s.Users) {
		return s.Users, s.UserChanges, deleted, nil
	}
	return list, remember(s.UserChanges, doneUsers{c.ID, deleted}), deleted, nil
}

// setUsers adds or replaces users. All of them have to fit once the last is in: replacing may make room for what comes before.
func setUsers(rules map[string]string, set []User) *UserError {
	for _, u := range set {
		if u.Size() > MaxUser {
			return &UserError{UserTooLarge, u.Name}
		}
		rules[u.Name] = u.Rules
	}
	size := 0
	for name, r := range rules {
		size += len(name) + len(r)
	}
	if size > MaxUsers && len(set) > 0 {
		return &UserError{UsersTooMany, set[len(set)-1].Name}
	}
	return nil
}

// ChangeUsers has the leader make a change, and waits until every member that is up acts on it, though no longer than
// spreadTimeout for that. It returns how many users of c.Delete were there. Any node can be asked. Errors: a *UserError; ErrNoLeader,
// when nothing was changed and there is nobody who could; ErrUnknownOutcome; ErrClosed. ctx bounds the whole.
func (t *Topology) ChangeUsers(ctx context.Context, c UserChange) (deleted int, err error) {
	c.ID = randomID()
	ans, err := t.askForChange(ctx, methodUsers, c)
	if err == nil && ans.Problem != "" {
		err = &UserError{UserProblem(ans.Problem), string(ans.Name)}
	}
	if err != nil {
		return 0, err
	}
	t.awaitEverywhere(ctx, ans.Epoch, "users")
	return ans.Deleted, nil
}

// octets is a string of any bytes in JSON, which knows only text and would quietly put U+FFFD in place of other bytes: a rule for the keys
// ~\xff* would then be one for others. What is not UTF-8 is written as an object with the bytes in base64.
type octets string

type octetsObject struct {
	Bytes []byte `json:"bytes"`
}

// MarshalJSON implements json.Marshaler.
func (o octets) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(o)) {
		return json.Marshal(string(o))
	}
	return json.Marshal(octetsObject{[]byte(o)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *octets) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return json.Unmarshal(b, (*string)(o))
	}
	var object octetsObject
	err := json.Unmarshal(b, &object)
	*o = octets(object.Bytes)
	return err
}

// userJSON is User as JSON has it.
type userJSON struct {
	Name  octets `json:"name"`
	Rules octets `json:"rules"`
}

// MarshalJSON implements json.Marshaler.
func (u User) MarshalJSON() ([]byte, error) {
	return json.Marshal(userJSON{octets(u.Name), octets(u.Rules)})
}

// UnmarshalJSON implements json.Unmarshaler.
func (u *User) UnmarshalJSON(b []byte) error {
	var v userJSON
	err := json.Unmarshal(b, &v)
	*u = User{string(v.Name), string(v.Rules)}
	return err
}

// userChangeJSON is UserChange as JSON has it.
type userChangeJSON struct {
	ID     string   `json:"id"`
	Expect []User   `json:"expect,omitempty"`
	Set    []User   `json:"set,omitempty"`
	Delete []octets `json:"delete,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (c UserChange) MarshalJSON() ([]byte, error) {
	v := userChangeJSON{ID: c.ID, Expect: c.Expect, Set: c.Set}
	for _, name := range c.Delete {
		v.Delete = append(v.Delete, octets(name))
	}
	return json.Marshal(v)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *UserChange) UnmarshalJSON(b []byte) error {
	var v userChangeJSON
	err := json.Unmarshal(b, &v)
	*c = UserChange{ID: v.ID, Expect: v.Expect, Set: v.Set}
	for _, name := range v.Delete {
		c.Delete = append(c.Delete, string(name))
	}
	return err
}
