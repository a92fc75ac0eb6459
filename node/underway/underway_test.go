package underway

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOperationLastsFromItsBeginToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o Operation
		want := func(d time.Duration) {
			t.Helper()
			if got := o.Lasts(); got != d {
				t.Errorf("it lasts %v, want %v", got, d)
			}
		}
		want(0)
		o.Begin()
		want(1) // it is under way
		time.Sleep(time.Second)
		want(time.Second)
		o.Begin()
		want(1)
		o.End()
		want(0)
	})
}
