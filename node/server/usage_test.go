package server

import (
	"testing"
	"time"
)

func TestUsageFollowsTheRateAndKeepsThePeak(t *testing.T) {
	var u usage
	now, commands := time.Unix(1_700_000_000, 0), uint64(5000)
	for range 10 {
		u.sample(now, commands, 100)
		now, commands = now.Add(time.Second), commands+2000
	}
	if rate, _ := u.read(0); rate < 1990 || rate > 2000 {
		t.Errorf("%d commands a second, there were 2000", rate)
	}
	u.sample(now, commands, 700)
	for range 10 {
		now = now.Add(time.Second)
		u.sample(now, commands, 50)
	}
	if rate, peak := u.read(60); rate > 10 || peak != 700 {
		t.Errorf("%d commands a second after 10 s without any, a peak of %d bytes, want 700", rate, peak)
	}
	if _, peak := u.read(800); peak != 800 {
		t.Errorf("the peak is %d bytes while 800 are used", peak)
	}
}
