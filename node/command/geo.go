package command

import (
	"slices"
	"strconv"
	"strings"

	"hypercache/node/store"
)

func geoCommands() []binding {
	return []binding{
		{name: "geoadd", scope: ScopeKey, run: runGeoAdd},
		{name: "geodist", scope: ScopeKey, run: runGeoDist},
		{name: "geohash", scope: ScopeKey, run: runGeoHash},
		{name: "geopos", scope: ScopeKey, run: runGeoPos},
		{name: "georadius", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 6, may: geoMayStore}) }, keys: geoKeys(6)},
		{name: "georadius_ro", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 6}) }},
		{name: "georadiusbymember", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 5, may: geoMayStore}) }, keys: geoKeys(5)},
		{name: "georadiusbymember_ro", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 5}) }},
		{name: "geosearch", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 2, may: geoMayShape}) }},
		{name: "geosearchstore", scope: ScopeKey, run: func(c *Ctx) { c.geoSearch(&geoQuery{first: 3, may: geoMayShape | geoMayDist}) }},
	}
}

// geoKeys finds the key of GEORADIUS and those of its options STORE and STOREDIST, which come from place first on.
func geoKeys(first int) func(args [][]byte, dst []int) []int {
	return func(args [][]byte, dst []int) []int {
		dst = append(dst, 1)
		for i := first; i+1 < len(args); i++ {
			if option(args[i], "store") || option(args[i], "storedist") {
				i++
				dst = append(dst, i)
			}
		}
		return dst
	}
}

// parsePosition reads the longitude and latitude at places i and i+1.
func (c *Ctx) parsePosition(i int) (p position, ok bool) {
	if p.lon, ok = parseDouble(c.Args[i]); ok {
		p.lat, ok = parseDouble(c.Args[i+1])
	}
	if !ok {
		c.W.Error(errNotFloat)
		return p, false
	}
	if !p.valid() {
		c.W.Error("ERR invalid longitude,latitude pair " + fixed(p.lon) + "," + fixed(p.lat))
		return p, false
	}
	return p, true
}

// fixed is a number as C prints it with %f.
func fixed(f float64) string {
	return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'f', 6, 64), "+"))
}

var geoUnits = map[string]float64{"m": 1, "km": 1000, "ft": 0.3048, "mi": 1609.34}

func (c *Ctx) parseUnit(arg []byte) (meters float64, ok bool) {
	meters, ok = geoUnits[strings.ToLower(cstring(arg, len(arg)))]
	if !ok {
		c.W.Error("ERR unsupported unit provided. please use M, KM, FT, MI")
	}
	return meters, ok
}

// runGeoAdd is ZADD with the positions as scores.
func runGeoAdd(c *Ctx) {
	args := c.Args
	flags, first := zaddFlags(0), 2
	for ; first < len(args); first++ {
		f := zaddOption(args[first])
		if f&(zaddNX|zaddXX|zaddCH) == 0 {
			break
		}
		flags |= f
	}
	both := flags&zaddNX != 0 && flags&zaddXX != 0
	if n := len(args) - first; n == 0 || n%3 != 0 || both {
		c.W.Error(errSyntax)
		return
	}
	words := slices.Clone(args[:first])
	for i := first; i < len(args); i += 3 {
		p, ok := c.parsePosition(i)
		if !ok {
			return
		}
		words = append(words, strconv.AppendUint(nil, geoScore(p), 10), args[i+2])
	}
	c.Args = words
	c.zadd(0)
	c.Args = args
}

func runGeoDist(c *Ctx) {
	unit := 1.0
	switch {
	case len(c.Args) == 5:
		var ok bool
		if unit, ok = c.parseUnit(c.Args[4]); !ok {
			return
		}
	case len(c.Args) > 5:
		c.W.Error(errSyntax)
		return
	}
	z, ok := c.readZSet(c.Args[1], c.replyNull)
	if !ok {
		return
	}
	a, okA := z.Score(c.Args[2])
	b, okB := z.Score(c.Args[3])
	if !okA || !okB {
		c.W.Null()
		return
	}
	c.replyDistance(geoDistance(positionOf(a), positionOf(b)) / unit)
}

