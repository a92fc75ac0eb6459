package command

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"hypercache/node/tracking"
)

// Client is the state of one connection as the CLIENT commands see it. It is safe for concurrent use: its own
// connection changes it, CLIENT LIST on any connection reads it.
type Client struct {
	id          uint64
	addr, laddr string
	fd          int
	created     int64 // unix ms

	last  atomic.Int64 // unix ms of the latest command
	cmd   atomic.Pointer[Spec]
	proto atomic.Int32
	flags atomic.Uint32
	subs  [3]atomic.Int32 // subscriptions by pubsub.Kind
	track atomic.Pointer[tracking.Client]

	mu              sync.Mutex
	name            string
	libName, libVer string
	user            string
}

const (
	clientNoEvict uint32 = 1 << iota
	clientNoTouch
	clientReadOnly
	clientAsking
	clientClusterAware
	clientBlocked
	clientCachingYes
	clientCachingNo
	clientMonitor
	clientMaintenance
)

// NewClient describes a new connection: its id, the addresses of both ends, its file descriptor (-1 if it has none),
// and the time in unix milliseconds.
func NewClient(id uint64, addr, laddr string, fd int, now int64) *Client {
	c := &Client{id: id, addr: addr, laddr: laddr, fd: fd, created: now, user: defaultUser}
	c.last.Store(now)
	c.proto.Store(2)
	return c
}

// ID is the connection's number, never reused.
func (c *Client) ID() uint64 { return c.id }

// Note records the latest command and its time in unix milliseconds. Once per batch is enough.
func (c *Client) Note(spec *Spec, now int64) {
	c.last.Store(now)
	c.cmd.Store(spec)
}

// ReadOnly says whether the connection sent READONLY: it accepts reads from a replica, which may be behind.
func (c *Client) ReadOnly() bool { return c.has(clientReadOnly) }

// ClusterAware says whether the connection asked for the map of slots (CLUSTER SLOTS, SHARDS or NODES) or sent READONLY,
// READWRITE or ASKING: it can follow MOVED.
func (c *Client) ClusterAware() bool { return c.has(clientClusterAware) }

// TakeAsking reports and clears the mark that ASKING set for the next command.
func (c *Client) TakeAsking() bool {
	if !c.has(clientAsking) {
		return false
	}
	c.clear(clientAsking)
	return true
}

// SetBlocked notes that the connection's command waits for its keys, or does not any more.
func (c *Client) SetBlocked(on bool) {
	if on {
		c.set(clientBlocked)
	} else {
		c.clear(clientBlocked)
	}
}

// Blocked says whether the connection's command waits for its keys.
func (c *Client) Blocked() bool { return c.has(clientBlocked) }

// NoTouch says whether reads by this connection leave the access clock alone (CLIENT NO-TOUCH).
func (c *Client) NoTouch() bool { return c.has(clientNoTouch) }

// NoEvict says whether the connection is exempt from client eviction (CLIENT NO-EVICT).
func (c *Client) NoEvict() bool { return c.has(clientNoEvict) }

// Name is what CLIENT SETNAME or HELLO SETNAME gave, "" if nothing.
func (c *Client) Name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

// User is the name of the user that the connection is.
func (c *Client) User() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// SetUser tells who the connection is.
func (c *Client) SetUser(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = name
}

func (c *Client) setName(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name = name
}

func (c *Client) has(f uint32) bool { return c.flags.Load()&f != 0 }
func (c *Client) set(f uint32)      { c.flags.Or(f) }
func (c *Client) clear(f uint32)    { c.flags.And(^f) }

