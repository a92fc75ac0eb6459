package tracking

import (
	"strings"
	"sync/atomic"

	"hypercache/node/pubsub"
	"hypercache/node/resp"
)

// Options are those of CLIENT TRACKING ON.
type Options struct {
	Redirect                     uint64 // the connection that is told, 0 for the client's own
	BCast, OptIn, OptOut, NoLoop bool
	Prefixes                     []string // with BCast; "" is every key
}

// Client is a connection that tracks.
type Client struct {
	ID uint64

	own    *pubsub.Subscriber
	mode   atomic.Pointer[mode]
	broken atomic.Bool // the redirection's connection is gone
	gone   atomic.Bool
}

// mode is how a client tracks at present.
type mode struct {
	Options
	target *pubsub.Subscriber // of the redirection, else the client's own
}

// NewClient describes a connection that is about to track: SetMode says how.
func NewClient(id uint64, own *pubsub.Subscriber) *Client { return &Client{ID: id, own: own} }

// SetMode changes how the client tracks; target is the redirection's, nil for none. What it read before counts on.
func (c *Client) SetMode(o Options, target *pubsub.Subscriber) {
	if target == nil {
		target = c.own
	}
	c.broken.Store(false)
	c.mode.Store(&mode{o, target})
}

// Options are those of the present mode.
func (c *Client) Options() *Options { return &c.mode.Load().Options }

// Broken says whether the redirection's connection was found gone.
func (c *Client) Broken() bool { return c.broken.Load() }

// InvalidateChannel is where a connection that speaks RESP2 hears of invalid keys.
const InvalidateChannel = "__redis__:invalidate"

// tell says that a key is not what the client has; nil that any key may not be.
func (c *Client) tell(key []byte) {
	if c.gone.Load() {
		return
	}
	target := c.mode.Load().target
	w := resp.Writer{Proto: target.Proto()}
	switch {
	case w.Proto == 3:
		w.Push(2)
		w.BulkString("invalidate")
	case c.mode.Load().Redirect != 0 && target.Subscribed():
		w.Array(3)
		w.BulkString("message")
		w.BulkString(InvalidateChannel)
	default:
		return // nothing that this connection could tell from a reply
	}
	if key == nil {
		w.Null()
	} else {
		w.Array(1)
		w.Bulk(key)
	}
	if !target.Push(w.Buf) && target != c.own {
		c.lostTarget()
	}
}

// lostTarget tells the client itself that nobody hears of its keys any more.
func (c *Client) lostTarget() {
	if c.broken.Swap(true) || c.own.Proto() != 3 {
		return
	}
	w := resp.Writer{Proto: 3}
	w.Push(2)
	w.BulkString("tracking-redir-broken")
	w.Int(int64(c.Options().Redirect))
	c.own.Push(w.Buf)
}

// follows says whether a key has one of the client's prefixes.
func (c *Client) follows(key string) bool {
	for _, p := range c.Options().Prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}
