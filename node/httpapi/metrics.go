package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Names of the metrics, which dashboards depend on.
const (
	metricInfo         = "hypercache_info"
	metricReady        = "hypercache_ready"
	metricClusterSize  = "hypercache_cluster_size"
	metricAlive        = "hypercache_cluster_alive"
	metricEpoch        = "hypercache_topology_epoch"
	metricLeader       = "hypercache_raft_leader"
	metricGroups       = "hypercache_groups"
	metricKeys         = "hypercache_keys"
	metricKeysTTL      = "hypercache_keys_with_ttl"
	metricMemoryUsed   = "hypercache_memory_used_bytes"
	metricMemoryMax    = "hypercache_memory_max_bytes"
	metricJournal      = "hypercache_journal_bytes"
	metricClients      = "hypercache_clients"
	metricCommands     = "hypercache_commands_total"
	metricConnections  = "hypercache_connections_total"
	metricForwarded    = "hypercache_forwarded_commands_total"
	metricReads        = "hypercache_reads_total"
	metricDenied       = "hypercache_denied_total"
	metricHits         = "hypercache_keyspace_hits_total"
	metricMisses       = "hypercache_keyspace_misses_total"
	metricExpired      = "hypercache_expired_keys_total"
	metricEvicted      = "hypercache_evicted_keys_total"
	metricFailovers    = "hypercache_failovers_total"
	metricNoReplicas   = "hypercache_unacknowledged_writes_total"
	metricLagRecords   = "hypercache_replication_lag_records"
	metricLagSeconds   = "hypercache_replication_lag_seconds"
	metricClockOffset  = "hypercache_clock_offset_seconds"
	metricClockGuarded = "hypercache_clock_guarded"
	metricClockFrozen  = "hypercache_clock_frozen"
	metricHTTPRequests = "hypercache_http_requests_total"
	metricHTTPSeconds  = "hypercache_http_request_duration_seconds"
)

type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(reg *prometheus.Registry, b Backend) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricHTTPRequests, Help: "HTTP requests by route, method and status."}, []string{"route", "method", "code"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricHTTPSeconds, Help: "Duration of HTTP requests by route.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}, []string{"route"}),
	}
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.seconds, newNodeCollector(b),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	return m, nil
}

func (m *metrics) observe(route, method string, code int, d time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // labels must not grow with what clients invent
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(d.Seconds())
}

// nodeCollector reads the backend when somebody scrapes, and keeps nothing.
type nodeCollector struct {
	backend Backend
	info    *prometheus.Desc
	groups  *prometheus.Desc
	reads   *prometheus.Desc
	denied  *prometheus.Desc
	values  []nodeValue
}

type nodeValue struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*Status) float64
}

