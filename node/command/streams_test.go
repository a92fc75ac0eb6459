package command

import (
	"fmt"
	"regexp"

	"hypercache/node/store"
)

// The grammar of streams. Times to be idle are none or longer than the test. Waiting itself cannot be compared, nor IDs of
// the clock.
var _ = addGrammar(`
XADD K xNEW V V
XADD K xNEW V V
XADD K xNEW a 1 b 2
XADD K xNEW a V b V
XADD K xNEW a V
XADD K (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND xNEW a V
XADD K NOMKSTREAM xNEW a V
XADD K (NOMKSTREAM|) (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND LIMIT xCOUNT xNEW a V
XADD K (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND xNEW a V
XADD K xNEW a
XADD K xNEW a 1 b
XLEN K
XRANGE K xID xID
XRANGE K - +
XRANGE K - + COUNT xCOUNT
XREVRANGE K xID xID
XREVRANGE K + - COUNT xCOUNT
XRANGE K xID xID (COUNT|foo) xCOUNT (COUNT|)
XDEL K xID
XDEL K xID xID xID
XTRIM K (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND
XTRIM K (MAXLEN|MAXLEN|MINID) (=|~|) xBOUND LIMIT xCOUNT
XTRIM K (MAXLEN|MINID|LIMIT|foo) (~|=|) N
XREAD STREAMS K xID
XREAD COUNT xCOUNT STREAMS K K xID xID
XREAD COUNT xCOUNT STREAMS K K xID
XREAD (GROUP|NOACK|BLOCK|COUNT) N N STREAMS K xID
XREAD BLOCK (-1|x) STREAMS K $
XGROUP CREATE K xGROUP xID (MKSTREAM|)
XGROUP CREATE K xGROUP xID (MKSTREAM|) ENTRIESREAD xCOUNT (MKSTREAM|)
XGROUP CREATE K xGROUP (0|$) MKSTREAM
XGROUP CREATE K xGROUP (0|$) MKSTREAM
XGROUP CREATE K xGROUP 0
XGROUP SETID K xGROUP xID
XGROUP SETID K xGROUP (0|$)
XGROUP SETID K xGROUP xID (ENTRIESREAD|MKSTREAM) xCOUNT
XGROUP DESTROY K xGROUP
XGROUP CREATECONSUMER K xGROUP xCONSUMER
XGROUP DELCONSUMER K xGROUP xCONSUMER
XREADGROUP GROUP xGROUP xCONSUMER STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER COUNT 1 STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER COUNT xCOUNT STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER NOACK STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER STREAMS K xID
XREADGROUP GROUP xGROUP xCONSUMER COUNT xCOUNT (NOACK|) STREAMS K K (>|0) (>|0)
XREADGROUP COUNT xCOUNT (NOACK|GROUP|) xGROUP xCONSUMER STREAMS K >
XREADGROUP GROUP xGROUP xCONSUMER STREAMS K K >
XACK K xGROUP xID
XACK K xGROUP xID xID xID
XACK K (G|g) 1-1 2-1 5-1 xID
XPENDING K xGROUP
XPENDING K xGROUP - + 10
XPENDING K xGROUP (IDLE|) xIDLE xID xID xCOUNT
XPENDING K xGROUP IDLE xIDLE - + 10 xCONSUMER
XPENDING K xGROUP xID xID xCOUNT xCONSUMER
XCLAIM K xGROUP xCONSUMER xIDLE xID
XCLAIM K xGROUP xCONSUMER xIDLE xID xID (JUSTID|FORCE|) (JUSTID|FORCE|)
XCLAIM K xGROUP xCONSUMER 0 xID FORCE TIME (1000|99|x) (RETRYCOUNT|LASTID|TIME) xCOUNT
XCLAIM K xGROUP xCONSUMER 0 1-1 2-1 5-1 5-2 FORCE TIME 1000
XCLAIM K xGROUP xCONSUMER 0 xID LASTID xID
XCLAIM K xGROUP xCONSUMER 0 xID IDLE (0|-1|x|9999999) (JUSTID|) RETRYCOUNT xCOUNT
XCLAIM K xGROUP xCONSUMER x xID foo
XAUTOCLAIM K xGROUP xCONSUMER xIDLE 0 (JUSTID|)
XAUTOCLAIM K xGROUP xCONSUMER xIDLE xID COUNT xCOUNT (JUSTID|)
XINFO STREAM K
XINFO STREAM K FULL
XINFO STREAM K (FULL|foo) (COUNT|foo) xCOUNT
XINFO STREAM K (FULL|COUNT) xCOUNT
XINFO GROUPS K
XINFO CONSUMERS K xGROUP
XSETID K xID
XSETID K xID (ENTRIESADDED|MAXDELETEDID|foo) xCOUNT
XSETID K xID ENTRIESADDED xCOUNT MAXDELETEDID xID
XINFO
XGROUP
XGROUP HELP
XINFO HELP
XGROUP foo K
`, map[string][]string{
	"xID": {"0", "1-1", "1-2", "2-1", "5-1", "5-2", "5", "2", "9", "9-1", "-", "+", "$", ">", "(1-1", "(2", "0-0", "x", "1-x", "-1-1", "",
		"5-3", "6-1", "7", "(-", "(", "(0", "18446744073709551615-18446744073709551615", "1-05", "1--05", " 1-1", "1-1 ", "+1-+1",
		"18446744073709551616-1", "1-18446744073709551616", "1-1\x00x", "-\x00", "1-1-1", "0-1", "3-18446744073709551615"},
	"xNEW": {"1-1", "1-2", "2-1", "5-1", "5-2", "5-*", "5-*", "6-*", "7-*", "8-*", "1-*", "2-*", "9", "0-0", "0-*", "x", "5-**", "*-1", "-", "x-*",
		"(5-1"},
	"xGROUP":    {"g", "g", "g", "g2", "", "g\x00\r"},
	"xCONSUMER": {"c", "c", "c2", "c3", ""},
	"xBOUND":    {"0", "1", "2", "3", "3", "5", "10", "5-1", "5-2", "9", "-1", "x", "~"},
	"xCOUNT":    {"0", "1", "2", "3", "100", "-1", "x", "10"},
	"xIDLE":     {"0", "0", "1000000", "-1", "x"},
})

