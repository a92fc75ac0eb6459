package server

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypercache/node/cache"
	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
	"hypercache/node/topology"
	"hypercache/node/tracking"
)

// redisVersion is the version of Redis whose behaviour commands follow; clients decide by it what they may use.
const redisVersion = "7.0.15"

// EachClient implements command.Server.
func (s *Server) EachClient(yield func(*command.Client) bool) {
	var all []*command.Client
	s.resp.EachSession(func(x *resp.Session) bool {
		if c := cache.ClientOf(x); c != nil {
			all = append(all, c)
		}
		return true
	})
	slices.SortFunc(all, func(a, b *command.Client) int { return int(int64(a.ID()) - int64(b.ID())) })
	for _, c := range all {
		if !yield(c) {
			return
		}
	}
}

// UnblockClient implements command.Server.
func (s *Server) UnblockClient(id uint64, withError bool) bool { return s.cache.Unblock(id, withError) }

// SetActiveExpire implements command.Server.
func (s *Server) SetActiveExpire(on bool) {
	s.cache.SetActiveExpire(on)
	s.log.Info("the sweep of expired keys was switched by DEBUG SET-ACTIVE-EXPIRE", "on", on)
}

// Log implements command.Server.
func (s *Server) Log(message string) { s.log.Warn(message) }

// KillClient implements command.Server.
func (s *Server) KillClient(id uint64) {
	if x := s.resp.Session(id); x != nil {
		x.Kill()
	}
}

// Config implements command.Server.
func (s *Server) Config() *command.Config { return s.params }

// ResetStats implements command.Server.
func (s *Server) ResetStats() {
	s.cache.Record().Reset()
	st := &s.cache.Stats
	for _, v := range []interface{ Store(uint64) }{&st.Commands, &st.Forwarded, &st.Received, &st.Parked, &st.Hits, &st.Misses, &st.Expired, &st.Evicted, &st.Unanswered, &st.ReadsLease, &st.ReadsQuorum, &st.ReadsStale, &st.Moved} {
		v.Store(0)
	}
}

// Bus and PubSub implement command.Server.
func (s *Server) Bus() *pubsub.Bus { return s.cache.Bus() }

// Tracker and Subscriber implement command.Server.
func (s *Server) Tracker() *tracking.Tracker { return s.cache.Tracker() }

// Subscriber is told of by Tracker.
func (s *Server) Subscriber(id uint64) *pubsub.Subscriber {
	if x := s.resp.Session(id); x != nil {
		return cache.SubscriberOf(x)
	}
	return nil
}

// Pause implements command.Server.
func (s *Server) Pause(d time.Duration, onlyWrites bool) { s.cache.Pause(d, onlyWrites) }

// Unpause implements command.Server.
func (s *Server) Unpause() { s.cache.Unpause() }

// Record implements command.Server.
func (s *Server) Record() *command.Record { return s.cache.Record() }

// PubSub is told of by Bus.
func (s *Server) PubSub() *pubsub.Registry { return s.cache.PubSub() }

// ClusterEnabled implements command.Server. A lone node is a cluster of one, so that a client that works with it works
// with the cluster that it may become.
func (s *Server) ClusterEnabled() bool { return true }

// Holds counts the keys in this node's memory, as primary and as replica.
func (s *Server) Holds() (primary, replica int) {
	primary, _, replica = s.cache.Keyspace()
	return primary, replica
}

// Cluster implements command.Server.
func (s *Server) Cluster() *command.ClusterView {
	if v := s.view.Load(); v != nil {
		now := *v
		now.Nodes = slices.Clone(v.Nodes)
		for i := range now.Nodes {
			if s.net.Down(now.Nodes[i].ID) {
				now.Nodes[i].Health = "failed"
			}
		}
		return &now
	}
	host, port := splitAddr(s.advertised(s.cfg.Network.RESPPort))
	return &command.ClusterView{Nodes: []command.ClusterNode{{ID: s.id(), Host: host, Port: port, BusPort: s.cfg.Network.RPCPort, Health: "loading"}}}
}

// CountKeysInSlot implements command.Server.
func (s *Server) CountKeysInSlot(slot uint16) int { return s.cache.CountKeysInSlot(slot) }

// KeysInSlot implements command.Server.
func (s *Server) KeysInSlot(slot uint16, limit int) [][]byte { return s.cache.KeysInSlot(slot, limit) }

