package random

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Theme is what the connections of a session do together.
type Theme string

// The themes.
const (
	Transactions  Theme = "transactions"
	Scripts       Theme = "scripts"
	Messages      Theme = "messages"
	Waiting       Theme = "waiting"
	Notifications Theme = "notifications"
	Tracking      Theme = "tracking"
)

// Themes are all of them.
var Themes = []Theme{Transactions, Scripts, Messages, Waiting, Notifications, Tracking}

// Step is what one connection of a session sends, in one piece.
type Step struct {
	Conn     int
	Requests [][][]byte
	// Awaits says that the last request is answered by itself in a moment, though nobody may do anything for it.
	Awaits bool
	// Unblock, if not 0, sends nothing on Conn: its client is unblocked, by CLIENT UNBLOCK, as with TIMEOUT (1) or ERROR (2).
	Unblock int
}

// Session makes the steps of a number of connections. Its user says what state they got into.
type Session struct {
	Theme   Theme
	Cluster bool // only what means the same on one node and through several

	rng   *rand.Rand
	conns []*party
	id    int // of the last stream entry
	// several says that commands wait for several keys, and that no step changes several: which of them comes first is
	// another matter when a key had another type in between.
	several bool
}

// party is one connection.
type party struct {
	proto   int
	open    bool // MULTI
	blocked bool
	names   map[string]bool // its subscriptions
}

// NewSession makes a session of connections that speak the versions of RESP in protos.
func NewSession(rng *rand.Rand, theme Theme, protos []int) *Session {
	s := &Session{Theme: theme, rng: rng, id: 100, several: rng.IntN(2) == 0}
	for _, p := range protos {
		s.conns = append(s.conns, &party{proto: p, names: map[string]bool{}})
	}
	return s
}

// Blocked says whether a connection waits now.
func (s *Session) Blocked(conn int, is bool) { s.conns[conn].blocked = is }

// free are the connections that do not wait.
func (s *Session) free() (list []int) {
	for i, c := range s.conns {
		if !c.blocked {
			list = append(list, i)
		}
	}
	return list
}

// Next makes a step.
func (s *Session) Next() Step {
	free := s.free()
	step := Step{Conn: free[s.rng.IntN(len(free))]}
	switch s.Theme {
	case Transactions:
		step.Requests = s.transaction(s.conns[step.Conn])
	case Scripts:
		step.Requests = [][][]byte{s.scripted()}
	case Messages:
		step.Requests = [][][]byte{s.message(s.conns[step.Conn])}
	case Waiting:
		s.waiting(&step, len(free))
	case Notifications:
		step.Requests = s.notified(s.conns[step.Conn])
	case Tracking:
		step.Requests = s.tracked(s.conns[step.Conn])
	}
	if last := step.Requests; s.Theme != Waiting && len(last) == 1 && !s.conns[step.Conn].open {
		step.Awaits = waits[strings.ToUpper(string(last[0][0]))]
	}
	return step
}

// waits are the commands that wait; but where that is the theme, they do so for a moment only.
var waits = map[string]bool{"BLPOP": true, "BRPOP": true, "BLMOVE": true, "BRPOPLPUSH": true, "BLMPOP": true, "BZPOPMIN": true,
	"BZPOPMAX": true, "BZMPOP": true}

// one chooses one in n.
func (s *Session) one(n int) bool { return s.rng.IntN(n) == 0 }

// line makes a request of one of the lines.
func (s *Session) line(lines []string) [][]byte {
	args := expand(s.rng, Pick(s.rng, lines))
	for i, a := range args {
		if string(a) == "xNEXT" {
			s.id++
			args[i] = []byte(strconv.Itoa(s.id) + "-1")
		}
	}
	return args
}

// plain is a request that may be anywhere.
func (s *Session) plain() [][]byte {
	for {
		if args := Request(s.rng); Plain(args) && !s.unlike(args) {
			return args
		}
	}
}

// unlike are the requests that change nothing and count as a change in Redis alone (WATCH), or change what is no value and
// count as one here alone (tracking). A BITFIELD whose writes all fail makes or lengthens its value with zeros, which Redis does not
// count (nor replicate).
func (s *Session) unlike(args [][]byte) bool {
	switch name := strings.ToUpper(string(args[0])); s.Theme {
	case Transactions:
		return name == "LTRIM" || name == "PFMERGE" || name == "BITFIELD"
	case Tracking: // nor those whose number of keys Redis reads in another way to track than to run them
		return name != "XADD" && name != "XLEN" && strings.HasPrefix(name, "X") || slices.Contains([]string{"ZDIFF", "ZINTER", "ZUNION",
			"SINTERCARD", "ZINTERCARD"}, name)
	}
	return false
}

