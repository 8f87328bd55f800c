package dsse

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Canonical returns the canonical form of a payload, which is defined here: its RFC 8785
// form where that loses nothing, otherwise payload itself. It loses nothing where
//
//   - payloadType is JSON: application/json, a type that ends in "+json" (of both,
//     parameters after ";" don't count), or https://in-toto.io/Statement/…; types are
//     compared as they are, since to DSSE they are case-sensitive;
//   - payload is one valid JSON object in UTF-8, without a byte order mark, of at most
//     MaxPayload bytes and MaxDepth levels;
//   - no object in it has two members of one name, and no string a lone surrogate;
//   - every number, written as RFC 8785 does, is still the same decimal number. So 1.0,
//     1e0 and 1 are one number, and so are -0 and 0, while 9007199254740993, 1e400
//     and 3.14159265358979323846 are beyond what a double tells apart.
//
// The canonical form is its own canonical form: two payloads of one type have the same
// one only when they are equal as JSON, or equal byte for byte. (Where it is longer than
// MaxPayload, because numbers such as 1e20 are written out, it is returned as such if
// given again.) The result may share memory with payload.
func Canonical(payloadType string, payload []byte) []byte {
	if !isJSON(payloadType) || len(payload) > MaxPayload || !utf8.Valid(payload) {
		return payload
	}
	c := canonicalizer{lexer: lexer{src: payload}, out: make([]byte, 0, len(payload))}
	if c.object() != nil || c.end() != nil {
		return payload
	}
	return c.out
}

// isJSON tells whether payloads of this type are JSON by definition.
func isJSON(payloadType string) bool {
	mediaType, _, _ := strings.Cut(payloadType, ";")
	mediaType = strings.TrimRight(mediaType, " \t")
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json") ||
		strings.HasPrefix(payloadType, "https://in-toto.io/Statement/")
}

// Why a form would lose something.
var (
	errDuplicate = errors.New("two members of one name")
	errNumber    = errors.New("a number that a double rounds")
)

// A canonicalizer writes the RFC 8785 form of what its lexer reads in one pass. An
// object's members are written as they come and put in order at its end, where they
// did not come in order: canonical input is only copied.
type canonicalizer struct {
	lexer
	out     []byte
	members []member // of all open objects, the innermost last
	scratch []byte
}

// A member stands in out[start:end], with its quoted name.
type member struct {
	name       []byte // decoded
	start, end int
}

func (c *canonicalizer) value() error {
	switch first := c.peek(); {
	case first == '{':
		return c.object()
	case first == '[':
		return c.array()
	case first == '"':
		text, plain, err := c.text()
		if err != nil {
			return err
		}
		c.out = quote(c.out, text, plain)
	case first == '-' || isDigit(first):
		text, err := c.number()
		if err != nil {
			return err
		}
		number, ok := parseDecimal(text)
		if !ok || !number.isDouble() {
			return errNumber
		}
		c.out = number.append(c.out)
	default:
		word, err := c.literal()
		if err != nil {
			return err
		}
		c.out = append(c.out, word...)
	}
	return nil
}

func (c *canonicalizer) array() error {
	c.out = append(c.out, '[')
	empty := true
	err := c.lexer.array(func() error {
		if !empty {
			c.out = append(c.out, ',')
		}
		empty = false
		return c.value()
	})
	c.out = append(c.out, ']')
	return err
}

func (c *canonicalizer) object() error {
	c.out = append(c.out, '{')
	first, ordered := len(c.members), true
	err := c.lexer.object(func(name []byte) error {
		if n := len(c.members); n > first {
			c.out = append(c.out, ',')
			ordered = ordered && compareUTF16(c.members[n-1].name, name) < 0
		}
		m := member{name: name, start: len(c.out)}
		c.out = append(quote(c.out, name, false), ':')
		if err := c.value(); err != nil {
			return err
		}
		m.end = len(c.out)
		c.members = append(c.members, m)
		return nil
	})
	if err == nil && !ordered {
		err = c.order(c.members[first:])
	}
	c.members = c.members[:first]
	c.out = append(c.out, '}')
	return err
}

// order puts the members of one object in order (RFC 8785 section 3.2.3). They stand at
// the end of out.
func (c *canonicalizer) order(members []member) error {
	start := members[0].start
	slices.SortFunc(members, func(a, b member) int { return compareUTF16(a.name, b.name) })
	c.scratch = append(c.scratch[:0], c.out[start:]...)
	c.out = c.out[:start]
	for i, m := range members {
		if i > 0 {
			if bytes.Equal(members[i-1].name, m.name) {
				return errDuplicate
			}
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, c.scratch[m.start-start:m.end-start]...)
	}
	return nil
}

// compareUTF16 compares valid UTF-8 by UTF-16 code units. That is the order of the bytes,
// but that the surrogates of characters beyond U+FFFF (first byte F0 to F4) come before
// U+E000 to U+FFFF (first byte EE or EF).
func compareUTF16(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x >= 0xEE && y >= 0xEE && x >= 0xF0 != (y >= 0xF0) {
			x, y = y, x
		}
		return int(x) - int(y)
	}
	return len(a) - len(b)
}

// quote appends text as a JSON string (RFC 8785 section 3.2.2.2). Plain text is known to
// need no escape.
func quote(dst, text []byte, plain bool) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	if plain {
		return append(append(dst, text...), '"')
	}
	done := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[done:i]...)
		done = i + 1
		switch c {
		case '\b':
			dst = append(dst, `\b`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '"', '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, text[done:]...), '"')
}
