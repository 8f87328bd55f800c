package hint

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Why a payload is not read.
var (
	errSyntax    = errors.New("no JSON")
	errDuplicate = errors.New("two members of one name")
)

// A lexer reads the tokens of JSON (RFC 8259) in src, which must be valid UTF-8. A lone
// surrogate is an error, as no UTF-8 text can hold it. The first error stays.
type lexer struct {
	src []byte
	pos int
	err error
}

// fail ends the reading: nothing comes next.
func (l *lexer) fail(err error) {
	if l.err == nil {
		l.err = err
	}
	l.pos = len(l.src)
}

// next skips white space and returns the byte after it, 0 at the end or after an error.
func (l *lexer) next() byte {
	if l.pos < len(l.src) {
		if c := l.src[l.pos]; c > ' ' {
			return c
		}
	}
	return l.afterSpace()
}

//go:noinline // so that next is inlined
func (l *lexer) afterSpace() byte {
	const spaces = 0x2020202020202020
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; c {
		case '\n', '\t', '\r':
			l.pos++
		case ' ': // most are in long rows of them
			for l.pos+8 <= len(l.src) {
				other := binary.LittleEndian.Uint64(l.src[l.pos:]) ^ spaces
				if other != 0 {
					l.pos += bits.TrailingZeros64(other) / 8
					break
				}
				l.pos += 8
			}
			if l.pos+8 > len(l.src) && l.pos < len(l.src) && l.src[l.pos] == ' ' {
				l.pos++
			}
		default:
			return c
		}
	}
	return 0
}

// accept reads the byte c, which must come next.
func (l *lexer) accept(c byte) {
	if l.next() == c {
		l.pos++
	} else {
		l.fail(errSyntax)
	}
}

// quoted reads the string that begins at pos. Without escapes it is a part of src.
func (l *lexer) quoted() []byte {
	l.pos++ // the opening quote
	start := l.pos
	switch l.special() {
	case '"':
		l.pos++
		return l.src[start : l.pos-1]
	case '\\':
		return l.escaped(start)
	}
	l.fail(errSyntax)
	return nil
}

// special goes on to the next quote, backslash or control character, and returns it; 0 at
// the end.
func (l *lexer) special() byte {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; l.pos+8 <= len(l.src); l.pos += 8 {
		// Eight bytes at a time. A borrow can only mark bytes after the first that is right.
		v := binary.LittleEndian.Uint64(l.src[l.pos:])
		quote, slash := v^('"'*ones), v^('\\'*ones)
		found := ((v-' '*ones)&^v | (quote-ones)&^quote | (slash-ones)&^slash) & tops
		if found != 0 {
			l.pos += bits.TrailingZeros64(found) / 8
			return l.src[l.pos]
		}
	}
	for ; l.pos < len(l.src); l.pos++ {
		if c := l.src[l.pos]; c == '"' || c == '\\' || c < ' ' {
			return c
		}
	}
	return 0
}

// escaped goes on with a string that began at start, from its first escape.
func (l *lexer) escaped(start int) []byte {
	text := append([]byte(nil), l.src[start:l.pos]...)
	for {
		from := l.pos
		c := l.special()
		text = append(text, l.src[from:l.pos]...)
		switch c {
		case '"':
			l.pos++
			return text
		case '\\':
			r, ok := l.escape()
			if !ok {
				l.fail(errSyntax)
				return nil
			}
			text = utf8.AppendRune(text, r)
		default:
			l.fail(errSyntax)
			return nil
		}
	}
}

// escape reads one escape, a pair of surrogates as the one character that it stands for.
func (l *lexer) escape() (rune, bool) {
	if l.pos += 2; l.pos > len(l.src) {
		return 0, false
	}
	switch c := l.src[l.pos-1]; c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
	default:
		return 0, false
	}
	r, ok := l.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if l.pos+2 > len(l.src) || l.src[l.pos] != '\\' || l.src[l.pos+1] != 'u' {
		return 0, false
	}
	l.pos += 2
	low, ok := l.hex4()
	r = utf16.DecodeRune(r, low)
	return r, ok && r != utf8.RuneError
}

func (l *lexer) hex4() (r rune, ok bool) {
	if l.pos+4 > len(l.src) {
		return 0, false
	}
	for _, c := range l.src[l.pos : l.pos+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	l.pos += 4
	return r, true
}

// literal reads a number, true, false or null, and returns it as it is written.
func (l *lexer) literal() []byte {
	start := l.pos
	switch c := l.next(); c {
	case 't':
		l.word("true")
	case 'f':
		l.word("false")
	case 'n':
		l.word("null")
	default:
		l.number()
	}
	return l.src[start:l.pos]
}

func (l *lexer) word(w string) {
	if end := l.pos + len(w); end <= len(l.src) && string(l.src[l.pos:end]) == w {
		l.pos = end
		return
	}
	l.fail(errSyntax)
}

// number reads a number (RFC 8259 section 6).
func (l *lexer) number() {
	l.optional("-")
	if !l.optional("0") {
		l.digits()
	}
	if l.optional(".") {
		l.digits()
	}
	if l.optional("eE") {
		l.optional("+-")
		l.digits()
	}
}

// optional reads one of these bytes where it comes next.
func (l *lexer) optional(of string) bool {
	if l.pos == len(l.src) {
		return false
	}
	for i := range len(of) {
		if l.src[l.pos] == of[i] {
			l.pos++
			return true
		}
	}
	return false
}

// digits reads one digit or more.
func (l *lexer) digits() {
	start := l.pos
	for l.pos < len(l.src) && isDigit(l.src[l.pos]) {
		l.pos++
	}
	if l.pos == start {
		l.fail(errSyntax)
	}
}
