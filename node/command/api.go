package command

import (
	"math/rand/v2"
	"time"

	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/store"
	"hypercache/node/tracking"
)

// Scope says which part of the cluster a command speaks about, and so who runs it.
type Scope uint8

const (
	// ScopeConn commands concern the connection or the server; ConnCtx.Run executes them where the client is.
	ScopeConn Scope = iota
	// ScopeKey commands run on the shard of their keys, which must share one slot; Ctx.Run executes them.
	ScopeKey
	// ScopeScatter commands take keys of any slots; the caller splits them and runs RunPart per shard.
	ScopeScatter
	// ScopeCluster commands speak about every key; the caller runs RunPart on every shard.
	ScopeCluster
	// ScopeNode commands speak of transactions and of scripts, which are the caller's: it carries them out.
	ScopeNode
)

// Merge says how the replies of RunPart become one reply. An error reply of any part is the reply of the whole.
type Merge uint8

const (
	// MergeNone is for commands that are never split.
	MergeNone Merge = iota
	// MergeSum adds integers (DEL, EXISTS, DBSIZE).
	MergeSum
	// MergeOK answers +OK when all did (MSET, FLUSHALL).
	MergeOK
	// MergeArrayByKey puts each part's elements back at the place of its key in the request (MGET).
	MergeArrayByKey
	// MergeConcat appends arrays (KEYS).
	MergeConcat
	// MergeHot takes the highest of lists of hot keys (HOTKEYS).
	MergeHot
	// MergeDigest combines digests of shards (DEBUG DIGEST); see JoinDigests.
	MergeDigest
	// MergeSteps is for commands that the caller makes many of, one after the other: POPULATE's SETs, and of DEBUG RELOAD
	// and LOADAOF one for each piece of each shard.
	MergeSteps
	// MergeOne asks one shard at a time (SCAN: the cursor names it; RANDOMKEY: any that has keys).
	MergeOne
)

// Flags are Redis' command flags, as COMMAND INFO names them.
type Flags uint32

// The flags of the commands in the table.
const (
	FlagWrite Flags = 1 << iota
	FlagReadonly
	FlagDenyOOM
	FlagAdmin
	FlagPubSub
	FlagNoScript
	FlagBlocking
	FlagLoading
	FlagStale
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagAsking
	FlagFast
	FlagNoAuth
	FlagMayReplicate
	FlagNoAsyncLoading
	FlagNoMulti
	FlagAllowBusy
	FlagMovableKeys
	FlagNoMandatoryKeys
)

// Spec describes one command or subcommand. Specs are created once and never change; compare them by pointer.
type Spec struct {
	// Name is lower case; a subcommand's holds its container's too: "client|list".
	Name string
	// Arity counts the command name; negative means "at least".
	Arity int
	Flags Flags
	// FirstKey, LastKey and KeyStep place the keys in the arguments as in COMMAND INFO; FirstKey 0 means no keys, a
	// negative LastKey counts from the end. Keys finds those of commands with FlagMovableKeys too.
	FirstKey, LastKey, KeyStep int
	Scope                      Scope
	Merge                      Merge
	// OneKey says that FirstKey is the place of the only key, always.
	OneKey bool
	// Write and DenyOOM repeat the flags that the write path asks about.
	Write, DenyOOM bool
	// Script is set on the commands that run a script. Its commands may write although this one is no write command.
	Script bool
	// Container is set on commands that only hold subcommands (CLIENT, CONFIG, OBJECT, CLUSTER, COMMAND); Sub finds them.
	Container bool

	// Quick says that a run never takes long: constant or logarithmic time, and one key.
	Quick bool

	number  int                       // from 0, dense
	special func(args [][]byte) *Spec // another spec for a request whose arguments say so; nil for nearly all commands
	subs    []*Spec
	run     func(*Ctx)
	conn    func(*ConnCtx)
	keys    func(args [][]byte, dst []int) []int
	effect  bool
}