func lines(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }

var txLines = lines(`
WATCH
WATCH K
UNWATCH
UNWATCH x
MULTI
MULTI x
EXEC x
DISCARD x
PING
ECHO V
NOSUCH a
GET
CLIENT GETNAME
`)

// transaction queues, watches, and touches what others watch.
func (s *Session) transaction(c *party) [][][]byte {
	if !c.open {
		switch {
		case s.one(4):
			c.open = true
			if s.one(3) { // all of it at once
				c.open = false
				all := [][][]byte{Words("MULTI")}
				for range s.rng.IntN(6) {
					all = append(all, s.queueable())
				}
				return append(all, Words(Pick(s.rng, []string{"EXEC", "EXEC", "EXEC", "DISCARD"})))
			}
			return [][][]byte{Words("MULTI")}
		case s.one(4):
			return [][][]byte{expand(s.rng, Pick(s.rng, []string{"WATCH K", "WATCH K K", "WATCH K K K"}))}
		case s.one(20):
			args := s.line(txLines)
			c.open = c.open || len(args) == 1 && string(args[0]) == "MULTI"
			return [][][]byte{args}
		case s.one(30):
			return [][][]byte{Words(Pick(s.rng, []string{"EXEC", "DISCARD"}))}
		}
		return [][][]byte{s.plain()}
	}
	switch {
	case s.one(5):
		c.open = false
		return [][][]byte{Words("EXEC")}
	case s.one(20):
		c.open = false
		return [][][]byte{Words("DISCARD")}
	case s.one(30):
		args := s.line(txLines)
		if string(args[0]) == "EXEC" { // EXEC x ends it
			c.open = false
		}
		return [][][]byte{args}
	}
	return [][][]byte{s.queueable()}
}

func (s *Session) queueable() [][]byte {
	if s.one(12) {
		return Script(s.rng)
	}
	return s.plain()
}

func (s *Session) scripted() [][]byte {
	switch {
	case s.one(8):
		return s.plain()
	case s.one(50):
		return s.line(lines("SCRIPT EXISTS V V\nSCRIPT LOAD V\nEVALSHA V 0\nEVAL\nEVAL V\nEVALSHA_RO V 1 K\nSCRIPT FLUSH (SYNC|ASYNC|x|)\nSCRIPT x\nSCRIPT KILL"))
	}
	return Script(s.rng)
}

var channels = map[string][]string{
	"SUBSCRIBE":  {"ch1", "ch2", "{k}ch", "", "ch\x00\xff"},
	"PSUBSCRIBE": {"ch*", "*", "ch?", "{k}[a-c]h", "ch[12]", "x*", ""},
	"SSUBSCRIBE": {"ch1", "ch2", "{k}ch", ""},
}

// message subscribes and publishes.
func (s *Session) message(c *party) [][]byte {
	if c.proto == 2 && len(c.names) > 0 && !s.one(10) || s.one(3) {
		return s.subscription(c)
	}
	ask := lines(`
PUBSUB CHANNELS
PUBSUB CHANNELS P
PUBSUB SHARDCHANNELS
PUBSUB SHARDCHANNELS P
PUBSUB NUMPAT
PUBSUB NUMSUB ch1 ch2 {k}ch
PUBSUB SHARDNUMSUB ch1 {k}ch V
`)
	switch {
	case !s.Cluster && s.one(6):
		return s.line(ask)
	case s.one(10):
		return s.line(lines("PING\nPING V\nGET K\nSET K V\nPUBLISH V\nSUBSCRIBE\nPSUBSCRIBE\nRESET x"))
	case s.one(8):
		return Words("EVAL", "return redis.call('publish', KEYS[1], ARGV[1])", "1", Pick(s.rng, channels["SUBSCRIBE"]), Pick(s.rng, valueWords))
	case s.one(3):
		return Words("SPUBLISH", Pick(s.rng, channels["SSUBSCRIBE"]), Pick(s.rng, valueWords))
	}
	return Words("PUBLISH", Pick(s.rng, channels["SUBSCRIBE"]), Pick(s.rng, valueWords))
}

