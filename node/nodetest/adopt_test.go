package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hypercache/node/rdb"
)

// TestALoneNodeServesWhatRedisLeftAndHandsItOn starts a node on a dump.rdb; the keys stay over a restart, and a second node
// gets them.
func TestALoneNodeServesWhatRedisLeftAndHandsItOn(t *testing.T) {
	c := Start(t, 1, pair)
	first := c.Nodes()[0]
	first.Stop()
	dir := first.Config.Persistence.DataDir
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	w := rdb.NewWriter(f)
	keys := make([]string, 2000)
	at := time.Now().Add(time.Hour).UnixMilli()
	err = w.SelectDB(0, uint64(len(keys)), 1)
	for i := range keys {
		keys[i] = fmt.Sprintf("k-%d", i)
		err = errors.Join(err, w.Entry([]byte(keys[i]), 0, rdb.AppendString(nil, []byte(value(keys[i])))))
	}
	err = errors.Join(err, w.Entry([]byte("mortal"), at, rdb.AppendString(nil, []byte("x"))), w.Close(), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	first.Start()
	first.AwaitReady()
	first.Holds(keys)
	keys = append(keys, first.Fill("after", 200)...)
	first.Stop()
	first.Start()
	first.AwaitReady()
	first.Holds(keys)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	if got, err := first.Client().PExpireTime(ctx, "mortal").Result(); err != nil || got.Milliseconds() != at {
		t.Errorf("expires at %d, %v, want %d", got.Milliseconds(), err, at)
	}
	second := c.Add()
	second.AwaitReady()
	c.AwaitSettled(first, 2)
	second.Holds(keys)
	second.AwaitKeys(len(keys) + 1)
}
