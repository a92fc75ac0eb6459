package nodetest

import (
	"context"
	"fmt"
	"testing"
)

func TestEveryNodeAnswersForEveryKey(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for i, n := range c.Nodes() {
		r := n.Client()
		for j := range 50 {
			key := fmt.Sprintf("k%d-%d", i, j)
			if err := r.Set(ctx, key, key, 0).Err(); err != nil {
				t.Fatalf("SET through %s: %v", n.ID, err)
			}
		}
	}
	for _, n := range c.Nodes() {
		r := n.Client()
		for i := range 3 {
			for j := range 50 {
				key := fmt.Sprintf("k%d-%d", i, j)
				if v, err := r.Get(ctx, key).Result(); err != nil || v != key {
					t.Fatalf("GET %s through %s: %q, %v", key, n.ID, v, err)
				}
			}
		}
		if n, err := r.DBSize(ctx).Result(); err != nil || n != 150 {
			t.Fatalf("DBSIZE: %d, %v", n, err)
		}
	}
}
