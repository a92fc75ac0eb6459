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
	"hypercache/node/resp"
	"hypercache/node/topology"
)

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
		_, problem, again := c.changeUsers(ctx, topology.UserChange{
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
	if deleted, problem, _ := c.changeUsers(ctx, topology.UserChange{Delete: names}); problem != "" {
		w.Error(problem)
	} else {
		w.Int(int64(deleted))
	}
	return w.Buf
}

// changeUsers has the topology make a change. again says that a user is another meanwhile.
func (c *Cache) changeUsers(ctx context.Context, change topology.UserChange) (deleted int, problem string, again bool) {
	if c.opt.Users.Keeper == nil {
		return 0, errNoUserKeeper, false
	}
	deleted, err := c.opt.Users.Keeper.ChangeUsers(ctx, change)
	if err == nil {
		return deleted, "", false
	}
	var refused *topology.UserError
	return 0, usersProblem(err), errors.As(err, &refused) && refused.Problem == topology.UserChanged
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
