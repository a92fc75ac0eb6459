package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"hypercache/node/httpapi"
)

// table prints rows in aligned columns; an empty cell becomes a dash.
func (p *program) table(rows [][]string) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = cmp.Or(c, "-")
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func (p *program) printRaw(body []byte) error {
	_, err := p.stdout.Write(append([]byte(strings.TrimSpace(string(body))), '\n'))
	return err
}

func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (p *program) printMembers(list []httpapi.Member) error {
	slices.SortFunc(list, func(a, b httpapi.Member) int { return strings.Compare(a.ID, b.ID) })
	rows := [][]string{{"NODE", "STATUS", "STATE", "ZONE", "RESP", "HTTP", "PRIMARY", "REPLICA", "VERSION", "RAFT"}}
	for _, m := range list {
		raft := ""
		switch {
		case m.Leader:
			raft = "leader"
		case m.Voter:
			raft = "voter"
		}
		rows = append(rows, []string{m.ID, m.Status, m.State, m.Zone, m.RESPAddr, m.HTTPAddr, fmt.Sprint(m.Roles.Primary), fmt.Sprint(m.Roles.Replica), m.Version, raft})
	}
	return p.table(rows)
}

func (p *program) printStatus(st httpapi.Status) error {
	h, s := st.Health, st.Stats
	ready := "ready"
	if !st.Ready {
		ready = "not ready: " + strings.Join(st.Reasons, "; ")
	}
	limit := "no limit"
	if s.MemoryMax > 0 {
		limit = "of " + human(s.MemoryMax)
	}
	groups := fmt.Sprintf("%d primary, %d replica", h.Roles.Primary, h.Roles.Replica)
	if h.Roles.Learner > 0 {
		groups += fmt.Sprintf(", %d learning", h.Roles.Learner)
	}
	return p.table([][]string{
		{"node", fmt.Sprintf("%s, version %s, up %s", h.Node, h.Version, time.Duration(h.UptimeSec)*time.Second)},
		{"health", h.Status + ", " + ready},
		{"cluster", fmt.Sprintf("%d of %d nodes alive, leader %s, epoch %d", h.Alive, h.ClusterSize, cmp.Or(h.Leader, "unknown"), h.Epoch)},
		{"groups", groups},
		{"keys", fmt.Sprintf("%d, %d with a time to live", s.Keys, s.KeysWithTTL)},
		{"memory", human(s.MemoryUsed) + ", " + limit},
		{"journal", human(s.JournalBytes)},
		{"clients", fmt.Sprint(s.Clients)},
		{"commands", fmt.Sprintf("%d, %d forwarded", s.CommandsTotal, s.ForwardedTotal)},
	})
}

// human writes bytes to three digits.
func human(n int64) string {
	f, units := float64(n), []string{"B", "KB", "MB", "GB", "TB"}
	for f >= 1000 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprint(n) + " B"
	}
	return fmt.Sprintf("%.3g %s", f, units[0])
}
