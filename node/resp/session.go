package resp

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Session is one client connection without its socket: bytes are fed in, replies come out, and it has no goroutine.
//
// All methods belong to the goroutine that feeds it, but for Kill, ID and the addresses, and for the tickets' own.
//
// # How replies keep their order
//
// A session is in one of two states. Direct, the usual one: no reply is held, commands write into w.Buf and
// w.Buf[sent:] may leave. Overlapped: at least one reply is held; what may leave moved to out, and w.Buf stages the
// replies from the first held one on. Each held command has a slot in a ring, in order of arrival, with the range of its
// own bytes in the staged stream (absolute offsets; base is that of w.Buf[0]).
//
// Settling a ticket only marks its slot, under mu, from any goroutine. The feeding goroutine alone moves bytes: collect
// takes the settled slots at the ring's head, copies their replies and the immediate ones between to out, and, once the
// ring is empty, makes out the writer's buffer again: direct. So the writer and the staged bytes need no lock, and the
// direct state costs nothing for the possibility of the other.
//
// awake means: the feeding goroutine is going to collect without being told. Hold sets it (the goroutine is inside
// Feed and the transport calls Output after it), a settler sets it together with calling wake, and collect, under mu,
// clears it after it found the head unsettled. A settler that sees it clear must wake; as both look under mu, no settled
// head is ever left lying.
//
// Rejected: a queue of reply objects per command (allocation, a write per object), and settling straight into the
// output under a lock (every command of every session would pay for it).
type Session struct {
	User any // the handler's own

	handler Handler
	limits  Limits
	info    ConnInfo
	wake    func()

	// The feeding goroutine's.
	w          Writer
	parser     parser
	in         []byte // input kept: an incomplete command, or commands not executed yet
	inPos      int    // executed part of in
	sent       int    // part of the bytes that may leave which has left
	overlapped bool
	out        []byte // overlapped: bytes that may leave
	spare      []byte // the second buffer, for the next change of state
	base       int    // overlapped: absolute offset of w.Buf[0]
	staged     int    // overlapped: absolute offset up to which staged bytes went to out
	inCommand  bool
	holding    bool // the running command took a ticket
	suspended  bool // no command is executed before every held reply was collected
	gone       func()
	restricted time.Time // since when, if it is
	discard    bool      // nobody wants the running command's reply
	listening  bool      // the client waits for pushes
	start      int       // where the running command's reply begins in w.Buf
	batch      bool      // Command was called since the last BatchEnd
	stalled    bool      // in may hold complete commands
	last       bool      // no more input will come: ending once not stalled
	ending     bool      // no command is executed any more
	refused    bool      // a violation of the protocol ended it: the client may be in the middle of sending
	err        error

	killed       atomic.Bool
	settledBytes atomic.Int64 // bytes of settled replies not collected yet
	pushing      atomic.Bool  // something was pushed and not taken yet
	owed         atomic.Int64 // Pending when pushes were last taken or output sent, for Push

	mu         sync.Mutex
	slots      []slot // ring, its length a power of two; the slice itself changes under mu, by the feeding goroutine
	head, tail uint64
	awake      bool
	closed     bool
	push       pushes
}

const (
	keptBuffer = 16 << 10  // the largest input buffer that a session keeps while it has nothing in it
	keptOutput = 128 << 10 // and the largest for output, which its transport reclaims: a chunk and a reply beyond it
)

// NewSession opens a session and calls h.Open. wake is called by the goroutines that settle tickets or kill, at most
// once until Output has been called, and must arrange for the feeding goroutine to call Output and Done soon; it must not
// call into the session itself, nor block.
func NewSession(h Handler, l Limits, info ConnInfo, wake func()) *Session {
	l = l.withDefaults()
	s := &Session{
		handler: h, limits: l, info: info, wake: wake,
		w:      Writer{Proto: 2},
		parser: parser{maxArgs: l.MaxArgs, maxBulk: l.MaxBulk, maxInline: l.MaxInline},
	}
	h.Open(s)
	return s
}

// ID returns the connection's number.
func (s *Session) ID() uint64 { return s.info.ID }

// RemoteAddr returns the client's host:port.
func (s *Session) RemoteAddr() string { return s.info.RemoteAddr }

// LocalAddr returns the host:port that the client reached.
func (s *Session) LocalAddr() string { return s.info.LocalAddr }

// Loop returns the index of the event loop that feeds the session, as RoundHandler counts them; -1 if a goroutine of
// its own does.
func (s *Session) Loop() int { return s.info.Loop - 1 }

// TLS says whether the connection is encrypted.
func (s *Session) TLS() bool { return s.info.TLS }

// Proto returns the RESP version of replies, 2 or 3.
func (s *Session) Proto() int { return s.w.Proto }

