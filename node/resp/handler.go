package resp

import (
	"errors"
	"time"
)

// Handler executes commands. Its methods are called by the goroutine that feeds the session (an event loop or a
// connection's goroutine), one at a time per session, and must never block on the network: whatever needs a round trip
// takes a Ticket (Session.Hold) and settles it later from any goroutine.
type Handler interface {
	// Open is called once, before the first Command. It may set s.User.
	Open(s *Session)
	// Command executes one command and writes its reply to w. args alias the read buffer and are valid until Command
	// returns; len(args) >= 1. It must write exactly one reply, or hold it.
	Command(s *Session, w *Writer, args [][]byte)
	// BatchEnd is called after the last complete command of one Feed, before its replies may leave: the place for
	// journal commits and stream flushes. It is called only if Command was called since the last BatchEnd.
	BatchEnd(s *Session)
	// Closed is called once, after the last Command. Tickets that are still held need not be settled.
	Closed(s *Session)
}

// RoundHandler is a Handler that wants to know when an event loop has fed every session that was readable in one poll.
// RoundEnd is called by that loop after those sessions' BatchEnd and before any of their replies leave, so one commit
// may serve them all. loop counts from 0. Connections served by a goroutine of their own never call it with a round
// wider than themselves; for them loop is -1.
type RoundHandler interface {
	Handler
	RoundEnd(loop int)
}

// ConnInfo says who is at the other end. Addresses are host:port.
type ConnInfo struct {
	ID                    uint64
	RemoteAddr, LocalAddr string
	TLS                   bool
	Loop                  int // number of the event loop that feeds the session, from 1; 0 if a goroutine of its own does
}

// Limits bounds what one session may take. Zero fields mean the default.
type Limits struct {
	MaxArgs        int // elements of one command; default 1,048,576. More is a protocol error.
	MaxBulk        int // bytes of one element; default 64 MiB. More is a protocol error.
	MaxInline      int // bytes of one inline command or length line; default 64 KiB. More is a protocol error.
	MaxQueryBuffer int // bytes of one incomplete command; default 128 MiB, at least MaxBulk plus 64 KiB. More closes.

	// OutputChunk is how many reply bytes one Feed may produce before it returns so that they can be sent; default
	// 64 KiB. Larger saves system calls, smaller stays in the processor's cache.
	OutputChunk int
	// MaxOutput is the number of unsent reply bytes from which on no more commands are executed or read until some have
	// left; default 1 MiB. A client that writes a whole pipeline before it reads needs it to be large, the number of
	// slow clients that memory can stand needs it to be small.
	MaxOutput int
	// MaxOutputHard is the number of unsent reply bytes that closes the connection; default 256 MiB. Only one very large
	// reply, or many held ones, can get there.
	MaxOutputHard int
	// MaxPush is the number of bytes pushed, and not taken by the client, that closes the connection; default 32 MiB.
	// MaxPushSoft, default 8 MiB, is the number that closes it when there are always more for PushSoftTime, default 60 s.
	MaxPush, MaxPushSoft int
	PushSoftTime         time.Duration
	// MaxHeld is the number of unsettled tickets from which on no more commands are executed; default 1,024.
	MaxHeld int
}

// DefaultLimits returns the limits that zero fields stand for.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.MaxArgs, 1 << 20},
		{&l.MaxBulk, 64 << 20},
		{&l.MaxInline, 64 << 10},
		{&l.MaxQueryBuffer, 128 << 20},
		{&l.OutputChunk, 64 << 10},
		{&l.MaxOutput, 1 << 20},
		{&l.MaxOutputHard, 256 << 20},
		{&l.MaxHeld, 1 << 10},
		{&l.MaxPush, 32 << 20},
		{&l.MaxPushSoft, 8 << 20},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	l.MaxQueryBuffer = max(l.MaxQueryBuffer, l.MaxBulk+64<<10)
	setDefault(&l.PushSoftTime, time.Minute)
	l.OutputChunk = min(l.OutputChunk, l.MaxOutput)
	l.MaxOutputHard = max(l.MaxOutputHard, l.MaxOutput)
	return l
}

// Why a session ended other than by the client's wish; Session.Err and Session.Feed return them.
var (
	// ErrProtocol wraps every violation of the protocol. The client has been told.
	ErrProtocol = errors.New("protocol error")
	// ErrCrossProtocol: the client speaks HTTP. Nothing was executed for it and nothing answered, so that a web page
	// cannot drive the cache through a browser.
	ErrCrossProtocol = errors.New("HTTP spoken to the RESP port")
	// ErrQueryBuffer: an incomplete command outgrew Limits.MaxQueryBuffer.
	ErrQueryBuffer = errors.New("query buffer limit exceeded")
	// ErrOutputLimit: unsent replies outgrew Limits.MaxOutputHard.
	ErrOutputLimit = errors.New("output buffer limit exceeded")
	// ErrKilled: Session.Kill was called.
	ErrKilled = errors.New("session killed")
	// ErrClosed: the session was fed after its end.
	ErrClosed = errors.New("session closed")
)
