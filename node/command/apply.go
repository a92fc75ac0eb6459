package command

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"

	"hypercache/node/resp"
	"hypercache/node/store"
)

// ErrEffects says that bytes given to Apply are not effects as this package writes them, or do not fit the state:
// the journal or the stream they came from is corrupt, or not ours.
var ErrEffects = errors.New("malformed effects")

// maxBulk is the longest key or value, Redis' proto-max-bulk-len.
const maxBulk = 512 << 20

// Apply repeats effects on a replica or in recovery: no clock, no replies, no new effects. Expired keys are keys like
// any other here; their DEL is an effect of its own. On an error (ErrEffects) the commands before the bad one have
// been applied. It allocates nothing for SET, DEL, PEXPIREAT, INCRBY and APPEND.
func Apply(shard *store.Shard, effects []byte) error {
	d := decoder{buf: effects}
	for d.pos < len(d.buf) {
		start := d.pos
		if err := applyOne(shard, &d); err != nil {
			return fmt.Errorf("apply effects: offset %d: %w", start, err)
		}
	}
	return nil
}

func applyOne(shard *store.Shard, d *decoder) error {
	n, ok := d.header('*')
	if !ok || n < 1 {
		return ErrEffects
	}
	name, ok := d.bulk()
	if !ok {
		return ErrEffects
	}
	if n == 1 {
		if bracket(name) {
			return nil
		}
		return ErrEffects
	}
	if string(name) == "DEL" {
		return applyDel(shard, d, n-1)
	}
	if spec := Lookup(name); spec != nil && spec.effect {
		return applyCommand(shard, d, spec, name, n)
	}
	if n > maxEffectArgs {
		return ErrEffects
	}
	var args [maxEffectArgs][]byte
	for i := range n - 1 {
		if args[i], ok = d.bulk(); !ok {
			return ErrEffects
		}
	}
	return applyArgs(shard, name, args[:n-1])
}

// applier is what repeating a command takes.
type applier struct {
	ctx Ctx
	w   resp.Writer
}

var appliers = sync.Pool{New: func() any { return new(applier) }}

// maxEffectWords bounds the arguments of one effect; commands split what is longer.
const maxEffectWords = 1 << 20

// applyCommand repeats an effect by running its command at time 0, when no key has expired. One container with
// subcommands is known by its first argument.
func applyCommand(shard *store.Shard, d *decoder, spec *Spec, name []byte, n int) error {
	if n > maxEffectWords || n > len(d.buf) {
		return ErrEffects
	}
	a := appliers.Get().(*applier)
	defer appliers.Put(a)
	args := append(a.ctx.Args[:0], name)
	for range n - 1 {
		arg, ok := d.bulk()
		if !ok {
			return ErrEffects
		}
		args = append(args, arg)
	}
	if spec.Container {
		if spec = spec.Sub(args[1]); spec == nil || !spec.effect {
			return ErrEffects
		}
	}
	if !spec.CheckArity(n) {
		return ErrEffects
	}
	a.w.Buf, a.w.Proto = a.w.Buf[:0], 2
	a.ctx = Ctx{Spec: spec, Args: args, Shard: shard, W: &a.w}
	spec.run(&a.ctx)
	failed := len(a.w.Buf) > 0 && a.w.Buf[0] == '-'
	clear(args)
	a.ctx = Ctx{Args: args[:0]}
	if failed {
		return fmt.Errorf("%w: %s: %.200s", ErrEffects, spec.Name, a.w.Buf)
	}
	return nil
}

// maxEffectArgs is the longest effect that is repeated without its command: SET key value PXAT at.
const maxEffectArgs = 5

// applyDel checks the whole command before it deletes, so that a torn one changes nothing.
func applyDel(shard *store.Shard, d *decoder, keys int) error {
	start := d.pos
	for range keys {
		if _, ok := d.bulk(); !ok {
			return ErrEffects
		}
	}
	d.pos = start
	for range keys {
		key, _ := d.bulk()
		shard.Delete(key)
	}
	return nil
}

