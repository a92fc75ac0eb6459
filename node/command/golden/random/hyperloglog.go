package random

import (
	"strconv"
	"strings"
)

// PFCOUNT of one key is not among these: Redis writes what it counted into the value. Values that may be corrupt, as SETRANGE
// makes them, get one element at a time: Redis keeps those that it added before the error.
var _ = add(`
PFADD K HE
PFADD {k}hll3 HE HE HE HE HE HE
PFMERGE K {k}hll3
PFMERGE {k}hll3 K
GET {k}hll3
PFADD K
PFCOUNT K K
PFCOUNT K K K
PFMERGE K K
PFMERGE K K K
PFMERGE K
PFDEBUG (ENCODING|DECODE|foo) K
PFDEBUG (TODENSE|ENCODING) K
SET ZH HV
PFADD ZH HE
GET ZH
PFCOUNT K ZH
PFMERGE K ZH
PFMERGE ZH K
PFDEBUG (TODENSE|ENCODING|DECODE) ZH
PFADD K HE
PFADD {k}hll3 HE HE
`, map[string][]string{
	"HE": hllElements(),
	"ZH": {"{k}hll1", "{k}hll2"},
	"HV": {"HYLL", "HYLL\x01" + strings.Repeat("\x00", 11), "HYLL\x01" + strings.Repeat("\x00", 10) + "\x80\x7f\xff",
		"HYLL\x01" + strings.Repeat("\x00", 10) + "\x80\x7f\xfe", "HYLL\x02" + strings.Repeat("\x00", 20),
		"HYLL\x00" + strings.Repeat("\x00", 11), "HYLL\x01" + strings.Repeat("\x00", 10) + "\x80\x40\x01\x90\x7f\xfa\x80\x81",
		"HYLL\x01" + strings.Repeat("\x00", 10) + "\x80\x83\x83\x87\x83\x83\x7f\xeb"},
})

func hllElements() (words []string) {
	for i := range 60 {
		words = append(words, strconv.Itoa(i))
	}
	return append(words, "", "\x00", strings.Repeat("x", 100))
}
