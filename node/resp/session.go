package resp

// Session is one client connection without its socket.
type Session struct {
	User any // the handler's own
}

// Ticket stands for one held reply.
type Ticket struct {
	s   *Session
	seq uint64
}

func NewSession(h Handler, l Limits, info ConnInfo, wake func()) *Session { return &Session{} }
func (s *Session) ID() uint64                                             { return 0 }
func (s *Session) RemoteAddr() string                                     { return "" }
func (s *Session) LocalAddr() string                                      { return "" }
func (s *Session) Proto() int                                             { return 2 }
func (s *Session) SetProto(int)                                           {}
func (s *Session) CloseAfterReply()                                       {}
func (s *Session) Kill()                                                  {}
func (s *Session) Hold() Ticket                                           { return Ticket{} }
func (s *Session) Feed(p []byte) error                                    { return nil }
func (s *Session) Output() []byte                                         { return nil }
func (s *Session) Sent(n int)                                             {}
func (s *Session) Pending() int                                           { return 0 }

func (t Ticket) Release()         {}
func (t Ticket) Reply(raw []byte) {}
func (t Ticket) Error(msg string) {}