// Ctx is one execution on one shard, whose lock the caller holds. It may be reused from command to command.
type Ctx struct {
	Spec *Spec
	// Args are the request, the command's name first. They may alias a read buffer; nothing keeps them.
	Args  [][]byte
	Shard *store.Shard
	// Now is the primary's clock in unix milliseconds.
	Now int64
	// W takes the reply.
	W *resp.Writer
	// FX takes the effects; nil when nobody wants them.
	FX *Effects
	// Events takes what happened to keys; nil when nobody wants to know.
	Events *Events
	// NoBlock says that a command that would wait answers as if it had waited in vain, as in MULTI and in scripts.
	NoBlock bool
	// InScript says that a script runs the command.
	InScript bool
	// Block is set by a command that wants to wait; the caller clears it before a run.
	Block Block
	// Waited says that the command asked to wait before and is run again.
	Waited bool
	// Ready is the key whose change makes a command run again that waits for several: it is served from that one alone, as
	// in Redis. nil if it may be any.
	Ready []byte
	// Eval runs the script that a command with Spec.Script asks for.
	Eval func(*Ctx)
	// Hot lists the keys of this shard that are asked for most, n at most; nil where nobody counts.
	Hot func(now int64, n int) []HotKey
	// RNG serves RANDOMKEY.
	RNG *rand.Rand
	// Policy is the DB's eviction policy: OBJECT FREQ and IDLETIME depend on it.
	Policy store.Policy

	scratch [64]byte
}

// Run executes a ScopeKey command: the reply goes to W, effects go to FX. Reads see an expired key as absent; a write
// to an expired key deletes it first, with a DEL effect. Arity has been checked (Resolve). An error reply means that
// nothing changed.
func (c *Ctx) Run() {
	c.Shard.SetClock(c.Now)
	c.Spec.run(c)
}

// RunPart executes one shard's part of a ScopeScatter or ScopeCluster command. For ScopeScatter Args hold the command's
// name and the keys (for MSET, keys and values) of this shard alone. For ScopeCluster Args are the whole request, with
// one exception: SCAN's cursor is the shard's own (SplitScanCursor).
func (c *Ctx) RunPart() {
	c.Shard.SetClock(c.Now)
	c.Spec.run(c)
}

// ConnCtx is one execution of a ScopeConn command.
type ConnCtx struct {
	Spec   *Spec
	Args   [][]byte
	W      *resp.Writer
	Conn   Conn
	Server Server
	// Now is in milliseconds, of a clock that Client.Note is told the time of too. It tells ages only.
	Now int64
}

// Run executes a ScopeConn command.
func (c *ConnCtx) Run() { c.Spec.conn(c) }

// Conn is the connection that a ScopeConn command runs on. Its methods are called by the goroutine that runs the
// command, and must not block.
type Conn interface {
	// Client is the connection's state that commands own.
	Client() *Client
	// SetProto switches to RESP 2 or 3, this command's own reply included (the command sets W.Proto itself).
	SetProto(proto int)
	// Subscriber has the connection's subscriptions; TakePushes moves messages that it got already ahead of what is
	// written next.
	Subscriber() *pubsub.Subscriber
	TakePushes()
	// Announce holds the command's reply back until the other nodes know what this one wants to hear now.
	Announce()
	// Monitor shows the connection every command of the node's clients; SetReply says which replies it wants.
	Monitor()
	SetReply(m ReplyMode)
	// WaitReplicas returns how many replicas have the connection's last write; or false, when the number is to be the
	// command's reply later: when there are as many as wanted, or after the timeout (0 for none).
	WaitReplicas(want int, timeout time.Duration) (have int, now bool)
	// Login makes the connection that user, if there is one that may come in with the password; asked is the command that
	// wants it. It answers false, and changes nothing, if not.
	Login(user, password, asked []byte) bool
	// LoggedIn says that the connection is a user, not one that has yet to give a password.
	LoggedIn() bool
	// PasswordLess says that the user default needs no password.
	PasswordLess() bool
	// UserExists says whether there is a user of that name.
	UserExists(name []byte) bool
	// Reset ends subscriptions and whatever else the connection observes, and makes it what it was when it was opened.
	Reset()
	// CloseAfterReply closes the connection once its replies have left.
	CloseAfterReply()
}