func (c *Ctx) replyDistance(d float64) { c.W.Bulk(strconv.AppendFloat(c.scratch[:0], d, 'f', 4, 64)) }

// replyPosition writes the coordinates with up to 17 digits behind the point.
func (c *Ctx) replyPosition(p position) {
	c.W.Array(2)
	for _, f := range []float64{p.lon, p.lat} {
		text := strings.TrimRight(strconv.FormatFloat(f, 'f', 17, 64), "0")
		text = strings.TrimSuffix(text, ".")
		if text == "-0" {
			text = "0"
		}
		if c.W.Proto == 3 {
			c.W.Raw([]byte("," + text + "\r\n"))
			continue
		}
		c.W.BulkString(text)
	}
}

// eachPosition writes an array with an element for every member in the request: by found, or by absent.
func (c *Ctx) eachPosition(found func(position), absent func()) {
	r, ok := c.findRead(c.Args[1])
	if ok && r.Type() != store.ZSet {
		c.W.Error(errWrongType)
		return
	}
	c.W.Array(len(c.Args) - 2)
	var z store.SortedSet
	if ok {
		z = r.SortedSet()
	}
	for _, member := range c.Args[2:] {
		score, has := 0.0, false
		if ok {
			score, has = z.Score(member)
		}
		if !has {
			absent()
			continue
		}
		found(positionOf(score))
	}
}

func runGeoPos(c *Ctx) { c.eachPosition(c.replyPosition, c.W.NullArray) }

const geoAlphabet = "0123456789bcdefghjkmnpqrstuvwxyz"

// runGeoHash replies with geohashes as others know them, of a map that reaches to the poles. They have 11 letters, the last
// of which would take more bits than there are.
func runGeoHash(c *Ctx) {
	c.eachPosition(func(p position) {
		bits := cellOf(p, 90, geoSteps).bits
		var text [11]byte
		for i := range 10 {
			text[i] = geoAlphabet[bits>>(52-5*(i+1))&31]
		}
		text[10] = geoAlphabet[0]
		c.W.Bulk(text[:])
	}, c.replyNull)
}

// geoMay says which options a command of the GEORADIUS and GEOSEARCH families has beyond those of all.
type geoMay uint8

const (
	geoMayStore geoMay = 1 << iota // STORE key, STOREDIST key
	geoMayShape                    // FROMMEMBER, FROMLONLAT, BYRADIUS, BYBOX
	geoMayDist                     // GEOSEARCHSTORE's STOREDIST
)

// geoQuery is a parsed search.
type geoQuery struct {
	first int // place of the first option
	may   geoMay

	shape                          geoShape
	fromMember, fromPlace          bool
	byRadius, byBox                bool
	withDist, withHash, withCoord  bool
	any, sorted, descending, dists bool
	count                          int64
	target                         []byte // key to store the result under, nil to reply with it
}

// geoSearch is GEORADIUS, GEORADIUSBYMEMBER, GEOSEARCH and their variants.
func (c *Ctx) geoSearch(q *geoQuery) {
	source := 1
	if q.may&geoMayDist != 0 {
		q.target, source = c.Args[1], 2
	}
	var z *store.SortedSet
	if r, ok := c.findRead(c.Args[source]); ok {
		if r.Type() != store.ZSet {
			c.W.Error(errWrongType)
			return
		}
		s := r.SortedSet()
		z = &s
	}
	if !c.parseGeoCenter(q, z) || !c.parseGeoOptions(q, z) || !c.checkGeoOptions(q) {
		return
	}
	var found []geoPoint
	if z != nil {
		found = q.search(z)
	}
	if q.target != nil {
		c.storeGeo(q, found)
		return
	}
	c.replyGeo(q, found)
}

// parseGeoCenter reads what GEORADIUS and GEORADIUSBYMEMBER have before their options. z is nil if there is no key.
func (c *Ctx) parseGeoCenter(q *geoQuery, z *store.SortedSet) (ok bool) {
	switch {
	case q.first == 6:
		if q.shape.center, ok = c.parsePosition(2); !ok {
			return false
		}
	case q.first == 5 && z == nil:
		return true
	case q.first == 5:
		if !c.memberPosition(q, z, c.Args[2]) {
			return false
		}
	default:
		return true
	}
	return c.parseRadius(q, q.first-2)
}

