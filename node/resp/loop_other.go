//go:build !linux

package resp

// servePlain serves plain TCP. Event loops exist for Linux only; elsewhere each connection has its goroutines.
func (s *Server) servePlain() error { return s.serveStreams() }
