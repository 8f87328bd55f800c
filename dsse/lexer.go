package dsse

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/lodgehq/lodge"
)

// A lexer reads JSON (RFC 8259) from src, which must be valid UTF-8. It is stricter than
// encoding/json in one way: a lone surrogate is an error, as no UTF-8 text can hold it.
// Its errors wrap lodge.ErrMalformed or, beyond MaxDepth, lodge.ErrLimit.
type lexer struct {
	src   []byte
	pos   int
	depth int // open objects and arrays
}

// peek skips white space and returns the byte after it, 0 at the end.
func (l *lexer) peek() byte {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; c {
		case ' ', '\t', '\n', '\r':
			l.pos++
		default:
			return c
		}
	}
	return 0
}

// unexpected returns the error about the byte at pos.
func (l *lexer) unexpected() error {
	if l.pos >= len(l.src) {
		return fmt.Errorf("%w JSON: it ends too early, after %d bytes", lodge.ErrMalformed, len(l.src))
	}
	r, _ := utf8.DecodeRune(l.src[l.pos:])
	return fmt.Errorf("%w JSON: unexpected %q at byte %d", lodge.ErrMalformed, r, l.pos+1)
}

// end makes sure that nothing but white space is left.
func (l *lexer) end() error {
	l.peek()
	if l.pos < len(l.src) {
		return fmt.Errorf("%w JSON: more data after its end, at byte %d", lodge.ErrMalformed, l.pos+1)
	}
	return nil
}

// object reads an object; member is called after each name and its colon, and reads the value.
func (l *lexer) object(member func(name []byte) error) error {
	return l.list('{', '}', func() error {
		if l.peek() != '"' {
			return l.unexpected()
		}
		name, _, err := l.text()
		if err != nil {
			return err
		}
		if l.peek() != ':' {
			return l.unexpected()
		}
		l.pos++
		return member(name)
	})
}

// array reads an array; element reads one value.
func (l *lexer) array(element func() error) error { return l.list('[', ']', element) }

// list reads items between open and closing, with commas between them.
func (l *lexer) list(open, closing byte, item func() error) error {
	if l.peek() != open {
		return l.unexpected()
	}
	if l.depth == MaxDepth {
		return fmt.Errorf("%w: JSON nested deeper than %d at byte %d", lodge.ErrLimit, MaxDepth, l.pos+1)
	}
	l.depth++
	l.pos++
	if l.peek() == closing {
		l.depth--
		l.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		switch l.peek() {
		case ',':
			l.pos++
		case closing:
			l.depth--
			l.pos++
			return nil
		default:
			return l.unexpected()
		}
	}
}

// skip reads one value of any kind and drops it.
func (l *lexer) skip() (err error) {
	switch c := l.peek(); {
	case c == '{':
		return l.object(func([]byte) error { return l.skip() })
	case c == '[':
		return l.array(l.skip)
	case c == '"':
		_, _, err = l.text()
	case c == '-' || isDigit(c):
		_, err = l.number()
	default:
		_, err = l.literal()
	}
	return err
}

// literal reads true, false or null.
func (l *lexer) literal() (string, error) {
	l.peek()
	for _, word := range [...]string{"true", "false", "null"} {
		if rest := l.src[l.pos:]; len(rest) >= len(word) && string(rest[:len(word)]) == word {
			l.pos += len(word)
			return word, nil
		}
	}
	return "", l.unexpected()
}

// number reads a number and returns it as written (RFC 8259 section 6).
func (l *lexer) number() ([]byte, error) {
	start := l.pos
	l.accept('-')
	if !l.accept('0') && l.digits() == 0 {
		return nil, l.unexpected()
	}
	if l.accept('.') && l.digits() == 0 {
		return nil, l.unexpected()
	}
	if l.accept('e') || l.accept('E') {
		_ = l.accept('+') || l.accept('-')
		if l.digits() == 0 {
			return nil, l.unexpected()
		}
	}
	return l.src[start:l.pos], nil
}

// accept reads c where it comes next.
func (l *lexer) accept(c byte) bool {
	if l.pos < len(l.src) && l.src[l.pos] == c {
		l.pos++
		return true
	}
	return false
}

// digits reads digits and returns how many there were.
func (l *lexer) digits() int {
	start := l.pos
	for l.pos < len(l.src) && isDigit(l.src[l.pos]) {
		l.pos++
	}
	return l.pos - start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// text reads a string and returns it decoded. Where it is plain, that is, without any
// escape, the result is a part of src.
func (l *lexer) text() (decoded []byte, plain bool, err error) {
	l.pos++ // the opening quote
	start := l.pos
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '"':
			l.pos++
			return l.src[start : l.pos-1], true, nil
		case c == '\\':
			decoded, err = l.escaped(start)
			return decoded, false, err
		case c < ' ':
			return nil, false, l.unexpected()
		}
		l.pos++
	}
	return nil, false, l.unexpected()
}

// escaped goes on with a string that began at start, from its first escape.
func (l *lexer) escaped(start int) ([]byte, error) {
	decoded := append(make([]byte, 0, 2*(l.pos-start)+32), l.src[start:l.pos]...)
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '"':
			l.pos++
			return decoded, nil
		case c == '\\':
			r, err := l.escape()
			if err != nil {
				return nil, err
			}
			decoded = utf8.AppendRune(decoded, r)
		case c < ' ':
			return nil, l.unexpected()
		default:
			decoded = append(decoded, c)
			l.pos++
		}
	}
	return nil, l.unexpected()
}

// escape reads one escape, a pair of surrogates as the one character that it stands for.
func (l *lexer) escape() (rune, error) {
	at := l.pos
	l.pos++ // the backslash
	if l.pos == len(l.src) {
		return 0, l.unexpected()
	}
	c := l.src[l.pos]
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case '"', '\\', '/':
	case 'u':
		l.pos++
		return l.unicode(at)
	default:
		return 0, l.unexpected()
	}
	l.pos++
	return rune(c), nil
}

// unicode reads the hex digits of an escape that began at at and, after a high surrogate,
// the low one.
func (l *lexer) unicode(at int) (rune, error) {
	r, err := l.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if l.accept('\\') && l.accept('u') {
		low, err := l.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, fmt.Errorf("%w JSON: a lone surrogate at byte %d", lodge.ErrMalformed, at+1)
}

func (l *lexer) hex4() (rune, error) {
	var r rune
	for range 4 {
		if l.pos == len(l.src) {
			return 0, l.unexpected()
		}
		c := l.src[l.pos]
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, l.unexpected()
		}
		r = r<<4 | rune(c)
		l.pos++
	}
	return r, nil
}
