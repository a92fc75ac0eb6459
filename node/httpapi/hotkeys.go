package httpapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// HotKey is one entry of /api/cluster/hotkeys.
type HotKey struct {
	Key    string  `json:"key"`            // what is not UTF-8 is replaced
	Path   string  `json:"path"`           // where the key is served
	Rate   float64 `json:"ops_per_second"` // estimated from a sample of about the last minute
	Excess float64 `json:"excess"`         // by how much the rate may be too high
}

// hotKeys lists the keys of the whole cluster that are asked for most.
func (s *Server) hotKeys(w http.ResponseWriter, r *http.Request) {
	args := [][]byte{[]byte("HOTKEYS")}
	if n := r.URL.Query().Get("count"); n != "" {
		args = append(args, []byte("COUNT"), []byte(n))
	}
	reply := s.do(r, args...)
	if reply.Kind == KindError && strings.Contains(reply.Err, "COUNT") {
		fail(w, http.StatusBadRequest, "bad_request", strings.TrimPrefix(reply.Err, "ERR "))
		return
	}
	if reply.Kind != KindArray {
		s.failReply(w, reply)
		return
	}
	keys := make([]HotKey, 0, len(reply.Array))
	for _, e := range reply.Array {
		if len(e.Array) != 3 {
			s.failReply(w, e)
			return
		}
		rate, _ := strconv.ParseFloat(string(e.Array[1].Bytes), 64)
		excess, _ := strconv.ParseFloat(string(e.Array[2].Bytes), 64)
		key := string(e.Array[0].Bytes)
		keys = append(keys, HotKey{Key: strings.ToValidUTF8(key, "�"), Path: cachePrefix + url.PathEscape(key), Rate: rate, Excess: excess})
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": keys})
}
