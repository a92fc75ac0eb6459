package cache

import (
	"context"
	"strconv"
	"time"

	"hypercache/node/acl"
	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/topology"
)

// Users belong to the cluster, as libraries of functions do: the topology keeps them and tells every node (SetUsers). A command
// is checked where its client is connected, before it goes anywhere; what a script does is checked where the script runs, for
// the user whose name goes along with it.

// UserKeeper is the topology's part. It is safe for concurrent use.
type UserKeeper interface {
	// ChangeUsers makes a change of the cluster's users and returns once the nodes that are up act on it, or after a bounded
	// wait for them. deleted is how many users were taken out. Errors are those of topology.ChangeUsers.
	ChangeUsers(ctx context.Context, change topology.UserChange) (deleted int, err error)
}

const (
	errNoAuth        = "NOAUTH Authentication required."
	errUsersInTx     = "ERR This command changes the users of the cluster and is not possible inside a transaction"
	errNoUserKeeper  = "ERR this node keeps no users"
	errNoUserLeader  = "CLUSTERDOWN The topology has no leader: users cannot be changed until it has one"
	errUserOutcome   = "NOREPLICAS The topology's leader did not answer in time; the users may have been changed"
	errUserContended = "TRYAGAIN The user was changed by others again and again meanwhile"
	errConfigured    = "ERR The passwords of the user default are those of auth.password_file in the nodes' configuration: change them there"
	errDefaultStays  = "ERR The 'default' user cannot be removed"

	// maxRefusals bounds the log of refusals, whatever acllog-max-len says: one has up to a few kB.
	maxRefusals = 1 << 14
	// maxUnread bounds, in bytes, the refusals that a client may leave unread that has not said who it is.
	maxUnread = 64 << 10
)

// LoggedIn implements command.Conn.
func (k *conn) LoggedIn() bool { return k.user != nil }

// PasswordLess implements command.Conn.
func (k *conn) PasswordLess() bool { return k.cache.users.Default().Rights().NeedsNone() }

// UserExists implements command.Conn.
func (k *conn) UserExists(name []byte) bool { return k.cache.users.Find(string(name)) != nil }

// Login implements command.Conn.
func (k *conn) Login(name, password, asked []byte) bool {
	u := k.cache.users.Authenticate(string(name), string(password))
	if u == nil {
		k.cache.deny(k, acl.Denial{Reason: acl.DeniedAuth, Object: string(asked)}, string(name))
		return false
	}
	k.become(u)
	return true
}

// become makes the connection that user; nil: one that has yet to say who it is.
func (k *conn) become(u *acl.User) {
	k.user = u
	k.s.Restrict(u == nil)
	name := acl.Default
	if u != nil {
		name = u.Name()
	}
	k.client.SetUser(name)
}

// anew makes the connection what it is before it gave any password.
func (k *conn) anew() {
	u := k.cache.users.Default()
	if !u.Rights().Open() {
		u = nil
	}
	k.become(u)
}

// userOfScripts is whose rights the connection's scripts have, as an op tells them: "" if all.
func (k *conn) userOfScripts(o *op) string {
	if o.spec.Script && k.user != nil && !k.user.Rights().Everything() {
		return k.user.Name()
	}
	return ""
}

// free says quickly that the connection may do everything.
func (k *conn) free() bool { return k.user != nil && k.user.Rights().Everything() }

// refusedTo says why the connection may not run a command, "" if it may.
func (c *Cache) refusedTo(k *conn, spec *command.Spec, args [][]byte) string {
	if k.user == nil {
		if spec.Flags&command.FlagNoAuth != 0 {
			return ""
		}
		if k.s.Pending() > maxUnread {
			k.s.Kill()
		}
		return errNoAuth
	}
	rights := k.user.Rights()
	if d := rights.Check(spec, args); d.Reason != acl.Allowed {
		c.deny(k, d, k.user.Name())
		return d.Message()
	}
	return readsForeign(rights, spec, args)
}

// readsForeign refuses a SORT that would read keys which its arguments do not name, and of which nobody can say whether they
// are allowed.
func readsForeign(rights *acl.Rights, spec *command.Spec, args [][]byte) string {
	if option := command.ForeignKeys(spec, args); option != "" && !rights.ReadsEverything(spec, args) {
		return "ERR " + option + " option of SORT denied due to insufficient ACL permissions."
	}
	return ""
}

// deny notes a refusal.
func (c *Cache) deny(k *conn, d acl.Denial, user string) {
	r := acl.Refusal{Reason: d.Reason, Context: acl.TopLevel, Object: d.Object, User: user, Client: k.client.Line(c.ticks())}
	if k.tx != nil && k.tx.open {
		r.Context = acl.InMulti
	}
	c.noteRefusal(r)
}

func (c *Cache) noteRefusal(r acl.Refusal) {
	keep, err := strconv.Atoi(c.opt.Server.Config().Get("acllog-max-len"))
	if err != nil {
		keep = acl.DefaultLogLen
	}
	r.At = time.Now().UnixMilli()
	c.refusals.Add(r, min(keep, maxRefusals))
}

// Refusals are what this node did not let clients do, and how often.
func (c *Cache) Refusals() *acl.Log { return &c.refusals }