func (s *Session) subscription(c *party) [][]byte {
	kind := Pick(s.rng, []string{"SUBSCRIBE", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"})
	if s.one(2) {
		args := Words(strings.Replace(kind, "SUB", "UNSUB", 1))
		if s.one(4) { // all; one name each, since their order is by chance
			n := 0
			for name := range c.names {
				if k, _, _ := strings.Cut(name, " "); k == kind {
					n++
				}
			}
			if n > 1 {
				return s.subscription(c)
			}
			for name := range c.names {
				if k, _, _ := strings.Cut(name, " "); k == kind {
					delete(c.names, name)
				}
			}
			return args
		}
		name := Pick(s.rng, channels[kind])
		delete(c.names, kind+" "+name)
		return append(args, []byte(name))
	}
	args := Words(kind)
	for range 1 + s.rng.IntN(2) {
		name := Pick(s.rng, channels[kind])
		if kind == "SSUBSCRIBE" && len(args) > 1 {
			break // one slot
		}
		c.names[kind+" "+name] = true
		args = append(args, []byte(name))
	}
	return args
}

// Commands that store a result are not among these: Redis does not look who waits for a key when they overwrite a value, we do.
// Nor is XGROUP SETID: it has new entries for who waits, but Redis does not look until the next is added.
var waitLines, serveLines = lines(`
BLPOP K 0
BLPOP K K 0
BRPOP K K K 0
BLMOVE K K (LEFT|RIGHT) (LEFT|RIGHT) 0
BRPOPLPUSH K K 0
BLMPOP 0 1 K (LEFT|RIGHT)
BLMPOP 0 2 K K (LEFT|RIGHT) COUNT (1|2|3)
BZPOPMIN K 0
BZPOPMAX K K 0
BZMPOP 0 1 K (MIN|MAX)
BZMPOP 0 2 K K (MIN|MAX) COUNT (1|2|3)
XREAD BLOCK 0 STREAMS K $
XREAD BLOCK 0 COUNT 1 STREAMS K K $ $
XREAD BLOCK 0 COUNT 1 STREAMS K K 0 $
XREADGROUP GROUP g c BLOCK 0 STREAMS K >
XREADGROUP GROUP g c2 BLOCK 0 COUNT 1 STREAMS K >
XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS K K > >
`), lines(`
LPUSH K E
RPUSH K E E
RPUSH K E E E
LPUSHX K E
RPUSHX K E
LINSERT K BEFORE E E
LMOVE K K LEFT RIGHT
RPOPLPUSH K K
ZADD K ZS ZM
ZADD K 1 ZM 2 ZM
ZADD K 1 a 1 b 1 c
ZINCRBY K 1 ZM
XADD K xNEXT a 1
XADD K xNEXT a 1
XADD K MAXLEN 2 xNEXT a 1
XADD K xNEXT a 1
XGROUP CREATE K g $ MKSTREAM
XGROUP CREATE K g 0 MKSTREAM
XGROUP CREATE K g 0 MKSTREAM
XGROUP DESTROY K g
XDEL K xID
XTRIM K MAXLEN 0
XACK K g xID
DEL K
DEL K K
DEL K K K
UNLINK K
SET K V
RENAME K K
RENAMENX K K
COPY K K REPLACE
GETDEL K
SADD K ME
HSET K FI V
LPOP K
RPOP K 2
LTRIM K 0 0
ZREM K ZM
ZPOPMIN K
PEXPIREAT K 1
EXPIREAT K 1
RESTORE K 0 PAYLOAD REPLACE
GEOADD K 13 38 ZM
LMPOP 1 K LEFT
ZMPOP 1 K MIN
XREADGROUP GROUP g c STREAMS K >
XAUTOCLAIM K g c 0 0
FLUSHALL
LLEN K
TYPE K
`)

// waiting blocks, and serves who is blocked.
func (s *Session) waiting(step *Step, free int) {
	c := s.conns[step.Conn]
	switch {
	case c.open:
		if s.one(4) {
			c.open = false
			step.Requests = [][][]byte{Words("EXEC")}
			return
		}
		step.Requests = [][][]byte{s.serving()}
		if s.one(6) {
			step.Requests = [][][]byte{s.line(waitLines)} // does not wait there
		}
	case !s.several && s.one(12):
		all := [][][]byte{Words("MULTI")}
		for range 1 + s.rng.IntN(4) {
			all = append(all, s.serving())
		}
		step.Requests = append(all, Words("EXEC"))
	case !s.several && s.one(40):
		c.open = true
		step.Requests = [][][]byte{Words("MULTI")}
	case !s.several && s.one(10):
		step.Requests = [][][]byte{Words("EVAL", "for i, a in ipairs(ARGV) do redis.pcall('rpush', KEYS[1], a) redis.pcall('zadd', KEYS[2], i, a) end", "2",
			Pick(s.rng, Keys), Pick(s.rng, Keys), "a", "b", "c")}
	case s.one(12):
		for i := range s.conns {
			if s.conns[i].blocked {
				*step = Step{Conn: i, Unblock: 1 + s.rng.IntN(2)}
				return
			}
		}
		step.Requests = [][][]byte{s.line(serveLines)}
	case s.one(3) && free > 1:
		step.Requests = [][][]byte{s.waitsFor()}
		if s.one(8) { // more comes while it waits
			step.Requests = append(step.Requests, s.line(serveLines))
		}
	case s.one(25):
		step.Requests = [][][]byte{s.line(lines("BLPOP K 0.01\nBRPOP K K 0.003\nBLMOVE K K LEFT RIGHT 0.01\nBZPOPMIN K K 0.01\nXREAD BLOCK 7 STREAMS K $\nBLMPOP 0.01 1 K LEFT\nBZMPOP 0.002 1 K MAX\nXREADGROUP GROUP g c BLOCK 5 STREAMS K >"))}
		step.Awaits = true
	default:
		step.Requests = [][][]byte{s.line(serveLines)}
	}
}

// waitsFor is a command that waits for as many keys as it may.
func (s *Session) waitsFor() [][]byte {
	for {
		args := s.line(waitLines)
		keys := 0
		for _, a := range args {
			if slices.Contains(Keys, string(a)) {
				keys++
			}
		}
		if name := string(args[0]); s.several || keys == 1 || name == "BLMOVE" || name == "BRPOPLPUSH" {
			return args
		}
	}
}

// serving is what may be queued, too.
func (s *Session) serving() [][]byte {
	for {
		if args := s.line(serveLines); string(args[0]) != "FLUSHALL" {
			return args
		}
	}
}

// notified does what is told to others.
func (s *Session) notified(c *party) [][][]byte {
	switch {
	case s.one(10):
		return [][][]byte{s.line(serveLines)}
	case s.one(20):
		return [][][]byte{Script(s.rng)}
	case s.one(20):
		all := [][][]byte{Words("MULTI")}
		for range 1 + s.rng.IntN(4) {
			all = append(all, s.plain())
		}
		return append(all, Words("EXEC"))
	}
	return [][][]byte{s.plain()}
}

var trackLines = lines(`
CLIENT TRACKING ON
CLIENT TRACKING ON NOLOOP
CLIENT TRACKING ON OPTIN
CLIENT TRACKING ON OPTOUT
CLIENT TRACKING ON OPTIN NOLOOP
CLIENT TRACKING ON BCAST
CLIENT TRACKING ON BCAST NOLOOP
CLIENT TRACKING ON BCAST PREFIX {k}1
CLIENT TRACKING ON BCAST PREFIX {k}1 PREFIX {k}2
CLIENT TRACKING ON BCAST PREFIX {k} PREFIX {k}1
CLIENT TRACKING ON BCAST (OPTIN|OPTOUT)
CLIENT TRACKING ON PREFIX x
CLIENT TRACKING (ON|foo) OPTIN (OPTOUT|)
CLIENT TRACKING
CLIENT CACHING YES
CLIENT CACHING NO
CLIENT CACHING x
CLIENT TRACKINGINFO
CLIENT GETREDIR
`)

var mayTrack = []string{"GET", "MGET", "STRLEN", "GETRANGE", "LLEN", "LRANGE", "SISMEMBER", "SCARD", "HGET", "HLEN", "ZSCORE", "ZCARD",
	"EXISTS", "TYPE", "XLEN", "BITCOUNT"}

// tracked reads and changes what others read. It never ends tracking, since Redis tells a client that begins anew of what it
// read before, and has no transactions: here, what one reads counts as read before it.
func (s *Session) tracked(c *party) [][][]byte {
	switch {
	case s.one(8):
		args := s.line(trackLines)
		for s.Cluster && string(args[len(args)-1]) == "NOLOOP" { // through another node, what a client wrote itself it still hears of
			args = s.line(trackLines)
		}
		return [][][]byte{args}
	case s.one(6):
		read := expand(s.rng, "GET K")
		if s.one(2) {
			return [][][]byte{Words("CLIENT", "CACHING", Pick(s.rng, []string{"YES", "NO"})), read}
		}
		return [][][]byte{read}
	case s.one(3):
		for {
			if args := s.plain(); slices.Contains(mayTrack, strings.ToUpper(string(args[0]))) {
				return [][][]byte{args}
			}
		}
	}
	return [][][]byte{s.plain()}
}
