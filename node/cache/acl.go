package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypercache/node/acl"
	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
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
	// countUser, in the number of arguments of a request to another node, says that a user's name follows them.
	countUser = 1 << 31
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

// acl runs what ACL commands ask of the users.
func (c *Cache) acl(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	if spec.Name != "acl|setuser" && spec.Name != "acl|deluser" {
		c.aclHere(w, spec, args)
		return
	}
	words := make([]string, len(args)-2)
	for i := range words {
		words[i] = string(args[2+i])
	}
	if problem := userProblem(spec, words); problem != "" {
		w.Error(problem)
		return
	}
	// Later commands wait: their rights, or their own AUTH, depend on it.
	t := k.s.Hold()
	k.s.Suspend(nil)
	started := c.work.start(func() {
		if spec.Name == "acl|deluser" {
			t.Reply(c.deleteUsers(words))
		} else {
			t.Reply(c.setUser(words[0], words[1:]))
		}
	})
	if !started {
		t.Reply(errStopping)
	}
}

// userProblem is what is wrong with a change before it is looked into.
func userProblem(spec *command.Spec, names []string) string {
	if spec.Name == "acl|setuser" {
		size := 0
		for _, word := range names {
			size += len(word)
		}
		if size > topology.MaxUser { // before anything is made of it
			return usersProblem(&topology.UserError{Problem: topology.UserTooLarge})
		}
		return acl.NameProblem(names[0])
	}
	if slices.Contains(names, acl.Default) {
		return errDefaultStays
	}
	return ""
}

// setUser is ACL SETUSER. The rules are applied to the user as this node knows it, and committed if that is what it still is.
// It blocks.
func (c *Cache) setUser(name string, rules []string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), c.opt.Wait)
	defer cancel()
	var w resp.Writer
	for {
		kept, rights := c.users.Kept(name)
		next, err := rights.Change(rules)
		if err != nil {
			w.Error("ERR " + err.Error())
			return w.Buf
		}
		if name == acl.Default && c.users.Configured() {
			if !next.SamePasswords(rights) {
				w.Error(errConfigured)
				return w.Buf
			}
			next = next.WithPasswords(nil) // nobody comes in by a node that lacks the file
		}
		problem, again := c.changeUsers(ctx, topology.UserChange{
			Expect: []topology.User{{Name: name, Rules: kept.Rules}}, Set: []topology.User{{Name: name, Rules: next.String()}},
		})
		switch {
		case problem == "":
			return okReply
		case !again:
			w.Error(problem)
			return w.Buf
		}
		select { // this node may not have heard of the other change yet
		case <-time.After(parkRetry):
		case <-ctx.Done():
			w.Error(errUserContended)
			return w.Buf
		}
	}
}

func (c *Cache) deleteUsers(names []string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), c.opt.Wait)
	defer cancel()
	var w resp.Writer
	if c.opt.Users.Keeper == nil {
		w.Error(errNoUserKeeper)
		return w.Buf
	}
	deleted, err := c.opt.Users.Keeper.ChangeUsers(ctx, topology.UserChange{Delete: names})
	if err != nil {
		w.Error(usersProblem(err))
		return w.Buf
	}
	w.Int(int64(deleted))
	return w.Buf
}

// changeUsers has the topology make a change. again says that the user is another meanwhile.
func (c *Cache) changeUsers(ctx context.Context, change topology.UserChange) (problem string, again bool) {
	if c.opt.Users.Keeper == nil {
		return errNoUserKeeper, false
	}
	_, err := c.opt.Users.Keeper.ChangeUsers(ctx, change)
	if err == nil {
		return "", false
	}
	var refused *topology.UserError
	return usersProblem(err), errors.As(err, &refused) && refused.Problem == topology.UserChanged
}

// usersProblem is what clients are told of a change that failed.
func usersProblem(err error) string {
	var refused *topology.UserError
	switch {
	case errors.As(err, &refused) && refused.Problem == topology.UserTooLarge:
		return fmt.Sprintf("ERR The user is too large: its name and rules may have %d bytes", topology.MaxUser)
	case errors.As(err, &refused) && refused.Problem == topology.UsersTooMany:
		return fmt.Sprintf("ERR The user does not fit: all users together may have %d bytes", topology.MaxUsers)
	case errors.Is(err, topology.ErrUnknownOutcome):
		return errUserOutcome
	case errors.Is(err, topology.ErrClosed):
		return errScriptStop
	case errors.Is(err, topology.ErrNoLeader):
		return errNoUserLeader
	}
	return "ERR " + err.Error()
}

