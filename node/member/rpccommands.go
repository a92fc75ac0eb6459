package member

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

// rpcCommands serve one request each: read the body, act, answer. The error they
// return is about the connection; what went wrong with the command is in the
// answer.
var rpcCommands = map[string]func(c *rpcConn, seq uint64) error{
	"handshake":        (*rpcConn).handshake,
	"auth":             (*rpcConn).auth,
	"members":          (*rpcConn).members,
	"members-filtered": (*rpcConn).membersFiltered,
	"event":            (*rpcConn).event,
	"force-leave":      (*rpcConn).forceLeave,
	"join":             (*rpcConn).join,
	"leave":            (*rpcConn).leave,
	"tags":             (*rpcConn).tags,
	"stats":            (*rpcConn).stats,
	"get-coordinate":   (*rpcConn).coordinate,
	"query":            (*rpcConn).query,
	"respond":          (*rpcConn).respond,
	"stream":           (*rpcConn).stream,
	"monitor":          (*rpcConn).startMonitor,
	"stop":             (*rpcConn).stop,
	"install-key":      keyCommand((*serf.KeyManager).InstallKey),
	"use-key":          keyCommand((*serf.KeyManager).UseKey),
	"remove-key":       keyCommand((*serf.KeyManager).RemoveKey),
	"list-keys":        (*rpcConn).listKeys,
}

func (c *rpcConn) handshake(seq uint64) error {
	var req handshakeRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	switch {
	case req.Version != rpcVersion:
		return c.send(seq, errUnsupportedVersion, nil)
	case c.greeted:
		return c.send(seq, errSecondHandshake, nil)
	}
	c.greeted = true
	return c.send(seq, nil, nil)
}

func (c *rpcConn) auth(seq uint64) error {
	var req authRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	if key := c.node.opts.RPCAuthKey; key != "" && !sameKey(req.AuthKey, key) {
		c.node.log.Warn("serf rpc: wrong auth key", "peer", c.conn.RemoteAddr())
		_ = c.send(seq, errInvalidAuthToken, nil)
		// One guess per connection.
		return errInvalidAuthToken
	}
	c.authed = true
	return c.send(seq, nil, nil)
}

func (c *rpcConn) members(seq uint64) error {
	return c.send(seq, nil, &membersResponse{rpcMembers(c.node.serf.Members())})
}

func (c *rpcConn) membersFiltered(seq uint64) error {
	var req filterRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	list, err := filterMembers(c.node.serf.Members(), req)
	return c.send(seq, err, &membersResponse{rpcMembers(list)})
}

// filterMembers keeps the members whose name, status and tags match the regular
// expressions as a whole. An empty expression for name or status matches all.
func filterMembers(list []serf.Member, req filterRequest) ([]serf.Member, error) {
	whole := func(expr string) (*regexp.Regexp, error) { return regexp.Compile("^(?:" + expr + ")$") }
	status, err := whole(req.Status)
	if err != nil {
		return nil, fmt.Errorf("status filter: %w", err)
	}
	name, err := whole(req.Name)
	if err != nil {
		return nil, fmt.Errorf("name filter: %w", err)
	}
	tags := map[string]*regexp.Regexp{}
	for tag, expr := range req.Tags {
		if tags[tag], err = whole(expr); err != nil {
			return nil, fmt.Errorf("filter of tag %q: %w", tag, err)
		}
	}
	return slices.DeleteFunc(list, func(m serf.Member) bool {
		for tag, re := range tags {
			if !re.MatchString(m.Tags[tag]) {
				return true
			}
		}
		return req.Status != "" && !status.MatchString(m.Status.String()) || req.Name != "" && !name.MatchString(m.Name)
	}), nil
}

func (c *rpcConn) event(seq uint64) error {
	var req eventRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	return c.send(seq, c.node.serf.UserEvent(req.Name, req.Payload, req.Coalesce), nil)
}