// SetProto sets the RESP version, 2 or 3, for what is written from now on.
func (s *Session) SetProto(v int) { s.w.Proto = v }

// Restrict sets (true) or lifts (false) the bounds for clients that have not authenticated: 10 elements of 16 KiB per
// command, as Redis has them. A server closes a session that stays restricted for long.
func (s *Session) Restrict(on bool) {
	if s.parser.restricted = on; on {
		s.restricted = time.Now()
	}
}

// stranger says whether the session has been restricted for longer than that.
func (s *Session) stranger(timeout time.Duration) bool {
	return s.parser.restricted && time.Since(s.restricted) > timeout
}

// CloseAfterReply ends the session once every reply up to and with the current command's has left.
func (s *Session) CloseAfterReply() { s.ending = true }

// Kill closes the connection soon, dropping what has not left. Safe from any goroutine.
func (s *Session) Kill() {
	if s.killed.CompareAndSwap(false, true) {
		s.wake()
	}
}

// Err says why the session ended, nil if it did not or the client wished it.
func (s *Session) Err() error {
	if s.err == nil && s.killed.Load() {
		return ErrKilled
	}
	return s.err
}

// Feed executes every complete command in p, behind what earlier calls left, and keeps the rest. p is not retained.
//
// It returns early when enough output for one write has gathered, or too much is held or unsent: Stalled then says so,
// and Resume goes on once Output has been sent. A non-nil error means that the session is ending (see Done); a violation
// of the protocol has been answered.
func (s *Session) Feed(p []byte) error {
	if s.ending || s.killed.Load() {
		return s.Err()
	}
	if len(s.in) == 0 {
		rest := p[s.run(p):]
		if len(rest) > 0 && !s.ending {
			s.keep(rest)
		}
		return s.err
	}
	s.keep(p)
	if !s.ending {
		s.runKept()
	}
	return s.err
}

// Resume executes what a stalled Feed left, as far as output and tickets allow now.
func (s *Session) Resume() error {
	if s.ending || s.killed.Load() {
		return s.Err()
	}
	if s.stalled && !s.Paused() {
		s.runKept()
	}
	return s.err
}

// Stalled reports whether complete commands may be waiting for Resume. No more should be read until they are executed.
func (s *Session) Stalled() bool { return s.stalled && !s.ending && !s.suspended }

// Paused reports whether too many replies are held or unsent to execute or read anything more.
func (s *Session) Paused() bool {
	return !s.ending && (s.Pending() >= s.limits.MaxOutput || s.Held() >= s.limits.MaxHeld)
}

// Held returns the number of commands whose reply waits for a ticket, theirs or an earlier one that is not collected.
func (s *Session) Held() int {
	return int(s.tail - s.head) // only this goroutine changes them, so it needs no lock to read them
}

// Pending returns the reply bytes in memory, whether they may leave or are held.
func (s *Session) Pending() int {
	if !s.overlapped {
		return len(s.w.Buf) - s.sent
	}
	return len(s.out) - s.sent + s.base + len(s.w.Buf) - s.staged + int(s.settledBytes.Load())
}

// Idle reports whether the session owes nothing: no command half read or unexecuted, no reply held or unsent.
func (s *Session) Idle() bool { return len(s.in) == 0 && !s.overlapped && s.Pending() == 0 }

// Finish tells the session that no more input comes. It is done when the complete commands it has were executed and their
// replies have left.
func (s *Session) Finish() {
	s.last = true
	if !s.stalled {
		s.ending = true
	}
	s.leave()
}

// Suspend executes nothing more, the running command's reply being held, until every reply held by now was settled; input
// is read and kept meanwhile. gone is called by the feeding goroutine, once at most, if the client's input ends before
// that, or the session does: nobody may be there any more to take the reply.
func (s *Session) Suspend(gone func()) {
	if !s.holding {
		panic("resp: Session.Suspend of a command that is not held")
	}
	s.suspended, s.gone = true, gone
}

// leave tells whoever suspended the session that the client has gone.
func (s *Session) leave() {
	if gone := s.gone; gone != nil {
		s.gone = nil
		gone()
	}
}

// Done reports whether the connection can be closed: killed, or ending with nothing left to say.
func (s *Session) Done() bool {
	return s.killed.Load() || (s.ending && !s.overlapped && s.Pending() == 0)
}

// Refused reports whether the session ends because of what the client sent. Closing a socket with unread input discards
// replies on their way, so that the client would not see why: a transport then reads on for a moment.
func (s *Session) Refused() bool { return s.refused && !s.killed.Load() }

// Output returns the bytes that may leave now. They are valid until the next call that is not Sent. Transports must call
// it after Feed and Resume until it is empty, before they rely on wake.
func (s *Session) Output() []byte {
	if s.pushing.Load() && s.Pending() < s.limits.OutputChunk {
		s.takePushes()
	}
	if s.overlapped {
		s.collect()
	}
	if s.overlapped {
		return s.out[s.sent:]
	}
	return s.w.Buf[s.sent:]
}

