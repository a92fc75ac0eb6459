package store

import "fmt"

// Policy says which entries may be evicted when a DB is over its limit, and which of them goes first.
type Policy uint32

// The eviction policies of Redis. The volatile ones consider keys with an expiry only.
const (
	NoEviction Policy = iota
	AllKeysLRU
	VolatileLRU
	AllKeysLFU
	VolatileLFU
	AllKeysRandom
	VolatileRandom
	VolatileTTL
)

var policyNames = [...]string{
	"noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-lfu",
	"allkeys-random", "volatile-random", "volatile-ttl",
}

// ParsePolicy returns the policy that Redis' maxmemory-policy calls name.
func ParsePolicy(name string) (Policy, error) {
	for i, n := range policyNames {
		if n == name {
			return Policy(i), nil
		}
	}
	return NoEviction, fmt.Errorf("unknown eviction policy %q", name)
}

// PolicyNames returns the names that ParsePolicy knows.
func PolicyNames() []string { return append([]string(nil), policyNames[:]...) }

// String returns Redis' name of the policy.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return "unknown"
}

// Volatile reports whether the policy spares keys without an expiry.
func (p Policy) Volatile() bool {
	return p == VolatileLRU || p == VolatileLFU || p == VolatileRandom || p == VolatileTTL
}

// LFU reports whether entries count their accesses under this policy rather than the time since the last one.
func (p Policy) LFU() bool { return p == AllKeysLFU || p == VolatileLFU }