// aclHere answers what this node knows by itself.
func (c *Cache) aclHere(w *resp.Writer, spec *command.Spec, args [][]byte) {
	switch spec.Name {
	case "acl|save": // every change is, before it is answered
		w.OK()
	case "acl|users":
		names := c.users.Names()
		w.Array(len(names))
		for _, name := range names {
			w.BulkString(name)
		}
	case "acl|list":
		c.listUsers(w)
	case "acl|getuser":
		if u := c.users.Find(string(args[2])); u != nil {
			describeUser(w, u.Rights())
		} else {
			w.Null()
		}
	case "acl|dryrun":
		c.dryRun(w, args)
	case "acl|log":
		c.refusalLog(w, args)
	default:
		w.Error(command.ArityError(spec))
	}
}

func (c *Cache) listUsers(w *resp.Writer) {
	var lines []string
	for _, name := range c.users.Names() {
		if u := c.users.Find(name); u != nil {
			lines = append(lines, "user "+name+" "+u.Rights().String())
		}
	}
	w.Array(len(lines))
	for _, line := range lines {
		w.BulkString(line)
	}
}

// describeUser is ACL GETUSER.
func describeUser(w *resp.Writer, r *acl.Rights) {
	permissions := func(p acl.Permissions) {
		for _, field := range [][2]string{{"commands", p.Commands}, {"keys", p.Keys}, {"channels", p.Channels}} {
			w.BulkString(field[0])
			w.BulkString(field[1])
		}
	}
	w.Map(6)
	w.BulkString("flags")
	flags := r.Flags()
	w.Set(len(flags))
	for _, flag := range flags {
		w.BulkString(flag)
	}
	w.BulkString("passwords")
	w.Array(len(r.Passwords()))
	for _, hash := range r.Passwords() {
		w.BulkString(hash)
	}
	selectors := r.Selectors()
	permissions(selectors[0])
	w.BulkString("selectors")
	w.Array(len(selectors) - 1)
	for _, s := range selectors[1:] {
		w.Map(3)
		permissions(s)
	}
}

// dryRun is ACL DRYRUN username command [arg …].
func (c *Cache) dryRun(w *resp.Writer, args [][]byte) {
	u := c.users.Find(string(args[2]))
	if u == nil {
		w.Error("ERR User '" + string(args[2]) + "' not found")
		return
	}
	asked := args[3:]
	spec := command.Lookup(asked[0])
	if spec != nil && spec.Container && len(asked) > 1 {
		spec = spec.Sub(asked[1])
	}
	switch {
	case spec == nil:
		w.Error("ERR Command '" + string(asked[0]) + "' not found")
		return
	case !spec.CheckArity(len(asked)):
		w.Error(command.ArityError(spec))
		return
	}
	if d := u.Rights().Check(spec, asked); d.Reason != acl.Allowed {
		w.BulkString(d.DryRun())
		return
	}
	w.OK()
}

// refusalLog is ACL LOG [count | RESET].
func (c *Cache) refusalLog(w *resp.Writer, args [][]byte) {
	const usual = 10
	count := int64(usual)
	switch {
	case len(args) > 3:
		w.Error("ERR unknown subcommand or wrong number of arguments for '" + string(args[1]) + "'. Try ACL HELP.")
		return
	case len(args) == 3 && strings.EqualFold(string(args[2]), "reset"):
		c.refusals.Reset()
		w.OK()
		return
	case len(args) == 3:
		var err error
		if count, err = strconv.ParseInt(string(args[2]), 10, 64); err != nil {
			w.Error("ERR value is not an integer or out of range")
			return
		}
	}
	entries, now := c.refusals.Latest(int(max(count, 0))), time.Now().UnixMilli()
	w.Array(len(entries))
	for _, e := range entries {
		w.Map(7)
		w.BulkString("count")
		w.Int(int64(e.Count))
		for _, field := range [][2]string{
			{"reason", e.Reason.String()}, {"context", string(e.Context)}, {"object", e.Object}, {"username", e.User},
		} {
			w.BulkString(field[0])
			w.BulkString(field[1])
		}
		w.BulkString("age-seconds")
		w.Double(float64(max(now-e.At, 0)) / 1000)
		w.BulkString("client-info")
		w.BulkString(e.Client)
	}
}