// Sent says that the first n bytes of Output have left.
func (s *Session) Sent(n int) {
	buf := &s.w.Buf
	if s.overlapped {
		buf = &s.out
	}
	s.sent += n
	if s.owed.Load() > 0 {
		defer func() { s.owed.Store(int64(s.Pending())) }()
	}
	switch {
	case s.sent == len(*buf):
		s.sent = 0
		*buf = emptied(*buf)
	case s.sent >= 64<<10 && s.sent > len(*buf)/2:
		// Moving the rest down costs no more than was sent since the last move.
		*buf = (*buf)[:copy(*buf, (*buf)[s.sent:])]
		s.sent = 0
	}
}

// Close ends the session and calls the handler's Closed, once. Tickets still out there do nothing from now on.
func (s *Session) Close() {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.slots, s.head, s.tail = nil, 0, 0
	s.push = pushes{}
	s.mu.Unlock()
	if again {
		return
	}
	s.ending = true
	if s.err == nil && s.killed.Load() {
		s.err = ErrKilled
	}
	s.in, s.out, s.spare, s.w.Buf, s.sent = nil, nil, nil, nil, 0
	s.overlapped, s.stalled, s.suspended = false, false, false
	s.parser = parser{}
	s.leave()
	s.handler.Closed(s)
}

// lend gives an empty buffer for the next replies, reclaim takes it back when nothing is left in it; so sessions that
// have nothing to say hold no memory. reclaim returns nil when there is none.
func (s *Session) lend(buf []byte) {
	if !s.overlapped && len(s.w.Buf) == 0 {
		s.w.Buf = buf[:0]
	}
}

func (s *Session) lacksBuffer() bool { return s.w.Buf == nil }

func (s *Session) reclaim() []byte {
	if s.overlapped || len(s.w.Buf) > 0 {
		return nil
	}
	buf := s.w.Buf
	s.w.Buf = nil
	return buf
}

// runKept executes from the kept input and gives back its memory when none is left.
func (s *Session) runKept() {
	s.inPos += s.run(s.in[s.inPos:])
	if s.inPos < len(s.in) && !s.ending {
		return
	}
	if cap(s.in) > keptBuffer {
		s.parser.forget()
		s.in = nil
	}
	s.in, s.inPos = s.in[:0], 0
}

// keep appends p to the kept input. It grows as bytes arrive: at most to twice what is there, and not beyond what the
// element being read needs.
func (s *Session) keep(p []byte) {
	size := len(s.in) - s.inPos + len(p)
	if size > s.limits.MaxQueryBuffer {
		s.fail(ErrQueryBuffer)
		return
	}
	if len(s.in)+len(p) <= cap(s.in) {
		s.in = append(s.in, p...)
		return
	}
	kept := s.in[s.inPos:]
	grown := s.in
	if size > cap(s.in) {
		want := 2 * len(kept)
		if need := s.parser.need(); need >= size {
			want = min(want, need)
		}
		grown = make([]byte, 0, max(size, want, 512))
	}
	grown = append(grown[:0], kept...)
	s.in, s.inPos = append(grown, p...), 0
}

// run executes the complete commands at the start of buf and returns how many bytes they had.
func (s *Session) run(buf []byte) int {
	s.stalled = false
	stop := min(s.Pending()+s.limits.OutputChunk, s.limits.MaxOutput)
	pos := 0
	for pos < len(buf) && !s.ending {
		if s.full(stop) {
			s.stalled = true
			break
		}
		args, n, err := s.parser.next(buf[pos:])
		if err != nil {
			s.violated(err)
			break
		}
		if n == 0 {
			break
		}
		pos += n
		if len(args) > 0 {
			s.execute(args)
		}
	}
	if s.batch {
		s.batch = false
		s.handler.BatchEnd(s)
	}
	s.parser.trim()
	if s.last {
		s.ending = s.ending || !s.stalled
		s.leave() // what suspended the session after its end was told
	}
	if s.Pending() > s.limits.MaxOutputHard {
		s.fail(ErrOutputLimit)
	}
	return pos
}

// full reports whether to execute nothing more for now.
func (s *Session) full(stop int) bool {
	if !s.overlapped {
		return len(s.w.Buf)-s.sent >= stop
	}
	if s.Pending() < stop && s.Held() < s.limits.MaxHeld && !s.suspended {
		return false
	}
	s.collect()
	return s.suspended || s.Pending() >= stop || s.Held() >= s.limits.MaxHeld
}