func applyArgs(shard *store.Shard, name []byte, args [][]byte) error {
	switch len(args) {
	case 1:
		if string(name) == "PERSIST" {
			shard.SetExpire(args[0], 0)
			return nil
		}
	case 2:
		switch string(name) {
		case "SET":
			shard.Set(args[0], args[1], 0)
			return nil
		case "PEXPIREAT":
			return applyExpireAt(shard, args[0], args[1])
		case "INCRBY":
			return applyIncrBy(shard, args[0], args[1])
		case "APPEND":
			shard.Append(args[0], args[1])
			return nil
		case "RENAME":
			return applyMove(shard, args[0], args[1], true)
		}
	case 3:
		switch string(name) {
		case "SET":
			return applySetKeepTTL(shard, args)
		case "SETRANGE":
			return applySetRange(shard, args)
		case "COPY":
			if string(args[2]) == "REPLACE" {
				return applyMove(shard, args[0], args[1], false)
			}
		}
	case 4:
		if string(name) == "SET" && string(args[2]) == "PXAT" {
			at, ok := parseInt(args[3])
			if !ok || at <= 0 {
				return ErrEffects
			}
			shard.Set(args[0], args[1], at)
			return nil
		}
	}
	return ErrEffects
}

func applyExpireAt(shard *store.Shard, key, arg []byte) error {
	at, ok := parseInt(arg)
	if !ok || at <= 0 {
		return ErrEffects
	}
	shard.SetExpire(key, at)
	return nil
}

func applySetKeepTTL(shard *store.Shard, args [][]byte) error {
	if string(args[2]) != "KEEPTTL" {
		return ErrEffects
	}
	var at int64
	if r, ok := shard.Peek(args[0]); ok {
		at = r.ExpireAt()
	}
	shard.Set(args[0], args[1], at)
	return nil
}

func applySetRange(shard *store.Shard, args [][]byte) error {
	off, ok := parseInt(args[1])
	if !ok || off < 0 || off > maxBulk-int64(len(args[2])) || len(args[2]) == 0 {
		return ErrEffects
	}
	shard.SetRange(args[0], int(off), args[2])
	return nil
}

func applyIncrBy(shard *store.Shard, key, arg []byte) error {
	by, ok := parseInt(arg)
	if !ok {
		return ErrEffects
	}
	var old, at int64
	if r, found := shard.Peek(key); found {
		if old, ok = parseInt(r.Value()); !ok {
			return ErrEffects
		}
		at = r.ExpireAt()
	}
	if addOverflows(old, by) {
		return ErrEffects
	}
	var tmp [20]byte
	shard.Set(key, strconv.AppendInt(tmp[:0], old+by, 10), at)
	return nil
}

// applyMove is RENAME, or COPY when the source stays.
func applyMove(shard *store.Shard, from, to []byte, remove bool) error {
	move := shard.Copy
	if remove {
		move = shard.Rename
	}
	if !move(from, to) {
		return ErrEffects
	}
	return nil
}

func addOverflows(a, b int64) bool {
	return b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b
}

// decoder reads the RESP arrays of bulk strings that Effects writes, and nothing else: canonical lengths, no blanks.
type decoder struct {
	buf []byte
	pos int
}

func (d *decoder) header(kind byte) (n int, ok bool) {
	b := d.buf[d.pos:]
	if len(b) < 4 || b[0] != kind {
		return 0, false
	}
	i := 1
	for ; i < len(b) && i < 12 && b[i] != '\r'; i++ {
		c := b[i] - '0'
		if c > 9 || i > 1 && n == 0 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	if i == 1 || i+1 >= len(b) || b[i] != '\r' || b[i+1] != '\n' {
		return 0, false
	}
	d.pos += i + 2
	return n, true
}

func (d *decoder) bulk() ([]byte, bool) {
	n, ok := d.header('$')
	if !ok || n > maxBulk || len(d.buf)-d.pos < n+2 {
		return nil, false
	}
	end := d.pos + n
	if d.buf[end] != '\r' || d.buf[end+1] != '\n' {
		return nil, false
	}
	s := d.buf[d.pos:end:end]
	d.pos = end + 2
	return s, true
}
