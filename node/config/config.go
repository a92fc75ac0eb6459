package config

import (
	"net"
	"strconv"
	"time"
)

// Config is the whole set-up of one node. The zero value is not usable: start
// from Default.
type Config struct {
	Server      Server      `key:"server"`
	Network     Network     `key:"network"`
	Cluster     Cluster     `key:"cluster"`
	Persistence Persistence `key:"persistence"`
	Cache       Cache       `key:"cache"`
	Auth        Auth        `key:"auth"`
	Limits      Limits      `key:"limits"`
	Logging     Logging     `key:"logging"`

	// File is the path the YAML came from; empty when there was none. It is
	// not a key.
	File string `key:"-"`
}

// Server says who this node is.
type Server struct {
	// NodeID is the node's identity in the cluster: letters, digits, '.', '_'
	// and '-', at most 63 bytes. Its address may change, its id may not: another
	// id is another node, which starts without data. Empty: Identify picks the
	// id kept in data_dir, else the host name, else a random one.
	NodeID string `key:"node_id"`
}

// Network says where the node listens and how others reach it.
type Network struct {
	// RESPBindAddr is the IP address of the Redis-protocol listener. Empty:
	// 0.0.0.0 when the node is meant to be reached (advertise_addr or seeds
	// are set), else 127.0.0.1, because without a password an open port is
	// everybody's cache.
	RESPBindAddr string `key:"resp_bind_addr"`
	// RESPPort is the TCP port of the Redis protocol.
	RESPPort int `key:"resp_port"`
	// HTTPBindAddr is the IP address of the HTTP listener. Empty: resp_bind_addr.
	HTTPBindAddr string `key:"http_bind_addr"`
	// HTTPPort is the TCP port of the REST API, health and metrics.
	HTTPPort int `key:"http_port"`
	// AdvertiseAddr is the IP address or host name that other nodes and
	// redirected clients connect to, without a port. Empty: the bind address if
	// it is a specific one, else the first private address of the machine,
	// else 127.0.0.1.
	AdvertiseAddr string `key:"advertise_addr"`
	// GossipBindAddr is the IP address for gossip. Empty: resp_bind_addr.
	GossipBindAddr string `key:"gossip_bind_addr"`
	// GossipPort is the TCP and UDP port of Serf gossip.
	GossipPort int `key:"gossip_port"`
	// RPCBindAddr is the IP address of the internal listener (peer streams and
	// Serf RPC). Empty: resp_bind_addr.
	RPCBindAddr string `key:"rpc_bind_addr"`
	// RPCPort is the TCP port of the internal listener.
	RPCPort int `key:"rpc_port"`
	// TLSEnabled serves the Redis protocol and HTTP over TLS only. Costs a
	// handshake per connection and about a third of the throughput of small
	// commands; without it passwords and values cross the network in clear.
	TLSEnabled bool `key:"tls_enabled"`
	// CertFile is the PEM certificate chain of this node.
	CertFile string `key:"cert_file"`
	// KeyFile is the PEM private key of CertFile.
	KeyFile string `key:"key_file"`
	// CAFile is the PEM bundle that signs the nodes' certificates. Needed by
	// cluster.inter_node_tls.
	CAFile string `key:"ca_file"`
}

