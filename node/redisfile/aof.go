package redisfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"hypercache/node/command"
	"hypercache/node/rdb"
	"hypercache/node/resp"
	"hypercache/node/store"
)

// Limits of one command in an append-only file: Redis' own.
const (
	maxWords = 1 << 20
	maxWord  = 512 << 20
	maxLine  = 1024
	// firstStep is how much of a word is allocated before any of it has arrived.
	firstStep = 64 << 10
)

var (
	errTorn = errors.New("ends in the middle of a command; redis-check-aof --fix cuts such a tail off")
	errLine = errors.New("is no command of Redis")
)

// databases are what append-only files come to.
type databases struct {
	shards map[uint64]*store.Shard
	stores []*store.DB // of the shards, one each: a database of Redis is not cut into groups
	ctx    command.Ctx
	w      resp.Writer
	now    uint64 // the database that SELECT chose
	at     int64  // unix ms of the load
	multi  bool
}

func newDatabases() *databases {
	d := &databases{shards: map[uint64]*store.Shard{}}
	d.ctx.RNG = rand.New(rand.NewPCG(1, 1))
	return d
}

func (d *databases) shard(db uint64) *store.Shard {
	s := d.shards[db]
	if s == nil {
		own := store.New(store.Options{})
		d.stores = append(d.stores, own)
		s = own.Shard(0)
		d.shards[db] = s
	}
	return s
}

func (d *databases) close() {
	for _, s := range d.stores {
		s.Close()
	}
}

// run adds one file: an RDB file, commands, or both.
func (s *Source) run(ctx context.Context, file string, sum *Summary) error {
	r, c, err := s.open(ctx, file)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // only read
	head, err := headOf(file)
	if err != nil {
		return err
	}
	base := int64(0)
	if strings.HasPrefix(head, "REDIS") {
		if r, base, err = readRDB(r, sum, s.db.put); err != nil {
			return err
		}
	}
	s.db.now, s.db.multi = 0, false
	in := &aof{r: bufio.NewReaderSize(r, 64<<10), offset: base}
	for {
		at := in.offset
		args, err := in.next()
		if errors.Is(err, io.EOF) {
			if s.db.multi {
				return fmt.Errorf("offset %d: %w", at, errTorn)
			}
			return nil
		}
		if err == nil {
			sum.Commands++
			err = s.db.exec(args, sum)
		}
		if err != nil {
			return fmt.Errorf("offset %d: %w", at, err)
		}
	}
}

func (d *databases) put(db uint64, k *rdb.Key, v *rdb.Value) error {
	shard := d.shard(db)
	if err := command.PutValue(shard, k.Name, v); err != nil {
		return err
	}
	if k.ExpireAt != 0 {
		shard.SetExpire(k.Name, k.ExpireAt)
	}
	return nil
}

// exec runs one command, at time 0: keys that expire stay until the end, as in Redis while it loads.
func (d *databases) exec(args [][]byte, sum *Summary) error {
	name := strings.ToUpper(string(args[0]))
	switch name {
	case "SELECT":
		db, err := strconv.ParseUint(string(slices.Concat(args[1:]...)), 10, 31)
		d.now = db
		return err
	case "MULTI", "EXEC":
		d.multi = name == "MULTI"
		return nil
	case "PING":
		return nil
	case "FUNCTION":
		return function(args, sum)
	case "FLUSHALL":
		for _, s := range d.shards {
			s.Flush()
		}
		return nil
	}
	spec, errText := command.Resolve(args)
	if errText != "" {
		return fmt.Errorf("%.100q: %s", name, errText)
	}
	if !spec.Write || spec.Scope == command.ScopeConn {
		return fmt.Errorf("%.100q cannot be taken from an append-only file", name)
	}
	if name == "RESTORE" {
		args = d.absolute(args)
	}
	if relative(name, args) {
		return fmt.Errorf("%.100q counts its time from a present that has passed", name)
	}
	return d.apply(spec, args)
}

func (d *databases) apply(spec *command.Spec, args [][]byte) error {
	d.w.Buf, d.w.Proto = d.w.Buf[:0], 2
	d.ctx = command.Ctx{Spec: spec, Args: args, Shard: d.shard(d.now), W: &d.w, RNG: d.ctx.RNG, NoBlock: true}
	if spec.Scope == command.ScopeKey {
		d.ctx.Run()
	} else {
		d.ctx.RunPart()
	}
	if b := d.w.Buf; len(b) > 0 && b[0] == '-' {
		return fmt.Errorf("%.100q fails: %s", args[0], bytes.TrimSpace(b[1:min(len(b), 200)]))
	}
	return nil
}