func (c *Ctx) memberPosition(q *geoQuery, z *store.SortedSet, member []byte) bool {
	score, ok := z.Score(member)
	if !ok {
		c.W.Error("ERR could not decode requested zset member")
		return false
	}
	q.shape.center = positionOf(score)
	return true
}

func (c *Ctx) parseLength(i int, name string) (f float64, ok bool) {
	if f, ok = parseDouble(c.Args[i]); !ok {
		c.W.Error("ERR need numeric " + name)
	}
	return f, ok
}

// parseRadius reads a radius and its unit at places i and i+1.
func (c *Ctx) parseRadius(q *geoQuery, i int) (ok bool) {
	if q.shape.radius, ok = c.parseLength(i, "radius"); !ok {
		return false
	}
	if q.shape.radius < 0 {
		c.W.Error("ERR radius cannot be negative")
		return false
	}
	q.shape.box = false
	q.shape.unit, ok = c.parseUnit(c.Args[i+1])
	return ok
}

// parseBox reads width, height and their unit from place i on.
func (c *Ctx) parseBox(q *geoQuery, i int) (ok bool) {
	s := &q.shape
	if s.width, ok = c.parseLength(i, "width"); !ok {
		return false
	}
	if s.height, ok = c.parseLength(i+1, "height"); !ok {
		return false
	}
	if s.height < 0 || s.width < 0 {
		c.W.Error("ERR height or width cannot be negative")
		return false
	}
	s.box = true
	s.unit, ok = c.parseUnit(c.Args[i+2])
	return ok
}

func (c *Ctx) parseGeoOptions(q *geoQuery, z *store.SortedSet) bool {
	for i := q.first; i < len(c.Args); {
		n, known := q.parseFlag(c.Args[i]), true
		if n == 0 {
			n, known = c.parseGeoOption(q, z, i)
		}
		switch {
		case !known:
			return false
		case n == 0:
			c.W.Error(errSyntax)
			return false
		}
		i += n
	}
	return true
}

// parseFlag reads an option of one word; it returns 0 for any other.
func (q *geoQuery) parseFlag(arg []byte) (words int) {
	switch {
	case option(arg, "withdist"):
		q.withDist = true
	case option(arg, "withhash"):
		q.withHash = true
	case option(arg, "withcoord"):
		q.withCoord = true
	case option(arg, "any"):
		q.any = true
	case option(arg, "asc"):
		q.sorted, q.descending = true, false
	case option(arg, "desc"):
		q.sorted, q.descending = true, true
	case q.may&geoMayDist != 0 && option(arg, "storedist"):
		q.dists = true
	default:
		return 0
	}
	return 1
}

// parseGeoOption reads an option with arguments. It returns no words where there is none, and false after an error.
func (c *Ctx) parseGeoOption(q *geoQuery, z *store.SortedSet, i int) (words int, ok bool) {
	arg, left := c.Args[i], len(c.Args)-i-1
	shape, stores := q.may&geoMayShape != 0, q.may&geoMayStore != 0
	switch {
	case left >= 1 && option(arg, "count"):
		if q.count, ok = c.intArg(i + 1); ok && q.count <= 0 {
			c.W.Error("ERR COUNT must be > 0")
			ok = false
		}
		return 2, ok
	case stores && left >= 1 && (option(arg, "store") || option(arg, "storedist")):
		q.target, q.dists = c.Args[i+1], option(arg, "storedist")
		return 2, true
	case shape && left >= 1 && !q.fromPlace && option(arg, "frommember"):
		q.fromMember = true
		return 2, z == nil || c.memberPosition(q, z, c.Args[i+1])
	case shape && left >= 2 && !q.fromMember && option(arg, "fromlonlat"):
		q.fromPlace = true
		q.shape.center, ok = c.parsePosition(i + 1)
		return 3, ok
	case shape && left >= 2 && !q.byBox && option(arg, "byradius"):
		q.byRadius = true
		return 3, c.parseRadius(q, i+1)
	case shape && left >= 3 && !q.byRadius && option(arg, "bybox"):
		q.byBox = true
		return 4, c.parseBox(q, i+1)
	}
	return 0, true
}

