package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypercache/node/rdb"
	"hypercache/node/redisfile"
)

const (
	// windowCommands and windowBytes bound what is sent before its answers are awaited.
	windowCommands = 512
	windowBytes    = 4 << 20
	// pieceBytes is the payload from which a collection is written in pieces, of pieceWords words each at most: below
	// every node's limit of a single value, and no long stop for other clients.
	pieceBytes = 8 << 20
	// streamPieceBytes is the same for streams, which go entry by entry then, each with an answer: slowly.
	streamPieceBytes = 32 << 20
	pieceWords       = 512
	// payloadRest is what a payload has besides the value.
	payloadRest = 10
	retryPause  = 200 * time.Millisecond
	// reportEvery is how often progress is told.
	reportEvery = 2 * time.Second
)

// restoreReport is what restore did.
type restoreReport struct {
	File              string         `json:"file"`
	Kind              string         `json:"kind"`
	RedisVersion      string         `json:"redis_version,omitempty"`
	Keys              int            `json:"keys"` // in the file, not expired
	Types             map[string]int `json:"types"`
	Expiring          int            `json:"expiring"`
	Expired           int            `json:"expired"`
	Functions         int            `json:"functions"` // libraries in the file
	FunctionsWritten  int            `json:"functions_written"`
	FunctionsExisting int            `json:"functions_existing"` // left as they were
	Written           int            `json:"written"`
	Existing          int            `json:"existing"` // left as they were
	DryRun            bool           `json:"dry_run"`
	Seconds           float64        `json:"seconds"`
	Notes             []string       `json:"notes,omitempty"`
}

// restore is `restore FILE`: it checks the whole file first, and only then writes.
func (p *program) restore(ctx context.Context, args []string) error {
	f := p.flags("restore", "FILE [flags]")
	r := p.redisFlags(f)
	replace := f.Bool("replace", false, "overwrite keys that exist already")
	dry := f.Bool("dry-run", false, "only check the file and say what it holds")
	db := f.Uint64("db", 0, "the `database` of the file whose keys are restored")
	asJSON := f.Bool("json", false, "print JSON")
	file, err := oneArgument(f, args, "FILE")
	if err != nil {
		return err
	}
	ctx, stop := p.interruptible(ctx)
	defer stop()
	began := time.Now()
	report, err := p.restoreFile(ctx, file, r, *db, *replace, *dry, givenFlag(f, "db"))
	report.Seconds = math.Round(time.Since(began).Seconds()*1000) / 1000
	if err != nil && report.Written > 0 {
		err = fmt.Errorf("%w (%d of %d keys were written before)", err, report.Written, report.Keys)
	}
	if err != nil {
		return err
	}
	if err := p.printRestored(report, *asJSON); err != nil {
		return err
	}
	if report.FunctionsExisting > 0 {
		return fmt.Errorf("%d libraries of functions and %d keys exist already and were left as they are; --replace overwrites them",
			report.FunctionsExisting, report.Existing)
	}
	if report.Existing > 0 {
		return fmt.Errorf("%d keys exist already and were left as they are; --replace overwrites them", report.Existing)
	}
	return nil
}

func (p *program) restoreFile(ctx context.Context, file string, r *redisFlags, db uint64, replace, dry, chosen bool) (*restoreReport, error) {
	report := &restoreReport{File: file, DryRun: dry}
	src, err := redisfile.Open(file)
	if err != nil {
		return report, err
	}
	defer src.Close()
	now := time.Now().UnixMilli()
	done := p.progress(func() string { return "checked " + share(src.Progress()) })
	sum, err := src.Check(ctx, now)
	done()
	if err != nil {
		return report, fmt.Errorf("nothing was restored: %w", err)
	}
	report.fill(src, sum, db)
	if others := otherDatabases(sum, db); others != "" && !chosen {
		return report, fmt.Errorf("nothing was restored: %s holds keys in several databases (%s), HyperCache has one; choose with --db", file, others)
	}
	if dry {
		return report, nil
	}
	w := &restoring{flags: r, ctx: ctx, replace: replace, report: report}
	if w.conn, err = r.dial(ctx); err != nil {
		return report, err
	}
	defer func() { w.conn.close() }()
	w.limit = w.askLimit()
	if err := w.functions(sum.Functions); err != nil {
		return report, err
	}
	done = p.progress(func() string { return "restored " + share(src.Progress()) })
	defer done()
	if err := src.Each(ctx, db, now, w.add); err != nil {
		return report, err
	}
	return report, w.settle()
}

func (r *restoreReport) fill(src *redisfile.Source, sum *redisfile.Summary, db uint64) {
	r.Kind, r.RedisVersion, r.Keys, r.Types = src.Kind, sum.RedisVersion, sum.Keys[db], sum.Types
	r.Expiring, r.Expired, r.Functions = sum.Expiring, sum.Expired, len(sum.Functions)
	if sum.Unsummed {
		r.Notes = append(r.Notes, "the file carries no checksum (rdbchecksum no): flipped bits in values would go unnoticed")
	}
	if others := otherDatabases(sum, db); others != "" {
		r.Notes = append(r.Notes, "not restored are the keys of other databases: "+others)
	}
}

// otherDatabases lists those besides db, with their keys.
func otherDatabases(sum *redisfile.Summary, db uint64) string {
	var list []string
	for _, d := range sum.Databases() {
		if d != db {
			list = append(list, fmt.Sprintf("db%d: %d keys", d, sum.Keys[d]))
		}
	}
	if list == nil {
		return ""
	}
	if sum.Keys[db] > 0 {
		list = slices.Insert(list, 0, fmt.Sprintf("db%d: %d keys", db, sum.Keys[db]))
	}
	return strings.Join(list, ", ")
}

