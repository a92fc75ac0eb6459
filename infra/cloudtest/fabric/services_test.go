package fabric

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func guest() Machine {
	return Machine{
		ID: "one",
		Resolve: func(name string) []netip.Addr {
			switch name {
			case "node.internal":
				return []netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("fd00::4")}
			case "many.internal":
				var all []netip.Addr
				for i := range 200 {
					all = append(all, netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}))
				}
				return all
			}
			return nil
		},
		IsService: func(name string) bool { return strings.HasSuffix(name, ".cloud.example") },
	}
}

func TestNameServerAnswersForAddressesOnly(t *testing.T) {
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		want  string
	}{
		{"Node.Internal.", dns.TypeA, dns.RcodeSuccess, "10.0.1.4"},
		{"node.internal.", dns.TypeAAAA, dns.RcodeSuccess, "fd00::4"},
		{"node.internal.", dns.TypeANY, dns.RcodeSuccess, "10.0.1.4 fd00::4"},
		{"node.internal.", dns.TypeMX, dns.RcodeSuccess, ""},
		{"vault.cloud.example.", dns.TypeA, dns.RcodeSuccess, ServiceAddress},
		{"vault.cloud.example.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"elsewhere.example.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		q := new(dns.Msg).SetQuestion(c.name, c.qtype)
		r := guest().reply(q, true)
		var got []string
		for _, rr := range r.Answer {
			if rr.Header().Name != c.name {
				t.Errorf("answer %v to a question about %s", rr, c.name)
			}
			switch rr := rr.(type) {
			case *dns.A:
				got = append(got, rr.A.String())
			case *dns.AAAA:
				got = append(got, rr.AAAA.String())
			}
		}
		if r.Rcode != c.rcode || strings.Join(got, " ") != c.want || r.Id != q.Id {
			t.Errorf("%s %s: %s %q, want %s %q", c.name, dns.TypeToString[c.qtype], dns.RcodeToString[r.Rcode], got,
				dns.RcodeToString[c.rcode], c.want)
		}
	}
}

func TestNameServerKnowsNoNameWithoutFunctions(t *testing.T) {
	if r := (Machine{}).reply(new(dns.Msg).SetQuestion("a.b.", dns.TypeA), true); r.Rcode != dns.RcodeNameError {
		t.Errorf("rcode %s", dns.RcodeToString[r.Rcode])
	}
}

func TestLongAnswersAreCutForDatagramsOnly(t *testing.T) {
	for _, c := range []struct {
		udp, truncated bool
		limit, size    int
	}{
		{true, true, dns.MinMsgSize, 0}, {true, true, 1232, 1232}, {false, false, dns.MaxMsgSize, 0},
	} {
		q := new(dns.Msg).SetQuestion("many.internal.", dns.TypeA)
		if c.size > 0 {
			q.SetEdns0(uint16(c.size), false)
		}
		r := guest().reply(q, c.udp)
		wire, err := r.Pack()
		if err != nil || r.Truncated != c.truncated || len(wire) > c.limit {
			t.Errorf("udp %v: truncated %v, %d bytes, %v; want at most %d", c.udp, r.Truncated, len(wire), err, c.limit)
		}
	}
}

func FuzzNameServerAnswersAnything(f *testing.F) {
	q, err := new(dns.Msg).SetQuestion("node.internal.", dns.TypeA).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return // the name server does not see what is no message
		}
		r := guest().reply(q, true)
		if _, err := r.Pack(); err != nil && len(r.Answer) > 0 {
			t.Errorf("answer to %v cannot be sent: %v", q, err)
		}
	})
}

func TestServicesHaveCertificatesOfTheLabsAuthority(t *testing.T) {
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &services{}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Host) })
	s.serveHTTP(tls.NewListener(ln, serviceTLS(guest(), ca)), hello, slog.New(slog.DiscardHandler))
	defer s.close()

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.pem) {
		t.Fatal("the authority's PEM holds no certificate")
	}
	dial := func(name string, roots *x509.CertPool) (*http.Response, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name}}
		defer transport.CloseIdleConnections()
		r := httptest.NewRequest(http.MethodGet, "https://"+ln.Addr().String()+"/", nil)
		r.RequestURI, r.Host = "", name
		return transport.RoundTrip(r)
	}
	resp, err := dial("vault.cloud.example", roots)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "vault.cloud.example" {
		t.Errorf("host %q, %v", body, err)
	}
	_ = resp.Body.Close()
	for name, pool := range map[string]*x509.CertPool{"vault.cloud.example": x509.NewCertPool(), "elsewhere.example": roots} {
		if resp, err := dial(name, pool); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s is trusted", name)
		}
	}
}
