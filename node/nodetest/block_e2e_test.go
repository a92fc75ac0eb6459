//go:build e2e

package nodetest

import (
	"fmt"
	"strings"
	"testing"

	"hypercache/node/config"
)

// A client that waits when its key's primary is killed waits on, or is told that the outcome is unknown: never both an
// element lost in silence and a client that hangs.
func TestKillingPrimariesLeavesNoWaiterHanging(t *testing.T) {
	all := StartProcesses(t, BuildBinary(t), 3, func(f *config.Config) { f.Persistence.Fsync = "everysec" })
	const n = 60
	var clients []*talker
	for i := range n {
		k := talk(t, all[i%2].Addr())
		k.send(fmt.Sprintf("BLPOP list%d 0", i))
		clients = append(clients, k)
	}
	watch := talk(t, all[0].Addr())
	Await(t, func() bool { return strings.Contains(watch.do("INFO clients"), "blocked_clients:30\r\n") },
		func() string { return "the clients do not wait" })
	all[2].Kill()
	push := talk(t, all[1].Addr())
	told := 0
	for i, k := range clients {
		element := ""
		Await(t, func() bool { element = push.do(fmt.Sprintf("RPUSH list%d v%d", i, i)); return element[0] != '-' },
			func() string { return element })
		got := k.reply()
		if strings.HasPrefix(got, "-NOREPLICAS ") {
			told++
			got = k.do(fmt.Sprintf("BLPOP list%d 0", i))
		}
		if got != fmt.Sprintf("list%d v%d", i, i) {
			t.Errorf("client %d: %s", i, got)
		}
	}
	t.Logf("%d of %d were told", told, n)
	if told == 0 || told == n {
		t.Errorf("%d of %d clients were told", told, n)
	}
}