// recheck refuses the commands of a transaction that were allowed when they were queued and are not any more.
func (c *Cache) recheck(k *conn, t *transaction) {
	if k.user == nil || k.user.Rights().Everything() {
		return
	}
	rights := k.user.Rights()
	for i := range t.queue {
		q := &t.queue[i]
		if q.problem != "" {
			continue
		}
		if d := rights.Check(q.spec, q.args); d.Reason != acl.Allowed {
			c.deny(k, d, k.user.Name())
			q.local, q.problem = true, d.Later()
		}
	}
}

// rights are those that the script's commands have.
func (x *scriptRun) rights() *acl.Rights {
	if u := x.c.users.Find(x.o.user); u != nil {
		return u.Rights()
	}
	return acl.None() // it was deleted, or this node does not know of it yet
}

// denied says why the script's user may not run a command.
func (x *scriptRun) denied(spec *command.Spec, args [][]byte) string {
	if x.o.user == "" {
		return ""
	}
	rights := x.rights()
	d := rights.Check(spec, args)
	if d.Reason == acl.Allowed {
		return readsForeign(rights, spec, args)
	}
	r := acl.Refusal{Reason: d.Reason, Context: acl.InLua, Object: d.Object, User: x.o.user}
	if x.to.conn != nil {
		r.Client = x.to.conn.client.Line(x.c.ticks())
	}
	x.c.noteRefusal(r)
	return d.InScript()
}

// Allowed implements script.Host.
func (x *scriptRun) Allowed(args [][]byte) (allowed, known bool) {
	spec := command.Lookup(args[0])
	if spec != nil && spec.Container && len(args) > 1 {
		spec = spec.Sub(args[1])
	}
	switch {
	case spec == nil:
		return false, false
	case x.o.user == "":
		return true, true
	case !spec.CheckArity(len(args)): // its keys can't be told
		return x.rights().MayCall(spec, args), true
	}
	return x.rights().Check(spec, args).Reason == acl.Allowed, true
}

// MayRun says why the user of that name and password may not run a command that came another way than by a connection, as Redis
// tells it; "" if it may. without is for requests that give neither.
func (c *Cache) MayRun(name, password string, without bool, args [][]byte) string {
	u := c.users.Default()
	switch {
	case !without:
		if u = c.users.Authenticate(name, password); u == nil {
			c.noteRefusal(acl.Refusal{Reason: acl.DeniedAuth, Context: acl.TopLevel, Object: "HTTP", User: name})
			return "WRONGPASS invalid username-password pair or user is disabled."
		}
	case !u.Rights().Open():
		return errNoAuth
	}
	rights := u.Rights()
	if rights.Everything() || len(args) == 0 {
		return ""
	}
	spec, problem := command.Resolve(args)
	if problem != "" {
		return problem
	}
	if d := rights.Check(spec, args); d.Reason != acl.Allowed {
		c.noteRefusal(acl.Refusal{Reason: d.Reason, Context: acl.TopLevel, Object: d.Object, User: u.Name()})
		return d.Message()
	}
	return ""
}

// SetUsers says which users the cluster has from now on; founded, that this is a cluster's list and not what a node begins with
// that has yet to hear of one. Connections of users that are gone are closed, and those that hear channels which they no longer
// may. Calls must not overlap.
func (c *Cache) SetUsers(list []topology.User, founded bool) {
	first := founded && !c.usersKnown
	c.usersKnown = c.usersKnown || founded
	if old := c.knownUsers; len(old) == len(list) && (len(list) == 0 || &old[0] == &list[0]) {
		return
	}
	c.knownUsers = list
	entries := make([]acl.Entry, len(list))
	for i, u := range list {
		entries[i] = acl.Entry{Name: u.Name, Rules: u.Rules}
	}
	changed, unread := c.users.Set(entries)
	for name, err := range unread {
		c.log.Error("the rules of a user could not be read: it is disabled", "user", name, "error", err)
	}
	if len(changed) > 0 {
		c.closeRefused(changed, first)
	}
}

// closeRefused closes the connections that the users' new rights leave no place for. Until a node has heard of the topology for
// the first time, it does not know whether the user default has a password: first closes those that came in without one.
func (c *Cache) closeRefused(changed []*acl.User, first bool) {
	byName, hears := map[string]*acl.User{}, map[*pubsub.Subscriber]*command.Client{}
	for _, u := range changed {
		byName[u.Name()] = u
	}
	c.opt.Server.EachClient(func(client *command.Client) bool {
		u := byName[client.User()]
		switch {
		case u == nil:
		case u.Gone(), first && u.Name() == acl.Default && !u.Rights().Open():
			c.opt.Server.KillClient(client.ID())
		case client.Subscribed():
			if sub := c.opt.Server.Subscriber(client.ID()); sub != nil {
				hears[sub] = client
			}
		}
		return true
	})
	if len(hears) == 0 {
		return
	}
	c.obs.registry.Each(func(k pubsub.Kind, name string, sub *pubsub.Subscriber) {
		client := hears[sub]
		if client == nil || byName[client.User()].Rights().Hears(name, k == pubsub.Pattern) {
			return
		}
		c.opt.Server.KillClient(client.ID())
	})
}
