package main

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func TestSetCheckerFindsPlantedFaults(t *testing.T) {
	outcomes := []outcome{acked, refused, unknown, acked, unknown}
	for _, c := range []struct {
		name         string
		there        string // which elements
		lost, ghosts int
	}{
		{"clean", "034", 0, 0},
		{"an acknowledged element is missing", "0", 1, 0},
		{"a refused element is there", "013", 0, 1},
		{"both", "1", 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := checkSet("set", outcomes, func(i int) bool { return strings.Contains(c.there, string(rune('0'+i))) })
			if v.Lost != c.lost || v.Ghosts != c.ghosts || v.Acked != 2 || v.Refused != 1 || v.Unknown != 2 {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestListCheckerFindsPlantedFaults(t *testing.T) {
	outcomes := []outcome{acked, unknown, acked, refused, acked}
	for _, c := range []struct {
		name, content            string
		lost, ghosts, duplicated int
	}{
		{"clean", "0;1;2;4;", 0, 0, 0},
		{"clean, the unknown one came late", "0;2;4;1;", 0, 0, 0},
		{"clean, the unknown one did not happen", "0;2;4;", 0, 0, 0},
		{"lost", "0;1;4;", 1, 0, 0},
		{"lost at the end", "0;1;2;", 1, 0, 0},
		{"twice", "0;2;2;4;", 0, 0, 1},
		{"an unknown one twice", "0;1;2;4;1;", 0, 0, 1},
		{"in the wrong order", "0;4;2;", 0, 0, 1},
		{"refused and there", "0;2;3;4;", 0, 1, 0},
		{"from nowhere", "0;2;4;9;", 0, 1, 0},
		{"empty", "", 3, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := checkList("list", c.content, outcomes)
			if v.Lost != c.lost || v.Ghosts != c.ghosts || v.Duplicated != c.duplicated {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestCounterCheckerFindsPlantedFaults(t *testing.T) {
	outcomes := []outcome{acked, unknown, acked, refused}
	for value, want := range map[int]verdict{1: {Lost: 1}, 2: {}, 3: {}, 4: {Duplicated: 1}} {
		if v := checkCounter("counter", value, outcomes); v.Lost != want.Lost || v.Duplicated != want.Duplicated {
			t.Errorf("value %d: %+v", value, v)
		}
	}
}

func TestRegisterCheckerFindsPlantedFaults(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	type step struct {
		client, call, ret int
		op, arg           string
		out               outcome
		reply             string
	}
	for _, c := range []struct {
		name  string
		steps []step
		want  porcupine.CheckResult
	}{
		{"clean", []step{{0, 0, 1, "SET", "a", acked, "OK"}, {1, 2, 3, "GET", "", acked, "a"}}, porcupine.Ok},
		{"concurrent", []step{{0, 0, 5, "SET", "a", acked, "OK"}, {1, 1, 2, "GET", "", acked, ""}, {1, 3, 4, "GET", "", acked, "a"}}, porcupine.Ok},
		{"a stale read", []step{{0, 0, 1, "SET", "a", acked, "OK"}, {1, 2, 3, "GET", "", acked, ""}}, porcupine.Illegal},
		{"a read that was taken back", []step{{0, 0, 9, "SET", "a", acked, "OK"}, {1, 1, 2, "GET", "", acked, "a"}, {1, 3, 4, "GET", "", acked, ""}}, porcupine.Illegal},
		{"an unknown write that shows later", []step{{0, 0, 1, "SET", "a", unknown, ""}, {1, 2, 3, "GET", "", acked, ""}, {1, 4, 5, "GET", "", acked, "a"}}, porcupine.Ok},
		{"an unknown write that shows and goes", []step{{0, 0, 1, "SET", "a", unknown, ""}, {1, 2, 3, "GET", "", acked, "a"}, {1, 4, 5, "GET", "", acked, ""}}, porcupine.Illegal},
		{"a lost increment", []step{{0, 0, 1, "INCR", "", acked, "1"}, {1, 2, 3, "INCR", "", acked, "1"}}, porcupine.Illegal},
		{"two winners of SETNX", []step{{0, 0, 1, "SETNX", "a", acked, "1"}, {1, 2, 3, "SETNX", "b", acked, "1"}}, porcupine.Illegal},
		{"GETSET", []step{{0, 0, 1, "GETSET", "a", acked, ""}, {1, 2, 3, "GETSET", "b", acked, "a"}}, porcupine.Ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			var history []porcupine.Operation
			for _, s := range c.steps {
				history = append(history, operation(s.client, registerOp{s.op, s.arg}, at(s.call), at(s.ret), begin, s.out, s.reply))
			}
			if got := linearizable(history, 10*time.Second); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