// Cluster says which cluster the node belongs to and what an acknowledged
// write promises.
type Cluster struct {
	// Name keeps clusters on one network apart: nodes with different names
	// refuse each other's gossip.
	Name string `key:"name"`
	// Seeds are gossip addresses (host:port) of nodes to join through. Best: the
	// first three nodes, the same list everywhere. Names that do not resolve
	// yet are retried. None: the node is a cluster of one.
	Seeds []string `key:"seeds"`
	// ReplicationFactor is how many nodes hold each key, 1 to 7. More survives more
	// failures and costs that much memory and write traffic again. With fewer
	// nodes than that, every node holds every key.
	ReplicationFactor int `key:"replication_factor"`
	// WriteAcks is how many replicas have a write in their journal before the
	// client hears OK: one, quorum or all. One is fastest and may lose the last
	// moments in a failover; quorum survives the loss of any one node; all stops
	// accepting writes as soon as one replica is away.
	WriteAcks string `key:"write_acks"`
	// Reads says how a primary knows that what it answers is the newest: lease
	// rests on clocks that run at about the same speed and costs nothing; quorum
	// asks a majority after each read, a round trip that reads share.
	Reads string `key:"reads"`
	// MaxStaleness bounds how old what a replica answers a connection may be that
	// sent READONLY, or an HTTP request with reads=stale. Shorter refuses sooner
	// when a replica is behind or cut off; longer keeps answering. 0: replicas
	// answer nothing.
	MaxStaleness time.Duration `key:"max_staleness"`
	// Zone is the failure domain (rack, availability zone) of this node. Replicas
	// of a key are put in different zones while there are enough. Empty: one
	// unnamed zone.
	Zone string `key:"zone"`
	// GossipEncryptKey is the base64 of 16, 24 or 32 random bytes that encrypts
	// and authenticates gossip; all nodes share it. Empty: gossip in clear, and
	// whoever reaches the port can speak as a member.
	GossipEncryptKey string `key:"gossip_encrypt_key,secret"`
	// InterNodeTLS puts the internal port under mutual TLS with cert_file, key_file
	// and ca_file.
	InterNodeTLS bool `key:"inter_node_tls"`
	// SecretFile holds the cluster secret that authenticates nodes to each other
	// and operators to the admin routes. Empty: nodes trust the network.
	SecretFile string `key:"secret_file"`
	// BootstrapExpect is how many nodes must have met before the very first
	// cluster forms. 0: derived, see Expect. Too low risks two clusters that
	// form next to each other on the first start; too high waits for ever.
	BootstrapExpect int `key:"bootstrap_expect"`
	// RPCAuthKey opens Serf RPC on the internal port to clients other than this
	// machine. Empty: loopback only.
	RPCAuthKey string `key:"rpc_auth_key,secret"`
	// HeartbeatInterval is how often every node tells every other that it lives.
	// Shorter notices death sooner and costs packets: nodes² / interval.
	HeartbeatInterval time.Duration `key:"heartbeat_interval"`
	// SuspectAfter is the silence after which a primary is replaced. Shorter makes
	// failover faster, and makes pauses of a busy machine look like death. At
	// least three heartbeat intervals.
	SuspectAfter time.Duration `key:"suspect_after"`
	// Lease is how long a primary may answer reads since its last contact
	// with its replicas. A new primary waits it out: longer delays failover,
	// shorter stops reads at smaller hiccups.
	Lease time.Duration `key:"lease"`
	// AckTimeout is how long a write waits for its replicas before the client
	// gets -NOREPLICAS. The write may still take effect.
	AckTimeout time.Duration `key:"ack_timeout"`
	// HandoverTimeout bounds how long a stopping or draining node spends giving
	// its primaries away.
	HandoverTimeout time.Duration `key:"handover_timeout"`
	// Linger bounds how long a stopping node without primaries goes on serving
	// clients that still send it commands: until they have learned the new map of
	// slots. 0 is not at all.
	Linger time.Duration `key:"linger"`
	// MaxMoves is how many of the 256 groups of slots may change replicas at the
	// same time when nodes join, drain or are replaced. More moves data sooner,
	// fewer leaves commands alone. The topology's leader's counts.
	MaxMoves int `key:"max_moves"`
}

// Persistence says what survives on disk.
type Persistence struct {
	// Enabled keeps a journal. Without it a restarted node fetches everything
	// from its replicas, and a cluster that stops is empty.
	Enabled bool `key:"enabled"`
	// DataDir holds the journal, snapshots and cluster state; relative to the working
	// directory. One node per directory.
	DataDir string `key:"data_dir"`
	// StallTimeout is how long the disk may take for one write or fsync before
	// the node leaves its part to the others until it has. 0 waits for ever.
	StallTimeout time.Duration `key:"stall_timeout"`
	// Fsync is when the journal is forced to disk: always (every write waits for
	// the disk), everysec (a power cut of the whole cluster loses up to a
	// second) or no (the kernel decides, about 30 s). A crash of the process
	// alone loses nothing in any of them.
	Fsync string `key:"fsync"`
	// RewriteMinSize is the journal size in bytes below which it is not compacted.
	RewriteMinSize Size `key:"rewrite_min_size"`
	// RewritePercentage is the growth, in percent of the size after the last
	// compaction, that starts the next. 0: never. Smaller restarts faster and
	// writes more.
	RewritePercentage int `key:"rewrite_percentage"`
}

// Cache says how much is kept and what gives way.
type Cache struct {
	// MaxMemory bounds keys and values with their overhead, in bytes. 0: unbounded,
	// until the system kills the process.
	MaxMemory Size `key:"max_memory"`
	// EvictionPolicy is what happens at max_memory, in Redis' names: noeviction
	// refuses writes with OOM, the others delete keys.
	EvictionPolicy string `key:"eviction_policy"`
	// EvictionSamples is how many keys compete for each eviction. More is closer to
	// true LRU/LFU and costs that much CPU again.
	EvictionSamples int `key:"eviction_samples"`
	// MaxValueBytes is the largest key or value accepted, in bytes. A large one
	// occupies that much in every buffer on its way through the cluster.
	MaxValueBytes Size `key:"max_value_bytes"`
	// ScriptLimit is how long a script may run before it is ended; what it wrote stays.
	// Its slot's group serves nobody else meanwhile, and commands that other nodes
	// forward wait for it so much longer.
	ScriptLimit time.Duration `key:"script_limit"`
}

