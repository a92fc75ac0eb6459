package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"hypercache/node/config"
	"hypercache/node/member"
)

const (
	askTimeout = 3 * time.Second
	// lookTimeout is how long an onlooker waits for the seeds to answer, and
	// settleTime how long after the last newcomer it takes the list for complete.
	lookTimeout = 10 * time.Second
	settleTime  = time.Second
)

// gossipMembers lists who gossip sees: by the node that runs on this machine, or,
// where none does, by joining the seeds for a moment as an onlooker that never
// holds data.
func (p *program) gossipMembers(ctx context.Context, src config.Sources, asJSON bool) error {
	id := src.Flags["server.node_id"]
	delete(src.Flags, "server.node_id") // names the onlooker, not the node that is asked
	cfg, err := config.Load(src)
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(dialable(cfg.Network.RPCBindAddr), strconv.Itoa(cfg.Network.RPCPort))
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := member.Ask(ask, addr, cfg.Cluster.RPCAuthKey)
	seenBy := "the node at " + addr
	if err != nil {
		if len(cfg.Cluster.Seeds) == 0 {
			return fmt.Errorf("no node answers on this machine, and there are no seeds to ask: %w", err)
		}
		if id == "" || id == cfg.Server.NodeID {
			var suffix [4]byte
			_, _ = rand.Read(suffix[:])
			id = fmt.Sprintf("onlooker-%x", suffix)
		}
		if list, err = p.lookOn(ctx, cfg, id); err != nil {
			return err
		}
		seenBy = id + ", looking on"
	}
	if asJSON {
		return p.printJSON(list)
	}
	rows := [][]string{{"NODE", "STATUS", "GOSSIP", "RESP", "HTTP", "ZONE", "VERSION", "NOTE"}}
	for _, m := range list {
		note := ""
		if m.Observer() {
			note = "onlooker"
		}
		rows = append(rows, []string{m.ID, string(m.Status), m.GossipAddr, m.RESPAddr, m.HTTPAddr, m.Zone, m.Version, note})
	}
	if err := p.table(rows); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%d seen by %s\n", len(list), seenBy)
	return err
}

// lookOn joins the gossip without any claim to data, and leaves again.
func (p *program) lookOn(ctx context.Context, cfg config.Config, id string) ([]member.Member, error) {
	key, err := cfg.Cluster.GossipKey()
	if err != nil {
		return nil, err
	}
	changed := make(chan int, 1)
	n, err := member.New(member.Options{
		NodeID: id, Observer: true, BindAddr: cfg.Network.GossipBindAddr, Cluster: cfg.Cluster.Name,
		EncryptKey: key, Seeds: cfg.Cluster.Seeds, Tags: member.Tags{Version: nodeVersion()},
		Logger: newLogger(p.stderr, config.Logging{Level: cmp.Or(map[bool]string{true: "debug"}[cfg.Logging.Level == "debug"], "error")}),
	})
	if err != nil {
		return nil, err
	}
	n.OnChange(func(list []member.Member) {
		select {
		case <-changed: // only the latest number counts
		default:
		}
		changed <- len(list)
	})
	if err := n.Start(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	patience, settled := time.NewTimer(lookTimeout), time.NewTimer(lookTimeout)
	defer patience.Stop()
	defer settled.Stop()
wait:
	for {
		select {
		case count := <-changed:
			if count > 1 {
				settled.Reset(settleTime)
			}
		case <-settled.C:
			break wait
		case <-patience.C:
			break wait
		case <-ctx.Done():
			break wait
		}
	}
	list := n.Members()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	err = errors.Join(n.Leave(leave), n.Close())
	if len(list) < 2 {
		return nil, errors.Join(fmt.Errorf("no seed of %v answers", cfg.Cluster.Seeds), err)
	}
	return list, err
}
