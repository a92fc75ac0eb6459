package random

import (
	"bytes"

	"hypercache/node/rdb"
)

var _ = add(`
RESTORE K (0|99999999999999|1|1000|-1|x|9223372036854775807) (PAYLOAD) (REPLACE|) (ABSTTL|)
RESTORE K (0|99999999999999|88888888888888) PAYLOAD (REPLACE|REPLACE|) ABSTTL (REPLACE|foo|)
RESTORE K 0 PAYLOAD (REPLACE|) IDLETIME (0|1|1000|-1|x|9223372036854775807) (FREQ|IDLETIME|REPLACE|) (1|REPLACE|)
RESTORE K 0 PAYLOAD (REPLACE|) FREQ (0|1|255|256|-1|x) (FREQ|IDLETIME|REPLACE|) (1|REPLACE|)
RESTORE K 0 PAYLOAD
RESTORE K 1 PAYLOAD ABSTTL REPLACE
RESTORE-ASKING K 0 PAYLOAD (REPLACE|)
DUMP {k}none
`, map[string][]string{"PAYLOAD": Payloads()})

// Payloads are values of every type as Payloads, and what is none.
func Payloads() []string {
	words := func(s string) (items [][]byte) { return bytes.Fields([]byte(s)) }
	seal := func(b []byte) string { return string(rdb.Seal(b, 0)) }
	var all []string
	for _, v := range []rdb.Value{
		{Type: rdb.String, Items: words("restored")},
		{Type: rdb.String, Items: words("12345")},
		{Type: rdb.List, Items: words("a b 1 -7 c")},
		{Type: rdb.Set, Items: words("1 2 3")},
		{Type: rdb.Set, Items: words("a 2 3")},
		{Type: rdb.Hash, Items: words("f v g 1")},
		{Type: rdb.ZSet, Items: words("m n"), Scores: []float64{1, 2.5}},
		{Type: rdb.Set, Items: words("a a")}, // not unique
		{Type: rdb.Set},                      // empty
		{Type: rdb.Stream, Stream: &rdb.StreamValue{}},
		{Type: rdb.Stream, Stream: &rdb.StreamValue{
			Entries: []rdb.StreamEntry{{ID: rdb.StreamID{Ms: 1, Seq: 1}, Fields: words("a 1")}, {ID: rdb.StreamID{Ms: 5, Seq: 1}, Fields: words("b 2")}},
			State:   rdb.StreamState{LastID: rdb.StreamID{Ms: 5, Seq: 2}, FirstID: rdb.StreamID{Ms: 1, Seq: 1}, MaxDeleted: rdb.StreamID{Ms: 5}, Added: 7},
			Groups: []rdb.StreamGroup{{Name: []byte("g"), LastID: rdb.StreamID{Ms: 5}, Read: rdb.EntriesReadUnknown,
				Consumers: []rdb.StreamConsumer{{Name: []byte("c"), SeenAt: 1700000000000}, {Name: []byte("c2"), SeenAt: 1700000000001}},
				Pending: []rdb.StreamPending{{ID: rdb.StreamID{Ms: 1, Seq: 1}, Consumer: 1, DeliveredAt: 1000, Deliveries: 3},
					{ID: rdb.StreamID{Ms: 2, Seq: 1}, DeliveredAt: 1000, Deliveries: 1}}}, {Name: []byte("g2"), Read: 2}},
		}},
	} {
		all = append(all, seal(v.Append(nil)))
	}
	damaged := []byte(all[0])
	damaged[3] ^= 1
	return append(all, string(damaged), "", "x", seal(nil), seal([]byte{0}), seal([]byte{99, 1, 'a'}), seal([]byte{1, 0}))
}
