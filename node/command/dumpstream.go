package command

import (
	"errors"

	"hypercache/node/rdb"
	"hypercache/node/store"
)

// Streams in DUMP, RESTORE, import and export pass through here: one function for each direction, between the handle of
// node/store and the neutral form of node/rdb.

var errStreamForm = errors.New("streams cannot be dumped or restored yet")

// streamValue is the stream of r in neutral form.
func streamValue(store.Ref) (*rdb.StreamValue, error) { return nil, errStreamForm }

// putStream stores a stream under key, in place of whatever is there and without an expiry.
func putStream(*store.Shard, []byte, *rdb.StreamValue) error { return errStreamForm }
