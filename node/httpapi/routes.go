package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

//go:embed openapi.yaml
var openAPI []byte

const cachePrefix = "/api/cache/"

// Status is the body of /api/status.
type Status struct {
	Health  Health   `json:"health"`
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	Stats   Stats    `json:"stats"`
}

// route is one entry of the API: the metrics label is its path.
type route struct {
	path    string
	methods map[string]http.HandlerFunc
}

func (s *Server) routes() []route {
	get := func(f http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: f, http.MethodHead: f}
	}
	post := func(f http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodPost: f}
	}
	return []route{
		{"/health", get(s.health)},
		{"/ready", get(s.ready)},
		{"/metrics", get(s.metrics.handler.ServeHTTP)},
		{"/api/status", get(s.status)},
		{"/api/cluster/members", get(s.members)},
		{"/api/cluster/topology", get(s.topology)},
		{"/api/cluster/hotkeys", get(s.hotKeys)},
		{"/api/openapi.yaml", get(s.openAPI)},
		{"/api/admin/drain", post(s.admin("drained", s.backend.Drain))},
		{"/api/admin/handover", post(s.admin("handed over", s.backend.Handover))},
		{"/api/admin/remove", post(s.remove)},
		{"/api/admin/reset-default-user", post(s.admin("reset", s.backend.ResetDefaultUser))},
		{cachePrefix, map[string]http.HandlerFunc{
			http.MethodGet: s.getKey, http.MethodHead: s.getKey, http.MethodPut: s.putKey, http.MethodDelete: s.deleteKey,
		}},
	}
}

// handler routes without http.ServeMux: the mux cleans paths by redirecting, and
// a key may well be "a//b" or "..".
func (s *Server) handler() http.Handler {
	byPath := map[string]route{}
	for _, r := range s.routes() {
		byPath[r.path] = r
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if strings.HasPrefix(path, cachePrefix) {
			path = cachePrefix
		}
		found, ok := byPath[path]
		label := found.path
		if !ok {
			label = "other"
		}
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		begin := time.Now()
		s.answer(rec, r, found, ok)
		s.metrics.observe(label, r.Method, rec.code, time.Since(begin))
	})
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, found route, ok bool) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if !ok {
		fail(w, http.StatusNotFound, "not_found", "there is nothing here; the API is described at /api/openapi.yaml")
		return
	}
	if why := s.crossSite(r); why != "" {
		fail(w, http.StatusForbidden, "cross_site", why)
		return
	}
	handle, ok := found.methods[r.Method]
	if !ok {
		var allow []string
		for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
			if _, ok := found.methods[m]; ok {
				allow = append(allow, m)
			}
		}
		h.Set("Allow", strings.Join(allow, ", "))
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "this path takes "+strings.Join(allow, ", "))
		return
	}
	handle(w, r)
}

// fromBrowser recognises what scripts and pages cannot leave out.
func fromBrowser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Sec-Fetch-Mode") != ""
}

// crossSite says why a browser's request is refused, or "". A page of another
// site must not reach a cache on the reader's own machine or network.
func (s *Server) crossSite(r *http.Request) string {
	if !fromBrowser(r) {
		return ""
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
	default:
		return "requests from pages of other sites are refused"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		_, host, _ := strings.Cut(origin, "://")
		if host != r.Host {
			return "requests from pages of other origins are refused"
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" || s.hosts[host] {
		return ""
	}
	return "this node is not known to browsers by that host name"
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.backend.Health())
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	ready, reasons := s.backend.Ready()
	if reasons == nil {
		reasons = []string{}
	}
	code := http.StatusOK
	if !ready {
		code = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, code, struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}{ready, reasons})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	ready, reasons := s.backend.Ready()
	if reasons == nil {
		reasons = []string{}
	}
	writeJSON(w, http.StatusOK, Status{s.backend.Health(), ready, reasons, s.backend.Stats()})
}

func (s *Server) members(w http.ResponseWriter, _ *http.Request) {
	list := s.backend.Members()
	if list == nil {
		list = []Member{}
	}
	writeJSON(w, http.StatusOK, struct {
		Members []Member `json:"members"`
	}{list})
}

func (s *Server) topology(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.backend.Topology())
}

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI)
}

// remove takes the member that ?node= names.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	node := r.URL.Query().Get("node")
	if node == "" {
		fail(w, http.StatusBadRequest, "bad_request", "which node? want /api/admin/remove?node=ID")
		return
	}
	s.admin("removed", func(ctx context.Context) error { return s.backend.Remove(ctx, node) })(w, r)
}

// admin guards do: it runs for callers on this machine, or with the secret.
func (s *Server) admin(done string, do func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.mayAdmin(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="hypercache"`)
			fail(w, http.StatusUnauthorized, "unauthorized", "call this from the node's own machine, or with the cluster secret as bearer token")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
		defer cancel()
		// Moving the data of a node takes longer than any other answer may.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(adminTimeout + writeTimeout))
		s.log.Info("admin request", "path", r.URL.RequestURI(), "peer", r.RemoteAddr)
		if err := do(ctx); err != nil {
			s.log.Error("admin request failed", "path", r.URL.Path, "error", err)
			fail(w, http.StatusInternalServerError, "failed", err.Error())
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": done})
	}
}

func (s *Server) mayAdmin(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if len(s.opts.Secret) == 0 {
			return false
		}
		got, want := sha256.Sum256([]byte(token)), sha256.Sum256(s.opts.Secret)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
	// A proxy on this machine speaks for others; a browser on it for any page.
	if fromBrowser(r) || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" || r.Header.Get("Via") != "" {
		return false
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// apiError is the body of everything that is not a success.
type apiError struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func fail(w http.ResponseWriter, code int, name, message string) {
	var e apiError
	e.Error.Code, e.Error.Message = name, message
	writeJSON(w, code, e)
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		// Only possible with a value of ours that JSON cannot hold.
		panic("httpapi: encode answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

// recorder notes the status for the metrics.
type recorder struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (r *recorder) WriteHeader(code int) {
	if !r.wrote {
		r.code, r.wrote = code, true
	}
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
