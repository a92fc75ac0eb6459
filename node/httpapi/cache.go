package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Headers of the cache routes.
const (
	headerTTL   = "X-Cache-TTL"    // seconds, on PUT
	headerTTLMs = "X-Cache-TTL-Ms" // milliseconds, on PUT and in answers
)

// maxTTL keeps now + ttl inside 64 bits of milliseconds.
const maxTTL = 1 << 53

// statusOf maps the prefix of a cache error to HTTP, once for all routes. Retry
// says that the same request may succeed a moment later.
func statusOf(prefix string) (code int, retry bool) {
	switch prefix {
	case "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "READONLY", "MISCONF", "MOVED", "ASK", "BUSY":
		return http.StatusServiceUnavailable, true
	case "OOM":
		return http.StatusInsufficientStorage, false
	case "WRONGTYPE":
		return http.StatusConflict, false
	case "NOAUTH", "WRONGPASS":
		return http.StatusUnauthorized, false
	case "NOPERM":
		return http.StatusForbidden, false
	case "ERR", "CROSSSLOT":
		return http.StatusBadRequest, false
	}
	return http.StatusInternalServerError, false
}

func (s *Server) failReply(w http.ResponseWriter, r Reply) {
	if r.Kind != KindError {
		fail(w, http.StatusInternalServerError, "unexpected_reply", "the cache answered in a way this route does not know")
		return
	}
	code, retry := statusOf(r.Prefix())
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="hypercache", charset="UTF-8"`)
	}
	if retry {
		w.Header().Set("Retry-After", "1")
	}
	if strings.Contains(r.Err, "exceeds maximum allowed size") {
		code = http.StatusRequestEntityTooLarge
	}
	_, message, ok := strings.Cut(r.Err, " ")
	if !ok {
		message = r.Err
	}
	fail(w, code, r.Prefix(), message)
}

// refusal is the reply to who may not run a command; ok says that there is none. The cluster secret opens everything, as it
// does the admin routes.
func (s *Server) refusal(r *http.Request, args ...[]byte) (reply Reply, ok bool) {
	who := Credentials{None: r.Header.Get("Authorization") == ""}
	if !who.None {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") && s.mayAdmin(r) {
			return Reply{}, true
		}
		var basic bool
		if who.User, who.Password, basic = r.BasicAuth(); !basic {
			return ErrorReply("NOAUTH want Basic authentication with a user's name and password"), false
		}
		if who.User == "" {
			who.User = "default"
		}
	}
	if why := s.backend.Refuses(who, args...); why != "" {
		return ErrorReply(why), false
	}
	return Reply{}, true
}

func (s *Server) do(r *http.Request, args ...[]byte) Reply {
	if refused, ok := s.refusal(r, args...); !ok {
		return refused
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	return s.backend.Do(ctx, args...)
}

// read is do for a command that reads.
func (s *Server) read(r *http.Request, level ReadLevel, args ...[]byte) Reply {
	if refused, ok := s.refusal(r, args...); !ok {
		return refused
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	return s.backend.Read(ctx, level, args...)
}

// readLevel is the level that the query asks for.
func readLevel(w http.ResponseWriter, r *http.Request) (ReadLevel, bool) {
	switch v := r.URL.Query().Get("reads"); v {
	case "":
		return ReadDefault, true
	case "quorum":
		return ReadQuorum, true
	case "stale":
		return ReadStale, true
	default:
		fail(w, http.StatusBadRequest, "bad_request", fmt.Sprintf("reads=%.20q is unknown; want quorum or stale, or none", v))
		return 0, false
	}
}

// key is everything behind the prefix, percent-decoded once: slashes, zero bytes
// and anything else belong to it.
func key(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	escaped := strings.TrimPrefix(r.URL.EscapedPath(), cachePrefix)
	k, err := url.PathUnescape(escaped)
	if err != nil || k == "" {
		fail(w, http.StatusBadRequest, "bad_key", "want a key behind "+cachePrefix+", percent-encoded")
		return nil, false
	}
	return []byte(k), true
}

// entry is a value in JSON, in both directions.
type entry struct {
	Key      string          `json:"key,omitempty"`
	Value    json.RawMessage `json:"value"`
	Encoding string          `json:"encoding,omitempty"` // "base64" when the value is not UTF-8
	TTL      *float64        `json:"ttl,omitempty"`      // seconds; absent means for ever
}

func (s *Server) getKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	level, ok := readLevel(w, r)
	if !ok {
		return
	}
	value := s.read(r, level, []byte("GET"), k)
	switch value.Kind {
	case KindBytes:
	case KindNull:
		fail(w, http.StatusNotFound, "not_found", "there is no such key")
		return
	default:
		s.failReply(w, value)
		return
	}
	ttl := s.read(r, level, []byte("PTTL"), k)
	if ttl.Kind != KindInt {
		s.failReply(w, ttl)
		return
	}
	// -1 is for ever; -2 is gone since, and the value was right when it was read.
	if ttl.Int >= 0 {
		w.Header().Set(headerTTLMs, strconv.FormatInt(ttl.Int, 10))
	}
	w.Header().Set("Vary", "Accept")
	if wantsJSON(r.Header.Get("Accept")) {
		writeJSON(w, http.StatusOK, toEntry(k, value.Bytes, ttl.Int))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(value.Bytes)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(value.Bytes)
	}
}

func toEntry(k, value []byte, ttlMs int64) entry {
	e := entry{}
	if utf8.Valid(k) {
		e.Key = string(k)
	}
	text := string(value)
	if !utf8.Valid(value) {
		e.Encoding = "base64"
		text = base64.StdEncoding.EncodeToString(value)
	}
	e.Value, _ = json.Marshal(text) // a string always marshals
	if ttlMs >= 0 {
		seconds := float64(ttlMs) / 1000
		e.TTL = &seconds
	}
	return e
}

// wantsJSON is for clients that name JSON and do not name raw bytes before it.
func wantsJSON(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		media, _, err := mime.ParseMediaType(part)
		switch {
		case err != nil:
		case media == "application/json":
			return true
		case media == "application/octet-stream":
			return false
		}
	}
	return false
}

// requestError is a request that cannot be served as it is.
type requestError struct {
	status        int
	name, message string
}

func (e *requestError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, "bad_request", fmt.Sprintf(format, args...)}
}

func (s *Server) putKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	// Before anything is read of a body that may be large.
	if refused, ok := s.refusal(r, []byte("SET"), k, nil); !ok {
		s.failReply(w, refused)
		return
	}
	value, ttl, release, err := s.readValue(w, r)
	defer release()
	var condition []byte
	if err == nil {
		condition, err = conditionOf(r)
	}
	if err != nil {
		var re *requestError
		if !errors.As(err, &re) {
			re = &requestError{http.StatusBadRequest, "bad_body", "the body ended early or came too slowly"}
		}
		fail(w, re.status, re.name, re.message)
		return
	}
	args := [][]byte{[]byte("SET"), k, value}
	if ttl > 0 {
		args = append(args, []byte("PX"), strconv.AppendInt(nil, ttl, 10))
	}
	if condition != nil {
		args = append(args, condition)
	}
	switch reply := s.do(r, args...); reply.Kind {
	case KindStatus, KindBytes:
		w.WriteHeader(http.StatusNoContent)
	case KindNull:
		fail(w, http.StatusPreconditionFailed, "precondition_failed", "the condition of the request does not hold; nothing was written")
	default:
		s.failReply(w, reply)
	}
}

// conditionOf maps HTTP's conditional requests to SET's NX and XX.
func conditionOf(r *http.Request) ([]byte, error) {
	none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
	switch {
	case none == "" && match == "":
		return nil, nil
	case none == "*" && match == "":
		return []byte("NX"), nil
	case none == "" && match == "*":
		return []byte("XX"), nil
	}
	return nil, badRequest("of the conditions only If-None-Match: * (create) and If-Match: * (replace) are known")
}

// readValue reads a body within its bounds. Release gives its memory back to the
// budget and is never nil.
func (s *Server) readValue(w http.ResponseWriter, r *http.Request) (value []byte, ttlMs int64, release func(), err error) {
	release = func() {}
	isJSON, err := bodyKind(r)
	if err != nil {
		return nil, 0, release, err
	}
	limit := s.opts.MaxValue
	if isJSON {
		limit = bodyRoom(limit)
	}
	tooLarge := &requestError{http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a value may have at most %d bytes", s.opts.MaxValue)}
	if r.ContentLength > limit {
		return nil, 0, release, tooLarge
	}
	room := limit
	if r.ContentLength >= 0 {
		room = r.ContentLength
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	if s.bodies.Acquire(ctx, room) != nil {
		return nil, 0, release, &requestError{http.StatusServiceUnavailable, "busy", "too many large bodies are being received; try again"}
	}
	release = func() { s.bodies.Release(room) }
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if err != nil {
		var mbe *http.MaxBytesError
		if errors.As(err, &mbe) {
			return nil, 0, release, tooLarge
		}
		return nil, 0, release, err
	}
	if ttlMs, err = ttlOf(r); err != nil {
		return nil, 0, release, err
	}
	value = body
	if isJSON {
		if value, ttlMs, err = fromEntry(body, ttlMs); err != nil {
			return nil, 0, release, err
		}
		if int64(len(value)) > s.opts.MaxValue {
			return nil, 0, release, tooLarge
		}
	}
	return value, ttlMs, release, nil
}

// readAll grows with the bytes that arrive; a declared length saves copies only
// while it is modest.
func readAll(r io.Reader, declared int64) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(int(min(max(declared, 0)+bytes.MinRead, 1<<20)))
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
}

// bodyKind says whether the body is JSON. Everything else is the value itself,
// byte for byte, except what is surely a mistake.
func bodyKind(r *http.Request) (isJSON bool, err error) {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return false, &requestError{http.StatusUnsupportedMediaType, "unsupported_encoding", "send the value uncompressed"}
	}
	ct := r.Header.Get("Content-Type")
	if ct == "" {
		return false, nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil || strings.HasPrefix(media, "multipart/") {
		return false, &requestError{http.StatusUnsupportedMediaType, "unsupported_type", "send the value itself as application/octet-stream, or application/json with {\"value\":…,\"ttl\":seconds}"}
	}
	return media == "application/json", nil
}

// ttlOf reads the time to live of a raw PUT, 0 if none.
func ttlOf(r *http.Request) (ms int64, err error) {
	given := 0
	for _, source := range []struct {
		name, text string
		perUnit    float64
	}{
		{"the parameter ttl", r.URL.Query().Get("ttl"), 1000},
		{headerTTL, r.Header.Get(headerTTL), 1000},
		{headerTTLMs, r.Header.Get(headerTTLMs), 1},
	} {
		if source.text == "" {
			continue
		}
		n, err := strconv.ParseFloat(source.text, 64)
		if err != nil {
			return 0, badRequest("%s is not a number", source.name)
		}
		if ms, err = toMs(n * source.perUnit); err != nil {
			return 0, err
		}
		given++
	}
	if given > 1 {
		return 0, badRequest("the time to live is given more than once")
	}
	return ms, nil
}

func toMs(ms float64) (int64, error) {
	if math.IsNaN(ms) || ms < 1 || ms > maxTTL {
		return 0, badRequest("a time to live is at least a millisecond and at most %d milliseconds; leave it out to keep the key", int64(maxTTL))
	}
	return int64(math.Ceil(ms)), nil
}

// fromEntry decodes {"value":…,"ttl":seconds}. Text is stored as its characters;
// numbers, truth values, lists and objects as their JSON text.
func fromEntry(body []byte, ttlMs int64) ([]byte, int64, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var e entry
	if err := dec.Decode(&e); err != nil {
		return nil, 0, badRequest("want {\"value\":…,\"ttl\":seconds}: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, badRequest("there is something behind the JSON object")
	}
	if len(e.Value) == 0 || string(e.Value) == "null" {
		return nil, 0, badRequest("value is missing")
	}
	if e.TTL != nil {
		if ttlMs != 0 {
			return nil, 0, badRequest("the time to live is given more than once")
		}
		var err error
		if ttlMs, err = toMs(*e.TTL * float64(time.Second/time.Millisecond)); err != nil {
			return nil, 0, err
		}
	}
	value := []byte(e.Value)
	isText := e.Value[0] == '"'
	if isText {
		var text string
		if err := json.Unmarshal(e.Value, &text); err != nil {
			return nil, 0, badRequest("value: %v", err)
		}
		value = []byte(text)
	}
	switch e.Encoding {
	case "", "utf-8":
	case "base64":
		raw, err := base64.StdEncoding.DecodeString(string(value))
		if !isText || err != nil {
			return nil, 0, badRequest("value is not base64 text")
		}
		value = raw
	default:
		return nil, 0, badRequest("encoding is utf-8 or base64")
	}
	return value, ttlMs, nil
}

func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	reply := s.do(r, []byte("DEL"), k)
	switch {
	case reply.Kind != KindInt:
		s.failReply(w, reply)
	case reply.Int == 0:
		fail(w, http.StatusNotFound, "not_found", "there is no such key")
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
