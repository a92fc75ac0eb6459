package command

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"hypercache/node/command/internal/hll"
	"hypercache/node/store"
)

func hyperLogLogCommands() []binding {
	return []binding{
		{name: "pfadd", scope: ScopeKey, run: runPFAdd, effect: true},
		{name: "pfcount", scope: ScopeKey, run: runPFCount},
		{name: "pfdebug", scope: ScopeKey, run: runPFDebug},
		{name: "pfmerge", scope: ScopeKey, run: runPFMerge, effect: true},
		{name: "pfselftest", conn: runPFSelfTest},
	}
}

const (
	errNoHLL      = "WRONGTYPE Key is not a valid HyperLogLog string value."
	errCorruptHLL = "INVALIDOBJ Corrupted HLL object detected"
)

var (
	namePFAdd   = []byte("PFADD")
	namePFMerge = []byte("PFMERGE")
)

// isHLL reports whether an entry's value is a HyperLogLog, or replies with Redis' error.
func (c *Ctx) isHLL(r store.Ref) bool {
	if !c.isString(r) {
		return false
	}
	if !hll.Valid(r.Value()) {
		c.W.Error(errNoHLL)
		return false
	}
	return true
}

// runPFAdd has for its effect the elements that changed a register: they do so again, wherever the value is the same.
func runPFAdd(c *Ctx) {
	key, elements := c.Args[1], c.Args[2:]
	r, found := c.findWrite(key)
	if found && !c.isHLL(r) {
		return
	}
	var few [64][]byte
	added := few[:0]
	ok := true
	if found && hll.Encoding(r.Value()) == hll.Dense {
		added = c.addDense(r, elements, added)
	} else {
		added, ok = c.addSparse(r, found, elements, added)
	}
	switch {
	case !ok:
		c.W.Error(errCorruptHLL)
	case found && len(added) == 0:
		c.W.Int(0)
	default:
		if len(added) == 0 {
			c.FX.Command(namePFAdd, key)
		}
		c.FX.pieces(namePFAdd, key, added, 1)
		c.changed(key)
		c.notify(ClassString, "pfadd", key)
		c.W.Int(1)
	}
}

// addDense adds the elements to a dense value in its place, and appends those that changed it.
func (c *Ctx) addDense(r store.Ref, elements, added [][]byte) [][]byte {
	key := c.Args[1]
	for _, e := range elements {
		at, change, n := hll.Probe(r.Value(), e)
		if n == 0 {
			continue
		}
		added = append(added, e)
		c.Shard.SetRange(key, at, change[:n])
		r, _ = c.Shard.Peek(key)
	}
	if len(added) > 0 {
		at, value := hll.Stale(r.Value())
		c.Shard.SetRange(key, at, []byte{value})
	}
	return added
}

// addSparse adds the elements to a copy of a sparse or a new value, which it stores if they changed it, and appends those
// that did. It is false if the value is corrupt.
func (c *Ctx) addSparse(r store.Ref, found bool, elements, added [][]byte) (all [][]byte, ok bool) {
	var room [512]byte
	var value []byte
	var at int64
	if found {
		value, at = append(room[:0], r.Value()...), r.ExpireAt()
	} else {
		value = hll.New(room[:0])
	}
	for _, e := range elements {
		after, changed, err := hll.Add(value, e)
		if err != nil {
			return nil, false
		}
		value = after
		if changed {
			added = append(added, e)
		}
	}
	if found && len(added) == 0 {
		return added, true
	}
	hll.Forget(value)
	c.setHLL(value, at, found)
	return added, true
}

// setHLL stores the value of the first key.
func (c *Ctx) setHLL(value []byte, at int64, found bool) {
	key := c.Args[1]
	if !found {
		c.notify(ClassNew, "new", key)
	}
	c.Shard.Set(key, value, at)
	c.Shard.SetRange(key, 0, value[:1]) // a string that was changed in place: OBJECT ENCODING says raw
}

func runPFCount(c *Ctx) {
	if len(c.Args) > 2 {
		c.countUnion()
		return
	}
	r, found := c.findRead(c.Args[1])
	if !found {
		c.W.Int(0)
		return
	}
	if !c.isHLL(r) {
		return
	}
	n, err := hll.Count(r.Value())
	if err != nil {
		c.W.Error(errCorruptHLL)
		return
	}
	c.W.Int(int64(n))
}

func (c *Ctx) countUnion() {
	var all hll.Maxima
	for _, key := range c.Args[1:] {
		if r, found := c.findRead(key); found && !c.mergeHLL(&all, r) {
			return
		}
	}
	c.W.Int(int64(all.Count()))
}

// mergeHLL takes in one key's registers, or replies with an error.
func (c *Ctx) mergeHLL(all *hll.Maxima, r store.Ref) bool {
	if !c.isHLL(r) {
		return false
	}
	if all.Merge(r.Value()) != nil {
		c.W.Error(errCorruptHLL)
		return false
	}
	return true
}

