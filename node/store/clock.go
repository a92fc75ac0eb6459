package store

// Every entry has 24 bits for its last access. Under the LFU policies they are Redis' logarithmic counter (8 bits)
// below the minute of its last decay (16 bits), else the time of the last access in units of 256 ms, which go round
// after 49 days.
const (
	clockShift = 8 // 256 ms
	lfuInit    = 5
)

// fresh returns the clock of an entry that was just written.
func (s *Shard) fresh() uint32 {
	if s.db.Policy().LFU() {
		return minuteOf(s.now)<<8 | lfuInit
	}
	return uint32(s.now>>clockShift) & clockMask
}

// touch notes an access.
func (s *Shard) touch(b block) {
	clock := b.clock()
	if !s.db.Policy().LFU() {
		if now := uint32(s.now>>clockShift) & clockMask; now != clock {
			b.setClock(now)
		}
		return
	}
	count := s.decayed(clock)
	if count < 255 && s.roll() < 1/(float64(max(count, lfuInit)-lfuInit)*float64(s.db.limits.Load().LFULogFactor)+1) {
		count++
	}
	if now := minuteOf(s.now)<<8 | uint32(count); now != clock {
		b.setClock(now)
	}
}

func minuteOf(now int64) uint32 { return uint32(now/60_000) & 0xffff }

// decayed returns the counter less one for each LFUDecay minutes since it last decayed.
func (s *Shard) decayed(clock uint32) int {
	every := s.db.limits.Load().LFUDecay
	if every == 0 {
		return int(clock & 0xff)
	}
	minutes := int((minuteOf(s.now) - clock>>8) & 0xffff)
	return max(int(clock&0xff)-minutes/every, 0)
}

// idleMillis returns the time since the last access, in steps of 256 ms.
func idleMillis(clock uint32, now int64) int64 {
	return int64((uint32(now>>clockShift)-clock)&clockMask) << clockShift
}

// roll returns a number in [0, 1) from the shard's own xorshift generator.
func (s *Shard) roll() float64 {
	s.dice ^= s.dice << 13
	s.dice ^= s.dice >> 7
	s.dice ^= s.dice << 17
	return float64(s.dice>>11) / (1 << 53)
}

// SetIdle makes an entry's last access one of seconds ago. It does nothing under an LFU policy.
func (s *Shard) SetIdle(r Ref, seconds int64) {
	if !s.db.Policy().LFU() {
		ago := (min(uint64(seconds), 1<<32)*1000 + 1<<clockShift - 1) >> clockShift // up: it is read in whole seconds
		ago = min(ago, clockMask)
		r.b.setClock((uint32(s.now>>clockShift) - uint32(ago)) & clockMask)
	}
}

// SetFreq sets an entry's access counter, 0 to 255. It does nothing without an LFU policy.
func (s *Shard) SetFreq(r Ref, count int) {
	if s.db.Policy().LFU() {
		r.b.setClock(minuteOf(s.now)<<8 | uint32(count))
	}
}
