package clock

import (
	"testing"
	"time"
)

const hour = time.Hour

// guardAt is a steady guard whose clock says that elapsed time is unix time plus offset.
func guardAt(offset time.Duration) *Guard {
	return &Guard{started: true, steady: true, offset: offset}
}

func peersAt(wallAndGuarded ...time.Duration) (list []Opinion) {
	for i := 0; i < len(wallAndGuarded); i += 2 {
		list = append(list, Opinion{Wall: wallAndGuarded[i], Guarded: wallAndGuarded[i+1], Steady: true})
	}
	return list
}

func fresher(list ...Opinion) []Opinion {
	for i := range list {
		list[i].Steady = false
	}
	return list
}

func TestWhatAClockThatHasStartedTakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		wall   time.Duration
		nodes  int
		peers  []Opinion
		steady bool
		at     time.Duration
	}{
		{"a lone node takes its own wall", hour, 1, nil, true, hour},
		{"one that is no member yet waits", hour, 0, peersAt(0, 0), false, hour},
		{"one that has not met a majority waits", hour, 5, peersAt(0, 0), false, hour},
		{"the guarded clock of steady peers", hour, 3, peersAt(0, 0), true, 0},
		{"their guarded clock though their walls have stepped", 0, 3, peersAt(hour, 5*time.Second, hour, 5*time.Second), true, 5 * time.Second},
		{"all have started: the walls of a majority", hour, 3, fresher(peersAt(0, 0, 0, 0)...), true, 0},
		{"all have started, and one is missing: those that agree", 0, 3, fresher(peersAt(0, 0)...), true, 0},
		{"two have started and disagree: nobody knows", hour, 2, fresher(peersAt(0, 0)...), false, hour},
		{"the second one of two takes the first one's", hour, 2, peersAt(0, 0), true, 0},
		{"walls 0.8 s apart agree where all were heard", 800 * time.Millisecond, 2, fresher(peersAt(0, 0)...), true, 0},
		{"and don't where some were not", 800 * time.Millisecond, 3, fresher(peersAt(0, 0)...), false, 800 * time.Millisecond},
	} {
		var g Guard
		g.Step(Input{Wall: c.wall, Nodes: c.nodes, Peers: c.peers})
		if g.Steady() != c.steady || g.Offset() != c.at || g.Frozen() == c.steady {
			t.Errorf("%s: steady %t at %v, frozen %t", c.name, g.Steady(), g.Offset(), g.Frozen())
		}
	}
}

func TestWhatASteadyClockFollows(t *testing.T) {
	for _, c := range []struct {
		name   string
		wall   time.Duration
		nodes  int
		peers  []Opinion
		for_   time.Duration
		at     time.Duration
		frozen bool
	}{
		{"not its own wall among others", hour, 3, peersAt(0, 0, 0, 0), 2 * Stand, 0, false},
		{"not a minority's walls", hour, 3, peersAt(hour, 0, 0, 0)[1:], 2 * Stand, 0, false},
		{"a majority's walls, not at once", hour, 3, peersAt(hour, 0, 0, 0), Stand - time.Second, 0, false},
		{"a majority's walls after a minute", hour, 3, peersAt(hour, 0, 0, 0), Stand + time.Second, hour, true},
		{"backwards too", -hour, 3, peersAt(-hour, 0, 0, 0), Stand + time.Second, -hour, true},
		{"a majority's guarded clocks at once", hour, 3, peersAt(hour, hour, hour, hour), 0, hour, false},
		{"also if its own wall never moved", 0, 3, peersAt(hour, hour, hour, hour), 0, hour, false},
		{"not if the walls say that the others are wrong", 0, 3, peersAt(0, hour, hour, hour), 2 * Stand, 0, true},
		{"a lone wall, not at once", hour, 1, nil, Stand - time.Second, 0, false},
		{"a lone wall after a minute", hour, 1, nil, Stand + time.Second, hour, false},
		{"nothing while it hears nobody", hour, 3, nil, 2 * Stand, 0, false},
		{"nothing where two disagree", hour, 2, peersAt(0, 0), 2 * Stand, 0, false},
		{"and if their guarded clocks do, it freezes", 0, 2, peersAt(hour, hour), 2 * Stand, 0, true},
		{"one of five that is wrong freezes nobody", 0, 5, peersAt(0, 0, 0, 0, 0, 0, hour, hour), 2 * Stand, 0, false},
	} {
		g := guardAt(0)
		for at := time.Duration(0); at <= c.for_; at += every {
			g.Step(Input{Elapsed: at, Wall: at + c.wall, Nodes: c.nodes, Peers: c.peers})
		}
		if g.Offset() != c.at || g.Frozen() != c.frozen {
			t.Errorf("%s: at %v, frozen %t", c.name, g.Offset(), g.Frozen())
		}
	}
}

func TestAWallThatJumpsIsNeverFollowed(t *testing.T) {
	g := guardAt(0)
	for i := range int(10 * Stand / every) {
		wall := 30 * time.Second
		if i/5%2 == 0 {
			wall = -wall
		}
		at := time.Duration(i) * every
		g.Step(Input{Elapsed: at, Wall: at + wall, Nodes: 1})
	}
	if g.Offset() != 0 {
		t.Errorf("it stands at %v after ten minutes of jumps by 30 s", g.Offset())
	}
}

func TestASmallDifferenceGoesAwaySlowly(t *testing.T) {
	for _, wall := range []time.Duration{800 * time.Millisecond, -800 * time.Millisecond} {
		g := guardAt(0)
		last := time.Duration(0)
		for at := time.Duration(0); at <= 200*time.Second; at += every {
			g.Step(Input{Elapsed: at, Wall: at + wall, Nodes: 1})
			if step := max(g.Offset()-last, last-g.Offset()); step > every/slewDivisor {
				t.Fatalf("it moved by %v in %v", step, every)
			}
			last = g.Offset()
		}
		if g.Offset() != wall {
			t.Errorf("after 200 s it is at %v, the wall at %v", g.Offset(), wall)
		}
	}
}

func TestALongSuspensionIsNoStep(t *testing.T) {
	g := guardAt(0)
	g.Step(Input{Elapsed: time.Second, Wall: time.Second, Nodes: 1})
	g.Step(Input{Elapsed: 10 * hour, Wall: 10 * hour, Nodes: 1})
	if g.Offset() != 0 || g.Frozen() {
		t.Errorf("at %v, frozen %t", g.Offset(), g.Frozen())
	}
}