// checkGeoOptions refuses what does not go together.
func (c *Ctx) checkGeoOptions(q *geoQuery) bool {
	shape := q.may&geoMayShape != 0
	name := cstring(c.Args[0], len(c.Args[0]))
	switch {
	case q.target != nil && (q.withDist || q.withHash || q.withCoord):
		who := "STORE option in GEORADIUS"
		if shape {
			who = "GEOSEARCHSTORE"
		}
		c.W.Error("ERR " + who + " is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
	case shape && !q.fromMember && !q.fromPlace:
		c.W.Error("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for " + name)
	case shape && !q.byRadius && !q.byBox:
		c.W.Error("ERR exactly one of BYRADIUS and BYBOX can be specified for " + name)
	case q.any && q.count == 0:
		c.W.Error("ERR the ANY argument requires COUNT argument")
	default:
		return true
	}
	return false
}

// geoPoint is a member within the shape.
type geoPoint struct {
	scoredMember
	at   position
	dist float64 // from the center in meters, if it is asked for
}

// search finds the members within the shape, sorted and cut to the count if the query wants it.
func (q *geoQuery) search(z *store.SortedSet) []geoPoint {
	q.sorted = q.sorted || q.count != 0 && !q.any
	limit := int64(1<<63 - 1)
	if q.any {
		limit = q.count
	}
	var found []geoPoint
	for _, cell := range q.shape.cells() {
		if int64(len(found)) >= limit {
			break
		}
		found = q.searchCell(z, cell, found, limit)
	}
	cut := q.count > 0 && q.count < int64(len(found))
	switch {
	case !q.sorted:
	case cut:
		partialSort(found, int(q.count), q.compare)
	default:
		slices.SortStableFunc(found, func(a, b geoPoint) int { return q.compare(&a, &b) })
	}
	if cut {
		found = found[:q.count]
	}
	return found
}

func (q *geoQuery) compare(a, b *geoPoint) int {
	if q.descending {
		a, b = b, a
	}
	switch {
	case a.dist < b.dist:
		return -1
	case a.dist > b.dist:
		return 1
	}
	return 0
}

// searchCell appends the members of one cell that are within the shape.
func (q *geoQuery) searchCell(z *store.SortedSet, in cell, found []geoPoint, limit int64) []geoPoint {
	scores := in.scores()
	from := z.Search(func(_ []byte, score float64) bool { return scores.belowMin(score) })
	needsDist := q.sorted || q.withDist || q.dists
	z.Each(from, 1, func(member []byte, score float64) bool {
		if !scores.notAboveMax(score) {
			return false
		}
		at := positionOf(score)
		if !q.shape.contains(at) {
			return true
		}
		p := geoPoint{scoredMember: scoredMember{slices.Clone(member), score}, at: at}
		if needsDist {
			p.dist = geoDistance(q.shape.center, at)
		}
		found = append(found, p)
		return int64(len(found)) < limit
	})
	return found
}

func (c *Ctx) replyGeo(q *geoQuery, found []geoPoint) {
	words := 1
	for _, with := range []bool{q.withDist, q.withHash, q.withCoord} {
		if with {
			words++
		}
	}
	c.W.Array(len(found))
	for i := range found {
		p := &found[i]
		if words > 1 {
			c.W.Array(words)
		}
		c.W.Bulk(p.member)
		if q.withDist {
			c.replyDistance(p.dist / q.shape.unit)
		}
		if q.withHash {
			c.W.Int(int64(p.score))
		}
		if q.withCoord {
			c.replyPosition(p.at)
		}
	}
}

func (c *Ctx) storeGeo(q *geoQuery, found []geoPoint) {
	event := "georadiusstore"
	if q.may&geoMayShape != 0 {
		event = "geosearchstore"
	}
	members := make([]scoredMember, len(found))
	for i := range found {
		members[i] = found[i].scoredMember
		if q.dists {
			members[i].score = found[i].dist / q.shape.unit
		}
	}
	c.storeZSet(q.target, members, event)
}
