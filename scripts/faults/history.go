package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// outcome is what a client knows of its operation.
type outcome uint8

const (
	acked   outcome = iota // it happened
	refused                // it did not happen
	unknown                // nobody can tell: no answer, or an answer that says so
)

// verdict is what a checker found.
type verdict struct {
	Acked, Refused, Unknown int
	Lost                    int // acknowledged, and not there
	Ghosts                  int // refused, and there
	Duplicated              int // there twice, or in the wrong order
	Notes                   []string
}

// maxNotes bounds what is told of one verdict.
const maxNotes = 20

func (v *verdict) note(format string, args ...any) {
	if len(v.Notes) < maxNotes {
		v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) add(o verdict) {
	v.Acked += o.Acked
	v.Refused += o.Refused
	v.Unknown += o.Unknown
	v.Lost += o.Lost
	v.Ghosts += o.Ghosts
	v.Duplicated += o.Duplicated
	v.Notes = append(v.Notes, o.Notes[:min(len(o.Notes), max(maxNotes-len(v.Notes), 0))]...)
}

func (v *verdict) count(out outcome) {
	switch out {
	case acked:
		v.Acked++
	case refused:
		v.Refused++
	default:
		v.Unknown++
	}
}

// checkSet is the checker of an append-only set: each element was added once, by an operation with this outcome; present
// tells what is there in the end.
func checkSet(name string, outcomes []outcome, present func(i int) bool) (v verdict) {
	for i, out := range outcomes {
		v.count(out)
		switch there := present(i); {
		case out == acked && !there:
			v.Lost++
			v.note("%s %d was acknowledged and is lost", name, i)
		case out == refused && there:
			v.Ghosts++
			v.note("%s %d was refused and is there", name, i)
		}
	}
	return v
}

// checkList is the checker of an append-only list "0;1;2;" to which one client appended 0, 1, 2, …, each once and each
// after the answer to the one before. An element whose fate was unknown may come late, but no more than once.
func checkList(name, content string, outcomes []outcome) (v verdict) {
	seen := make([]int, len(outcomes))
	last := -1
	for word := range strings.SplitSeq(strings.TrimSuffix(content, ";"), ";") {
		if word == "" {
			continue
		}
		i, err := strconv.Atoi(word)
		if err != nil || i < 0 || i >= len(outcomes) {
			v.Ghosts++
			v.note("%s has %q, which nobody appended", name, word)
			continue
		}
		seen[i]++
		if outcomes[i] != acked {
			continue
		}
		if i < last {
			v.Duplicated++
			v.note("%s has %d behind %d", name, i, last)
		}
		last = max(last, i)
	}
	for i, n := range seen {
		if n > 1 {
			v.Duplicated += n - 1
			v.note("%s has %d %d times", name, i, n)
		}
	}
	v.add(checkSet(name, outcomes, func(i int) bool { return seen[i] > 0 }))
	return v
}

// checkCounter is the checker of a counter that one client incremented: each acknowledged increment counts once, each
// unknown one at most once.
func checkCounter(name string, value int, outcomes []outcome) (v verdict) {
	for _, out := range outcomes {
		v.count(out)
	}
	if value < v.Acked {
		v.Lost += v.Acked - value
		v.note("%s is %d after %d acknowledged increments", name, value, v.Acked)
	}
	if most := v.Acked + v.Unknown; value > most {
		v.Duplicated += value - most
		v.note("%s is %d after %d increments that may have happened", name, value, most)
	}
	return v
}

// registerOp is one operation on a register: GET, SET, SETNX, GETSET or INCR, with its answer.
type registerOp struct {
	op, arg string
}

// registerReply is the answer; known is false when there was none.
type registerReply struct {
	known bool
	value string // "" is no value
}

// registerModel is a Redis string under GET, SET, SETNX, GETSET and INCR, one key for each history.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(registerOp), output.(registerReply)
		next, want := now, ""
		switch in.op {
		case "GET":
			want = now
		case "SET":
			next, want = in.arg, "OK"
		case "GETSET":
			next, want = in.arg, now
		case "SETNX":
			want = "0"
			if now == "" {
				next, want = in.arg, "1"
			}
		case "INCR":
			n, _ := strconv.Atoi(now)
			next = strconv.Itoa(n + 1)
			want = next
		}
		return !out.known || out.value == want, next
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(registerOp), output.(registerReply)
		if !out.known {
			return fmt.Sprintf("%s %s -> ?", in.op, in.arg)
		}
		return fmt.Sprintf("%s %s -> %q", in.op, in.arg, out.value)
	},
}

// linearizable tells whether a register's history is one; porcupine.Unknown if that takes too long to find out.
func linearizable(history []porcupine.Operation, limit time.Duration) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(registerModel, history, limit)
}

// operation makes an entry of a history. An operation of unknown outcome may take effect at any later time; one that was
// refused has no place in it.
func operation(client int, op registerOp, call, ret time.Time, begin time.Time, out outcome, reply string) porcupine.Operation {
	o := porcupine.Operation{ClientId: client, Input: op, Call: int64(call.Sub(begin)), Return: int64(ret.Sub(begin)), Output: registerReply{out == acked, reply}}
	if out == unknown {
		o.Return = math.MaxInt64
	}
	return o
}
