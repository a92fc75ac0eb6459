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
	} {
		all = append(all, seal(v.Append(nil)))
	}
	damaged := []byte(all[0])
	damaged[3] ^= 1
	return append(all, string(damaged), "", "x", seal(nil), seal([]byte{0}), seal([]byte{99, 1, 'a'}), seal([]byte{1, 0}))
}
