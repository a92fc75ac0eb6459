package command

import (
	"strconv"
	"time"
)

func serverCommands() []binding {
	return []binding{
		{name: "client|pause", conn: runClientPause},
		{name: "client|reply", conn: runClientReply},
		{name: "client|unpause", conn: func(c *ConnCtx) { c.Server.Unpause(); c.W.OK() }},
		{name: "lolwut", conn: func(c *ConnCtx) { c.W.Verbatim("txt", []byte("Redis ver. "+ServerVersion+"\n")) }},
		{name: "monitor", conn: func(c *ConnCtx) { c.Conn.Monitor(); c.W.OK() }},
		{name: "role", conn: runRole},
		{name: "swapdb", conn: runSwapDB},
		{name: "time", conn: runTime},
		{name: "wait", conn: runWait},
	}
}

// ReplyMode says which replies a client wants.
type ReplyMode uint8

// The modes of CLIENT REPLY. ReplySkip is ReplyOn again after the next command.
const (
	ReplyOn ReplyMode = iota
	ReplyOff
	ReplySkip
)

func runClientReply(c *ConnCtx) {
	switch {
	case option(c.Args[2], "on"):
		c.Conn.SetReply(ReplyOn)
		c.W.OK()
	case option(c.Args[2], "off"):
		c.Conn.SetReply(ReplyOff)
	case option(c.Args[2], "skip"):
		c.Conn.SetReply(ReplySkip)
	default:
		c.W.Error(errSyntax)
	}
}

// SetMonitor marks the connection for CLIENT LIST.
func (c *Client) SetMonitor(on bool) {
	if on {
		c.set(clientMonitor)
		return
	}
	c.clear(clientMonitor)
}

// timeout reads a number of milliseconds; the error is written when it is none.
func (c *ConnCtx) timeout(arg []byte) (time.Duration, bool) {
	n, ok := parseInt(arg)
	switch {
	case !ok:
		c.W.Error("ERR timeout is not an integer or out of range")
	case n < 0:
		c.W.Error("ERR timeout is negative")
	default:
		return time.Duration(min(n, int64(time.Hour/time.Millisecond)*24*365)) * time.Millisecond, true
	}
	return 0, false
}

func runClientPause(c *ConnCtx) {
	writes := false
	if len(c.Args) > 4 {
		c.subcommandSyntax()
		return
	}
	if len(c.Args) == 4 {
		if writes = option(c.Args[3], "write"); !writes && !option(c.Args[3], "all") {
			c.W.Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
			return
		}
	}
	if d, ok := c.timeout(c.Args[2]); ok {
		c.Server.Pause(d, writes)
		c.W.OK()
	}
}

// runRole answers as a primary, which every node is of some slots.
func runRole(c *ConnCtx) {
	v := c.Server.Cluster()
	replicas := make([]bool, len(v.Nodes))
	n := 0
	for _, r := range v.Ranges {
		if r.Primary != v.Self {
			continue
		}
		for _, at := range r.Replicas {
			if !replicas[at] {
				replicas[at] = true
				n++
			}
		}
	}
	offset := int64(0)
	if v.Self >= 0 && v.Self < len(v.Nodes) {
		offset = v.Nodes[v.Self].Offset
	}
	c.W.Array(3)
	c.W.BulkString("master")
	c.W.Int(offset)
	c.W.Array(n)
	for i, is := range replicas {
		if !is {
			continue
		}
		c.W.Array(3)
		c.W.BulkString(v.Nodes[i].Host)
		c.W.BulkString(strconv.Itoa(v.Nodes[i].Port))
		c.W.BulkString(strconv.FormatInt(v.Nodes[i].Offset, 10))
	}
}

func runSwapDB(c *ConnCtx) {
	// A lone node has one database too, as SELECT says.
	c.W.Error("ERR SWAPDB is not allowed in cluster mode")
}

func runTime(c *ConnCtx) {
	now := c.Server.UnixMicro()
	c.W.Array(2)
	c.W.BulkString(strconv.FormatInt(now/1e6, 10))
	c.W.BulkString(strconv.FormatInt(now%1e6, 10))
}

func runWait(c *ConnCtx) {
	want, ok := parseInt(c.Args[1])
	if !ok {
		c.W.Error(errNotInt)
		return
	}
	d, ok := c.timeout(c.Args[2])
	if !ok {
		return
	}
	if have, now := c.Conn.WaitReplicas(int(min(want, 1<<20)), d); now {
		c.W.Int(int64(have))
	}
}
