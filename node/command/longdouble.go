package command

import (
	"math/big"
	"strconv"
	"strings"
)

// Redis adds with the 80-bit long double of x86: 64 bits of mantissa, rounded to nearest even. big.Float with this
// precision gives the same sums.
const longDoublePrec = 64

// maxLongDoubleExp bounds exponents: beyond it lies the long double's infinity. minLongDoubleExp is that of the least
// subnormal.
const (
	maxLongDoubleExp = 16384
	minLongDoubleExp = -16445
)

// addLongDouble is INCRBYFLOAT's arithmetic: the sum of two numbers in text, as Redis prints it, or its error.
func addLongDouble(a, b []byte) (sum []byte, errText string) {
	x, okX := parseLongDouble(a)
	y, okY := parseLongDouble(b)
	if !okX || !okY {
		return nil, errNotFloat
	}
	const tooFar = "ERR increment would produce NaN or Infinity"
	if x.IsInf() || y.IsInf() {
		return nil, tooFar
	}
	z := new(big.Float).SetPrec(longDoublePrec).Add(x, y)
	if z.MantExp(nil) > maxLongDoubleExp {
		return nil, tooFar
	}
	s := strings.TrimRight(z.Text('f', 17), "0")
	s = strings.TrimSuffix(s, ".")
	if s == "-0" {
		s = "0"
	}
	return []byte(s), ""
}

// maxLongDoubleChars is the length from which on Redis refuses to read a number.
const maxLongDoubleChars = 5 * 1024

// parseLongDouble reads what strtold reads: decimal and hexadecimal numbers and infinities, without blanks.
func parseLongDouble(b []byte) (*big.Float, bool) {
	if len(b) == 0 || len(b) >= maxLongDoubleChars {
		return nil, false
	}
	s := strings.ToLower(string(b))
	neg := false
	if s[0] == '+' || s[0] == '-' {
		neg = s[0] == '-'
		s = s[1:]
	}
	if s == "inf" || s == "infinity" {
		return new(big.Float).SetInf(neg), true
	}
	mantissa, exp, base, ok := splitFloat(s)
	if !ok {
		return nil, false
	}
	f, ok := scaleFloat(mantissa, exp, base)
	if !ok {
		return nil, false
	}
	if neg {
		f.Neg(f)
	}
	return f, true
}

// splitFloat takes a number apart into an integer of digits and the exponent that scales it, of 10 or (for base 16) 2.
func splitFloat(s string) (digits string, exp, base int, ok bool) {
	base, marker, perDigit := 10, "e", 1
	if strings.HasPrefix(s, "0x") {
		s, base, marker, perDigit = s[2:], 16, "p", 4
	}
	mantissa, power, hasPower := strings.Cut(s, marker)
	if hasPower {
		if exp, ok = parsePower(power); !ok {
			return "", 0, 0, false
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" {
		return "", 0, 0, false
	}
	for _, c := range digits {
		if c >= '0' && c <= '9' || base == 16 && c >= 'a' && c <= 'f' {
			continue
		}
		return "", 0, 0, false
	}
	return digits, exp - perDigit*len(fraction), base, true
}

// parsePower reads an exponent. Where it is out of any range its size no longer matters.
func parsePower(s string) (int, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == s {
		digits = strings.TrimPrefix(s, "+")
	}
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > 1<<20 {
		n = 1 << 20
	}
	if s[0] == '-' {
		n = -n
	}
	return n, true
}

// scaleFloat rounds digits * 10^exp (or 2^exp) once to a long double. Like Redis it refuses what overflows, and what is
// too small to differ from zero.
func scaleFloat(digits string, exp, base int) (*big.Float, bool) {
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, false
	}
	f := new(big.Float).SetPrec(longDoublePrec)
	if n.Sign() == 0 {
		return f, true
	}
	if base == 16 {
		f.SetInt(n)
		f.SetMantExp(f, exp)
	} else {
		// Out of every range, and not to be computed: 10^exp would have that many digits.
		if size := len(n.String()) + exp; size > 5000 || size < -5000 {
			return nil, false
		}
		ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exp, -exp))), nil)
		if exp >= 0 {
			f.SetInt(n.Mul(n, ten))
		} else {
			f.SetRat(new(big.Rat).SetFrac(n, ten))
		}
	}
	if e := f.MantExp(nil); e > maxLongDoubleExp || e < minLongDoubleExp {
		return nil, false
	}
	return f, true
}