// forceLeave only tidies the gossip view: data placement is the topology's.
func (c *rpcConn) forceLeave(seq uint64) error {
	var req forceLeaveRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	if req.Prune {
		return c.send(seq, c.node.serf.RemoveFailedNodePrune(req.Node), nil)
	}
	return c.send(seq, c.node.serf.RemoveFailedNode(req.Node), nil)
}

func (c *rpcConn) join(seq uint64) error {
	var req joinRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	num, err := c.node.serf.Join(req.Existing, !req.Replay)
	return c.send(seq, err, &joinResponse{int32(num)})
}

// leave runs what the node does to leave for good: drain first, then gossip.
func (c *rpcConn) leave(seq uint64) error {
	onLeave := c.node.opts.OnLeave
	if onLeave == nil {
		return c.send(seq, errors.New("this node does not leave by request"), nil)
	}
	c.node.log.Info("serf rpc: leave requested", "peer", c.conn.RemoteAddr())
	ctx, cancel := context.WithTimeout(c.ctx, rpcLeaveDeadline)
	defer cancel()
	return c.send(seq, onLeave(ctx), nil)
}

// reservedTags are read by other nodes; changing them would misdirect traffic.
var reservedTags = []string{tagHost, tagRPC, tagRESP, tagHTTP, tagZone, tagVersion, tagTLS, tagObserver}

func (c *rpcConn) tags(seq uint64) error {
	var req tagsRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	for _, tag := range reservedTags {
		if _, set := req.Tags[tag]; set || slices.Contains(req.DeleteTags, tag) {
			return c.send(seq, fmt.Errorf("tag %q belongs to the node and cannot be changed", tag), nil)
		}
	}
	c.node.tagMu.Lock()
	defer c.node.tagMu.Unlock()
	tags := maps.Clone(c.node.serf.LocalMember().Tags)
	maps.DeleteFunc(tags, func(k, _ string) bool { return slices.Contains(req.DeleteTags, k) })
	maps.Copy(tags, req.Tags)
	return c.send(seq, c.node.serf.SetTags(tags), nil)
}

func (c *rpcConn) stats(seq uint64) error {
	local := c.node.serf.LocalMember()
	return c.send(seq, nil, map[string]map[string]string{
		"agent": {"name": local.Name},
		"runtime": {
			"os": runtime.GOOS, "arch": runtime.GOARCH, "version": runtime.Version(),
			"max_procs":  strconv.Itoa(runtime.GOMAXPROCS(0)),
			"goroutines": strconv.Itoa(runtime.NumGoroutine()),
			"cpu_count":  strconv.Itoa(runtime.NumCPU()),
			"pid":        strconv.Itoa(os.Getpid()),
		},
		"serf":           c.node.serf.Stats(),
		"tags":           local.Tags,
		"event_handlers": {},
	})
}

func (c *rpcConn) coordinate(seq uint64) error {
	var req coordinateRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	var resp coordinateResponse
	if coord, ok := c.node.serf.GetCachedCoordinate(req.Node); ok {
		resp = coordinateResponse{*coord, true}
	}
	return c.send(seq, nil, &resp)
}

func keyCommand(do func(*serf.KeyManager, string) (*serf.KeyResponse, error)) func(*rpcConn, uint64) error {
	return func(c *rpcConn, seq uint64) error {
		var req keyRequest
		if err := c.dec.Decode(&req); err != nil {
			return err
		}
		if !c.node.serf.EncryptionEnabled() {
			// Serf's own key manager would dereference a ring that is not there.
			return c.send(seq, errNoEncryption, &keyResponse{})
		}
		r, err := do(c.node.serf.KeyManager(), req.Key)
		return c.sendKeys(seq, r, err)
	}
}

var errNoEncryption = errors.New("gossip is not encrypted; set cluster.gossip_encrypt_key on every node first")

func (c *rpcConn) listKeys(seq uint64) error {
	if !c.node.serf.EncryptionEnabled() {
		return c.send(seq, errNoEncryption, &keyResponse{})
	}
	r, err := c.node.serf.KeyManager().ListKeys()
	return c.sendKeys(seq, r, err)
}