// Server is the node that a ScopeConn command runs on. Its methods must not block, and are safe for concurrent use.
type Server interface {
	// EachClient calls yield for every open connection, oldest first, until it returns false.
	EachClient(yield func(*Client) bool)
	// KillClient closes another connection soon; EachClient has it no more.
	KillClient(id uint64)
	// UnblockClient ends the wait of a client that waits for keys, with an error or as if its time were over, and tells
	// whether it waited.
	UnblockClient(id uint64, withError bool) bool
	// SetActiveExpire switches the node's sweep of expired keys, until its restart.
	SetActiveExpire(on bool)
	// Log writes a message of a client's to the node's log.
	Log(message string)
	// UnixMicro is the time that keys live by.
	UnixMicro() int64
	// Info adds the fields of one section of INFO, lower case ("server", "memory", …), in their order. A section that
	// adds nothing prints its heading only, as in Redis.
	Info(section string, add func(field, value string))
	// Bus reaches the subscribers of all nodes, PubSub has those of this one.
	Bus() *pubsub.Bus
	PubSub() *pubsub.Registry
	// Tracker knows the clients that cache keys, Subscriber finds the one of a connection, nil if it is gone.
	Tracker() *tracking.Tracker
	Subscriber(id uint64) *pubsub.Subscriber
	// Pause holds back the clients' commands on keys, Unpause ends that.
	Pause(d time.Duration, onlyWrites bool)
	Unpause()
	// Record is what is known of the commands that ran.
	Record() *Record
	// Config is the node's table of parameters for CONFIG GET and SET.
	Config() *Config
	// ResetStats is CONFIG RESETSTAT.
	ResetStats()
	// RewriteLog has the append-only directory rewritten soon (BGREWRITEAOF). problem is why not, "" if all is well.
	RewriteLog() (problem string)
	// ClusterEnabled says whether the node speaks as part of a cluster (HELLO's mode, SELECT's errors, CLUSTER *).
	ClusterEnabled() bool
	// Cluster is the present topology. The caller does not modify it.
	Cluster() *ClusterView
	// CountKeysInSlot and KeysInSlot speak about the keys that this node holds.
	CountKeysInSlot(slot uint16) int
	KeysInSlot(slot uint16, max int) [][]byte
}

// ClusterView is the topology as CLUSTER shows it: immutable once handed out.
type ClusterView struct {
	// Epoch is the committed epoch of the topology.
	Epoch uint64
	// OK is false while some slot has no live primary (cluster_state:fail).
	OK bool
	// Self is the index in Nodes of the node that answers.
	Self  int
	Nodes []ClusterNode
	// Ranges cover the assigned slots in ascending order, without overlap.
	Ranges []ClusterRange
}

// ClusterNode is one member.
type ClusterNode struct {
	// ID is server.node_id; clients see its SHA-1 in hexadecimal (NodeID).
	ID string
	// Host is the address that clients should dial: an IP, or a name, which is then shown as hostname too.
	Host string
	// Port is the RESP port, BusPort the internal one.
	Port, BusPort int
	// TLS is set when Port speaks TLS.
	TLS bool
	// Health is "online", "loading" or "failed", as in CLUSTER SHARDS.
	Health string
	// Leaving says that the node is about to stop, or to leave the cluster.
	Leaving bool
	// Offset is the replication offset to report.
	Offset int64
}

// ClusterRange is a run of slots with the same nodes, given by their indexes in ClusterView.Nodes.
type ClusterRange struct {
	First, Last uint16
	Primary     int
	Replicas    []int
}
