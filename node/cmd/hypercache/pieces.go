package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"hypercache/node/rdb"
)

// pieces writes a collection by several commands. Other clients may see a part of it meanwhile.
func (w *restoring) pieces(k *rdb.Key, v *rdb.Value) error {
	key := string(k.Name)
	if w.replace {
		if _, err := w.patient("DEL", key); err != nil {
			return fmt.Errorf("key %.100q: %w", k.Name, err)
		}
	} else if r, err := w.patient("EXISTS", key); err != nil || r.n > 0 {
		if err == nil {
			w.report.Existing++
		}
		return err
	}
	for _, words := range pieceCommands(key, v) {
		if _, err := w.patient(words...); err != nil {
			return fmt.Errorf("key %.100q: %w", k.Name, err)
		}
	}
	if k.ExpireAt != 0 {
		if _, err := w.patient("PEXPIREAT", key, strconv.FormatInt(k.ExpireAt, 10)); err != nil {
			return fmt.Errorf("key %.100q: %w", k.Name, err)
		}
	}
	w.report.Written++
	return nil
}

// patient asks until the answer is final. Only RPUSH may not be repeated when it may have taken effect.
func (w *restoring) patient(words ...string) (reply, error) {
	for deadline := time.Now().Add(w.flags.timeout); ; {
		r, err := w.conn.ask(words...)
		if r.err == "" && err != nil {
			err = w.lost(err)
		}
		if err == nil || !passing(r.err) || time.Now().After(deadline) || words[0] == "RPUSH" && strings.HasPrefix(r.err, "NOREPLICAS ") {
			return r, err
		}
		if err := pause(w.ctx, retryPause); err != nil {
			return r, err
		}
	}
}

// pieceCommands are the commands that build a collection.
func pieceCommands(key string, v *rdb.Value) (commands [][]string) {
	if v.Type == rdb.Stream {
		return streamCommands(key, v.Stream)
	}
	name := map[rdb.Type]string{rdb.List: "RPUSH", rdb.Set: "SADD", rdb.Hash: "HSET", rdb.ZSet: "ZADD"}[v.Type]
	words, size := []string{name, key}, 0
	flush := func() {
		if len(words) > 2 {
			commands = append(commands, words)
		}
		words, size = []string{name, key}, 0
	}
	for i := 0; i < len(v.Items); i++ {
		if v.Scores != nil {
			words = append(words, strconv.FormatFloat(v.Scores[i], 'g', 17, 64))
		}
		words = append(words, string(v.Items[i]))
		size += len(v.Items[i])
		if v.Type == rdb.Hash {
			i++
			words = append(words, string(v.Items[i]))
			size += len(v.Items[i])
		}
		if len(words) >= pieceWords || size > pieceBytes/8 {
			flush()
		}
	}
	flush()
	return commands
}

// streamCommands are the commands that build a stream that is not empty. Lost are pending deliveries of entries that are
// deleted, and when consumers were seen last.
func streamCommands(key string, s *rdb.StreamValue) (commands [][]string) {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for _, e := range s.Entries {
		words := []string{"XADD", key, e.ID.String()}
		for _, f := range e.Fields {
			words = append(words, string(f))
		}
		commands = append(commands, words)
	}
	commands = append(commands, []string{"XSETID", key, s.State.LastID.String(), "ENTRIESADDED", number(s.State.Added),
		"MAXDELETEDID", s.State.MaxDeleted.String()})
	for _, g := range s.Groups {
		commands = append(commands, []string{"XGROUP", "CREATE", key, string(g.Name), g.LastID.String(), "ENTRIESREAD", strconv.FormatInt(g.Read, 10)})
		for _, c := range g.Consumers {
			commands = append(commands, []string{"XGROUP", "CREATECONSUMER", key, string(g.Name), string(c.Name)})
		}
		for _, p := range g.Pending {
			commands = append(commands, []string{"XCLAIM", key, string(g.Name), string(g.Consumers[p.Consumer].Name), "0", p.ID.String(),
				"TIME", strconv.FormatInt(p.DeliveredAt, 10), "RETRYCOUNT", number(p.Deliveries), "JUSTID", "FORCE"})
		}
	}
	return commands
}