var (
	clockTimes  = regexp.MustCompile(`:\d{13}\r\n`)
	idleTimes   = regexp.MustCompile(`idle\r\n:\d+\r\n`)
	pendingIdle = regexp.MustCompile(`:\d+\r\n(:\d+\r\n)`)
)

func init() {
	withoutTimes["XINFO"] = func(reply []byte) []byte {
		return idleTimes.ReplaceAll(clockTimes.ReplaceAll(reply, []byte(":T\r\n")), []byte("idle\r\n:T\r\n"))
	}
	withoutTimes["XPENDING"] = func(reply []byte) []byte { return pendingIdle.ReplaceAll(reply, []byte(":T\r\n$1")) }
}

// streamContents is a stream as text, without the times at which consumers were seen.
func streamContents(st store.Entries) (out []string) {
	out = append(out, fmt.Sprint(st.Len(), st.State(), st.First(), st.Top()))
	st.Each(store.StreamID{}, store.MaxStreamID, func(e *store.StreamEntry) bool {
		line := e.ID.String()
		e.Each(func(field, value []byte) { line += fmt.Sprintf(" %q %q", field, value) })
		out = append(out, line)
		return true
	})
	for _, g := range st.Groups() {
		out = append(out, fmt.Sprintf("group %q %v %d", g.Name(), g.Last, g.Read))
		eachDelivery(g, nil, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
			out = append(out, fmt.Sprintf("%v %q %d %d", d.ID, d.Consumer.Name(), d.Time, d.Count))
			return true
		})
		for _, c := range g.Consumers() {
			out = append(out, fmt.Sprintf("consumer %q %d", c.Name(), c.Pending()))
		}
	}
	return out
}
