package random

import "hypercache/node/command/golden"

var _ = add(`
SADD K NU NU NU
SADD K NU NU
SREM K a b c ME
SORT K
SORT K (DESC|ASC) LIMIT (0|1|-5|100|x) (0|1|2|-1|100)
SORT K LIMIT 1 2 (DESC|) GET # GET {k}* GET {k}*->a
SORT K BY {k}* (DESC|ASC|)
SORT K BY {k}*->a GET # GET {k}*->b LIMIT 0 3
SORT K BY {k}*->a DESC
SORT K (GET|BY|LIMIT|foo) {k}*
SORT K GET nostar GET # GET {k}*->
SORT_RO K (DESC|)
SORT_RO K ALPHA (DESC|)
SORT_RO K BY nosort (ALPHA|) (DESC|)
SORT_RO K BY nosort GET # GET {k}*
SORT_RO K (STORE|GET|foo) {k}1
`, map[string][]string{"NU": {"1", "2", "3", "10", "-1", "1.5", "1e3", "0x10", " 5", "inf", "-inf", "+7", ".5", "-0", ""}})

func init() { compareAs["SORT_RO"] = golden.Unordered }

var _ = add(`
SORT K ALPHA (DESC|) STORE K
SORT K (DESC|) LIMIT 0 N GET # GET {k}* STORE K
SORT K BY nosort STORE K
SORT K BY {k}*->a STORE K
SORT K ALPHA STORE K LIMIT 0 0
SORT K BY nosort LIMIT 1 1 STORE K
`, nil)
