package command

import "math"

// geoDistance is the length of the great circle between two positions in meters, by the haversine formula. Its steps and
// their rounding are those of Redis; so that the last digits agree as well, the trigonometric functions are rounded
// correctly, as nearly all results of a C library are. About one distance in a thousand still differs from Redis' by the last
// of 17 digits, which only STOREDIST shows.
func geoDistance(a, b position) float64 {
	return haversine(a, b, exactSin, exactCos, exactAsin)
}

// roughDistance is geoDistance with the last digits unknown, and much faster.
func roughDistance(a, b position) float64 { return haversine(a, b, math.Sin, math.Cos, math.Asin) }

func haversine(a, b position, sin, cos, asin func(float64) float64) float64 {
	lat1, lat2 := a.lat*radians, b.lat*radians
	lon1, lon2 := a.lon*radians, b.lon*radians
	u := sin((lat2 - lat1) / 2)
	v := sin((lon2 - lon1) / 2)
	// The conversions keep compilers from fusing a product with the sum.
	h := float64(u*u) + float64(float64(float64(cos(lat1)*cos(lat2))*v)*v)
	return 2 * earthRadius * asin(min(math.Sqrt(h), 1))
}

// roughly widens a limit by more than roughDistance can be wrong, which is worst between antipodes.
func roughly(limit float64) float64 { return limit*(1+1e-6) + 1 }

// contains reports whether a position lies within the shape.
func (s *geoShape) contains(p position) bool {
	if !s.box {
		return within(s.center, p, s.radius*s.unit)
	}
	return within(p, position{s.center.lon, p.lat}, s.width*s.unit/2) &&
		within(p, position{p.lon, s.center.lat}, s.height*s.unit/2)
}

func within(a, b position, limit float64) bool {
	return roughDistance(a, b) <= roughly(limit) && geoDistance(a, b) <= limit
}

// double2 is a number as the sum of two, of which lo is less than half a digit of hi: 106 bits.
type double2 struct{ hi, lo float64 }

func sum2(a, b float64) double2 {
	s := a + b
	t := s - a
	return double2{s, (a - (s - t)) + (b - t)}
}

func (a double2) plus(b double2) double2 {
	s := sum2(a.hi, b.hi)
	s.lo += a.lo + b.lo
	return sum2(s.hi, s.lo)
}

func product2(a, b float64) double2 {
	p := a * b
	return double2{p, math.FMA(a, b, -p)}
}

func (a double2) times(b double2) double2 {
	p := product2(a.hi, b.hi)
	p.lo += float64(a.hi*b.lo) + float64(a.lo*b.hi)
	return sum2(p.hi, p.lo)
}

func (a double2) over(n float64) double2 {
	q := a.hi / n
	p := product2(q, n)
	return sum2(q, ((a.hi-p.hi)-p.lo+a.lo)/n)
}

// series is the Taylor series of sine (first = x, n = 1) or cosine (first = 1, n = 0) for |x| up to pi.
func series(x float64, first double2, n float64) double2 {
	square := product2(x, x)
	sum, term := first, first
	for ; math.Abs(term.hi) > math.Abs(sum.hi)*1e-33 && n < 80; n += 2 {
		term = term.times(square).over(-(n + 1) * (n + 2))
		sum = sum.plus(term)
	}
	return sum
}

func sin2(x float64) double2 { return series(x, double2{hi: x}, 1) }
func cos2(x float64) double2 { return series(x, double2{hi: 1}, 0) }

func exactSin(x float64) float64 { return sin2(x).hi }
func exactCos(x float64) float64 { return cos2(x).hi }

// exactAsin corrects the library's result by two of Newton's steps.
func exactAsin(x float64) float64 {
	if x == 0 || x >= 1 {
		return math.Asin(x)
	}
	y := double2{hi: math.Asin(x)}
	for range 2 {
		s := sin2(y.hi)
		y = sum2(y.hi, ((x-s.hi)-s.lo)/math.Cos(y.hi))
	}
	return y.hi
}