func clientCommands() []binding {
	return []binding{
		{name: "client", conn: runContainer},
		{name: "client|getname", conn: runClientGetName},
		{name: "client|help", conn: helpFunc("CLIENT", clientHelp)},
		{name: "client|id", conn: func(c *ConnCtx) { c.W.Int(int64(c.Conn.Client().ID())) }},
		{name: "client|info", conn: runClientInfo},
		{name: "client|kill", conn: runClientKill},
		{name: "client|list", conn: runClientList},
		{name: "client|maint_notifications", conn: runClientMaintNotifications},
		{name: "client|no-evict", conn: func(c *ConnCtx) { c.toggle(clientNoEvict) }},
		{name: "client|no-touch", conn: func(c *ConnCtx) { c.toggle(clientNoTouch) }},
		{name: "client|setinfo", conn: runClientSetInfo},
		{name: "client|setname", conn: runClientSetName},
		{name: "client|unblock", conn: runClientUnblock},
	}
}

func (c *ConnCtx) toggle(flag uint32) {
	switch {
	case option(c.Args[2], "on"):
		c.Conn.Client().set(flag)
	case option(c.Args[2], "off"):
		c.Conn.Client().clear(flag)
	default:
		c.W.Error(errSyntax)
		return
	}
	c.W.OK()
}

func runClientGetName(c *ConnCtx) {
	if name := c.Conn.Client().Name(); name != "" {
		c.W.BulkString(name)
		return
	}
	c.W.Null()
}

func runClientSetName(c *ConnCtx) {
	if c.setName(c.Args[2]) {
		c.W.OK()
	}
}

func (c *ConnCtx) setName(name []byte) bool {
	if !c.nameable(name) {
		return false
	}
	c.Conn.Client().setName(string(name))
	return true
}

// nameable says whether a client may have that name; the error is written if not.
func (c *ConnCtx) nameable(name []byte) bool {
	if !printable(name) {
		c.W.Error("ERR Client names cannot contain spaces, newlines or special characters.")
		return false
	}
	return true
}

func runClientSetInfo(c *ConnCtx) {
	cl := c.Conn.Client()
	attr, name := &cl.libName, "lib-name"
	switch {
	case option(c.Args[2], "lib-name"):
	case option(c.Args[2], "lib-ver"):
		attr, name = &cl.libVer, "lib-ver"
	default:
		c.W.Error("ERR Unrecognized option '" + cstring(c.Args[2], len(c.Args[2])) + "'")
		return
	}
	if !printable(c.Args[3]) {
		c.W.Error("ERR " + name + " cannot contain spaces, newlines or special characters.")
		return
	}
	cl.mu.Lock()
	*attr = string(c.Args[3])
	cl.mu.Unlock()
	c.W.OK()
}

// appendLine is the client's line of CLIENT LIST. What Redis says about buffers and transactions that we keep
// otherwise, or not at all, is given as zero.
func (c *Client) appendLine(b []byte, now int64) []byte {
	c.mu.Lock()
	name, libName, libVer, user := c.name, c.libName, c.libVer, c.user
	c.mu.Unlock()
	cmd := "NULL"
	if s := c.cmd.Load(); s != nil {
		cmd = s.Name
	}
	flags := ""
	if c.Subscribed() {
		flags = "P"
	}
	if c.has(clientMonitor) {
		flags += "O"
	}
	for _, f := range []struct {
		bit    uint32
		letter string
	}{{clientBlocked, "b"}, {clientReadOnly, "r"}, {clientNoEvict, "e"}, {clientNoTouch, "T"}} {
		if c.has(f.bit) {
			flags += f.letter
		}
	}
	track, redirect := c.trackingState()
	if flags += track; flags == "" {
		flags = "N"
	}
	seconds := func(since int64) int64 { return max(now-since, 0) / 1000 }
	return fmt.Appendf(b, "id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=0 sub=%d psub=%d ssub=%d multi=-1 "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s user=%s "+
		"redir=%d resp=%d lib-name=%s lib-ver=%s\n",
		c.id, c.addr, c.laddr, c.fd, name, seconds(c.created), seconds(c.last.Load()), flags,
		c.subs[0].Load(), c.subs[1].Load(), c.subs[2].Load(), cmd, user, redirect, c.proto.Load(),
		libName, libVer)
}

func runClientInfo(c *ConnCtx) {
	cl := c.Conn.Client()
	cl.Note(c.Spec, c.Now)
	c.W.Verbatim("txt", cl.appendLine(nil, c.Now))
}

