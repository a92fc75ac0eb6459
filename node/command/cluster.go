package command

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"hypercache/node/ring"
)

func clusterCommands() []binding {
	return []binding{
		{name: "cluster", conn: runContainer},
		{name: "cluster|count-failure-reports", conn: clusterNode(runFailureReports)},
		{name: "cluster|countkeysinslot", conn: clusterOnly(runCountKeysInSlot)},
		{name: "cluster|getkeysinslot", conn: clusterOnly(runGetKeysInSlot)},
		{name: "cluster|help", conn: clusterOnly(helpFunc("CLUSTER", clusterHelp))},
		{name: "cluster|info", conn: clusterOnly(runClusterInfo)},
		{name: "cluster|keyslot", conn: clusterOnly(func(c *ConnCtx) { c.W.Int(int64(ring.Slot(c.Args[2]))) })},
		{name: "cluster|myid", conn: clusterOnly(runMyID)},
		{name: "cluster|nodes", conn: clusterMap(runClusterNodes)},
		{name: "cluster|replicas", conn: clusterNode(runClusterReplicas)},
		{name: "cluster|shards", conn: clusterMap(runClusterShards)},
		{name: "cluster|slaves", conn: clusterNode(runClusterReplicas)},
		{name: "cluster|slots", conn: clusterMap(runClusterSlots)},
	}
}

// NodeID is how clients see a node: 40 hexadecimal digits, the SHA-1 of server.node_id.
func NodeID(id string) string {
	sum := sha1.Sum([]byte(id))
	return hex.EncodeToString(sum[:])
}

func clusterOnly(run func(*ConnCtx)) func(*ConnCtx) {
	return func(c *ConnCtx) {
		if !c.Server.ClusterEnabled() {
			c.W.Error(errNoCluster)
			return
		}
		run(c)
	}
}

// clusterMap is for the commands by which a client learns the map of slots: who asks can follow MOVED.
func clusterMap(run func(*ConnCtx, *ClusterView)) func(*ConnCtx) {
	return clusterOnly(func(c *ConnCtx) {
		c.Conn.Client().set(clientClusterAware)
		run(c, c.Server.Cluster())
	})
}

func runMyID(c *ConnCtx) {
	v := c.Server.Cluster()
	c.W.BulkString(NodeID(v.Nodes[v.Self].ID))
}

func runCountKeysInSlot(c *ConnCtx) {
	slot, ok := parseInt(c.Args[2])
	switch {
	case !ok:
		c.W.Error(errNotInt)
	case slot < 0 || slot >= ring.Slots:
		c.W.Error("ERR Invalid slot")
	default:
		c.W.Int(int64(c.Server.CountKeysInSlot(uint16(slot))))
	}
}

// maxKeysInSlot bounds the reply of GETKEYSINSLOT, whatever the client asks for.
const maxKeysInSlot = 1 << 20

func runGetKeysInSlot(c *ConnCtx) {
	slot, okSlot := parseInt(c.Args[2])
	limit, okLimit := parseInt(c.Args[3])
	if !okSlot || !okLimit {
		c.W.Error(errNotInt)
		return
	}
	if slot < 0 || slot >= ring.Slots || limit < 0 {
		c.W.Error("ERR Invalid slot or number of keys")
		return
	}
	keys := c.Server.KeysInSlot(uint16(slot), int(min(limit, maxKeysInSlot)))
	c.W.Array(len(keys))
	for _, k := range keys {
		c.W.Bulk(k)
	}
}

// slotRun is an inclusive range of slots.
type slotRun struct{ first, last uint16 }

// roles says what every node does, as far as Redis has words for it: each range of slots has one primary here, and
// most nodes are primaries of some ranges and replicas of others.
type roles struct {
	primary  [][]slotRun // by node, adjacent ranges joined
	replicas [][]int     // by primary: the nodes that replicate any of its slots, in order
	shared   []map[int]int
}

func (v *ClusterView) roles() roles {
	r := roles{make([][]slotRun, len(v.Nodes)), make([][]int, len(v.Nodes)), make([]map[int]int, len(v.Nodes))}
	for _, rg := range v.Ranges {
		p := rg.Primary
		if p < 0 {
			continue
		}
		if runs := r.primary[p]; len(runs) > 0 && runs[len(runs)-1].last+1 == rg.First {
			runs[len(runs)-1].last = rg.Last
		} else {
			r.primary[p] = append(runs, slotRun{rg.First, rg.Last})
		}
		for _, n := range rg.Replicas {
			if !slices.Contains(r.replicas[p], n) {
				r.replicas[p] = append(r.replicas[p], n)
			}
			if r.shared[n] == nil {
				r.shared[n] = map[int]int{}
			}
			r.shared[n][p] += int(rg.Last-rg.First) + 1
		}
	}
	for _, nodes := range r.replicas {
		slices.Sort(nodes)
	}
	return r
}

