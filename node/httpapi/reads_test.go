package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

func TestAReadSaysItsLevel(t *testing.T) {
	for query, want := range map[string]ReadLevel{"": ReadDefault, "?reads=quorum": ReadQuorum, "?reads=stale": ReadStale} {
		f := newFake()
		f.values["k"] = "v"
		if code := getLevel(t, f, query); code != http.StatusOK || !slices.Equal(f.levels, []ReadLevel{want, want}) {
			t.Errorf("%q: %d, levels %v of value and TTL, want %v", query, code, f.levels, want)
		}
	}
	f := newFake()
	if code := getLevel(t, f, "?reads=fresh"); code != http.StatusBadRequest || len(f.levels) > 0 {
		t.Errorf("a level that is none: %d, %d reads", code, len(f.levels))
	}
}

func getLevel(t *testing.T, f *fakeNode, query string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, cachePrefix+"k"+query, nil)
	w := httptest.NewRecorder()
	(&Server{backend: f}).getKey(w, r)
	return w.Code
}
