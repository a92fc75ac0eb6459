package command

import (
	"slices"
	"strings"

	"hypercache/node/tracking"
)

func trackingCommands() []binding {
	return []binding{
		{name: "client|caching", conn: runClientCaching},
		{name: "client|getredir", conn: runClientGetRedir},
		{name: "client|tracking", conn: runClientTracking},
		{name: "client|trackinginfo", conn: runClientTrackingInfo},
	}
}

// Tracking is how the connection tracks, nil if it does not.
func (c *Client) Tracking() *tracking.Client { return c.track.Load() }

// SetTracking changes that and returns how it did before.
func (c *Client) SetTracking(t *tracking.Client) *tracking.Client {
	c.clear(clientCachingYes | clientCachingNo)
	return c.track.Swap(t)
}

// TakeCaching says whether the keys of a command are to be remembered, and forgets what CLIENT CACHING said of it.
func (c *Client) TakeCaching(s *Spec) bool {
	t := c.track.Load()
	wanted := t != nil && (!t.Options().OptIn || c.has(clientCachingYes)) && (!t.Options().OptOut || !c.has(clientCachingNo))
	if !strings.HasPrefix(s.Name, "client|") {
		c.clear(clientCachingYes | clientCachingNo)
	}
	return wanted
}

// trackingState is what CLIENT LIST shows.
func (c *Client) trackingState() (flags string, redirect int64) {
	t := c.track.Load()
	if t == nil {
		return "", -1
	}
	flags = "t"
	if t.Broken() {
		flags += "R"
	}
	if t.Options().BCast {
		flags += "B"
	}
	return flags, int64(t.Options().Redirect)
}

func runClientTracking(c *ConnCtx) {
	o, ok := c.parseTracking()
	if !ok {
		return
	}
	cl := c.Conn.Client()
	old := cl.Tracking()
	switch {
	case option(c.Args[2], "on"):
		if !c.mayTrack(old, &o) {
			return
		}
	case option(c.Args[2], "off"):
		if old != nil {
			cl.SetTracking(nil)
			c.Server.Tracker().Stop(old)
			c.Server.Bus().Changed(nil)
		}
		c.W.OK()
		return
	default:
		c.W.Error(errSyntax)
		return
	}
	if o.BCast {
		if len(o.Prefixes) == 0 {
			o.Prefixes = []string{""}
		}
		if old != nil {
			o.Prefixes = append(o.Prefixes, old.Options().Prefixes...)
		}
		slices.Sort(o.Prefixes)
		o.Prefixes = slices.Compact(o.Prefixes)
	}
	t := old
	if t == nil {
		t = tracking.NewClient(cl.ID(), c.Conn.Subscriber())
	}
	t.SetMode(o, c.Server.Subscriber(o.Redirect))
	cl.SetTracking(t)
	c.Server.Tracker().Start(t)
	c.W.OK()
	c.Conn.Announce()
}

func (c *ConnCtx) parseTracking() (o tracking.Options, ok bool) {
	for i := 3; i < len(c.Args); i++ {
		more := i+1 < len(c.Args)
		switch {
		case option(c.Args[i], "redirect") && more:
			i++
			if o.Redirect != 0 {
				c.W.Error("ERR A client can only redirect to a single other client")
				return o, false
			}
			n, isInt := parseInt(c.Args[i])
			if !isInt {
				c.W.Error(errNotInt)
				return o, false
			}
			if n <= 0 || c.Server.Subscriber(uint64(n)) == nil {
				c.W.Error("ERR The client ID you want redirect to does not exist")
				return o, false
			}
			o.Redirect = uint64(n)
		case option(c.Args[i], "bcast"):
			o.BCast = true
		case option(c.Args[i], "optin"):
			o.OptIn = true
		case option(c.Args[i], "optout"):
			o.OptOut = true
		case option(c.Args[i], "noloop"):
			o.NoLoop = true
		case option(c.Args[i], "prefix") && more:
			i++
			o.Prefixes = append(o.Prefixes, string(c.Args[i]))
		default:
			c.W.Error(errSyntax)
			return o, false
		}
	}
	return o, true
}

// mayTrack checks that the options go together, and with those of before; the error is written otherwise.
func (c *ConnCtx) mayTrack(old *tracking.Client, o *tracking.Options) bool {
	was := tracking.Options{BCast: o.BCast}
	if old != nil {
		was = *old.Options()
	}
	problem := ""
	switch {
	case len(o.Prefixes) > 0 && !o.BCast:
		problem = "PREFIX option requires BCAST mode to be enabled"
	case was.BCast != o.BCast:
		problem = "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it " +
			"with a different mode."
	case o.BCast && (o.OptIn || o.OptOut):
		problem = "OPTIN and OPTOUT are not compatible with BCAST"
	case o.OptIn && o.OptOut:
		problem = "You can't specify both OPTIN mode and OPTOUT mode"
	case o.OptIn && was.OptOut || o.OptOut && was.OptIn:
		problem = "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it " +
			"with a different mode."
	case o.BCast:
		problem = prefixCollision(o.Prefixes, was.Prefixes)
	}
	if problem != "" {
		c.W.Error("ERR " + problem)
	}
	return problem == ""
}

// prefixCollision says which of the prefixes overlap: each with those of before, then with those behind it.
func prefixCollision(prefixes, before []string) string {
	overlap := func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
	for i, p := range prefixes {
		for _, q := range before {
			if overlap(p, q) {
				return "Prefix '" + p + "' overlaps with an existing prefix '" + q + "'. Prefixes for a single client must not overlap."
			}
		}
		for _, q := range prefixes[i+1:] {
			if overlap(p, q) {
				return "Prefix '" + p + "' overlaps with another provided prefix '" + q + "'. Prefixes for a single client must not overlap."
			}
		}
	}
	return ""
}

func runClientCaching(c *ConnCtx) {
	cl := c.Conn.Client()
	t := cl.Tracking()
	switch {
	case t == nil:
		c.W.Error("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case option(c.Args[2], "yes") && t.Options().OptIn:
		cl.set(clientCachingYes)
		c.W.OK()
	case option(c.Args[2], "yes"):
		c.W.Error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case option(c.Args[2], "no") && t.Options().OptOut:
		cl.set(clientCachingNo)
		c.W.OK()
	case option(c.Args[2], "no"):
		c.W.Error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	default:
		c.W.Error(errSyntax)
	}
}

func runClientGetRedir(c *ConnCtx) {
	_, redirect := c.Conn.Client().trackingState()
	c.W.Int(redirect)
}

func runClientTrackingInfo(c *ConnCtx) {
	cl := c.Conn.Client()
	t := cl.Tracking()
	flags, prefixes := []string{"off"}, []string(nil)
	if t != nil {
		prefixes = t.Options().Prefixes
		flags = []string{"on"}
		for _, f := range []struct {
			on   bool
			name string
		}{
			{t.Options().BCast, "bcast"}, {t.Options().OptIn, "optin"}, {cl.has(clientCachingYes), "caching-yes"},
			{t.Options().OptOut, "optout"}, {cl.has(clientCachingNo), "caching-no"}, {t.Options().NoLoop, "noloop"},
			{t.Broken(), "broken_redirect"},
		} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
	}
	_, redirect := cl.trackingState()
	c.W.Map(3)
	c.W.BulkString("flags")
	c.W.Set(len(flags))
	for _, f := range flags {
		c.W.BulkString(f)
	}
	c.W.BulkString("redirect")
	c.W.Int(redirect)
	c.W.BulkString("prefixes")
	c.W.Array(len(prefixes))
	for _, p := range prefixes {
		c.W.BulkString(p)
	}
}
