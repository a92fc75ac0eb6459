package random

import "hypercache/node/command/golden"

var _ = add(`
HSET K FI V
HSET K FI V FI V
HSET K FI V FI
HSET K FI N FI V FI V FI V
HMSET K FI V FI V
HMSET K FI V FI
HSETNX K FI V
HGET K FI
HMGET K FI FI FI
HGETALL K
HKEYS K
HVALS K
HLEN K
HSTRLEN K FI
HEXISTS K FI
HDEL K FI
HDEL K FI FI FI
HDEL K a b 1 FI FI
HINCRBY K FI V
HINCRBY K FI N
HINCRBYFLOAT K FI V
HINCRBYFLOAT K FI N
HRANDFIELD K (0|100|999999999999)
HRANDFIELD K (0|100|-9223372036854775808|x) (WITHVALUES|foo)
HRANDFIELD K 100 WITHVALUES WITHVALUES
HRANDFIELD K 9223372036854775807 WITHVALUES
HSCAN K 0 COUNT 500
HSCAN K (0|x) MATCH P COUNT 1000
HSCAN K 0 (COUNT|MATCH|TYPE|) (1000|string|0|x|) COUNT 1000
SCAN 0 COUNT 1000 TYPE (string|hash|set|list|zset|stream|foo)
`, map[string][]string{"FI": {"a", "b", "c", "", "1", "007", "\x00\xff", "a long field, longer than 64 bytes, so that Redis needs a hash table for it"}})

func init() {
	for _, name := range []string{"HKEYS", "HVALS", "HRANDFIELD"} {
		compareAs[name] = golden.Unordered
	}
}