// restoring writes keys through a node, in windows.
type restoring struct {
	ctx     context.Context
	flags   *redisFlags
	conn    *redisConn
	replace bool
	report  *restoreReport
	window  []restoreCommand
	bytes   int
	limit   int // bytes of one value
}

// restoreCommand is RESTORE with its arguments.
type restoreCommand struct {
	args  [][]byte
	tried bool // and it is not known whether it took effect
}

// askLimit is the length of the longest value that the node takes.
func (w *restoring) askLimit() int {
	const usual = 64 << 20
	r, err := w.conn.ask("CONFIG", "GET", "proto-max-bulk-len")
	if err != nil || len(r.list) != 2 {
		return usual
	}
	n, err := strconv.Atoi(string(r.list[1].text))
	if err != nil || n <= 0 {
		return usual
	}
	return n - payloadRest
}

func (w *restoring) add(k *rdb.Key, v *rdb.Value) error {
	value := v.Append(nil)
	whole := min(w.limit/2, pieceBytes)
	switch v.Type {
	case rdb.String:
		whole = w.limit
	case rdb.Stream:
		whole = min(w.limit/2, streamPieceBytes)
	}
	if len(value) > whole {
		if v.Type == rdb.String {
			return fmt.Errorf("key %.100q: its value is longer than the node takes, %d bytes (cache.max_value_bytes)", k.Name, w.limit)
		}
		if err := w.settle(); err != nil {
			return err
		}
		return w.pieces(k, v)
	}
	args := [][]byte{[]byte("RESTORE"), bytes.Clone(k.Name), strconv.AppendInt(nil, k.ExpireAt, 10), rdb.Seal(value, 0), []byte("ABSTTL")}
	if w.replace {
		args = append(args, []byte("REPLACE"))
	}
	switch {
	case k.Freq >= 0:
		args = append(args, []byte("FREQ"), strconv.AppendInt(nil, int64(k.Freq), 10))
	case k.IdleSeconds >= 0:
		args = append(args, []byte("IDLETIME"), strconv.AppendInt(nil, k.IdleSeconds, 10))
	}
	w.window = append(w.window, restoreCommand{args: args})
	w.bytes += len(k.Name) + len(value)
	if len(w.window) < windowCommands && w.bytes < windowBytes {
		return nil
	}
	return w.settle()
}

// settle sends the window until every command in it has its final answer.
func (w *restoring) settle() error {
	deadline := time.Now().Add(w.flags.timeout)
	for len(w.window) > 0 {
		again, reason, err := w.round()
		if err != nil {
			return err
		}
		w.window = append(w.window[:0], again...)
		if len(again) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("key %.100q: %s", again[0].args[1], reason)
		}
		if err := pause(w.ctx, retryPause); err != nil {
			return err
		}
	}
	w.bytes = 0
	return nil
}

// round sends the window once and returns what has to be sent again.
func (w *restoring) round() (again []restoreCommand, reason string, err error) {
	for _, c := range w.window {
		w.conn.send(c.args...)
	}
	if err := w.conn.flush(); err != nil {
		return nil, "", w.lost(err)
	}
	var refused error
	for _, c := range w.window {
		r, err := w.conn.receive()
		switch {
		case err != nil:
			return nil, "", w.lost(err)
		case r.err == "", c.tried && strings.HasPrefix(r.err, "BUSYKEY "):
			w.report.Written++
		case strings.HasPrefix(r.err, "BUSYKEY "):
			w.report.Existing++
		case passing(r.err):
			c.tried = c.tried || strings.HasPrefix(r.err, "NOREPLICAS ")
			again, reason = append(again, c), r.err
		case refused == nil:
			refused = fmt.Errorf("key %.100q: %s", c.args[1], r.err)
		}
	}
	return again, reason, refused
}

func (w *restoring) lost(err error) error {
	if ctxErr := w.ctx.Err(); ctxErr != nil {
		return errors.New("interrupted")
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the node closed the connection")
	}
	return fmt.Errorf("talk to the node: %w", err)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

func (p *program) printRestored(r *restoreReport, asJSON bool) error {
	if asJSON {
		return p.printJSON(r)
	}
	what := fmt.Sprintf("%d keys written", r.Written)
	if r.DryRun {
		what = "nothing written, as asked"
	}
	var types []string
	for _, t := range slices.Sorted(maps.Keys(r.Types)) {
		types = append(types, fmt.Sprintf("%d %s", r.Types[t], t))
	}
	if r.Functions > 0 && !r.DryRun {
		what += fmt.Sprintf(", %d of %d libraries of functions loaded", r.FunctionsWritten, r.Functions)
	} else if r.Functions > 0 {
		what += fmt.Sprintf("; the file has %d libraries of functions", r.Functions)
	}
	rows := [][]string{
		{"file", fmt.Sprintf("%s: %s", r.File, r.Kind)},
		{"written by", "redis-server " + r.RedisVersion},
		{"keys", fmt.Sprintf("%d, %d with a time to live; %d more have expired", r.Keys, r.Expiring, r.Expired)},
		{"types", strings.Join(types, ", ")},
		{"result", fmt.Sprintf("%s in %.1f s", what, r.Seconds)},
	}
	if r.RedisVersion == "" {
		rows = slices.Delete(rows, 1, 2)
	}
	for _, n := range r.Notes {
		rows = append(rows, []string{"note", n})
	}
	return p.table(rows)
}
