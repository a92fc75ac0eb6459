//go:build faults

package clock

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// StepFile names, in a node that is built for fault runs, the environment variable with the path of a file whose content,
// a number of milliseconds, is added to the wall clock. It is read at every look, so whoever writes it steps the clock. A
// file that is absent or holds anything else adds nothing.
const StepFile = "HYPERCACHE_CLOCK_STEP_FILE"

func wall() int64 {
	now := time.Now().UnixNano()
	b, err := os.ReadFile(os.Getenv(StepFile))
	if err != nil {
		return now
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return now
	}
	return now + ms*int64(time.Millisecond)
}
