package command

import (
	"bytes"
	"strings"

	"hypercache/node/resp"
)

func connCommands() []binding {
	return []binding{
		{name: "ping", conn: runPing},
		{name: "echo", conn: func(c *ConnCtx) { c.W.Bulk(c.Args[1]) }},
		{name: "hello", conn: runHello},
		{name: "auth", conn: runAuth},
		{name: "select", conn: runSelect},
		{name: "quit", conn: runQuit},
		{name: "bgrewriteaof", conn: runRewriteLog},
		{name: "reset", conn: runReset},
		{name: "readonly", conn: func(c *ConnCtx) { c.clusterMode(clientReadOnly, 0) }},
		{name: "readwrite", conn: func(c *ConnCtx) { c.clusterMode(0, clientReadOnly) }},
		{name: "asking", conn: func(c *ConnCtx) { c.clusterMode(clientAsking, 0) }},
	}
}

// runContainer answers a container without a subcommand; its arity lets only COMMAND through, which has its own.
func runContainer(c *ConnCtx) { c.W.Error(ArityError(c.Spec)) }

// helpFunc makes the HELP subcommand of a container.
func helpFunc(container string, lines []string) func(*ConnCtx) {
	return func(c *ConnCtx) { writeHelp(c.W, container, lines) }
}

func writeHelp(w *resp.Writer, container string, lines []string) {
	w.Array(len(lines) + 3)
	w.SimpleString(container + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, l := range lines {
		w.SimpleString(l)
	}
	w.SimpleString("HELP")
	w.SimpleString("    Prints this help.")
}

func runPing(c *ConnCtx) {
	switch n := len(c.Args); {
	case n <= 2 && c.W.Proto != 3 && c.Conn.Client().Subscribed():
		c.W.Array(2)
		c.W.BulkString("pong")
		c.W.Bulk(bytes.Join(c.Args[1:], nil))
	case n == 1:
		c.W.SimpleString("PONG")
	case n == 2:
		c.W.Bulk(c.Args[1])
	default:
		c.W.Error(ArityError(c.Spec))
	}
}

const errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."

// defaultUser is who a connection is that gives no name.
const defaultUser = "default"

func runAuth(c *ConnCtx) {
	user, password := []byte(defaultUser), c.Args[len(c.Args)-1]
	switch len(c.Args) {
	case 2:
		if c.Conn.PasswordLess() {
			c.W.Error("ERR AUTH <password> called without any password configured for the default user. Are you sure your " +
				"configuration is correct?")
			return
		}
	case 3:
		user = c.Args[1]
	default:
		c.W.Error(errSyntax)
		return
	}
	if !c.Conn.Login(user, password, c.Args[0]) {
		c.W.Error(errWrongPass)
		return
	}
	c.W.OK()
}

// ServerVersion is the version of Redis whose commands we speak; clients choose features by it.
const ServerVersion = "7.0.15"

func runHello(c *ConnCtx) {
	proto := c.W.Proto
	if proto == 0 {
		proto = 2
	}
	if len(c.Args) > 1 {
		n, ok := parseInt(c.Args[1])
		if !ok {
			c.W.Error("ERR Protocol version is not an integer or out of range")
			return
		}
		if n < 2 || n > 3 {
			c.W.Error("NOPROTO unsupported protocol version")
			return
		}
		proto = int(n)
	}
	if !c.helloOptions() {
		return
	}
	if !c.Conn.LoggedIn() {
		c.W.Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> " +
			"option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	c.Conn.Client().proto.Store(int32(proto))
	if proto != 3 {
		c.Conn.Client().clear(clientMaintenance)
	}
	c.Conn.SetProto(proto)
	c.W.Proto = proto
	mode := "standalone"
	if c.Server.ClusterEnabled() {
		mode = "cluster"
	}
	c.W.Map(7)
	for _, pair := range [][2]string{{"server", "redis"}, {"version", ServerVersion}} {
		c.W.BulkString(pair[0])
		c.W.BulkString(pair[1])
	}
	c.W.BulkString("proto")
	c.W.Int(int64(proto))
	c.W.BulkString("id")
	c.W.Int(int64(c.Conn.Client().ID()))
	for _, pair := range [][2]string{{"mode", mode}, {"role", "master"}} {
		c.W.BulkString(pair[0])
		c.W.BulkString(pair[1])
	}
	c.W.BulkString("modules")
	c.W.Array(0)
}

// helloOptions carries out AUTH and then SETNAME, once all of them are understood; false means that the error is written.
func (c *ConnCtx) helloOptions() bool {
	var user, password, name []byte
	for i := 2; i < len(c.Args); i++ {
		more := len(c.Args) - 1 - i
		switch {
		case option(c.Args[i], "auth") && more >= 2:
			user, password = c.Args[i+1], c.Args[i+2]
			i += 2
		case option(c.Args[i], "setname") && more >= 1:
			if name = c.Args[i+1]; !c.nameable(name) {
				return false
			}
			i++
		default:
			c.W.Error("ERR Syntax error in HELLO option '" + cstring(c.Args[i], len(c.Args[i])) + "'")
			return false
		}
	}
	if user != nil && !c.Conn.Login(user, password, c.Args[0]) {
		c.W.Error(errWrongPass)
		return false
	}
	if name != nil && c.Conn.LoggedIn() {
		c.Conn.Client().setName(string(name))
	}
	return true
}

func runSelect(c *ConnCtx) {
	db, errText := parseDB(c.Args[1])
	switch {
	case errText == errDBIndex && !c.Server.ClusterEnabled():
		c.W.Error(errDBIndex)
	case errText != "" && errText != errDBIndex:
		c.W.Error(errText)
	case errText != "" || db != 0:
		// A lone node has one database too: a key must not change its place when the node gets company.
		c.W.Error("ERR SELECT is not allowed in cluster mode")
	default:
		c.W.OK()
	}
}

func runQuit(c *ConnCtx) {
	c.W.OK()
	c.Conn.CloseAfterReply()
}

func runReset(c *ConnCtx) {
	cl := c.Conn.Client()
	c.Conn.Reset()
	cl.flags.And(clientNoEvict) // Redis leaves it, too
	cl.proto.Store(2)
	cl.setName("")
	c.Conn.SetProto(2)
	c.W.Proto = 2
	c.W.SimpleString("RESET")
}

const errNoCluster = "ERR This instance has cluster support disabled"

// clusterMode changes how a connection stands to replicas.
func (c *ConnCtx) clusterMode(set, clear uint32) {
	if !c.Server.ClusterEnabled() {
		c.W.Error(errNoCluster)
		return
	}
	cl := c.Conn.Client()
	cl.set(set | clientClusterAware)
	cl.clear(clear)
	c.W.OK()
}

// printable says whether every byte is visible ASCII: names end up in the space-separated lines of CLIENT LIST.
func printable(b []byte) bool {
	return strings.IndexFunc(string(b), func(r rune) bool { return r < '!' || r > '~' }) < 0
}

func runRewriteLog(c *ConnCtx) {
	if problem := c.Server.RewriteLog(); problem != "" {
		c.W.Error(problem)
		return
	}
	c.W.SimpleString("Background append only file rewriting started")
}
