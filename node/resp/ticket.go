package resp

import "github.com/tidwall/redcon"

// Ticket stands for one held reply. It is a small comparable value, safe to use from any goroutine and settled exactly
// once: the first of Release, Reply and Error counts, later ones do nothing, nor does any after the session's end.
type Ticket struct {
	s   *Session
	seq uint64
}

// slot is the place of one held reply in a session's ring.
type slot struct {
	state      slotState
	start, end int    // the command's own bytes in the staged stream; the feeding goroutine's
	raw        []byte // what replaces them, when state is replied
	silent     bool   // nobody wants the reply; the feeding goroutine's
}

type slotState uint8

const (
	held slotState = iota
	released
	replied
)

const (
	firstSlots = 16
	keptRaw    = 4 << 10 // larger replacement buffers are given back after use
)

// Release lets the bytes leave that the command wrote.
func (t Ticket) Release() { t.settle(released, nil, "") }

// Reply replaces what the command wrote by raw, one complete encoded reply. raw is copied before Reply returns.
func (t Ticket) Reply(raw []byte) { t.settle(replied, raw, "") }

// Error replaces what the command wrote by an error reply; msg is as for Writer.Error.
func (t Ticket) Error(msg string) { t.settle(replied, nil, msg) }

func (t Ticket) settle(state slotState, raw []byte, msg string) {
	s := t.s
	if s == nil {
		return
	}
	// A long copy is made before the lock is taken, so that the event loop never waits for it.
	var own []byte
	if len(raw) > keptRaw {
		own = append(own, raw...)
	}
	s.mu.Lock()
	if s.closed || t.seq-s.head >= s.tail-s.head {
		s.mu.Unlock()
		return
	}
	sl := &s.slots[t.seq&uint64(len(s.slots)-1)]
	if sl.state != held {
		s.mu.Unlock()
		return
	}
	sl.state = state
	if state == replied {
		switch {
		case msg != "":
			sl.raw = redcon.AppendError(sl.raw[:0], msg)
		case own != nil:
			sl.raw = own
		default:
			sl.raw = append(sl.raw[:0], raw...)
		}
		s.settledBytes.Add(int64(len(sl.raw)))
	}
	// Only the head can let anything leave, and one wake is enough until the feeding goroutine has looked.
	wake := t.seq == s.head && !s.awake
	if wake {
		s.awake = true
	}
	s.mu.Unlock()
	if wake {
		s.wake()
	}
}