// Auth says who may use the cache. Users other than default are the cluster's: ACL SETUSER makes them.
type Auth struct {
	// PasswordFile holds the passwords of the user default, who is everybody that gives no name, one on a line; each of them is
	// right, so that one can be replaced while clients still use it: read at the start of the node. The same on every
	// node. Empty: the user default needs no password until ACL SETUSER gives it one.
	PasswordFile string `key:"password_file"`
}

// Limits protect the node from its clients.
type Limits struct {
	// MaxClients is how many Redis-protocol connections are served; the next is told
	// so and closed. Each costs a descriptor and some kB.
	MaxClients int `key:"max_clients"`
	// IdleTimeout closes a connection that sent nothing for so long. 0: never.
	IdleTimeout time.Duration `key:"idle_timeout"`
	// MaxQueryBuffer bounds what one client may have sent and not yet executed.
	MaxQueryBuffer Size `key:"max_query_buffer"`
	// MaxOutputBuffer bounds the replies one client has not fetched; above it the
	// connection is closed.
	MaxOutputBuffer Size `key:"max_output_buffer"`
	// HTTPMaxConns is how many HTTP connections are served at once.
	HTTPMaxConns int `key:"http_max_conns"`
}

// Logging says what the node tells, and how.
type Logging struct {
	// Level is debug, info, warn or error, in any case.
	Level string `key:"level"`
	// Format is text (for people) or json (for collectors).
	Format string `key:"format"`
}

// Default returns the set-up of a lone node on this machine.
func Default() Config {
	return Config{
		Network: Network{RESPPort: 8080, HTTPPort: 9080, GossipPort: 7946, RPCPort: 7373},
		Cluster: Cluster{
			Name:              "hypercache",
			ReplicationFactor: 3,
			WriteAcks:         "quorum",
			Reads:             "lease",
			MaxStaleness:      5 * time.Second,
			HeartbeatInterval: 100 * time.Millisecond,
			SuspectAfter:      time.Second,
			Lease:             500 * time.Millisecond,
			AckTimeout:        5 * time.Second,
			HandoverTimeout:   10 * time.Second,
			Linger:            12 * time.Second,
			MaxMoves:          8,
		},
		Persistence: Persistence{
			Enabled: true, DataDir: "data", Fsync: "everysec", StallTimeout: 10 * time.Second,
			RewriteMinSize: 64 << 20, RewritePercentage: 100,
		},
		Cache:   Cache{EvictionPolicy: "noeviction", EvictionSamples: 5, MaxValueBytes: 64 << 20, ScriptLimit: time.Minute},
		Limits:  Limits{MaxClients: 10000, MaxQueryBuffer: 128 << 20, MaxOutputBuffer: 256 << 20, HTTPMaxConns: 1024},
		Logging: Logging{Level: "info", Format: "text"},
	}
}

// RESPAddr is the host:port the Redis protocol listens on.
func (n Network) RESPAddr() string { return hostPort(n.RESPBindAddr, n.RESPPort) }

// HTTPAddr is the host:port that HTTP listens on.
func (n Network) HTTPAddr() string { return hostPort(n.HTTPBindAddr, n.HTTPPort) }

// GossipAddr is the host:port that gossip listens on.
func (n Network) GossipAddr() string { return hostPort(n.GossipBindAddr, n.GossipPort) }

// RPCAddr is the host:port that the internal port listens on.
func (n Network) RPCAddr() string { return hostPort(n.RPCBindAddr, n.RPCPort) }

// Advertised is advertise_addr with the given port, as others dial it.
func (n Network) Advertised(port int) string { return hostPort(n.AdvertiseAddr, port) }

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// maxFirstVoters is how many seeds make the first Raft group: three survive
// one failure, and a longer seed list must not make the first start wait for
// nodes that come later.
const maxFirstVoters = 3

// Expect is how many nodes must have met before the first cluster forms:
// bootstrap_expect if set; 1 without seeds; else the number of distinct seeds,
// at most three. The rule assumes that seeds are the first nodes; a node that
// is not among its own seeds joins their cluster and must not form one by
// itself.
func (c Cluster) Expect() int {
	if c.BootstrapExpect > 0 {
		return c.BootstrapExpect
	}
	distinct := map[string]bool{}
	for _, s := range c.Seeds {
		distinct[s] = true
	}
	return max(1, min(len(distinct), maxFirstVoters))
}
