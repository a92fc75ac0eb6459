package command

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/random"
)

// nearlyEqual compares members with distances, of which the C library may have rounded the last digit another way.
func nearlyEqual(got, want []byte) bool {
	a, b := golden.Elements(got), golden.Elements(want)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, errX := strconv.ParseFloat(bulkText(a[i]), 64)
		y, errY := strconv.ParseFloat(bulkText(b[i]), 64)
		if errX != nil && string(a[i]) != string(b[i]) || errX == nil && (errY != nil || math.Abs(x-y) > 1e-9*max(1, x*1e-6)) {
			return false
		}
	}
	return true
}

// TestSearchesFindWhatRedisFinds compares searches over the whole map, near its edges and far from them, with every digit
// of their replies.
func TestSearchesFindWhatRedisFinds(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(21, 22))
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 1+rng.IntN(12), 64) }
	// Redis leaves open which of equally distant members come first: no two are at one place.
	exact := func(f float64) string { return strconv.FormatFloat(f, 'f', 12, 64) }
	lon := func() string { return number(rng.Float64()*359.8 - 179.9) }
	lat := func() string { return number(rng.Float64()*170 - 85) }
	requests := [][]string{}
	for i := range 1500 {
		requests = append(requests, []string{"GEOADD", "{k}world", lon(), lat(), fmt.Sprint("w", i)},
			[]string{"GEOADD", "{k}town", exact(2 + rng.Float64()/10), exact(48 + rng.Float64()/10), fmt.Sprint("t", i)})
	}
	for range 3000 {
		key, prefix, x, y, meters := "{k}world", "w", lon(), lat(), rng.ExpFloat64()*1e6
		if rng.IntN(2) == 0 {
			key, prefix, x, y, meters = "{k}town", "t", number(2+rng.Float64()/10), number(48+rng.Float64()/10), rng.ExpFloat64()*1000
		}
		member := fmt.Sprint(prefix, rng.IntN(1600))
		from := []string{"FROMLONLAT", x, y}
		if rng.IntN(3) == 0 {
			from = []string{"FROMMEMBER", fmt.Sprint(prefix, rng.IntN(1500))}
		}
		by := []string{"BYRADIUS", number(meters), "m"}
		if rng.IntN(2) == 0 {
			by = []string{"BYBOX", number(meters / 500), number(rng.ExpFloat64() * meters / 500), "km"}
		}
		search := append(append([]string{"GEOSEARCH", key}, from...), by...)
		with := append(search, "WITHDIST", "WITHCOORD", "WITHHASH", random.Pick(rng, []string{"ASC", "DESC"}))
		stored := append([]string{"GEOSEARCHSTORE", "{k}to"}, search[1:]...)
		requests = append(requests, search, with,
			append(search[:len(search):len(search)], "COUNT", strconv.Itoa(1+rng.IntN(9)), random.Pick(rng, []string{"ANY", "ASC", "DESC"})),
			append(stored, "STOREDIST"), []string{"ZRANGE", "{k}to", "0", "-1", "WITHSCORES"},
			[]string{"GEODIST", key, member, fmt.Sprint(prefix, rng.IntN(1600)), random.Pick(rng, []string{"m", "km", "ft", "mi"})},
			[]string{"GEOPOS", key, member}, []string{"GEOHASH", key, member, "none"})
	}
	wrong := 0
	for i, want := range pipeline(t, redis, requests) {
		got := h.exec(self, bytesOf(requests[i]))
		if string(got) == string(want) || requests[i][0] == "ZRANGE" && nearlyEqual(got, want) {
			continue
		}
		if wrong++; wrong < 5 {
			t.Errorf("%q: got %.500q, redis-server says %.500q", requests[i], got, want)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d replies differ", wrong, len(requests))
	}
	h.checkReplica()
}
