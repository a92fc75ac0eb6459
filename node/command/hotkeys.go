package command

import (
	"strconv"
	"strings"
)

// HotKey is a key that is asked for often. Rate is per second, estimated from a sample of the commands of about the last
// minute; the true rate may be less by Excess, apart from the chance of sampling.
type HotKey struct {
	Key          []byte
	Rate, Excess float64
}

// LeastHotRate is the lowest rate, per second, that is reported: below it sampling says nothing.
const LeastHotRate = 0.5

const (
	defaultHotKeys = 10
	maxHotKeys     = 1000
)

// hotKeysCommands has the one command here that Redis does not have.
func hotKeysCommands() []binding {
	return []binding{{name: "hotkeys", scope: ScopeCluster, merge: MergeHot, run: runHotKeys}}
}

// HotKeysCount is how many keys a HOTKEYS request asks for; problem is "" if it is well-formed.
func HotKeysCount(args [][]byte) (n int, problem string) {
	switch {
	case len(args) == 1:
		return defaultHotKeys, ""
	case len(args) != 3 || !strings.EqualFold(string(args[1]), "count"):
		return 0, errSyntax
	}
	n, err := strconv.Atoi(string(args[2]))
	if err != nil || n < 1 || n > maxHotKeys {
		return 0, "ERR COUNT must be an integer from 1 to " + strconv.Itoa(maxHotKeys)
	}
	return n, ""
}

// runHotKeys answers for one shard: key, rate, excess, and so on, the caller merges.
func runHotKeys(c *Ctx) {
	n, problem := HotKeysCount(c.Args)
	if problem != "" {
		c.W.Error(problem)
		return
	}
	var list []HotKey
	if c.Hot != nil {
		list = c.Hot(c.Now, n)
	}
	c.W.Array(3 * len(list))
	for _, k := range list {
		c.W.Bulk(k.Key)
		c.W.BulkString(strconv.FormatFloat(k.Rate, 'g', 6, 64))
		c.W.BulkString(strconv.FormatFloat(k.Excess, 'g', 6, 64))
	}
}
