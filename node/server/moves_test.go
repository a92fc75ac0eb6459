package server

import (
	"testing"
	"time"

	"hypercache/node/command"
	"hypercache/node/ring"
)

// view is three nodes, n1 itself: n0 has the first two groups and the fourth, n2 the third, n1 the others.
func view() *command.ClusterView {
	v := &command.ClusterView{Self: 1, Nodes: []command.ClusterNode{{Host: "h0", Port: 1}, {Host: "h1", Port: 2}, {Host: "h2", Port: 3}}}
	for g, primary := range []int{0, 0, 2, 0, 1, -1} {
		first, last := ring.GroupSlots(g)
		v.Ranges = append(v.Ranges, command.ClusterRange{First: first, Last: last, Primary: primary})
	}
	return v
}

func TestMigratedSlotsAreListedByTarget(t *testing.T) {
	s := &Server{}
	s.view.Store(view())
	for name, test := range map[string]struct {
		gone []int
		want string
	}{
		"two nodes": {[]int{0, 1, 2, 3}, ">3\r\n+SMIGRATED\r\n:7\r\n*2\r\n" +
			"*3\r\n$4\r\nh1:2\r\n$4\r\nh0:1\r\n$13\r\n0-127,192-255\r\n*3\r\n$4\r\nh1:2\r\n$4\r\nh2:3\r\n$7\r\n128-191\r\n"},
		"came back":  {[]int{1, 4}, ">3\r\n+SMIGRATED\r\n:7\r\n*1\r\n*3\r\n$4\r\nh1:2\r\n$4\r\nh0:1\r\n$6\r\n64-127\r\n"},
		"no primary": {[]int{5}, ""},
	} {
		var gone [ring.Groups]bool
		for _, g := range test.gone {
			gone[g] = true
		}
		if got := string(s.migrated(&gone, 7)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestEveryNotificationHasANumberOfItsOwn(t *testing.T) {
	var m moves
	now := time.UnixMilli(1000)
	if _, seq := m.take(now); seq != 0 {
		t.Error("there was something to tell")
	}
	m.add(3)
	gone, seq := m.take(now)
	if !gone[3] || seq != 1000 {
		t.Errorf("%v %d", gone[3], seq)
	}
	m.add(4)
	if gone, seq = m.take(now); gone[3] || !gone[4] || seq != 1001 {
		t.Errorf("the second: %v %v %d", gone[3], gone[4], seq)
	}
	m.again()
	if gone, seq = m.take(now.Add(time.Second)); !gone[3] || !gone[4] || gone[5] || seq != 2000 {
		t.Errorf("again: %v %v %v %d", gone[3], gone[4], gone[5], seq)
	}
}
