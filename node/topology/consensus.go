package topology

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// snapshotEvery is the number of log entries between snapshots; the whole state is tens of kilobytes, with libraries of
// functions at most some 11 MB.
const snapshotEvery = 512

// reserved is how many bytes of disk Raft's log keeps for itself. Snapshots bound it well below, but for large libraries of functions.
const reserved = 16 << 20

// maxAppend is how many entries one message to a follower holds: with libraries of functions in all of them it still passes a
// slow network within the transport's timeout.
const maxAppend = 8

// consensus is the Raft group's local part: stores, transport and the library's goroutines.
type consensus struct {
	raft      *raft.Raft
	store     *raftboltdb.BoltStore
	log       *logCache
	transport *transport
	notify    chan bool // leadership gained or lost; the controller drains it
	fresh     bool      // there was no Raft state when it was opened
	last      uint64    // index of the log's last entry when it was opened
}

// openConsensus starts Raft. On error the stream is closed, too.
func openConsensus(o *Options, f *fsm, addressOf func(id string) (string, bool)) (*consensus, error) {
	log := hclogTo(o.Logger)
	c := &consensus{notify: make(chan bool, 16)}
	c.transport = newTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: addresses(addressOf), Logger: log, Stream: o.Stream, MaxPool: 2, Timeout: 2 * time.Second,
		// No pipelining: in raft v1.8.0 a follower that refuses one message, as with a full disk, can leave the leader's
		// sender to it waiting for ever (pipelineDecode has returned, netPipeline.AppendEntries waits for room).
		MaxRPCsInFlight: 1,
	}), o.Logger)
	var err error
	file := filepath.Join(o.DataDir, "raft.db")
	c.store, err = raftboltdb.New(raftboltdb.Options{Path: file, BoltOptions: &bbolt.Options{Timeout: time.Second}})
	if err != nil {
		_ = c.transport.Close()
		return nil, fmt.Errorf("open raft store: %w", err)
	}
	if err := reserve(file, reserved); err != nil {
		o.Logger.Warn("no space is reserved for the topology's log: a full disk would stop it", "file", file, "error", err)
	}
	if err := c.start(o, f, log); err != nil {
		_ = c.transport.Close()
		_ = c.store.Close()
		return nil, err
	}
	return c, nil
}

func (c *consensus) start(o *Options, f *fsm, log hclog.Logger) error {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(o.DataDir, 2, log)
	if err != nil {
		return fmt.Errorf("open raft snapshots: %w", err)
	}
	has, err := raft.HasExistingState(c.store, c.store, snapshots)
	if err != nil {
		return fmt.Errorf("read raft state: %w", err)
	}
	c.fresh = !has
	c.transport.blank.Store(!has)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(o.NodeID)
	conf.HeartbeatTimeout, conf.ElectionTimeout = o.Timing.Heartbeat, o.Timing.Heartbeat
	conf.LeaderLeaseTimeout, conf.CommitTimeout = o.Timing.LeaderLease, o.Timing.Commit
	conf.SnapshotThreshold, conf.TrailingLogs = snapshotEvery, snapshotEvery
	conf.ShutdownOnRemove = false // a drained node goes on answering until its owner closes it
	conf.NoLegacyTelemetry = true
	conf.NotifyCh, conf.Logger = c.notify, log
	conf.MaxAppendEntries = maxAppend
	var store raft.LogStore = c.store
	if o.wrapLog != nil {
		store = o.wrapLog(store)
	}
	c.log = &logCache{LogStore: store, fatal: o.Fatal}
	if c.raft, err = raft.NewRaft(conf, f, c.log, c.store, snapshots, c.transport); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	c.last = c.raft.LastIndex()
	f.restored.Store(true)
	f.reached(c.raft.AppliedIndex()) // what the node's own snapshot held
	if has {
		c.leadIfAlone(o.NodeID)
	}
	return nil
}

// lastCommand is the index of the newest command among the log's entries up to index; 0 if a snapshot has them all.
func (c *consensus) lastCommand(index uint64) (uint64, error) {
	first, err := c.store.FirstIndex()
	if err != nil {
		return 0, fmt.Errorf("read raft log: %w", err)
	}
	if first == 0 {
		return 0, nil // the log is empty
	}
	for i := index; i >= first; i-- {
		var l raft.Log
		if err := c.store.GetLog(i, &l); err != nil {
			return 0, fmt.Errorf("read raft log at %d: %w", i, err)
		}
		if l.Type == raft.LogCommand {
			return i, nil
		}
	}
	return 0, nil
}

