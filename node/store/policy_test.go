package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestPolicyNamesAreRedis(t *testing.T) {
	for _, name := range PolicyNames() {
		if p, err := ParsePolicy(name); err != nil || p.String() != name {
			t.Errorf("%s = %v, %v", name, p, err)
		}
	}
	if _, err := ParsePolicy("allkeys-fifo"); err == nil {
		t.Error("an unknown policy is taken")
	}
}

// victims evicts by the best of samples of 16 until n entries are gone and returns how many of them begin with prefix.
func victims(s *Shard, n int, prefix byte) (hits int) {
	rng := rand.New(rand.NewPCG(9, 9))
	for range n {
		var key []byte
		var best uint64
		s.EvictionSample(16, rng, func(r Ref, score uint64) {
			if key == nil || score > best {
				key, best = r.Key(), score
			}
		})
		if key == nil {
			return hits
		}
		if key[0] == prefix {
			hits++
		}
		s.Delete(key)
	}
	return hits
}

func TestEvictionTakesWhatThePolicySays(t *testing.T) {
	const now = int64(1_700_000_000_000)
	for _, c := range []struct {
		policy      Policy
		cold, least int // of 400 evictions among 500 old and 500 recently used keys; cold ones begin with 'c'
	}{
		{AllKeysLRU, 0, 370}, {AllKeysLFU, 0, 370}, {VolatileLRU, 1, 370}, {VolatileLFU, 1, 370}, {VolatileTTL, 1, 370},
	} {
		s := newDB(t, Options{Policy: c.policy, Seed: 1}).Shard(0)
		s.SetClock(now)
		for i := range 500 {
			at := int64(c.cold) * (now + 1_000_000)
			s.Set(fmt.Appendf(nil, "c%d", i), nil, at+int64(i)*int64(c.cold))
			s.Set(fmt.Appendf(nil, "h%d", i), nil, at*2)
			s.Set(fmt.Appendf(nil, "n%d", i), nil, 0)
		}
		for i := range 500 {
			for range 30 {
				s.Find(fmt.Appendf(nil, "h%d", i), now+5000)
				s.Find(fmt.Appendf(nil, "n%d", i), now+5000)
			}
		}
		if hits := victims(s, 400, 'c'); hits < c.least {
			t.Errorf("%v: %d of 400 victims were cold", c.policy, hits)
		}
	}
}

func TestEvictionSparesWhatThePolicySpares(t *testing.T) {
	for _, policy := range []Policy{VolatileLRU, VolatileLFU, VolatileRandom, VolatileTTL, NoEviction} {
		s := newDB(t, Options{Policy: policy}).Shard(0)
		for i := range 50 {
			s.Set(fmt.Appendf(nil, "keep%d", i), nil, 0)
			s.Set(fmt.Appendf(nil, "go%d", i), nil, 1<<40+int64(i))
		}
		want := 50
		if policy == NoEviction {
			want = 0
		}
		if hits := victims(s, 100, 'g'); hits != want || s.Len() != 100-want {
			t.Errorf("%v: %d victims, %d entries left", policy, hits, s.Len())
		}
	}
}

func TestAccessClocks(t *testing.T) {
	const now = int64(1_700_000_000_000)
	db := newDB(t, Options{Policy: AllKeysLRU})
	s, k := db.Shard(0), []byte("k")
	s.SetClock(now)
	s.Set(k, nil, 0)
	r, _ := s.Peek(k)
	if idle := r.IdleSeconds(now + 90_000); idle < 89 || idle > 91 {
		t.Errorf("idle %d s", idle)
	}
	s.Find(k, now+90_000)
	if idle := r.IdleSeconds(now + 90_000); idle != 0 {
		t.Errorf("idle %d s after a find", idle)
	}
	db.SetPolicy(AllKeysLFU)
	s.Delete(k)
	s.Set(k, nil, 0)
	if r, _ = s.Peek(k); r.Freq() != lfuInit {
		t.Errorf("a new key's frequency is %d", r.Freq())
	}
	for range 1_000_000 {
		s.Find(k, now)
	}
	if f := r.Freq(); f < 200 {
		t.Errorf("frequency after a million hits is %d, Redis documents 255", f)
	}
	s.Set(k, []byte("v"), 0)
	before := r.Freq()
	if r, _ = s.Peek(k); r.Freq() < before {
		t.Errorf("overwriting forgets the frequency: %d", r.Freq())
	}
	s.SetClock(now + 10*60_000)
	if f := r.Freq(); f != before-10 {
		t.Errorf("frequency %d decays to %d in ten minutes", before, f)
	}
	limits := DefaultLimits()
	for every, want := range map[int]int{0: before, 3: before - 3, 20: before} {
		limits.LFUDecay = every
		if db.SetLimits(limits); r.Freq() != want {
			t.Errorf("one of %d is forgotten every %d minutes: %d are left after ten, want %d", before, every, r.Freq(), want)
		}
	}
	limits.LFULogFactor = 0
	db.SetLimits(limits)
	s.SetFreq(r, 20)
	for range 100 {
		s.Find(k, now+10*60_000)
	}
	if f := r.Freq(); f != 120 {
		t.Errorf("frequency 20 is %d after 100 hits that all count", f)
	}
}