func (c *rpcConn) sendKeys(seq uint64, r *serf.KeyResponse, err error) error {
	return c.send(seq, err, &keyResponse{Messages: r.Messages, Keys: r.Keys, NumNodes: r.NumNodes, NumErr: r.NumErr, NumResp: r.NumResp})
}

// query asks the cluster and streams what comes back until the query's deadline.
func (c *rpcConn) query(seq uint64) error {
	var req queryRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	select {
	case c.querySlots <- struct{}{}:
	default:
		return c.send(seq, errors.New("too many queries at once"), nil)
	}
	timeout := min(time.Duration(req.Timeout), maxQueryTimeout)
	if timeout < 0 {
		timeout = 0 // Serf's default
	}
	resp, err := c.node.serf.Query(req.Name, req.Payload, &serf.QueryParam{
		FilterNodes: req.FilterNodes, FilterTags: req.FilterTags, RequestAck: req.RequestAck,
		RelayFactor: req.RelayFactor, Timeout: timeout,
	})
	if sendErr := c.send(seq, err, nil); err != nil || sendErr != nil {
		<-c.querySlots
		return sendErr
	}
	c.wg.Go(func() {
		defer func() { <-c.querySlots }()
		c.streamAnswers(seq, resp)
	})
	return nil
}

func (c *rpcConn) streamAnswers(seq uint64, resp *serf.QueryResponse) {
	done := time.NewTimer(time.Until(resp.Deadline()))
	defer done.Stop()
	acks, answers := resp.AckCh(), resp.ResponseCh()
	for {
		var rec queryRecord
		select {
		case from, ok := <-acks:
			if !ok {
				acks = nil // closed at the deadline; done follows
				continue
			}
			rec = queryRecord{Type: "ack", From: from}
		case a, ok := <-answers:
			if !ok {
				answers = nil
				continue
			}
			rec = queryRecord{Type: "response", From: a.From, Payload: a.Payload}
		case <-done.C:
			rec = queryRecord{Type: "done"}
		case <-c.ctx.Done():
			return
		}
		if c.send(seq, nil, &rec) != nil || rec.Type == "done" {
			return
		}
	}
}

// respond answers a query that a stream delivered to this client.
func (c *rpcConn) respond(seq uint64) error {
	var req respondRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	c.mu.Lock()
	q := c.pending[req.ID]
	c.mu.Unlock()
	if q == nil {
		return c.send(seq, errInvalidQueryID, nil)
	}
	return c.send(seq, q.Respond(req.Payload), nil)
}

// remember keeps a query answerable until its deadline; the oldest are forgotten
// when there are too many.
func (c *rpcConn) remember(q *serf.Query) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(c.pending, func(_ uint64, q *serf.Query) bool { return q.Deadline().Before(now) })
	if len(c.pending) >= maxRPCQueries {
		delete(c.pending, slices.Min(slices.Collect(maps.Keys(c.pending))))
	}
	c.lastPending++
	c.pending[c.lastPending] = q
	return c.lastPending
}

// eventFilter is one part of "member-join,user:deploy,query,*".
type eventFilter struct{ event, name string }

var streamableEvents = []string{"*", "member-join", "member-leave", "member-failed", "member-update", "member-reap", "user", "query"}

func parseFilters(text string) ([]eventFilter, error) {
	if text == "" {
		text = "*"
	}
	var out []eventFilter
	for part := range strings.SplitSeq(text, ",") {
		event, name, named := strings.Cut(strings.TrimSpace(part), ":")
		if !slices.Contains(streamableEvents, event) || named && event != "user" && event != "query" || len(out) == 64 {
			return nil, errInvalidFilter
		}
		out = append(out, eventFilter{event, name})
	}
	return out, nil
}

func (f eventFilter) matches(e serf.Event) bool {
	if f.event == "*" {
		return true
	}
	switch e := e.(type) {
	case serf.UserEvent:
		return f.event == "user" && (f.name == "" || f.name == e.Name)
	case *serf.Query:
		return f.event == "query" && (f.name == "" || f.name == e.Name)
	}
	return f.event == e.EventType().String()
}
