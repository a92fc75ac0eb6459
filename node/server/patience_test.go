package server

import (
	"testing"
	"time"
)

func TestFailedRewritesAreTriedAgainLaterEachTime(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var p patience
	if !p.due(now) {
		t.Error("the first attempt must wait")
	}
	attempts := 0
	for end := now.Add(24 * time.Hour); now.Before(end); now = now.Add(5 * time.Second) {
		if p.due(now) {
			p.failed(now)
			attempts++
		}
	}
	if attempts < 24 || attempts > 40 {
		t.Errorf("%d attempts in a day", attempts)
	}
	if p.wait != longestWait {
		t.Errorf("the next one after %v", p.wait)
	}
}
