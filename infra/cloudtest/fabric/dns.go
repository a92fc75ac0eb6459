package fabric

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// nameServer answers one machine's questions on its resolver's address.
type nameServer struct {
	servers []*dns.Server
	done    sync.WaitGroup
}

// answerTTL is short, so that a guest sees a change of names as soon as in a cloud.
const answerTTL = 5

func serveNames(namespace string, m Machine, log *slog.Logger) (*nameServer, error) {
	address := net.JoinHostPort(m.Resolver.String(), "53")
	packets, err := listenPacket(namespace, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for names: %w", err)
	}
	streams, err := listen(namespace, "tcp", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for names: %w", err), packets.Close())
	}
	n := &nameServer{}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		if err := w.WriteMsg(m.reply(q, udp)); err != nil {
			log.Debug("name server could not answer", "machine", m.ID, "err", err)
		}
	})
	n.start(&dns.Server{PacketConn: packets, Handler: handler}, log)
	n.start(&dns.Server{Listener: streams, Handler: handler}, log)
	return n, nil
}

// start returns when the server serves: one that is not yet started cannot be shut down.
func (n *nameServer) start(server *dns.Server, log *slog.Logger) {
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	ended := make(chan struct{})
	n.servers = append(n.servers, server)
	n.done.Go(func() {
		defer close(ended)
		if err := server.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
			log.Error("name server ended", "err", err)
		}
	})
	select {
	case <-started:
	case <-ended:
	}
}

func (n *nameServer) close() {
	if n == nil {
		return
	}
	for _, server := range n.servers {
		_ = server.Shutdown() // an error means that it has ended already
	}
	n.done.Wait()
}

// reply answers questions of class IN for addresses; a name that exists has no records of other types.
func (m Machine) reply(q *dns.Msg, udp bool) *dns.Msg {
	r := new(dns.Msg)
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return r.SetRcode(q, dns.RcodeNotImplemented)
	}
	r.SetReply(q)
	r.Authoritative, r.RecursionAvailable = true, true
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		r.SetEdns0(dns.DefaultMsgSize, false)
		size = int(max(opt.UDPSize(), dns.MinMsgSize))
	}
	question := q.Question[0]
	addrs, ok := m.answer(question.Name)
	if !ok {
		r.Rcode = dns.RcodeNameError
		return r
	}
	for _, addr := range addrs {
		if rr := record(question, addr.Unmap()); rr != nil {
			r.Answer = append(r.Answer, rr)
		}
	}
	if udp {
		r.Truncate(size)
	}
	return r
}

// record is an address as the answer to a question; nil if it was asked for something else.
func record(q dns.Question, addr netip.Addr) dns.RR {
	head := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: answerTTL}
	switch {
	case addr.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
		head.Rrtype = dns.TypeA
		return &dns.A{Hdr: head, A: addr.AsSlice()}
	case addr.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
		head.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: head, AAAA: addr.AsSlice()}
	}
	return nil
}