// clusterView is the committed topology as CLUSTER shows it, as if every node were up.
func (s *Server) clusterView(st *topology.State) *command.ClusterView {
	v := &command.ClusterView{Epoch: st.Epoch, OK: true, Self: -1}
	index := map[string]int{}
	ids := make([]string, 0, len(st.Members))
	for id, m := range st.Members {
		if m.Status != topology.Removed || id == s.id() {
			ids = append(ids, id)
		}
	}
	if !slices.Contains(ids, s.id()) {
		ids = append(ids, s.id())
	}
	slices.Sort(ids)
	for i, id := range ids {
		m := st.Members[id]
		if id == s.id() {
			v.Self = i
			m.RESPAddr = s.advertised(s.cfg.Network.RESPPort)
			m.Addr = s.advertised(s.cfg.Network.RPCPort)
		}
		host, port := splitAddr(m.RESPAddr)
		_, bus := splitAddr(m.Addr)
		index[id] = i
		v.Nodes = append(v.Nodes, command.ClusterNode{
			ID: id, Host: host, Port: port, BusPort: bus, TLS: s.cfg.Network.TLSEnabled, Health: "online", Leaving: m.Status != topology.Up || m.Leaves(),
		})
	}
	for i := range st.Groups {
		g := &st.Groups[i]
		at, known := index[g.Primary]
		if !known {
			v.OK = false
			continue
		}
		first, last := ring.GroupSlots(i)
		r := command.ClusterRange{First: first, Last: last, Primary: at}
		for _, id := range g.Replicas {
			if j, ok := index[id]; ok && id != g.Primary {
				r.Replicas = append(r.Replicas, j)
			}
		}
		if n := len(v.Ranges); n > 0 && v.Ranges[n-1].Last+1 == r.First && v.Ranges[n-1].Primary == r.Primary && slices.Equal(v.Ranges[n-1].Replicas, r.Replicas) {
			v.Ranges[n-1].Last = r.Last
			continue
		}
		v.Ranges = append(v.Ranges, r)
	}
	return v
}

func splitAddr(addr string) (host string, port int) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	port, _ = strconv.Atoi(p)
	return host, port
}

// parameters are CONFIG's: those that this node has, with hooks for those that can change while it runs.
func (s *Server) parameters() *command.Config {
	p := command.NewConfig()
	put := func(name, value string) { p.Put(name, value) }
	put("port", strconv.Itoa(s.cfg.Network.RESPPort))
	put("bind", s.cfg.Network.RESPBindAddr)
	put("maxmemory", strconv.FormatInt(int64(s.cfg.Cache.MaxMemory), 10))
	put("maxmemory-policy", s.cfg.Cache.EvictionPolicy)
	put("appendonly", map[bool]string{true: "yes", false: "no"}[s.cfg.Persistence.Enabled])
	put("appendfsync", s.cfg.Persistence.Fsync)
	put("save", "")
	put("dir", s.cfg.Persistence.DataDir)
	put("maxclients", strconv.Itoa(s.cfg.Limits.MaxClients))
	put("timeout", strconv.Itoa(int(s.cfg.Limits.IdleTimeout/time.Second)))
	put("proto-max-bulk-len", strconv.FormatInt(int64(s.cfg.Cache.MaxValueBytes), 10))
	put("cluster-enabled", "yes")
	put("aof-use-rdb-preamble", "no")
	put("auto-aof-rewrite-percentage", strconv.Itoa(s.cfg.Persistence.RewritePercentage))
	put("auto-aof-rewrite-min-size", strconv.FormatInt(int64(s.cfg.Persistence.RewriteMinSize), 10))
	put("client-query-buffer-limit", strconv.FormatInt(int64(s.cfg.Limits.MaxQueryBuffer), 10))
	put("cluster-node-timeout", strconv.FormatInt(s.cfg.Cluster.SuspectAfter.Milliseconds(), 10))
	put("cluster-require-full-coverage", "no")
	put("loglevel", redisLevel(s.cfg.Logging.Level))
	put("protected-mode", "no")
	for name, key := range map[string]string{"appendfsync": "persistence.fsync", "timeout": "limits.idle_timeout", "maxclients": "limits.max_clients"} {
		p.OnSet(name, func(string) error {
			return fmt.Errorf("it is fixed while the node runs: set %s in its configuration and restart it", key)
		})
	}
	p.OnSet("notify-keyspace-events", func(v string) error {
		classes, err := command.ParseNotify(v)
		if err == nil {
			s.cache.Notify(classes)
		}
		return err
	})
	p.OnSet("tracking-table-max-keys", func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			s.cache.Tracker().Limit(n)
		}
		return err
	})
	number := func(name string, set func(int64)) {
		p.OnSet(name, func(v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err == nil {
				set(n)
			}
			return err
		})
	}
	record := s.cache.Record()
	number("slowlog-max-len", func(n int64) { record.Slow.Limit(int(min(n, 1<<20))) })
	number("slowlog-log-slower-than", func(n int64) {
		_, spike := record.Thresholds()
		record.SetThresholds(n, spike)
	})
	number("latency-monitor-threshold", func(n int64) {
		slower, _ := record.Thresholds()
		record.SetThresholds(slower, n)
	})
	p.OnSet("maxmemory", func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			s.cache.SetMaxMemory(n)
		}
		return err
	})
	p.OnSet("maxmemory-policy", func(v string) error {
		policy, err := store.ParsePolicy(v)
		if err == nil {
			s.db.SetPolicy(policy)
		}
		return err
	})
	s.rewriteParameters(p)
	for name, field := range limitFields {
		p.OnSet(name, func(v string) error {
			n, err := strconv.Atoi(v)
			if err == nil {
				l := s.db.Limits()
				*field(&l) = n
				s.db.SetLimits(l)
			}
			return err
		})
	}
	return p
}