func newNodeCollector(b Backend) *nodeCollector {
	c := &nodeCollector{
		backend: b,
		info:    prometheus.NewDesc(metricInfo, "Always 1; what is running here.", []string{"node", "version"}, nil),
		groups:  prometheus.NewDesc(metricGroups, "Groups of slots by this node's role in them.", []string{"role"}, nil),
		denied:  prometheus.NewDesc(metricDenied, "Refusals by access control: wrong passwords, commands, keys, channels.", []string{"reason"}, nil),
		reads:   prometheus.NewDesc(metricReads, "Reads that this node answered, by how it knew that they were new enough.", []string{"level"}, nil),
	}
	add := func(kind prometheus.ValueType, name, help string, of func(*Status) float64) {
		c.values = append(c.values, nodeValue{prometheus.NewDesc(name, help, nil, nil), kind, of})
	}
	gauge := func(name, help string, of func(*Status) float64) { add(prometheus.GaugeValue, name, help, of) }
	counter := func(name, help string, of func(*Status) float64) { add(prometheus.CounterValue, name, help, of) }

	gauge(metricReady, "1 while this node serves its share.", func(s *Status) float64 { return truth(s.Ready) })
	gauge(metricClusterSize, "Members of the committed topology.", func(s *Status) float64 { return float64(s.Health.ClusterSize) })
	gauge(metricAlive, "Members that gossip sees alive.", func(s *Status) float64 { return float64(s.Health.Alive) })
	gauge(metricEpoch, "Epoch of the topology this node obeys.", func(s *Status) float64 { return float64(s.Health.Epoch) })
	gauge(metricLeader, "1 while this node leads the Raft group.", func(s *Status) float64 {
		return truth(s.Health.Leader != "" && s.Health.Leader == s.Health.Node)
	})
	gauge(metricKeys, "Keys held by this node, as primary or replica.", func(s *Status) float64 { return float64(s.Stats.Keys) })
	gauge(metricKeysTTL, "Of those, keys with a time to live.", func(s *Status) float64 { return float64(s.Stats.KeysWithTTL) })
	gauge(metricMemoryUsed, "Bytes that count against max_memory.", func(s *Status) float64 { return float64(s.Stats.MemoryUsed) })
	gauge(metricMemoryMax, "cache.max_memory; 0 is unbounded.", func(s *Status) float64 { return float64(s.Stats.MemoryMax) })
	gauge(metricJournal, "Bytes of the journal on disk.", func(s *Status) float64 { return float64(s.Stats.JournalBytes) })
	gauge(metricClients, "Redis-protocol connections.", func(s *Status) float64 { return float64(s.Stats.Clients) })
	gauge(metricLagRecords, "Records that the slowest replica of this node's groups is behind.", func(s *Status) float64 { return float64(s.Stats.ReplicationLag) })
	gauge(metricLagSeconds, "Age of the oldest record that a replica has not acknowledged.", func(s *Status) float64 { return s.Stats.ReplicationLagTime.Seconds() })
	gauge(metricClockOffset, "How far the wall clock is ahead of the time that keys live by.", func(s *Status) float64 { return s.Health.Clock.OffsetSec })
	gauge(metricClockGuarded, "1 while the wall clock is more than a second away and not followed.", func(s *Status) float64 {
		return truth(max(s.Health.Clock.OffsetSec, -s.Health.Clock.OffsetSec) > 1)
	})
	gauge(metricClockFrozen, "1 while nothing expires on this node, since the nodes' clocks disagree.", func(s *Status) float64 { return truth(s.Health.Clock.State == ClockFrozen) })
	counter(metricCommands, "Commands executed.", func(s *Status) float64 { return float64(s.Stats.CommandsTotal) })
	counter(metricConnections, "Redis-protocol connections accepted.", func(s *Status) float64 { return float64(s.Stats.ConnectionsTotal) })
	counter(metricForwarded, "Commands sent on to the node that owns the key.", func(s *Status) float64 { return float64(s.Stats.ForwardedTotal) })
	counter(metricHits, "Reads that found their key.", func(s *Status) float64 { return float64(s.Stats.HitsTotal) })
	counter(metricMisses, "Reads that did not.", func(s *Status) float64 { return float64(s.Stats.MissesTotal) })
	counter(metricExpired, "Keys removed because their time was over.", func(s *Status) float64 { return float64(s.Stats.ExpiredTotal) })
	counter(metricEvicted, "Keys removed to make room.", func(s *Status) float64 { return float64(s.Stats.EvictedTotal) })
	counter(metricFailovers, "Groups this node took over from a lost primary.", func(s *Status) float64 { return float64(s.Stats.FailoversTotal) })
	counter(metricNoReplicas, "Writes whose acknowledgements did not come in time.", func(s *Status) float64 { return float64(s.Stats.NoReplicasTotal) })
	return c
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.info
	ch <- c.groups
	ch <- c.reads
	ch <- c.denied
	for _, v := range c.values {
		ch <- v.desc
	}
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(ch chan<- prometheus.Metric) {
	st := Status{Health: c.backend.Health(), Stats: c.backend.Stats()}
	st.Ready, st.Reasons = c.backend.Ready()
	ch <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, st.Health.Node, st.Health.Version)
	for level, n := range map[string]uint64{"lease": st.Stats.ReadsLeaseTotal, "quorum": st.Stats.ReadsQuorumTotal, "stale": st.Stats.ReadsStaleTotal} {
		ch <- prometheus.MustNewConstMetric(c.reads, prometheus.CounterValue, float64(n), level)
	}
	d := &st.Stats.Denied
	for reason, n := range map[string]uint64{"auth": d.Auth, "command": d.Command, "key": d.Key, "channel": d.Channel} {
		ch <- prometheus.MustNewConstMetric(c.denied, prometheus.CounterValue, float64(n), reason)
	}
	for role, n := range map[string]int{"primary": st.Health.Roles.Primary, "replica": st.Health.Roles.Replica, "learner": st.Health.Roles.Learner} {
		ch <- prometheus.MustNewConstMetric(c.groups, prometheus.GaugeValue, float64(n), role)
	}
	for _, v := range c.values {
		ch <- prometheus.MustNewConstMetric(v.desc, v.kind, v.of(&st))
	}
}