// absolute lets the TTL of a RESTORE count from now. Up to Redis 6.2 the file has it as the client sent it, and Redis lets it count
// from when it loads the file.
func (d *databases) absolute(args [][]byte) [][]byte {
	ttl, err := strconv.ParseInt(string(args[2]), 10, 64)
	has := slices.ContainsFunc(args[4:], func(a []byte) bool { return strings.EqualFold(string(a), "ABSTTL") })
	if err != nil || ttl <= 0 || ttl > math.MaxInt64-d.at || has {
		return args
	}
	args = append(slices.Clone(args), []byte("ABSTTL"))
	args[2] = strconv.AppendInt(nil, d.at+ttl, 10)
	return args
}

// relative says that a command's time counts from when it runs. Redis never writes such a command to the file.
func relative(name string, args [][]byte) bool {
	switch name {
	case "EXPIRE", "PEXPIRE", "SETEX", "PSETEX":
		return true
	case "SET", "GETEX":
		for _, a := range args[min(len(args), map[string]int{"SET": 3, "GETEX": 2}[name]):] {
			if o := strings.ToUpper(string(a)); o == "EX" || o == "PX" {
				return true
			}
		}
	}
	return false
}

func (d *databases) count(sum *Summary, now int64) {
	for db, shard := range d.shards {
		shard.Range(func(r store.Ref) bool {
			k := rdb.Key{Type: typeOf(r.Type()), ExpireAt: r.ExpireAt()}
			if expired(&k, now) {
				sum.Expired++
			} else {
				sum.count(db, &k)
			}
			return true
		})
	}
}

func typeOf(t store.Type) rdb.Type {
	return map[store.Type]rdb.Type{store.String: rdb.String, store.List: rdb.List, store.Set: rdb.Set, store.ZSet: rdb.ZSet,
		store.Hash: rdb.Hash, store.Stream: rdb.Stream}[t]
}

func (d *databases) each(ctx context.Context, db uint64, now int64, fn func(k *rdb.Key, v *rdb.Value) error) (err error) {
	shard := d.shards[db]
	if shard == nil {
		return nil
	}
	shard.Range(func(r store.Ref) bool {
		k := rdb.Key{Name: r.Key(), Type: typeOf(r.Type()), ExpireAt: r.ExpireAt(), IdleSeconds: -1, Freq: -1}
		if expired(&k, now) {
			return true
		}
		var b []byte
		var c rdb.Collector
		if err = ctx.Err(); err == nil {
			b, err = command.AppendValue(nil, r)
		}
		if err == nil {
			err = rdb.ReadValue(b, &c)
		}
		if err == nil {
			err = fn(&k, &c.Value)
		}
		return err == nil
	})
	return err
}

// aof reads commands.
type aof struct {
	r      *bufio.Reader
	offset int64
	args   [][]byte
}

// next returns the next command, io.EOF at the end. It is valid until the next call.
func (a *aof) next() ([][]byte, error) {
	line, err := a.line(true)
	for err == nil && len(line) > 0 && line[0] == '#' { // a remark
		if bytes.HasPrefix(line, []byte(ownMark)) {
			return nil, ErrOwn
		}
		line, err = a.line(true)
	}
	if err != nil {
		return nil, err
	}
	n, err := number(line, '*', maxWords)
	if err != nil || n == 0 {
		return nil, errLine
	}
	a.args = a.args[:0]
	for range n {
		if line, err = a.line(false); err != nil {
			return nil, err
		}
		size, err := number(line, '$', maxWord)
		if err != nil {
			return nil, err
		}
		word, err := a.word(size)
		if err != nil {
			return nil, err
		}
		a.args = append(a.args, word)
	}
	return a.args, nil
}

// line reads up to \r\n. The end of the file is allowed at a command's start.
func (a *aof) line(start bool) ([]byte, error) {
	line, err := a.r.ReadSlice('\n')
	a.offset += int64(len(line))
	switch {
	case errors.Is(err, io.EOF) && start && len(line) == 0:
		return nil, io.EOF
	case errors.Is(err, io.EOF):
		return nil, errTorn
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errLine
	case err != nil:
		return nil, err
	case len(line) > maxLine || len(line) < 2 || line[len(line)-2] != '\r':
		return nil, errLine
	}
	return line[:len(line)-2], nil
}

func number(line []byte, kind byte, max int) (int, error) {
	if len(line) < 2 || line[0] != kind {
		return 0, errLine
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n < 0 || n > max {
		return 0, errLine
	}
	return n, nil
}

// word reads size bytes and \r\n; memory grows as they arrive.
func (a *aof) word(size int) ([]byte, error) {
	var b []byte
	for step, left := firstStep, size+2; left > 0; step *= 2 {
		k := min(step, left)
		at := len(b)
		b = append(b, make([]byte, k)...)
		n, err := io.ReadFull(a.r, b[at:])
		a.offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTorn
		}
		if err != nil {
			return nil, err
		}
		left -= k
	}
	if b[size] != '\r' || b[size+1] != '\n' {
		return nil, errLine
	}
	return b[:size:size], nil
}

// Databases lists the databases that hold keys.
func (s *Summary) Databases() []uint64 { return slices.Sorted(maps.Keys(s.Keys)) }