// clientTypes are the kinds of clients by their names; all that connect here are normal ones or subscribers.
var clientTypes = []string{"normal", "slave", "replica", "pubsub", "master"}

// kind is the client's type.
func (c *Client) kind() string {
	if c.Subscribed() {
		return "pubsub"
	}
	return "normal"
}

// parseClientType reads the name of a type; the error is written when it is none.
func (c *ConnCtx) parseClientType(arg []byte) (kind string, ok bool) {
	for _, t := range clientTypes {
		if option(arg, t) {
			return t, true
		}
	}
	c.W.Error("ERR Unknown client type '" + cstring(arg, len(arg)) + "'")
	return "", false
}

func runClientList(c *ConnCtx) {
	match := func(*Client) bool { return true }
	switch n := len(c.Args); {
	case n == 2:
	case n == 4 && option(c.Args[2], "type"):
		kind, ok := c.parseClientType(c.Args[3])
		if !ok {
			return
		}
		match = func(cl *Client) bool { return cl.kind() == kind }
	case n > 3 && option(c.Args[2], "id"):
		c.listClientsByID(c.Args[3:])
		return
	default:
		c.W.Error(errSyntax)
		return
	}
	c.Conn.Client().Note(c.Spec, c.Now)
	var text []byte
	c.Server.EachClient(func(cl *Client) bool {
		if match(cl) {
			text = cl.appendLine(text, c.Now)
		}
		return true
	})
	c.W.Verbatim("txt", text)
}

// listClientsByID lists in the order asked for, and as often.
func (c *ConnCtx) listClientsByID(args [][]byte) {
	byID := map[int64]*Client{}
	c.Server.EachClient(func(cl *Client) bool {
		byID[int64(cl.id)] = cl
		return true
	})
	c.Conn.Client().Note(c.Spec, c.Now)
	var text []byte
	for _, arg := range args {
		id, ok := parseInt(arg)
		if !ok {
			c.W.Error("ERR Invalid client ID")
			return
		}
		if cl := byID[id]; cl != nil {
			text = cl.appendLine(text, c.Now)
		}
	}
	c.W.Verbatim("txt", text)
}

func runClientUnblock(c *ConnCtx) {
	if len(c.Args) > 4 {
		c.W.Error("ERR unknown subcommand or wrong number of arguments for '" + cstring(c.Args[1], 128) + "'. Try CLIENT HELP.")
		return
	}
	withError := false
	if len(c.Args) == 4 {
		if withError = option(c.Args[3], "error"); !withError && !option(c.Args[3], "timeout") {
			c.W.Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
			return
		}
	}
	id, ok := parseInt(c.Args[2])
	switch {
	case !ok:
		c.W.Error(errNotInt)
	case id > 0 && c.Server.UnblockClient(uint64(id), withError):
		c.W.Int(1)
	default:
		c.W.Int(0)
	}
}

// Line is the client's line of CLIENT LIST, at the time now in unix milliseconds.
func (c *Client) Line(now int64) string {
	return strings.TrimSuffix(string(c.appendLine(nil, now)), "\n")
}

// killFilter selects the clients of CLIENT KILL; empty fields match all.
type killFilter struct {
	id          int64
	addr, laddr string
	kind, user  string
	skipMe      bool
}

func (f *killFilter) matches(cl, self *Client) bool {
	return !(f.kind != "" && f.kind != cl.kind() || f.id != 0 && uint64(f.id) != cl.id || f.addr != "" && f.addr != cl.addr ||
		f.laddr != "" && f.laddr != cl.laddr || f.user != "" && f.user != cl.User() || f.skipMe && cl == self)
}