// found makes this node the single voter of a new Raft group.
func (c *consensus) found(id, addr string) error {
	c.transport.blank.Store(false)
	err := c.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(id), Address: raft.ServerAddress(addr)}}}).Error()
	if err != nil {
		return fmt.Errorf("found cluster: %w", err)
	}
	c.leadIfAlone(id)
	return nil
}

// leadIfAlone makes an only voter stand for election at once: there is nobody whose heartbeat it could wait for.
func (c *consensus) leadIfAlone(id string) {
	f := c.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	voters, self := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || string(s.ID) == id
		}
	}
	if voters == 1 && self {
		c.transport.timeoutNow(id)
	}
}

func (c *consensus) close() error {
	err := c.raft.Shutdown().Error()
	_ = c.transport.Close() // closing listeners and idle connections: nothing to report
	if e := c.store.Close(); err == nil {
		err = e
	}
	return err
}

// transport is Raft's network transport with two additions. timeoutNow puts a request of our own among the received.
//
// And a blank node, which began with an empty log and has neither founded the cluster nor been taken in by its leader, refuses
// everything. It may be a voter that lost its disk: its vote, or what it would acknowledge, could make a leader of a server that
// lacks what it once had and forgot. The leader takes it out of Raft's configuration first (forget), which needs a majority of the
// others, and then in (methodJoin).
type transport struct {
	*raft.NetworkTransport
	log     *slog.Logger
	blank   atomic.Bool
	refused atomic.Uint64 // requests, by a blank node
	in      chan raft.RPC
	stop    chan struct{}
	done    chan struct{}
}

// errBlank answers a server that asks a blank node.
var errBlank = errors.New("this node has an empty log, and the leader has not taken it in yet")

// refuse answers a request to a blank node.
func (t *transport) refuse(rpc raft.RPC) {
	if t.refused.Add(1) == 1 {
		t.log.Warn("the cluster counts on this node, whose topology log is empty: it has no vote until a leader takes it in again; " +
			"where a majority has lost its disks nobody can lead, and hypercache recover is the way")
	}
	rpc.Respond(nil, errBlank) // the bytes of a snapshot behind its request are no requests, and end the connection
}

// SetHeartbeatHandler implements raft.Transport: heartbeats do not pass through Consumer.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if t.blank.Load() {
			t.refuse(rpc)
			return
		}
		handle(rpc)
	})
}

func newTransport(inner *raft.NetworkTransport, log *slog.Logger) *transport {
	t := &transport{NetworkTransport: inner, log: log, in: make(chan raft.RPC), stop: make(chan struct{}), done: make(chan struct{})}
	t.blank.Store(true) // until the log has been looked at
	go func() {
		defer close(t.done)
		for {
			select {
			case rpc := <-inner.Consumer():
				if t.blank.Load() {
					t.refuse(rpc)
					continue
				}
				select {
				case t.in <- rpc:
				case <-t.stop:
					return
				}
			case <-t.stop:
				return
			}
		}
	}()
	return t
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.in }

// timeoutNow is the request with which a leader hands over: stand for election without waiting.
func (t *transport) timeoutNow(self string) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{RespChan: answer, Command: &raft.TimeoutNowRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: []byte(t.LocalAddr())},
	}}
	select {
	case t.in <- rpc:
	case <-time.After(time.Second): // Raft is busy or gone; its own timeout follows
	}
}

// Close implements raft.WithClose. It is called again by Raft's shutdown.
func (t *transport) Close() error {
	select {
	case <-t.stop:
		return nil
	default:
	}
	close(t.stop)
	<-t.done
	return t.NetworkTransport.Close()
}

// addresses resolves server ids for Raft, so that a node may change its address.
type addresses func(id string) (string, bool)

// ServerAddr implements raft.ServerAddressProvider.
func (a addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if addr, ok := a(string(id)); ok && addr != "" {
		return raft.ServerAddress(addr), nil
	}
	return "", fmt.Errorf("no address known for %s", id)
}
