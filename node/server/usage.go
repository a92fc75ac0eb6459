package server

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what INFO tells of the recent past. It is safe for concurrent use.
type usage struct {
	mu       sync.Mutex
	at       time.Time
	commands uint64  // processed until then
	rate     float64 // a second
	peak     int64   // bytes of data
}

const rateOver = 0.5 // of a new second's rate in the mean: Redis' is one of 1.6 s

// sample is called about once a second.
func (u *usage) sample(now time.Time, commands uint64, used int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.peak = max(u.peak, used)
	if passed := now.Sub(u.at).Seconds(); !u.at.IsZero() && passed > 0 {
		u.rate += rateOver * (float64(commands-u.commands)/passed - u.rate)
	}
	u.at, u.commands = now, commands
}

// read returns the rate of commands and the most memory that the data has taken, used included.
func (u *usage) read(used int64) (rate, peak int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.peak = max(u.peak, used)
	return int64(u.rate + 0.5), u.peak
}

// residentBytes is the process's resident memory, 0 where there is no /proc.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
