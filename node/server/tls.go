package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"hypercache/node/config"
)

// clientTLS is what Redis and HTTP clients meet.
func clientTLS(n config.Network) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(n.CertFile, n.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load network.cert_file and network.key_file: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// interNodeTLS is mutual: a node must have a certificate of network.ca_file to be heard. Names are not checked, since
// the handshake inside proves the cluster secret and the node's id; addresses may change.
func (s *Server) interNodeTLS() (server, client *tls.Config, err error) {
	if !s.cfg.Cluster.InterNodeTLS {
		return nil, nil, nil
	}
	n := s.cfg.Network
	cert, err := tls.LoadX509KeyPair(n.CertFile, n.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("load network.cert_file and network.key_file: %w", err)
	}
	pem, err := os.ReadFile(n.CAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read network.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("read network.ca_file: %s holds no PEM certificate", n.CAFile)
	}
	server = &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
	client = &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // the chain is verified below, only the name is not
		VerifyConnection: func(cs tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: pool, Intermediates: x509.NewCertPool()}
			for _, c := range cs.PeerCertificates[1:] {
				o.Intermediates.AddCert(c)
			}
			_, err := cs.PeerCertificates[0].Verify(o)
			return err
		},
	}
	return server, client, nil
}