func runClientKill(c *ConnCtx) {
	self := c.Conn.Client()
	var f killFilter
	if len(c.Args) == 3 {
		f.addr = string(c.Args[2])
		if f.addr == "" {
			f.kind = "none" // no client has an empty address
		}
	} else if !c.parseKillFilter(&f) {
		return
	}
	killed, suicide := int64(0), false
	c.Server.EachClient(func(cl *Client) bool {
		if !f.matches(cl, self) {
			return true
		}
		killed++
		if cl == self {
			suicide = true
		} else {
			c.Server.KillClient(cl.id)
		}
		return true
	})
	switch {
	case len(c.Args) > 3:
		c.W.Int(killed)
	case killed == 0:
		c.W.Error("ERR No such client")
	default:
		c.W.OK()
	}
	if suicide {
		c.Conn.CloseAfterReply()
	}
}

func (c *ConnCtx) parseKillFilter(f *killFilter) bool {
	f.skipMe = true
	for i := 2; i < len(c.Args); i += 2 {
		if i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return false
		}
		arg, ok := c.Args[i+1], true
		switch {
		case option(c.Args[i], "id"):
			if f.id, ok = parseInt(arg); !ok || f.id < 1 {
				c.W.Error("ERR client-id should be greater than 0")
				return false
			}
		case option(c.Args[i], "type"):
			if f.kind, ok = c.parseClientType(arg); !ok {
				return false
			}
		case option(c.Args[i], "addr"):
			f.addr = string(arg)
		case option(c.Args[i], "laddr"):
			f.laddr = string(arg)
		case option(c.Args[i], "user"):
			if f.user = string(arg); !c.Conn.UserExists(arg) {
				c.W.Error("ERR No such user '" + cstring(arg, len(arg)) + "'")
				return false
			}
		case option(c.Args[i], "skipme") && option(arg, "yes"):
			f.skipMe = true
		case option(c.Args[i], "skipme") && option(arg, "no"):
			f.skipMe = false
		default:
			c.W.Error(errSyntax)
			return false
		}
	}
	return true
}

var clientHelp = []string{
	"GETNAME",
	"    Return the name of the current connection.",
	"CACHING (YES|NO)",
	"    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
	"GETREDIR",
	"    Return the client ID we are redirecting to when tracking is enabled.",
	"ID",
	"    Return the ID of the current connection.",
	"INFO",
	"    Return information about the current client connection.",
	"KILL <ip:port>",
	"    Kill connection made from <ip:port>.",
	"KILL <option> <value> [<option> <value> [...]]",
	"    Kill connections. Options are:",
	"    * ADDR (<ip:port>|<unixsocket>:0)",
	"      Kill connections made from the specified address",
	"    * LADDR (<ip:port>|<unixsocket>:0)",
	"      Kill connections made to specified local address",
	"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
	"      Kill connections by type.",
	"    * USER <username>",
	"      Kill connections authenticated by <username>.",
	"    * SKIPME (YES|NO)",
	"      Skip killing current connection (default: yes).",
	"LIST [options ...]",
	"    Return information about client connections. Options:",
	"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
	"      Return clients of specified type.",
	"UNPAUSE",
	"    Stop the current client pause, resuming traffic.",
	"PAUSE <timeout> [WRITE|ALL]",
	"    Suspend all, or just write, clients for <timeout> milliseconds.",
	"REPLY (ON|OFF|SKIP)",
	"    Control the replies sent to the current connection.",
	"SETNAME <name>",
	"    Assign the name <name> to the current connection.",
	"SETINFO (LIB-NAME <name>|LIB-VER <version>)",
	"    Record the client library's name or version for the current connection.",
	"UNBLOCK <clientid> [TIMEOUT|ERROR]",
	"    Unblock the specified blocked client.",
	"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
	"         [OPTIN] [OPTOUT] [NOLOOP]",
	"    Control server assisted client side caching.",
	"TRACKINGINFO",
	"    Report tracking status for the current connection.",
	"MAINT_NOTIFICATIONS (ON [MOVING-ENDPOINT-TYPE <type>]|OFF)",
	"    Push SMIGRATED to the current connection when slots leave this node. RESP3 only.",
	"NO-EVICT (ON|OFF)",
	"    Protect current client connection from eviction.",
	"NO-TOUCH (ON|OFF)",
	"    Leave keys' access clocks alone when the current connection reads.",
}
