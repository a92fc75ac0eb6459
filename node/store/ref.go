package store

// Ref is a live entry. It is valid until the next call that changes its shard, and so is what Key and Value return.
type Ref struct {
	b  block
	s  *Shard
	at place // zero where it was not at hand
}

// Key returns the key; it aliases the shard's memory and must not be written to.
func (r Ref) Key() []byte { return r.b.key() }

// Value returns the value; it aliases the shard's memory and must not be written to.
func (r Ref) Value() []byte { return r.b.value() }

// Type returns the Redis type of the value.
func (r Ref) Type() Type { return Type(r.b.flags() & typeMask) }

// ExpireAt returns the expiry in unix milliseconds, 0 for none.
func (r Ref) ExpireAt() int64 { return r.b.expireAt() }

// Expired says whether the entry's expiry is at or before now (unix ms). While DB.Freeze is on, none is.
func (r Ref) Expired(now int64) bool {
	at := r.b.expireAt()
	return at != 0 && at <= now && !r.s.db.frozen.Load()
}

// IdleSeconds returns the seconds from the last access to now (unix ms). It means nothing under an LFU policy.
func (r Ref) IdleSeconds(now int64) int64 { return idleMillis(r.b.clock(), now) / 1000 }

// Freq returns the logarithmic access counter, 0 to 255. It means nothing without an LFU policy.
func (r Ref) Freq() int { return r.s.decayed(r.b.clock()) }