func (s *Session) execute(args [][]byte) {
	if isHTTP(args[0]) {
		s.fail(ErrCrossProtocol)
		return
	}
	if s.pushing.Load() {
		s.takePushes()
	}
	s.start = len(s.w.Buf)
	s.inCommand, s.batch = true, true
	s.handler.Command(s, &s.w, args)
	s.inCommand = false
	if s.discard {
		s.discardReply()
	}
	if s.holding {
		s.holding = false
		s.slots[(s.tail-1)&uint64(len(s.slots)-1)].end = s.base + len(s.w.Buf)
	}
}

// isHTTP recognises what only a browser or an HTTP client sends: a POST request's first word, or any request's Host line.
func isHTTP(word []byte) bool {
	switch len(word) {
	case 4:
		return word[0]|0x20 == 'p' && strings.EqualFold(string(word), "post")
	case 5:
		return word[0]|0x20 == 'h' && strings.EqualFold(string(word), "host:")
	}
	return false
}

// Hold keeps the running command's reply back until the ticket is settled. Only within Handler.Command; a second call
// within the same command returns the same ticket.
func (s *Session) Hold() Ticket {
	if !s.inCommand {
		panic("resp: Session.Hold outside Handler.Command")
	}
	if s.holding {
		return Ticket{s, s.tail - 1}
	}
	if !s.overlapped {
		s.overlapped = true
		s.out = s.w.Buf[:s.start]
		s.w.Buf = append(s.spare[:0], s.w.Buf[s.start:]...)
		s.spare = nil
		s.base, s.staged, s.start = 0, 0, 0
	}
	s.holding = true
	s.mu.Lock()
	if int(s.tail-s.head) == len(s.slots) {
		s.growSlots()
	}
	seq := s.tail
	sl := &s.slots[seq&uint64(len(s.slots)-1)]
	sl.state = held
	sl.start = s.base + s.start
	s.tail++
	s.awake = true
	s.mu.Unlock()
	return Ticket{s, seq}
}

func (s *Session) growSlots() {
	grown := make([]slot, max(firstSlots, 2*len(s.slots)))
	for seq := s.head; seq != s.tail; seq++ {
		grown[seq&uint64(len(grown)-1)] = s.slots[seq&uint64(len(s.slots)-1)]
	}
	s.slots = grown
}

// collect moves to out what the settled tickets at the ring's head let leave. The session must be overlapped.
func (s *Session) collect() {
	s.mu.Lock()
	for s.head != s.tail {
		sl := &s.slots[s.head&uint64(len(s.slots)-1)]
		if sl.state == held {
			break
		}
		s.stage(sl.start)
		if sl.silent {
			s.drop(sl)
		} else if sl.state == released {
			s.stage(sl.end)
		} else {
			s.staged = sl.end
			s.take(sl)
		}
		s.head++
	}
	empty := s.head == s.tail
	end := s.base + len(s.w.Buf)
	if !empty {
		end = s.slots[s.head&uint64(len(s.slots)-1)].start
	}
	s.awake = false
	s.mu.Unlock()

	s.stage(end)
	if empty {
		s.overlapped, s.suspended, s.gone = false, false, nil
		s.spare = emptied(s.w.Buf)
		s.w.Buf, s.out = s.out, nil
		return
	}
	if gone := s.staged - s.base; gone >= 16<<10 && gone > len(s.w.Buf)/2 {
		s.w.Buf = s.w.Buf[:copy(s.w.Buf, s.w.Buf[gone:])]
		s.base = s.staged
	}
}

// stage lets the staged bytes up to the absolute offset leave.
func (s *Session) stage(upTo int) {
	s.out = append(s.out, s.w.Buf[s.staged-s.base:upTo-s.base]...)
	s.staged = upTo
}

// take lets a slot's replacement leave: by handing its buffer over when that is worth more than a copy.
func (s *Session) take(sl *slot) {
	s.settledBytes.Add(-int64(len(sl.raw)))
	if len(sl.raw) > keptRaw && s.sent == len(s.out) {
		s.out, s.sent = sl.raw, 0
		sl.raw = nil
		return
	}
	s.out = append(s.out, sl.raw...)
	if cap(sl.raw) > keptRaw {
		sl.raw = nil
	}
}

// violated answers a violation of the protocol and ends the session behind that answer.
func (s *Session) violated(err error) {
	s.err = err
	s.ending, s.refused = true, true
	s.w.Error("ERR P" + strings.TrimPrefix(err.Error(), "p"))
}

// fail ends the session at once, without an answer.
func (s *Session) fail(err error) {
	s.err = fmt.Errorf("session %d: %w", s.info.ID, err)
	s.ending = true
	s.killed.Store(true)
}

// emptied returns b without content, or nil when it is too large to be kept for nothing.
func emptied(b []byte) []byte {
	if cap(b) > keptOutput {
		return nil
	}
	return b[:0]
}
