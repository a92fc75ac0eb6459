package command

import "math"

// A position is the score of a sorted set: 26 bits each of longitude and latitude, interleaved, so that what is near is
// mostly near in score. A cell is the prefix of such a score: all positions that share step bits of each.

const (
	geoSteps  = 26
	geoLonMax = 180
	geoLatMax = 85.05112878 // the square map of Web Mercator
)

// position is a longitude and a latitude in degrees.
type position struct{ lon, lat float64 }

func (p position) valid() bool {
	return p.lon >= -geoLonMax && p.lon <= geoLonMax && p.lat >= -geoLatMax && p.lat <= geoLatMax
}

// cell is a prefix of step bits of longitude and of latitude, the latter in the even bits. Step 0 is no cell.
type cell struct {
	bits uint64
	step uint8
}

const (
	lonBits = 0xaaaaaaaaaaaaaaaa
	latBits = 0x5555555555555555
)

// spread puts the bits of x at the even places.
func spread(x uint32) uint64 {
	v := uint64(x)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
	v = (v | v<<2) & 0x3333333333333333
	return (v | v<<1) & latBits
}

// gather is the reverse of spread.
func gather(v uint64) uint32 {
	v &= latBits
	v = (v | v>>1) & 0x3333333333333333
	v = (v | v>>2) & 0x0f0f0f0f0f0f0f0f
	v = (v | v>>4) & 0x00ff00ff00ff00ff
	v = (v | v>>8) & 0x0000ffff0000ffff
	return uint32(v | v>>16)
}

// cellOf is the cell of a position on a map that ends at lat degrees north and south.
func cellOf(p position, lat float64, step uint8) cell {
	scale := float64(uint64(1) << step)
	y := (p.lat + lat) / (2 * lat) * scale
	x := (p.lon + geoLonMax) / (2 * geoLonMax) * scale
	return cell{spread(uint32(y)) | spread(uint32(x))<<1, step}
}

// area is the ground that a cell covers.
type area struct{ min, max position }

func (c cell) area() area {
	x, y := gather(c.bits>>1), gather(c.bits)
	scale := float64(uint64(1) << c.step)
	at := func(n uint32, size float64) float64 { return -size + float64(float64(n)/scale*(2*size)) }
	return area{
		position{at(x, geoLonMax), at(y, geoLatMax)},
		position{at(x+1, geoLonMax), at(y+1, geoLatMax)},
	}
}

func (a area) center() position {
	return position{
		min(max((a.min.lon+a.max.lon)/2, -geoLonMax), geoLonMax),
		min(max((a.min.lat+a.max.lat)/2, -geoLatMax), geoLatMax),
	}
}

// geoScore is the score of a position.
func geoScore(p position) uint64 { return cellOf(p, geoLatMax, geoSteps).bits }

// positionOf is the position that a score stands for. A score that is none stands for what x86 makes of it.
func positionOf(score float64) position { return cell{scoreBits(score), geoSteps}.area().center() }

func scoreBits(score float64) uint64 {
	const top = 1 << 63
	switch {
	case score >= 2*top:
		return 0
	case score >= top:
		return uint64(score-top) + top
	case score < -top:
		return top
	}
	return uint64(int64(score))
}

// moved is the cell some cells to the east and north; the map has no edges. The very last position of an axis is a cell
// behind the last one, which only a move takes back.
func (c cell) moved(east, north int) cell {
	x, y := gather(c.bits>>1), gather(c.bits)
	mask := uint32(1)<<c.step - 1
	if east != 0 {
		x = (x + uint32(east)) & mask
	}
	if north != 0 {
		y = (y + uint32(north)) & mask
	}
	return cell{spread(y) | spread(x)<<1, c.step}
}

// scores are the scores of the positions in the cell: min and what is above the last.
func (c cell) scores() scoreRange {
	shift := 2 * (geoSteps - c.step)
	return scoreRange{min: float64(c.bits << shift), max: float64((c.bits + 1) << shift), maxEx: true}
}

// geoShape is a circle, or a box along the meridians.
type geoShape struct {
	center                position
	box                   bool
	radius, width, height float64 // in the unit
	unit                  float64 // meters
}

const (
	earthRadius = 6372797.560856 // meters
	mercatorMax = 20037726.37
	radians     = math.Pi / 180
)

// bounds are the degrees that the shape spans.
func (s *geoShape) bounds() area {
	w, h := s.unit*s.radius, s.unit*s.radius
	if s.box {
		w, h = s.unit*(s.width/2), s.unit*(s.height/2)
	}
	lat := h / earthRadius / radians
	// The side nearer to the pole is the wider one in degrees; Redis takes the north's for both in the north.
	side := s.center.lat + lat
	if s.center.lat < 0 {
		side = s.center.lat - lat
	}
	lon := w / earthRadius / math.Cos(side*radians) / radians
	return area{position{s.center.lon - lon, s.center.lat - lat}, position{s.center.lon + lon, s.center.lat + lat}}
}

// reach is the distance from the center to the farthest point.
func (s *geoShape) reach() float64 {
	if !s.box {
		return s.radius * s.unit
	}
	return math.Sqrt((s.width/2)*(s.width/2)+(s.height/2)*(s.height/2)) * s.unit
}

// stepFor is the step of cells so large that nine of them cover a circle.
func stepFor(meters, lat float64) uint8 {
	if meters == 0 {
		return geoSteps
	}
	step := -1
	for ; meters < mercatorMax; meters *= 2 {
		step++
	}
	lat = math.Abs(lat)
	if lat > 66 {
		step--
	}
	if lat > 80 {
		step--
	}
	return uint8(min(max(step, 1), geoSteps))
}

// neighbors are the places of the cells around one, in the order of their search.
var neighbors = [...]struct{ east, north int }{{0, 0}, {0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, 1}, {1, -1}, {-1, -1}}

// cells are the cells that hold everything within the shape.
func (s *geoShape) cells() []cell {
	bounds := s.bounds()
	step := stepFor(s.reach(), s.center.lat)
	middle := cellOf(s.center, geoLatMax, step)
	if step > 1 && !covers(middle, bounds) {
		step--
		middle = cellOf(s.center, geoLatMax, step)
	}
	own := middle.area()
	var all []cell
	for i, n := range neighbors {
		// A neighbor is of no use where the middle reaches farther than the shape.
		if step >= 2 && (n.north < 0 && own.min.lat < bounds.min.lat || n.north > 0 && own.max.lat > bounds.max.lat ||
			n.east < 0 && own.min.lon < bounds.min.lon || n.east > 0 && own.max.lon > bounds.max.lon) {
			continue
		}
		next := middle.moved(n.east, n.north)
		if i > 0 && len(all) > 1 && all[len(all)-1] == next {
			continue // large cells are their own neighbors' neighbors
		}
		all = append(all, next)
	}
	return all
}

// covers reports whether a cell and its neighbors reach as far as the bounds.
func covers(middle cell, bounds area) bool {
	return middle.moved(0, 1).area().max.lat >= bounds.max.lat && middle.moved(0, -1).area().min.lat <= bounds.min.lat &&
		middle.moved(1, 0).area().max.lon >= bounds.max.lon && middle.moved(-1, 0).area().min.lon <= bounds.min.lon
}