// runPFMerge has for its effect itself with the sources that are there: one may have expired on the primary alone.
func runPFMerge(c *Ctx) {
	var all hll.Maxima
	dense := false
	live := [][]byte{}
	for i, key := range c.Args[1:] {
		r, found := c.findRead(key)
		if !found {
			continue
		}
		if !c.mergeHLL(&all, r) {
			return
		}
		dense = dense || hll.Encoding(r.Value()) == hll.Dense
		if i > 0 {
			live = append(live, key)
		}
	}
	key := c.Args[1]
	r, found := c.findWrite(key)
	old, at := hll.New(nil), int64(0)
	if found {
		old, at = bytes.Clone(r.Value()), r.ExpireAt()
	}
	value, err := mergedHLL(&all, bytes.Clone(old), dense)
	if err != nil {
		c.W.Error(errCorruptHLL)
		return
	}
	if !found || !bytes.Equal(old, value) {
		c.setHLL(value, at, found)
		c.mergeEffect(live, value)
	}
	c.changed(key)
	c.notify(ClassString, "pfadd", key)
	c.W.OK()
}

// mergedHLL is the value with these registers as well, dense if one of those they come from was.
func mergedHLL(all *hll.Maxima, value []byte, dense bool) ([]byte, error) {
	if dense && hll.Encoding(value) != hll.Dense {
		var err error
		if value, err = hll.ToDense(nil, value); err != nil {
			return nil, err
		}
	}
	value, err := all.Raise(value)
	if err == nil {
		hll.Forget(value)
	}
	return value, err
}

// mergeEffect records a merge. In parts it would come to other bytes, so one of many sources is recorded by its result.
func (c *Ctx) mergeEffect(live [][]byte, value []byte) {
	if len(live) > maxFXWords {
		c.FX.setKeepTTL(c.Args[1], value)
		return
	}
	c.FX.Command(append([][]byte{namePFMerge, c.Args[1]}, live...)...)
}

func runPFDebug(c *Ctx) {
	key := c.Args[2]
	r, found := c.findWrite(key)
	if !found {
		c.W.Error("ERR The specified key does not exist")
		return
	}
	if !c.isHLL(r) {
		return
	}
	sparse := hll.Encoding(r.Value()) == hll.Sparse
	switch what := c.Args[1]; {
	case option(what, "getreg"):
		c.replyRegisters(r, sparse)
	case option(what, "decode"):
		if !sparse {
			c.W.Error("ERR HLL encoding is not sparse")
			return
		}
		c.W.Bulk(hll.AppendRuns(nil, r.Value()))
	case option(what, "encoding"):
		c.W.SimpleString(map[bool]string{true: "sparse", false: "dense"}[sparse])
	case option(what, "todense"):
		if !sparse {
			c.W.Int(0)
			return
		}
		if c.makeDense(r) != nil {
			c.W.Int(1)
		}
	default:
		c.W.Error("ERR Unknown PFDEBUG subcommand '" + cstring(what, len(what)) + "'")
	}
}

// replyRegisters is PFDEBUG GETREG, which makes the value dense, as in Redis.
func (c *Ctx) replyRegisters(r store.Ref, sparse bool) {
	value := r.Value()
	if sparse {
		if value = c.makeDense(r); value == nil {
			return
		}
	}
	c.W.Array(hll.Registers)
	for _, v := range hll.Values(nil, value) {
		c.W.Int(int64(v))
	}
}

// makeDense makes PFDEBUG's value dense and returns it, nil after an error.
func (c *Ctx) makeDense(r store.Ref) []byte {
	key := c.Args[2]
	value, err := hll.ToDense(nil, r.Value())
	if err != nil {
		c.W.Error(errCorruptHLL)
		return nil
	}
	at := r.ExpireAt()
	c.Shard.Set(key, value, at) // no change for those who watch or cache the key: it counts what it did
	if at != 0 {
		c.FX.setKeepTTL(key, value)
	} else {
		c.FX.set(key, value, at)
	}
	return value
}

// selfTestElements is how many elements PFSELFTEST counts: enough for every part of the estimate, and done in milliseconds.
const selfTestElements = 100_000

func runPFSelfTest(c *ConnCtx) {
	if err := selfTestHLL(); err != nil {
		c.W.Error("TESTFAILED " + err.Error())
		return
	}
	c.W.OK()
}

// selfTestHLL counts a known number of elements, which begin sparse, and compares with a value that is dense from the start.
func selfTestHLL() error {
	grown := hll.New(nil)
	dense, err := hll.ToDense(nil, grown)
	if err != nil {
		return err
	}
	checkpoint := 1
	var element [8]byte
	for n := 1; n <= selfTestElements; n++ {
		binary.LittleEndian.PutUint64(element[:], uint64(n))
		if grown, _, err = hll.Add(grown, element[:]); err != nil {
			return err
		}
		if dense, _, err = hll.Add(dense, element[:]); err != nil {
			return err
		}
		if n != checkpoint {
			continue
		}
		checkpoint *= 10
		hll.Forget(grown)
		hll.Forget(dense)
		a, errA := hll.Count(grown)
		b, errB := hll.Count(dense)
		// Six times the standard error of 1.04 over the root of the registers, and one for the small numbers.
		allowed := 6*1.04/math.Sqrt(hll.Registers)*float64(n) + 1
		if errA != nil || errB != nil || a != b || math.Abs(float64(a)-float64(n)) > allowed {
			return fmt.Errorf("%d elements were counted as %d and %d", n, a, b)
		}
	}
	return nil
}
