package command

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

func TestPartialSortBringsTheSmallestToTheFront(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a := make([]int, rng.IntN(200))
		for i := range a {
			a[i] = rng.IntN(1 + rng.IntN(300))
		}
		if rng.IntN(4) == 0 {
			slices.Sort(a)
		}
		want := slices.Sorted(slices.Values(a))
		count := rng.IntN(len(a) + 1)
		partialSort(a, count, func(x, y *int) int { return *x - *y })
		if !slices.Equal(a[:count], want[:count]) {
			t.Fatalf("the first %d of %v, sorted %v", count, a, want)
		}
		if slices.Sort(a); !slices.Equal(a, want) {
			t.Fatalf("%v are other elements than %v", a, want)
		}
	}
}

// TestEquallyFarMembersAreTakenAsRedisTakesThem: which of several members in one place a COUNT takes shows in what GEOSEARCHSTORE stores.
func TestEquallyFarMembersAreTakenAsRedisTakesThem(t *testing.T) {
	redis := startRedis(t)
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	rng := rand.New(rand.NewPCG(3, 4))
	places := []string{"0 0", "0.001 0", "0 0.001", "1 1", "0.5 0.25"}
	for _, n := range []int{3, 6, 7, 8, 20, 40, 41, 60, 300} {
		requests := [][][]byte{bytesOf([]string{"FLUSHALL"})}
		for i := range n {
			var lon, lat string
			_, _ = fmt.Sscan(places[rng.IntN(len(places))], &lon, &lat)
			requests = append(requests, bytesOf([]string{"GEOADD", "g", lon, lat, strconv.Itoa(rng.IntN(1000)*1000 + i)}))
		}
		for range 30 {
			order := []string{"ASC", "DESC"}[rng.IntN(2)]
			requests = append(requests, bytesOf([]string{"GEOSEARCH", "g", "FROMLONLAT", "0", "0", "BYRADIUS", "500", "km", order,
				"COUNT", strconv.Itoa(1 + rng.IntN(n+2))}))
		}
		replies, err := redis.Pipeline(requests)
		if err != nil {
			t.Fatal(err)
		}
		for i, args := range requests {
			if got := h.exec(self, args); string(got) != string(replies[i]) {
				t.Fatalf("%d members, %q:\n%q, redis-server says\n%q", n, args, got, replies[i])
			}
		}
	}
}
