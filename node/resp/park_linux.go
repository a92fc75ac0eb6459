package resp

import (
	"os"

	"golang.org/x/sys/unix"
)

var parkMode = os.Getenv("PARK")

// block waits for an event.
func (l *loop) block() int {
	if parkMode == "sys" {
		n, err := unix.EpollWait(l.epfd, l.events[:], -1)
		if err != nil {
			return 0
		}
		return n
	}
	n := 0
	l.wait.Read(func(uintptr) bool {
		n = l.pollNow()
		return n > 0
	})
	return n
}
