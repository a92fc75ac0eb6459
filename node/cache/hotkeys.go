package cache

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"hypercache/node/command"
	"hypercache/node/resp"
)

// Which keys are asked for most is known group by group, at the group's primary, under its lock: about one command in
// hotEvery is looked at. Since a key belongs to one group, the cluster's list is the groups' lists put together.
//
// A group's list is SpaceSaving (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in
// data streams", 2005): a key without a place takes that of the least counted and its count, which is kept as what the
// count may exceed the truth by. A key asked for in more than 1/hotPerGroup of the group's commands is never missing.
// Counts decay by time forward (Cormode, Shkapenyuk, Srivastava, Xu, "Forward decay", 2009): a hit at time t weighs
// e^(t/hotSpan), so that nothing has to be aged and a count is a rate when it is divided by the weight of now.
const (
	hotEvery    = 32
	hotPerGroup = 16
	hotSpan     = 30_000 // ms: what is older than a few times this counts for nothing
	maxHotKey   = 1024   // longer keys are not noted
	// hotRebase is at what exponent weights start at 1 again.
	hotRebase = 200
)

type hotKey struct {
	key        []byte
	count, err float64
}

// hotKeys is one group's list. The group's lock is held.
type hotKeys struct {
	skip    int32 // commands until the next that is looked at
	keys    []int // for reuse
	list    []hotKey
	base    int64 // unix ms, when a hit weighs 1
	started int64 // unix ms of the first hit
}

// saw notes the keys of a command. Steps are of random length: one that always is the same would see only some of the
// commands of a client that repeats itself.
func (h *hotKeys) saw(o *op, now int64, r *round) {
	h.skip = int32(r.rng.IntN(2*hotEvery - 1))
	switch {
	case o.tx != nil:
		for i := range o.tx.commands {
			h.hits(o.tx.commands[i].spec, o.tx.commands[i].args, now)
		}
	case o.watch || o.part && o.spec.Scope != command.ScopeScatter:
	default:
		h.hits(o.spec, o.args, now)
	}
}

func (h *hotKeys) hits(spec *command.Spec, args [][]byte, now int64) {
	if spec.OneKey {
		h.hit(args[spec.FirstKey], now)
		return
	}
	h.keys = command.Keys(spec, args, h.keys[:0])
	for _, at := range h.keys {
		h.hit(args[at], now)
	}
}

func (h *hotKeys) hit(key []byte, now int64) {
	if len(key) > maxHotKey {
		return
	}
	if h.started == 0 {
		h.started, h.base = now, now
	}
	age := float64(now-h.base) / hotSpan
	if age > hotRebase {
		h.rebase(now, age)
		age = 0
	}
	weight, least := math.Exp(age), 0
	for i := range h.list {
		k := &h.list[i]
		if string(k.key) == string(key) {
			k.count += weight
			return
		}
		if k.count < h.list[least].count {
			least = i
		}
	}
	if len(h.list) < hotPerGroup {
		h.list = append(h.list, hotKey{key: slices.Clone(key), count: weight})
		return
	}
	k := &h.list[least]
	k.key, k.err = append(k.key[:0], key...), k.count
	k.count += weight
}

func (h *hotKeys) rebase(now int64, age float64) {
	for i := range h.list {
		h.list[i].count *= math.Exp(-age)
		h.list[i].err *= math.Exp(-age)
	}
	h.base = now
}

// report is command.Ctx.Hot: the n keys with the highest rates.
func (h *hotKeys) report(now int64, n int) []command.HotKey {
	// A hit each ms for ever adds up to hotSpan times the weight of now; since started, to less.
	lived := 1 - math.Exp(-max(float64(now-h.started), 1000)/hotSpan)
	scale := hotEvery * 1000 / (hotSpan * lived * math.Exp(float64(now-h.base)/hotSpan))
	list := make([]command.HotKey, 0, len(h.list))
	for _, k := range h.list {
		if rate := k.count * scale; rate >= command.LeastHotRate {
			list = append(list, command.HotKey{Key: k.key, Rate: rate, Excess: k.err * scale})
		}
	}
	slices.SortFunc(list, func(a, b command.HotKey) int { return cmp.Compare(b.Rate, a.Rate) })
	return list[:min(n, len(list))]
}

// writeHot merges the groups' lists, flat ones of key, rate and excess, into the highest n.
func (g *gather) writeHot(w *resp.Writer) {
	type entry struct {
		key          []byte
		rate, excess float64
	}
	var all []entry
	number := func(raw []byte) float64 {
		_, digits, _ := header(raw)
		f, _ := strconv.ParseFloat(string(digits[:max(len(digits)-2, 0)]), 64)
		return f
	}
	for _, p := range g.parts {
		for list := elements(p); len(list) >= 3; list = list[3:] {
			all = append(all, entry{list[0], number(list[1]), number(list[2])})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(b.rate, a.rate) })
	all = all[:min(len(all), g.limit)]
	w.Array(len(all))
	for _, e := range all {
		w.Array(3)
		w.Raw(e.key)
		w.Double(math.Round(e.rate*10) / 10)
		w.Double(math.Round(e.excess*10) / 10)
	}
}
