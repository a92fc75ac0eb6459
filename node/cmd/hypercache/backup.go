package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hypercache/node/rdb"
)

// scanCount is how many keys a SCAN asks for, and so how many are asked for at once.
const scanCount = 64

// backupReport is what backup did.
type backupReport struct {
	File      string  `json:"file"`
	Keys      int     `json:"keys"`
	Expiring  int     `json:"expiring"`
	Libraries int     `json:"libraries"` // of functions
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"`
}

// backup is `backup FILE`: all keys of the cluster in one RDB file. It is no snapshot of one moment: each key is as it was when
// it was read. Keys that come or go meanwhile may be in it or not.
func (p *program) backup(ctx context.Context, args []string) error {
	f := p.flags("backup", "FILE [flags]")
	r := p.redisFlags(f)
	force := f.Bool("force", false, "replace FILE if it exists")
	asJSON := f.Bool("json", false, "print JSON")
	file, err := oneArgument(f, args, "FILE")
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil && !*force {
		return fmt.Errorf("%s exists already; --force replaces it", file)
	}
	ctx, stop := p.interruptible(ctx)
	defer stop()
	began := time.Now()
	b := &backup{ctx: ctx, flags: r, seen: map[string]struct{}{}}
	done := p.progress(func() string { return fmt.Sprintf("saved %d keys", b.keys.Load()) })
	report, err := b.to(file)
	done()
	if err != nil {
		return fmt.Errorf("nothing was saved: %w", err)
	}
	report.Seconds = math.Round(time.Since(began).Seconds()*1000) / 1000
	if *asJSON {
		return p.printJSON(report)
	}
	functions := ""
	if report.Libraries > 0 {
		functions = fmt.Sprintf(" and %d libraries of functions", report.Libraries)
	}
	_, err = fmt.Fprintf(p.stdout, "%d keys, %d with a time to live,%s saved to %s (%s) in %.1f s\n",
		report.Keys, report.Expiring, functions, report.File, human(report.Bytes), report.Seconds)
	return err
}

// backup copies keys from a node to a file.
type backup struct {
	ctx       context.Context
	flags     *redisFlags
	conn      *redisConn
	w         *rdb.Writer
	seen      map[string]struct{} // SCAN may name a key twice
	keys      atomic.Int64
	expiring  int
	libraries int
}

// to writes a temporary file next to the one that is wanted, and gives it its name when it is complete and on the disk.
func (b *backup) to(file string) (*backupReport, error) {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".temp-*")
	if err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		_ = temp.Close() // closed before, unless something failed
		if !kept {
			_ = os.Remove(temp.Name())
		}
	}()
	if b.conn, err = b.flags.dial(b.ctx); err != nil {
		return nil, err
	}
	defer func() { b.conn.close() }()
	out := bufio.NewWriterSize(temp, 1<<20)
	if err := b.all(out); err != nil {
		return nil, err
	}
	if err := errors.Join(out.Flush(), temp.Chmod(0o600), temp.Sync()); err != nil {
		return nil, err
	}
	info, err := temp.Stat()
	if err != nil {
		return nil, err
	}
	if err := temp.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return nil, err
	}
	kept = true
	return &backupReport{File: file, Keys: int(b.keys.Load()), Expiring: b.expiring, Libraries: b.libraries, Bytes: info.Size()}, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (b *backup) all(out io.Writer) error {
	size, err := b.patient("DBSIZE")
	if err != nil {
		return err
	}
	b.w = rdb.NewWriter(out)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	for _, aux := range [][2]string{{"redis-ver", "7.0.15"}, {"redis-bits", "64"}, {"ctime", now}, {"hypercache-ver", nodeVersion()}} {
		_ = b.w.Aux(aux[0], aux[1]) // the writer keeps its error
	}
	if err := b.functions(); err != nil {
		return err
	}
	_ = b.w.SelectDB(0, uint64(max(size.n, 0)), 0)
	for cursor := "0"; ; {
		r, err := b.patient("SCAN", cursor, "COUNT", strconv.Itoa(scanCount))
		if err != nil {
			return err
		}
		if len(r.list) != 2 {
			return errReply
		}
		if err := b.batch(r.list[1].list); err != nil {
			return err
		}
		if cursor = string(r.list[0].text); cursor == "0" {
			return b.w.Close()
		}
	}
}

// functions saves the libraries of functions.
func (b *backup) functions() error {
	r, err := b.patient("FUNCTION", "DUMP")
	if strings.HasPrefix(r.err, "ERR unknown command") {
		return nil // a node of a version without functions
	}
	if err != nil {
		return err
	}
	list, err := rdb.OpenFunctions(r.text)
	if err != nil {
		return fmt.Errorf("the node's libraries of functions: %w", err)
	}
	for _, text := range list {
		_ = b.w.Function(text) // the writer keeps its error
	}
	b.libraries = len(list)
	return nil
}