// rewriteParameters has CONFIG SET decide when the log is rewritten. It calls one hook at a time, and the later of two set at once
// finds the earlier here.
func (s *Server) rewriteParameters(p *command.Config) {
	percent, size := s.cfg.Persistence.RewritePercentage, int64(s.cfg.Persistence.RewriteMinSize)
	set := func(v string, to func(n int64)) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return err
		}
		to(n)
		if s.journal != nil {
			s.journal.RewriteAt(never(percent), size)
		}
		return nil
	}
	p.OnSet("auto-aof-rewrite-percentage", func(v string) error { return set(v, func(n int64) { percent = int(n) }) })
	p.OnSet("auto-aof-rewrite-min-size", func(v string) error { return set(v, func(n int64) { size = n }) })
}

// redisLevel is Redis' name of a level of the log.
func redisLevel(level string) string {
	switch strings.ToLower(level) {
	case "debug":
		return "debug"
	case "info":
		return "notice"
	default:
		return "warning"
	}
}

// limitFields are the parameters that are limits of the store. CONFIG SET calls one hook at a time.
var limitFields = map[string]func(*store.Limits) *int{
	"hash-max-listpack-entries": func(l *store.Limits) *int { return &l.HashEntries },
	"hash-max-listpack-value":   func(l *store.Limits) *int { return &l.HashValue },
	"set-max-intset-entries":    func(l *store.Limits) *int { return &l.SetEntries },
	"zset-max-listpack-entries": func(l *store.Limits) *int { return &l.ZSetEntries },
	"zset-max-listpack-value":   func(l *store.Limits) *int { return &l.ZSetValue },
	"list-max-listpack-size":    func(l *store.Limits) *int { return &l.ListSize },
	"stream-node-max-entries":   func(l *store.Limits) *int { return &l.StreamEntries },
	"stream-node-max-bytes":     func(l *store.Limits) *int { return &l.StreamBytes },
	"lfu-log-factor":            func(l *store.Limits) *int { return &l.LFULogFactor },
	"lfu-decay-time":            func(l *store.Limits) *int { return &l.LFUDecay },
}

// Info implements command.Server.
func (s *Server) Info(section string, add func(field, value string)) {
	num := func(field string, n int64) { add(field, strconv.FormatInt(n, 10)) }
	switch section {
	case "server":
		s.infoServer(add, num)
	case "clients":
		num("connected_clients", int64(s.resp.Clients()))
		num("maxclients", int64(s.cfg.Limits.MaxClients))
		num("blocked_clients", int64(s.cache.Blocked()))
	case "memory":
		s.infoMemory(add, num)
	case "persistence":
		s.infoPersistence(num)
	case "stats":
		st := &s.cache.Stats
		rate, _ := s.usage.read(0)
		num("total_connections_received", int64(s.resp.Accepted()))
		num("rejected_connections", int64(s.resp.Rejected()))
		num("instantaneous_ops_per_sec", rate)
		num("total_commands_processed", int64(st.Commands.Load()))
		num("forwarded_commands", int64(st.Forwarded.Load()))
		num("moved_commands", int64(st.Moved.Load()))
		num("received_commands", int64(st.Received.Load()))
		num("parked_commands", int64(st.Parked.Load()))
		num("unanswered_commands", int64(st.Unanswered.Load()))
		num("expired_keys", int64(st.Expired.Load()))
		num("evicted_keys", int64(st.Evicted.Load()))
		num("lease_reads", int64(st.ReadsLease.Load()))
		num("quorum_reads", int64(st.ReadsQuorum.Load()))
		num("stale_reads", int64(st.ReadsStale.Load()))
		num("keyspace_hits", int64(st.Hits.Load()))
		num("keyspace_misses", int64(st.Misses.Load()))
		channels, patterns, shards := s.cache.PubSub().Lengths()
		num("pubsub_channels", int64(channels))
		num("pubsub_patterns", int64(patterns))
		num("pubsubshard_channels", int64(shards))
		num("tracking_clients", int64(s.cache.Tracker().Clients()))
		num("tracking_total_keys", s.cache.Tracker().Keys())
		bus := s.cache.Bus()
		num("bus_messages_sent", int64(bus.Sent.Load()))
		num("bus_messages_received", int64(bus.Received.Load()))
		num("bus_messages_dropped", int64(bus.Dropped.Load()))
	case "replication":
		s.infoReplication(add, num)
	case "cpu":
		user, sys := cpuTimes()
		add("used_cpu_sys", fmt.Sprintf("%.6f", sys.Seconds()))
		add("used_cpu_user", fmt.Sprintf("%.6f", user.Seconds()))
	case "commandstats", "latencystats", "errorstats":
		s.cache.Record().Info(section, add)
	case "cluster":
		add("cluster_enabled", "1")
	case "keyspace":
		if keys, expires, _ := s.cache.Keyspace(); keys > 0 {
			add("db0", fmt.Sprintf("keys=%d,expires=%d,avg_ttl=0", keys, expires))
		}
	}
}

