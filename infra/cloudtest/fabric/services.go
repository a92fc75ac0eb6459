package fabric

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ServiceAddress is what the names of the cloud's services resolve to in a guest, MetadataAddress where its metadata are.
// Both live on the guest's loopback interface.
const (
	ServiceAddress  = "169.254.100.1"
	MetadataAddress = "169.254.169.254"
)

// services is what the lab itself answers in one machine's namespace, as long as that exists.
type services struct {
	names *nameServer
	http  []*http.Server
	done  sync.WaitGroup
}

// headerLimit keeps a guest that says nothing from holding a connection.
const headerLimit = 10 * time.Second

// serve opens every socket or none. The addresses must be on the namespace's loopback interface.
func serve(namespace string, m Machine, ca *authority, log *slog.Logger) (*services, error) {
	s := &services{}
	if err := s.open(namespace, m, ca, log); err != nil {
		s.close()
		return nil, fmt.Errorf("serve machine %s: %w", m.ID, err)
	}
	return s, nil
}

func (s *services) open(namespace string, m Machine, ca *authority, log *slog.Logger) error {
	var err error
	if s.names, err = serveNames(namespace, m, log); err != nil {
		return err
	}
	if m.Metadata != nil {
		ln, err := listen(namespace, "tcp", net.JoinHostPort(MetadataAddress, "80"))
		if err != nil {
			return fmt.Errorf("listen for metadata: %w", err)
		}
		s.serveHTTP(ln, m.Metadata, log)
	}
	if m.Services != nil {
		ln, err := listen(namespace, "tcp", net.JoinHostPort(ServiceAddress, "443"))
		if err != nil {
			return fmt.Errorf("listen for services: %w", err)
		}
		s.serveHTTP(tls.NewListener(ln, serviceTLS(m, ca)), m.Services, log)
	}
	return nil
}

func (s *services) serveHTTP(ln net.Listener, handler http.Handler, logger *slog.Logger) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerLimit,
		ErrorLog: log.New(logWriter{logger}, "", 0),
	}
	s.http = append(s.http, server)
	s.done.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("http server ended", "err", err)
		}
	})
}

// logWriter passes what net/http has to say, which is of no weight, on to the lab's log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}

// serviceTLS certifies the names that are services, and no others.
func serviceTLS(m Machine, ca *authority) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			name := strings.ToLower(hello.ServerName)
			if name == "" {
				return ca.certify(ServiceAddress)
			}
			if m.IsService == nil || !m.IsService(name) {
				return nil, fmt.Errorf("%q is no service", name)
			}
			return ca.certify(name)
		},
	}
}

// close ends every listener and connection, and waits until none of the lab's goroutines is left here. Nil is fine.
func (s *services) close() {
	if s == nil {
		return
	}
	s.names.close()
	for _, server := range s.http {
		_ = server.Close() // the sockets are closed in any case
	}
	s.done.Wait()
}

// answer looks a name up as the guest's name server does: ok is false for a name that does not exist.
func (m Machine) answer(name string) (addrs []netip.Addr, ok bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if m.IsService != nil && m.IsService(name) {
		return []netip.Addr{netip.MustParseAddr(ServiceAddress)}, true
	}
	if m.Resolve != nil {
		addrs = m.Resolve(name)
	}
	return addrs, len(addrs) > 0
}
