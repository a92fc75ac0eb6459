package command

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"hypercache/node/store"
)

// debugCommands serve of DEBUG what looks at keys or tests a client, to everyone; Redis 7.0 asks for a setting first,
// since its own can crash the server. What is refused is listed in debugRefused with the reason.
func debugCommands() []binding {
	return []binding{{name: "debug", scope: ScopeKey, run: runDebug, keys: debugKeys}}
}

// debugSpecs has those subcommands of DEBUG that speak of every key, or of the asked node, go another way than the others.
func debugSpecs(debug *Spec) {
	spec := func(name string, scope Scope, merge Merge, run func(*Ctx)) *Spec {
		s := *debug
		s.Name, s.Scope, s.Merge, s.keys, s.run = "debug|"+name, scope, merge, nil, run
		return &s
	}
	digest := spec("digest", ScopeCluster, MergeDigest, runDebugDigest)
	populate := spec("populate", ScopeCluster, MergeSteps, nil)
	populate.Write = true
	reload := spec("reload", ScopeCluster, MergeSteps, reloadPart("RELOAD", throughRDB))
	loadAOF := spec("loadaof", ScopeCluster, MergeSteps, reloadPart("LOADAOF", throughLog))
	activeExpire := spec("set-active-expire", ScopeConn, MergeNone, nil)
	activeExpire.conn = runActiveExpire
	log := spec("log", ScopeConn, MergeNone, nil)
	log.conn = runDebugLog
	debug.special = func(args [][]byte) *Spec {
		switch n := len(args); {
		case n == 2 && option(args[1], "digest"):
			return digest
		case n >= 3 && n <= 5 && option(args[1], "populate"):
			return populate
		case n >= 2 && option(args[1], "reload"):
			return reload
		case n >= 2 && option(args[1], "loadaof"):
			return loadAOF
		case n == 3 && option(args[1], "set-active-expire"):
			return activeExpire
		case n == 3 && option(args[1], "log"):
			return log
		}
		return nil
	}
}

// runActiveExpire switches the sweep of the node that was asked. Redis reads anything that is no number as 0; a slip must not
// leave expired keys where they are.
func runActiveExpire(c *ConnCtx) {
	switch string(c.Args[2]) {
	case "0", "1":
		c.Server.SetActiveExpire(c.Args[2][0] == '1')
		c.W.OK()
	default:
		c.W.Error("ERR DEBUG SET-ACTIVE-EXPIRE takes 0 or 1, not '" + cstring(c.Args[2], 128) + "'")
	}
}

// maxDebugLog bounds a message of DEBUG LOG, in bytes as they are logged.
const maxDebugLog = 1024

func runDebugLog(c *ConnCtx) {
	text := strconv.QuoteToASCII(string(c.Args[2][:min(len(c.Args[2]), maxDebugLog)]))
	text = text[1 : len(text)-1]
	if len(text) > maxDebugLog || len(c.Args[2]) > maxDebugLog {
		text = text[:min(len(text), maxDebugLog)] + "… (cut)"
	}
	c.Server.Log("DEBUG LOG: " + text)
	c.W.OK()
}

// runDebugDigest answers for one shard: the digests of its keys, added up.
func runDebugDigest(c *Ctx) {
	var all digest
	c.Shard.Range(func(r store.Ref) bool {
		if c.live(r) {
			var d digest
			d.mix(r.Key())
			d.value(r)
			all.add(d[:])
		}
		return true
	})
	c.W.Bulk(all[:])
}

// JoinDigests makes Redis' digest of the keyspace, database 0, of those of its shards, which are strings of 20 bytes each.
func JoinDigests(shards [][]byte) string {
	var sum, empty digest
	for _, s := range shards {
		for i := range min(len(s), len(sum)) {
			sum[i] ^= s[i]
		}
	}
	if sum != empty {
		var first digest
		first.mix(make([]byte, 4)) // the number of the database
		for i := range sum {
			sum[i] ^= first[i]
		}
	}
	return hex.EncodeToString(sum[:])
}

// debugKeys finds the keys of the subcommands that have any; the others run on any shard.
func debugKeys(args [][]byte, dst []int) []int {
	switch {
	case len(args) < 3:
	case option(args[1], "object"):
		dst = append(dst, 2)
	case option(args[1], "digest-value"):
		for i := 2; i < len(args); i++ {
			dst = append(dst, i)
		}
	}
	return dst
}

