package resp

import (
	"slices"
	"time"
)

// What is pushed to a client without being asked for (messages, invalidations, MONITOR's lines) waits in a queue of its
// own, under Session.mu, until the feeding goroutine moves it behind the replies written so far: before it executes the
// next command, and whenever the transport asks for output while little is unsent. So a push never splits a reply, and it
// comes
//
//   - behind the replies, held or not, of all commands that had begun when it was pushed, and
//   - before those of commands that begin later.
//
// A queue that is not empty has been announced by wake, or is about to be looked at.
//
// A client that does not take its pushes is closed: beyond Limits.MaxPush at once, beyond MaxPushSoft when it stays
// there for PushSoftTime, as Redis' client-output-buffer-limit has it. Unsent replies count as well.

// pushes is what a session has for its client that was not asked for.
type pushes struct {
	queue []byte
	spare []byte
	over  time.Time // since when the queue is above the soft limit
}

// Push queues one or more complete RESP values. Safe from any goroutine; raw is copied. It returns false when the
// session has ended, or ends for this.
func (s *Session) Push(raw []byte) bool {
	if s.killed.Load() {
		return false
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	if s.tooSlow(len(s.push.queue) + len(raw) + int(s.owed.Load())) {
		s.push.queue = nil
		s.mu.Unlock()
		s.Kill()
		return false
	}
	wake := len(s.push.queue) == 0
	s.push.queue = append(s.push.queue, raw...)
	s.pushing.Store(true)
	s.mu.Unlock()
	if wake {
		s.wake()
	}
	return true
}

// tooSlow tells that a client with so many bytes waiting is to be closed. mu is held.
func (s *Session) tooSlow(waiting int) bool {
	switch {
	case waiting > s.limits.MaxPush:
		return true
	case waiting <= s.limits.MaxPushSoft:
		s.push.over = time.Time{}
		return false
	case s.push.over.IsZero():
		s.push.over = time.Now()
	}
	return time.Since(s.push.over) > s.limits.PushSoftTime
}

// TakePushes moves what was pushed so far into the reply that is being written. Within Handler.Command, between
// complete values; what a command pushes to its own connection comes before what it writes next.
func (s *Session) TakePushes() {
	if !s.pushing.Load() {
		return
	}
	first := len(s.w.Buf) == s.start && !s.holding
	s.takePushes()
	if first {
		s.start = len(s.w.Buf) // they are not part of the command's reply: it may be replaced
	}
}

// takePushes moves the queue behind the replies written so far.
func (s *Session) takePushes() {
	s.mu.Lock()
	queue := s.push.queue
	s.push.queue, s.push.spare = s.push.spare[:0], nil
	s.pushing.Store(false)
	s.w.Buf = append(s.w.Buf, queue...)
	s.owed.Store(int64(s.Pending()))
	if cap(queue) <= keptRaw {
		s.push.spare = queue[:0]
	}
	s.mu.Unlock()
}

// SetListening says whether the client waits for pushes: it is not closed for being silent then.
func (s *Session) SetListening(on bool) { s.listening = on }

// Discard drops the running command's reply, whether it is written or held. Only within Handler.Command.
func (s *Session) Discard() { s.discard = true }

// discardReply does what Discard asked for, after the command.
func (s *Session) discardReply() {
	s.discard = false
	if !s.holding {
		s.w.Buf = s.w.Buf[:s.start]
		return
	}
	s.slots[(s.tail-1)&uint64(len(s.slots)-1)].silent = true
}

// drop lets a slot go whose reply nobody wants.
func (s *Session) drop(sl *slot) {
	s.staged = sl.end
	if sl.state == replied {
		s.settledBytes.Add(-int64(len(sl.raw)))
		sl.raw = slices.Delete(sl.raw, 0, len(sl.raw))
	}
	sl.silent = false
}
