package dsse

import (
	"bytes"
	"strconv"
)

// maxDigits is how many digits the shortest form of a double has at most.
const maxDigits = 17

// A decimal is the number 0.d₁d₂…dₙ × 10^exp, negated where neg is set. Neither d₁ nor dₙ
// is 0, so that equal numbers are equal decimals; zero has no digits and no sign.
type decimal struct {
	neg    bool
	digits [maxDigits]byte
	n      int
	exp    int
}

// parseDecimal reads a JSON number, exactly. It is false for one of more than maxDigits
// significant digits, which cannot be the shortest form of a double.
func parseDecimal(text []byte) (decimal, bool) {
	var d decimal
	if text[0] == '-' {
		d.neg = true
		text = text[1:]
	}
	zeros := 0 // after dₙ
	fraction := false
	i := 0
	for ; i < len(text) && text[i]|0x20 != 'e'; i++ {
		switch c := text[i]; {
		case c == '.':
			fraction = true
		case c == '0' && d.n == 0: // before d₁
			if fraction {
				d.exp--
			}
		case c == '0':
			zeros++
			if !fraction {
				d.exp++
			}
		default:
			if d.n+zeros >= maxDigits {
				return decimal{}, false
			}
			for ; zeros > 0; zeros-- {
				d.digits[d.n] = '0'
				d.n++
			}
			d.digits[d.n] = c
			d.n++
			if !fraction {
				d.exp++
			}
		}
	}
	if d.n == 0 {
		return decimal{}, true
	}
	if i < len(text) {
		d.exp += parseExponent(text[i+1:])
	}
	return d, true
}

// parseExponent reads an exponent. One beyond all limits is cut to a value that still is
// beyond all that digits before or after the point (MaxPayload of them) could make up for.
func parseExponent(text []byte) int {
	const beyond = 1 << 27 // four times MaxPayload; ten times it still fits 32 bits
	negative := text[0] == '-'
	exp := 0
	for _, c := range bytes.TrimLeft(text, "+-") {
		exp = min(10*exp+int(c-'0'), beyond)
	}
	if negative {
		return -exp
	}
	return exp
}

// isDouble tells whether d is the shortest form of a double, the one that ECMAScript
// writes: that a double keeps it exactly as it is.
func (d *decimal) isDouble() bool {
	// Every number of up to 15 digits survives, as long as the double is normal
	// (DBL_DIG in C), that is, from 2.3e-308 to 1.7e308.
	if d.n <= 15 && -306 <= d.exp && d.exp <= 308 {
		return true
	}
	if d.exp < -323 || d.exp > 309 {
		return false
	}
	var buf [32]byte
	text := append(append(append(buf[:0], "0."...), d.digits[:d.n]...), 'e')
	text = strconv.AppendInt(text, int64(d.exp), 10)
	double, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return false
	}
	shortest, ok := parseDecimal(strconv.AppendFloat(buf[:0], double, 'e', -1, 64))
	shortest.neg = d.neg
	return ok && shortest == *d
}

// append writes d, which must be a double, as ECMAScript does (ECMA-262, Number::toString;
// RFC 8785 section 3.2.2.3).
func (d *decimal) append(dst []byte) []byte {
	const zeros = "000000000000000000000"
	digits := d.digits[:d.n]
	if d.neg {
		dst = append(dst, '-')
	}
	switch {
	case d.n == 0:
		return append(dst, '0')
	case d.n <= d.exp && d.exp <= 21: // 1200
		return append(append(dst, digits...), zeros[:d.exp-d.n]...)
	case 0 < d.exp && d.exp <= 21: // 1.2
		dst = append(append(dst, digits[:d.exp]...), '.')
		return append(dst, digits[d.exp:]...)
	case -6 < d.exp && d.exp <= 0: // 0.0012
		dst = append(append(dst, "0."...), zeros[:-d.exp]...)
		return append(dst, digits...)
	}
	dst = append(dst, digits[0])
	if d.n > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	dst = append(dst, 'e')
	if d.exp > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(d.exp-1), 10)
}