// debugRefused are subcommands of Redis 7.0 that tests and tools may ask for, with why there is none here. An OK without an effect
// would have a test go on that rests on the effect.
var debugRefused = map[string]string{
	"change-repl-id":               "replication is by group and term, which no client changes",
	"listpack":                     "collections have a memory layout of their own",
	"quicklist":                    "collections have a memory layout of their own",
	"htstats":                      "the index of keys has a layout of its own",
	"htstats-key":                  "collections have a memory layout of their own",
	"sdslen":                       "strings have a memory layout of their own; see MEMORY USAGE",
	"structsize":                   "there are none of Redis' structures here",
	"mallctl":                      "the allocator is not jemalloc",
	"mallctl-str":                  "the allocator is not jemalloc",
	"leak":                         "no client may have the node lose memory",
	"stringmatch-test":             "the matcher of patterns is tested with the code",
	"set-disable-deny-scripts":     "what a script may not run would wait with its group locked",
	"set-skip-checksum-validation": "checksums are looked at always",
	"aof-flush-sleep":              "no client may stall the log",
	"pause-cron":                   "a node whose housekeeping stands still is taken for dead; for expired keys there is SET-ACTIVE-EXPIRE",
	"replybuffer":                  "reply buffers are lent while there are replies, and have no size to set",
	"config-rewrite-force-all":     "the service manager owns the configuration file",
	"clusterlink":                  "the streams between nodes are no bus of Redis'",
	"drop-cluster-packet-filter":   "the streams between nodes are no bus of Redis'",
	"restart":                      "the service manager restarts the node",
	"crash-and-recover":            "the service manager restarts the node",
	"segfault":                     "no client may stop the node",
	"panic":                        "no client may stop the node",
	"oom":                          "no client may stop the node",
	"assert":                       "no client may stop the node",
	"replicate":                    "its commands would make replicas differ",
}

// unknownDebug is Redis' answer to a subcommand that does not exist, or has another number of arguments.
func unknownDebug(args [][]byte) string {
	return "ERR unknown subcommand or wrong number of arguments for '" + cstring(args[1], 128) + "'. Try DEBUG HELP."
}

