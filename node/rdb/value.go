package rdb

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// content reads a value behind its type and key.
func (r *Reader) content(kind byte) (err error) {
	switch kind {
	case typeString:
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		return r.sink.String(r.a)
	case typeList:
		return r.strings(r.sink.Element)
	case typeSet:
		return r.strings(r.sink.Member)
	case typeHash:
		return r.hash()
	case typeZSet, typeZSet2:
		return r.zset(kind)
	case typeListQuicklist:
		return r.repeat(func() error { return r.packed(ziplist, r.elements) })
	case typeListQuicklist2:
		return r.repeat(r.quicklistNode)
	case typeListZiplist:
		return r.packed(ziplist, r.elements)
	case typeHashZiplist:
		return r.packed(ziplist, r.fields)
	case typeZSetZiplist:
		return r.packed(ziplist, r.scored)
	case typeHashListpack:
		return r.packed(listpack, r.fields)
	case typeZSetListpack:
		return r.packed(listpack, r.scored)
	case typeSetListpack:
		return r.packed(listpack, r.members)
	case typeSetIntset:
		if r.keep, err = r.s.string(r.keep[:0]); err != nil {
			return err
		}
		return eachInt(r.keep, r.sink.Member)
	}
	return r.stream(kind)
}

// repeat runs fn as often as the length says that comes next. Each run reads at least a byte, or fails.
func (r *Reader) repeat(fn func() error) error {
	n, err := r.s.count()
	for ; err == nil && n > 0; n-- {
		err = fn()
	}
	return err
}

func (r *Reader) strings(take func([]byte) error) error {
	return r.repeat(func() (err error) {
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		return take(r.a)
	})
}

func (r *Reader) hash() error {
	return r.repeat(func() (err error) {
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		if r.b, err = r.s.string(r.b[:0]); err != nil {
			return err
		}
		return r.sink.Field(r.a, r.b)
	})
}

func (r *Reader) zset(kind byte) error {
	return r.repeat(func() (err error) {
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		var score float64
		if kind == typeZSet2 {
			var bits uint64
			bits, err = r.s.uint64()
			score = math.Float64frombits(bits)
		} else {
			score, err = r.decimalScore()
		}
		if err != nil {
			return err
		}
		return r.score(r.a, score)
	})
}

var errNaN = errors.New("a score is not a number")

func (r *Reader) score(member []byte, score float64) error {
	if math.IsNaN(score) {
		return errNaN
	}
	return r.sink.Scored(member, score)
}

// decimalScore reads the score of Redis before 4.0: a length and digits, or one of three lengths that say all.
func (r *Reader) decimalScore() (float64, error) {
	n, err := r.s.byte()
	if err != nil {
		return 0, err
	}
	switch n {
	case 253:
		return math.NaN(), nil
	case 254:
		return math.Inf(1), nil
	case 255:
		return math.Inf(-1), nil
	}
	if r.b, err = r.s.bytes(r.b[:0], uint64(n)); err != nil {
		return 0, err
	}
	return parseScore(r.b)
}

func parseScore(b []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is no score", b)
	}
	return f, nil
}

// packed reads a container and hands its elements on.
func (r *Reader) packed(open func([]byte) (*packed, error), take func(*packed) error) (err error) {
	if r.keep, err = r.s.string(r.keep[:0]); err != nil {
		return err
	}
	p, err := open(r.keep)
	if err != nil {
		return err
	}
	return take(p)
}

func (r *Reader) elements(p *packed) error { return r.each(p, r.sink.Element) }
func (r *Reader) members(p *packed) error  { return r.each(p, r.sink.Member) }

func (r *Reader) each(p *packed, take func([]byte) error) error {
	for {
		e, err := p.element()
		if e == nil || err != nil {
			return err
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

func (r *Reader) fields(p *packed) error {
	return r.each(p, func(field []byte) error {
		r.a = append(r.a[:0], field...) // a number's digits are p's
		value, err := p.more()
		if err != nil {
			return err
		}
		return r.sink.Field(r.a, value)
	})
}

func (r *Reader) scored(p *packed) error {
	return r.each(p, func(member []byte) error {
		r.a = append(r.a[:0], member...)
		digits, err := p.more()
		if err != nil {
			return err
		}
		score, err := parseScore(digits)
		if err != nil {
			return err
		}
		return r.score(r.a, score)
	})
}

// Nodes of a quicklist2 hold one large element, or a listpack.
const (
	nodePlain  = 1
	nodePacked = 2
)

func (r *Reader) quicklistNode() error {
	kind, err := r.s.count()
	if err != nil {
		return err
	}
	switch kind {
	case nodePlain:
		if r.a, err = r.s.string(r.a[:0]); err != nil {
			return err
		}
		return r.sink.Element(r.a)
	case nodePacked:
		return r.packed(listpack, r.elements)
	}
	return fmt.Errorf("unknown kind %d of a quicklist's node", kind)
}
