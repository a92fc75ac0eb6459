package script

import (
	"math"
	"math/rand/v2"

	lua "github.com/yuin/gopher-lua"
)

// random is Redis' generator, that of drand48: a seed gives the same numbers here and there.
type random uint64

const randomMax = math.MaxInt32

func newRandom(seed int32) random { return random(uint64(uint32(seed))<<16 | 0x330e) }

// anyRandom begins anywhere: scripts that set no seed have different numbers.
func anyRandom() random { return random(rand.Uint64() & (1<<48 - 1)) }

// next is at least 0 and less than 1.
func (r *random) next() float64 {
	*r = (*r*0x5deece66d + 0xb) & (1<<48 - 1)
	return float64(*r>>17%randomMax) / randomMax
}

func (r *Run) mathFunctions(t *lua.LTable) {
	t.RawSetString("huge", lua.LNumber(math.Inf(1)))
	t.RawSetString("random", r.l.NewFunction(r.random))
	t.RawSetString("randomseed", r.l.NewFunction(func(l *lua.LState) int {
		r.rng = newRandom(int32(checkInteger(l, 1)))
		return 0
	}))
}

func (r *Run) random(l *lua.LState) int {
	var low, high int32
	n := r.rng.next()
	switch l.GetTop() {
	case 0:
		l.Push(lua.LNumber(n))
		return 1
	case 1:
		low, high = 1, int32(checkInteger(l, 1))
	case 2:
		low, high = int32(checkInteger(l, 1)), int32(checkInteger(l, 2))
	default:
		l.RaiseError("wrong number of arguments")
	}
	if high < low {
		l.RaiseError("bad argument #%d to 'random' (interval is empty)", l.GetTop())
	}
	l.Push(lua.LNumber(math.Floor(n*float64(high-low+1)) + float64(low)))
	return 1
}