func (s *Server) infoServer(add func(string, string), num func(string, int64)) {
	up := time.Since(s.started)
	add("redis_version", redisVersion)
	add("hypercache_version", s.version)
	add("redis_mode", "cluster")
	add("os", runtime.GOOS+" "+runtime.GOARCH)
	add("arch_bits", strconv.Itoa(strconv.IntSize))
	num("process_id", int64(os.Getpid()))
	add("run_id", fmt.Sprintf("%040x", s.incarnation))
	num("tcp_port", int64(s.cfg.Network.RESPPort))
	num("server_time_usec", s.UnixMicro())
	clock := s.clock.Status()
	num("clock_offset_ms", clock.Offset.Milliseconds())
	add("clock_state", clockState(clock))
	num("uptime_in_seconds", int64(up.Seconds()))
	num("uptime_in_days", int64(up.Hours()/24))
	add("node_id", s.id())
	add("config_file", s.cfg.File)
}

func (s *Server) infoMemory(add func(string, string), num func(string, int64)) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	used := s.db.Used()
	num("used_memory", used)
	add("used_memory_human", human(used))
	_, peak := s.usage.read(used)
	rss := residentBytes()
	num("used_memory_rss", rss)
	add("used_memory_rss_human", human(rss))
	num("used_memory_peak", peak)
	add("used_memory_peak_human", human(peak))
	num("used_memory_dataset", used)
	num("used_memory_runtime", int64(m.Sys-m.HeapReleased))
	num("maxmemory", s.db.MaxMemory())
	add("maxmemory_human", human(s.db.MaxMemory()))
	add("maxmemory_policy", s.db.Policy().String())
	add("mem_fragmentation_ratio", fmt.Sprintf("%.2f", float64(rss)/float64(max(used, 1))))
	add("mem_allocator", "slabs")
	libraries, functions, bytes := s.cache.Functions()
	num("number_of_cached_scripts", int64(s.cache.Scripts()))
	num("number_of_functions", int64(functions))
	num("number_of_libraries", int64(libraries))
	num("used_memory_functions", int64(bytes))
}

func (s *Server) infoPersistence(num func(string, int64)) {
	num("loading", 0)
	if s.journal == nil {
		num("aof_enabled", 0)
		return
	}
	st := s.journal.Stats()
	flag := func(b bool) int64 {
		if b {
			return 1
		}
		return 0
	}
	num("aof_enabled", 1)
	num("aof_rewrite_in_progress", flag(st.Rewriting))
	num("aof_current_size", st.Size)
	num("aof_base_size", st.BaseSize)
	num("aof_buffer_length", st.Pending)
	num("aof_rewrites", int64(st.Rewrites))
	num("aof_disk_full", flag(st.DiskFull))
}

func (s *Server) infoReplication(add func(string, string), num func(string, int64)) {
	r := s.roles(s.id())
	add("role", "master") // every node is primary of some groups and replica of others
	num("primary_groups", int64(r.Primary))
	num("replica_groups", int64(r.Replica))
	_, _, copies := s.cache.Keyspace()
	num("replica_keys", int64(copies))
	num("connected_slaves", int64(max(len(s.topology.State().Members)-1, 0)))
	add("topology_leader", s.topology.Leader())
	num("topology_epoch", int64(s.topology.State().Epoch))
}

func human(n int64) string {
	const unit = 1024.0
	f := float64(n)
	for _, suffix := range []string{"B", "K", "M", "G"} {
		if f < unit {
			return fmt.Sprintf("%.2f%s", f, suffix)
		}
		f /= unit
	}
	return fmt.Sprintf("%.2fT", f)
}