// master is the node that a node without slots of its own follows most, -1 if none.
func (r *roles) master(node int) int {
	best, most := -1, 0
	for p := range r.primary {
		if n := r.shared[node][p]; n > most {
			best, most = p, n
		}
	}
	return best
}

func runClusterInfo(c *ConnCtx) {
	v := c.Server.Cluster()
	assigned, failed := 0, 0
	primaries := map[int]bool{}
	for _, rg := range v.Ranges {
		n := int(rg.Last-rg.First) + 1
		assigned += n
		if rg.Primary < 0 || v.Nodes[rg.Primary].Health == healthFailed {
			failed += n
		}
		if rg.Primary >= 0 {
			primaries[rg.Primary] = true
		}
	}
	state := "ok"
	if !v.OK {
		state = "fail"
	}
	c.W.Verbatim("txt", fmt.Appendf(nil, "cluster_state:%s\r\ncluster_slots_assigned:%d\r\ncluster_slots_ok:%d\r\n"+
		"cluster_slots_pfail:0\r\ncluster_slots_fail:%d\r\ncluster_known_nodes:%d\r\ncluster_size:%d\r\n"+
		"cluster_current_epoch:%d\r\ncluster_my_epoch:%d\r\ncluster_stats_messages_sent:0\r\n"+
		"cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n",
		state, assigned, assigned-failed, failed, len(v.Nodes), len(primaries), v.Epoch, v.Epoch))
}

const healthFailed = "failed"

// hostname is the node's host if it is a name and not an address.
func (n *ClusterNode) hostname() string {
	if _, err := netip.ParseAddr(n.Host); err == nil {
		return ""
	}
	return n.Host
}

// clusterNode is for the commands that name a node.
func clusterNode(run func(c *ConnCtx, v *ClusterView, node int)) func(*ConnCtx) {
	return clusterOnly(func(c *ConnCtx) {
		v := c.Server.Cluster()
		at := slices.IndexFunc(v.Nodes, func(n ClusterNode) bool { return NodeID(n.ID) == string(c.Args[2]) })
		if at < 0 {
			c.W.Error("ERR Unknown node " + cstring(c.Args[2], len(c.Args[2])))
			return
		}
		run(c, v, at)
	})
}

// runFailureReports counts who says that the node is down. Whether one is, the topology's leader finds out for all.
func runFailureReports(c *ConnCtx, v *ClusterView, node int) {
	if v.Nodes[node].Health == healthFailed {
		c.W.Int(1)
		return
	}
	c.W.Int(0)
}

// runClusterReplicas lists the nodes that replicate any slot of a primary, as its replicas and without slots of their own:
// what else they are, CLUSTER NODES says.
func runClusterReplicas(c *ConnCtx, v *ClusterView, node int) {
	r := v.roles()
	if len(r.primary[node]) == 0 {
		c.W.Error("ERR The specified node is not a master")
		return
	}
	c.W.Array(len(r.replicas[node]))
	for _, n := range r.replicas[node] {
		c.W.Bulk(v.nodeLine(n, node))
	}
}

func runClusterNodes(c *ConnCtx, v *ClusterView) {
	r := v.roles()
	var text []byte
	for i := range v.Nodes {
		master := -1
		if len(r.primary[i]) == 0 {
			master = r.master(i)
		}
		text = append(text, v.nodeLine(i, master)...)
		for _, run := range r.primary[i] {
			text = fmt.Appendf(text, " %d", run.first)
			if run.last != run.first {
				text = fmt.Appendf(text, "-%d", run.last)
			}
		}
		text = append(text, '\n')
	}
	c.W.Verbatim("txt", text)
}

// nodeLine describes a node as CLUSTER NODES does, up to its slots; master is the node that it replicates, -1 for a primary.
func (v *ClusterView) nodeLine(i, master int) []byte {
	n := &v.Nodes[i]
	text := fmt.Appendf(nil, "%s %s:%d@%d", NodeID(n.ID), n.Host, n.Port, n.BusPort)
	if name := n.hostname(); name != "" {
		text = append(append(text, ','), name...)
	}
	flags, of, link := "master", "-", "connected"
	if master >= 0 {
		flags, of = "slave", NodeID(v.Nodes[master].ID)
	}
	if i == v.Self {
		flags = "myself," + flags
	}
	if n.Health == healthFailed {
		flags, link = flags+",fail", "disconnected"
	}
	return fmt.Appendf(text, " %s %s 0 0 %d %s", flags, of, v.Epoch, link)
}