// batch saves the keys that a SCAN named and that were not saved yet.
func (b *backup) batch(list []reply) error {
	var keys [][]byte
	for _, k := range list {
		if _, have := b.seen[string(k.text)]; !have {
			b.seen[string(k.text)] = struct{}{}
			keys = append(keys, k.text)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), scanCount)
		err := b.pipeline(keys[:n])
		if err != nil && n > 1 {
			// Maybe the answers together were more than the node keeps for a client: one by one.
			err = b.oneByOne(keys[:n])
		}
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

func (b *backup) oneByOne(keys [][]byte) (err error) {
	b.conn.close()
	if b.conn, err = b.flags.dial(b.ctx); err != nil {
		return err
	}
	for _, k := range keys {
		for deadline := time.Now().Add(b.flags.timeout); ; {
			var again *passingError
			if err = b.pipeline([][]byte{k}); !errors.As(err, &again) || time.Now().After(deadline) {
				break
			}
			if err := pause(b.ctx, retryPause); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("key %.100q: %w", k, err)
		}
	}
	return nil
}

// passingError is an error reply that ends by itself.
type passingError struct{ text string }

func (e *passingError) Error() string { return e.text }

// dumped is a key as a node told it.
type dumped struct {
	expireAt int64
	value    []byte
}

// pipeline asks for expiries and values, and writes them when all are there.
func (b *backup) pipeline(keys [][]byte) error {
	for _, k := range keys {
		// The expiry on both sides: between the two a key may get another one, or become another.
		b.conn.send([]byte("PEXPIRETIME"), k)
		b.conn.send([]byte("DUMP"), k)
		b.conn.send([]byte("PEXPIRETIME"), k)
	}
	if err := b.conn.flush(); err != nil {
		return err
	}
	found := make([]dumped, len(keys))
	var failed error
	for i := range keys {
		d, err := b.receive()
		if d == nil {
			return err
		}
		failed = errors.Join(failed, err)
		found[i] = *d
	}
	if failed != nil {
		return failed
	}
	for i, k := range keys {
		if found[i].value == nil {
			continue // gone meanwhile
		}
		if err := b.w.Entry(k, found[i].expireAt, found[i].value); err != nil {
			return err
		}
		b.keys.Add(1)
		if found[i].expireAt != 0 {
			b.expiring++
		}
	}
	return nil
}

// receive reads the three answers about a key. No dumped means that the connection is of no use any more.
func (b *backup) receive() (*dumped, error) {
	var answers [3]reply
	for i := range answers {
		var err error
		if answers[i], err = b.conn.receive(); err != nil {
			return nil, err
		}
	}
	for _, a := range answers {
		switch {
		case passing(a.err):
			return &dumped{}, &passingError{a.err}
		case a.err != "":
			return &dumped{}, errors.New(a.err)
		}
	}
	payload := answers[1].text
	if payload == nil || answers[2].n == -2 {
		return &dumped{}, nil
	}
	if answers[0].n != answers[2].n {
		return &dumped{}, &passingError{"the expiry changes"}
	}
	value, err := rdb.Verify(payload)
	if err == nil {
		err = rdb.ReadValue(value, rdb.Discard{})
	}
	if err != nil {
		return &dumped{}, fmt.Errorf("the node's payload: %w", err)
	}
	return &dumped{max(answers[2].n, 0), bytes.Clone(value)}, nil
}

func (b *backup) patient(words ...string) (reply, error) {
	for deadline := time.Now().Add(b.flags.timeout); ; {
		r, err := b.conn.ask(words...)
		if err == nil || !passing(r.err) || time.Now().After(deadline) {
			return r, err
		}
		if err := pause(b.ctx, retryPause); err != nil {
			return r, err
		}
	}
}

// oneArgument parses flags on either side of the one file name.
func oneArgument(f *flag.FlagSet, args []string, what string) (string, error) {
	var files []string
	for rest := args; ; rest = f.Args()[1:] {
		if err := f.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return "", err
			}
			return "", usagef("%s: %v", f.Name(), err)
		}
		if f.NArg() == 0 {
			break
		}
		files = append(files, f.Arg(0))
	}
	if len(files) != 1 || files[0] == "" {
		return "", usagef("want: %s %s", f.Name(), what)
	}
	return files[0], nil
}

func givenFlag(f *flag.FlagSet, name string) (given bool) {
	f.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// progress tells every few seconds on stderr how far a work is, until the function that it returns is called.
func (p *program) progress(say func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(reportEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				_, _ = fmt.Fprintln(p.stderr, say())
			case <-done:
				return
			}
		}
	}()
	var once atomic.Bool
	return func() {
		if once.CompareAndSwap(false, true) {
			close(done)
			<-ended
		}
	}
}

func share(done, total int64) string {
	if total == 0 {
		return "100 %"
	}
	return fmt.Sprintf("%d %% of %s", done*100/total, human(total))
}

// interruptible ends the context at a signal.
func (p *program) interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-p.signals:
			cancel()
		case <-done:
		}
	}()
	return ctx, func() { close(done); <-ended; cancel() }
}