func runDebug(c *Ctx) {
	name, n := strings.ToLower(cstring(c.Args[1], len(c.Args[1]))), len(c.Args)
	reason, refused := debugRefused[name]
	switch {
	case name == "help" && n == 2:
		writeHelp(c.W, "DEBUG", debugHelp)
	case name == "object" && n == 3:
		c.debugObject()
	case name == "digest-value" && n > 2:
		c.debugDigests()
	case name == "sleep" && n == 3:
		c.debugSleep()
	case name == "error" && n == 3:
		c.W.Error(cstring(c.Args[2], len(c.Args[2])))
	case name == "protocol" && n == 3:
		c.debugProtocol()
	case name == "quicklist-packed-threshold" && n == 3:
		if size, ok := parseMemory(string(c.Args[2])); !ok || size < 0 || size > 4<<30 {
			c.W.Error("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
			return
		}
		c.W.OK() // there are no packed nodes for it to matter to
	case name == "client-eviction" && n == 2:
		c.W.Error("ERR maxmemory-clients is disabled.") // as it always is
	case refused:
		c.W.Error("ERR DEBUG " + strings.ToUpper(name) + " is not served: " + reason)
	default:
		c.W.Error(unknownDebug(c.Args))
	}
}

func (c *Ctx) debugObject() {
	r, ok := c.peek(c.Args[2])
	if !ok {
		c.W.Error(errNoSuchKey)
		return
	}
	c.W.SimpleString(fmt.Sprintf("Value at:0x0 refcount:1 encoding:%s serializedlength:%d lru:0 lru_seconds_idle:%d",
		r.Encoding(), r.MemoryUsage(), r.IdleSeconds(c.Now)))
}

// maxDebugSleep is the longest DEBUG SLEEP, in seconds.
const maxDebugSleep = 3600

// debugSleep answers after a number of seconds. Redis does nothing else meanwhile, for anybody; what a client's tests look at
// is what their own connection sees of a server that is slow to answer, and a node of a cluster that stood still would be
// taken for dead and lose its slots to others. In MULTI there is no waiting.
func (c *Ctx) debugSleep() {
	seconds, err := strconv.ParseFloat(string(c.Args[2]), 64)
	if !(seconds > 0) || err != nil || c.NoBlock || c.Waited {
		c.W.OK() // as strtod reads what is none
		return
	}
	c.Block = Block{Asked: true, Until: c.Now + int64(min(seconds, maxDebugSleep)*1000)}
}

// debugProtocol answers with a value of the type that a client's tests ask for.
func (c *Ctx) debugProtocol() {
	switch name := strings.ToLower(string(c.Args[2])); name {
	case "string":
		c.W.BulkString("Hello World")
	case "integer":
		c.W.Int(12345)
	case "double":
		c.W.Double(3.141)
	case "null":
		c.W.Null()
	case "array":
		c.W.Array(3)
		c.debugNumbers()
	case "set":
		c.W.Set(3)
		c.debugNumbers()
	case "map":
		c.W.Map(3)
		for i := range int64(3) {
			c.W.Int(i)
			c.W.Bool(i == 1)
		}
	case "bignum":
		c.W.BigNumber("1234567999999999999999999999999999999")
	case "verbatim":
		c.W.Verbatim("txt", []byte("This is a verbatim\nstring"))
	case "true", "false":
		c.W.Bool(name == "true")
	case "attrib":
		if c.W.Proto == 3 {
			c.W.Attribute(1)
			c.W.BulkString("key-popularity")
			c.W.Array(2)
			c.W.BulkString("key:123")
			c.W.Int(90)
		}
		c.W.BulkString("Some real reply following the attribute")
	case "push":
		if c.W.Proto != 3 {
			c.W.Error("ERR RESP2 is not supported by this command")
			return
		}
		c.W.Push(2)
		c.W.BulkString("server-cpu-usage")
		c.W.Int(42)
		c.W.BulkString("Some real reply following the push reply")
	default:
		c.W.Error("ERR Wrong protocol type name. Please use one of the following: " +
			"string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false")
	}
}

func (c *Ctx) debugNumbers() {
	for i := range int64(3) {
		c.W.Int(i)
	}
}

// debugDigests answers with Redis' digests of values, so that they can be compared with a redis-server's.
func (c *Ctx) debugDigests() {
	c.W.Array(len(c.Args) - 2)
	for _, key := range c.Args[2:] {
		var d digest
		if r, ok := c.peek(key); ok {
			d.value(r)
		}
		c.W.SimpleString(hex.EncodeToString(d[:]))
	}
}

// digest is a fingerprint of elements: what is added counts in any order, what is mixed in counts in its order.
type digest [sha1.Size]byte

func (d *digest) add(b []byte) {
	for i, x := range sha1.Sum(b) {
		d[i] ^= x
	}
}

func (d *digest) mix(b []byte) {
	d.add(b)
	*d = sha1.Sum(d[:])
}

func (d *digest) value(r store.Ref) {
	// Redis numbers its types from 0, and keeps 5 for modules.
	number := map[store.Type]uint32{store.String: 0, store.List: 1, store.Set: 2, store.ZSet: 3, store.Hash: 4, store.Stream: 6}
	d.mix(binary.BigEndian.AppendUint32(nil, number[r.Type()]))
	pair := func(a, b []byte) {
		var e digest
		e.mix(a)
		e.mix(b)
		d.add(e[:])
	}
	switch r.Type() {
	case store.String:
		d.mix(r.Value())
	case store.List:
		l := r.Elements()
		l.Each(0, 1, func(_ int, e []byte) bool { d.mix(e); return true })
	case store.Set:
		m := r.Members()
		m.Each(func(e []byte) bool { d.add(e); return true })
	case store.Stream:
		t := r.Stream()
		t.Each(store.StreamID{}, store.MaxStreamID, func(e *store.StreamEntry) bool {
			d.mix(fmt.Appendf(nil, "%d.%d", e.ID.Ms, e.ID.Seq))
			e.Each(func(field, value []byte) {
				d.mix(field)
				d.mix(value)
			})
			return true
		})
	case store.Hash:
		h := r.Fields()
		h.Each(func(field, value []byte) bool { pair(field, value); return true })
	case store.ZSet:
		z := r.SortedSet()
		z.Each(0, 1, func(e []byte, score float64) bool {
			pair(e, appendScore(nil, score))
			return true
		})
	}
	if r.ExpireAt() != 0 {
		d.add([]byte("!!expire!!"))
	}
}

var debugHelp = []string{
	"DIGEST",
	"    Output a hex signature of all keys of the cluster, that of a Redis with the same keys.",
	"DIGEST-VALUE <key> [<key> ...]",
	"    Output a hex signature of the values of all the specified keys.",
	"CLIENT-EVICTION",
	"    Return the error of a server without maxmemory-clients.",
	"ERROR <string>",
	"    Return a Redis protocol error with <string> as message.",
	"LOADAOF",
	"    Take every key of the cluster to the form of the log and back, and compare.",
	"LOG <message>",
	"    Write <message> to the log of this node.",
	"OBJECT <key>",
	"    Show low level info about `key` and associated value.",
	"POPULATE <count> [<prefix>] [<size>]",
	"    Create <count> string keys named key:<num>, but for those that exist. If",
	"    <prefix> is specified then it is used instead of the 'key' prefix.",
	"PROTOCOL <type>",
	"    Reply with a test value of the specified type. <type> can be: string,",
	"    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
	"    true, false.",
	"QUICKLIST-PACKED-THRESHOLD <size>",
	"    Accepted without an effect.",
	"RELOAD [MERGE|NOFLUSH|NOSAVE ...]",
	"    Take every key of the cluster to the form of an RDB file and back, and",
	"    compare. The keyspace stays as it is, whatever the option.",
	"SET-ACTIVE-EXPIRE <0|1>",
	"    0 has this node leave expired keys where they are until somebody asks for",
	"    them, until it restarts. 1 has it delete them in the background again.",
	"SLEEP <seconds>",
	"    Answer after <seconds>. Other clients are served meanwhile.",
}