// runClusterSlots lists every range with its primary, then its replicas. Ranges without a primary are left out: a
// client would dial nobody. So are, as in Redis, replicas that are down, and those that are about to be: clients ask any node
// of the list for the next one, and those that hang on a machine that has gone keep the old list meanwhile.
func runClusterSlots(c *ConnCtx, v *ClusterView) {
	var joined []ClusterRange
	for _, rg := range v.Ranges {
		if rg.Primary < 0 {
			continue
		}
		rg.Replicas = slices.DeleteFunc(slices.Clone(rg.Replicas), func(n int) bool { return v.Nodes[n].Health == healthFailed || v.Nodes[n].Leaving })
		if n := len(joined); n > 0 && joined[n-1].Last+1 == rg.First && joined[n-1].Primary == rg.Primary &&
			slices.Equal(joined[n-1].Replicas, rg.Replicas) {
			joined[n-1].Last = rg.Last
			continue
		}
		joined = append(joined, rg)
	}
	c.W.Array(len(joined))
	for _, rg := range joined {
		c.W.Array(3 + len(rg.Replicas))
		c.W.Int(int64(rg.First))
		c.W.Int(int64(rg.Last))
		for _, n := range append([]int{rg.Primary}, rg.Replicas...) {
			node := &v.Nodes[n]
			c.W.Array(4)
			c.W.BulkString(node.Host)
			c.W.Int(int64(node.Port))
			c.W.BulkString(NodeID(node.ID))
			c.W.Map(0)
		}
	}
}

// runClusterShards gives one shard per primary, with the nodes that replicate any of its slots, and one per node that
// has no part in any.
func runClusterShards(c *ConnCtx, v *ClusterView) {
	r := v.roles()
	var shards []int
	for i := range v.Nodes {
		if len(r.primary[i]) > 0 || len(r.shared[i]) == 0 {
			shards = append(shards, i)
		}
	}
	c.W.Array(len(shards))
	for _, p := range shards {
		c.W.Map(2)
		c.W.BulkString("slots")
		c.W.Array(2 * len(r.primary[p]))
		for _, run := range r.primary[p] {
			c.W.Int(int64(run.first))
			c.W.Int(int64(run.last))
		}
		c.W.BulkString("nodes")
		c.W.Array(1 + len(r.replicas[p]))
		c.shardNode(&v.Nodes[p], "master")
		for _, n := range r.replicas[p] {
			c.shardNode(&v.Nodes[n], "replica")
		}
	}
}

func (c *ConnCtx) shardNode(n *ClusterNode, role string) {
	name := n.hostname()
	fields := 7
	if name != "" {
		fields++
	}
	c.W.Map(fields)
	pair := func(key, value string) {
		c.W.BulkString(key)
		c.W.BulkString(value)
	}
	pair("id", NodeID(n.ID))
	if n.TLS {
		c.W.BulkString("tls-port")
	} else {
		c.W.BulkString("port")
	}
	c.W.Int(int64(n.Port))
	pair("ip", n.Host)
	pair("endpoint", n.Host)
	if name != "" {
		pair("hostname", name)
	}
	pair("role", role)
	c.W.BulkString("replication-offset")
	c.W.Int(n.Offset)
	pair("health", strings.ToLower(n.Health))
}

var clusterHelp = []string{
	"COUNT-FAILURE-REPORTS <node-id>",
	"    Return number of failure reports for <node-id>.",
	"COUNTKEYSINSLOT <slot>",
	"    Return the number of keys in <slot>.",
	"GETKEYSINSLOT <slot> <count>",
	"    Return key names stored by current node in a slot.",
	"INFO",
	"    Return information about the cluster.",
	"KEYSLOT <key>",
	"    Return the hash slot for <key>.",
	"MYID",
	"    Return the node id.",
	"NODES",
	"    Return cluster configuration seen by node. Output format:",
	"    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
	"REPLICAS <node-id>",
	"    Return <node-id> replicas.",
	"SLOTS",
	"    Return information about slots range mappings. Each range is made of:",
	"    start, end, master and replicas IP addresses, ports and ids",
	"SHARDS",
	"    Return information about slot range mappings and the nodes associated with them.",
}
