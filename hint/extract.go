package hint

import (
	"errors"
	"math"
	"unicode/utf8"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// An extraction reads one payload.
type extraction struct {
	*reader
	*found
}

// extract reads a payload. Its digest is not set. The payload type of a bare document does
// what the predicate type does in a statement.
func extract(payloadType string, payload []byte) *Hints {
	x := &extraction{found: &found{}}
	switch {
	case len(payload) > dsse.MaxPayload:
		return unparsable("limit", nil)
	case !utf8.Valid(payload):
		return unparsable("not-json", nil)
	}
	x.enter(payload, 0, 0)
	outline := outlined(payload, payloadType)
	outline.read(x)
	x.end()
	x.adopt()
	if x.err == nil && x.full() {
		x.err = lodge.ErrLimit
	}
	if x.err != nil {
		return unparsable(why(x.err), payload)
	}
	return x.hints(outline.predicateType, outline.kind, false)
}

// enter makes x read src, which is part of a document of which so many tokens are read, and
// which is so deep there.
func (x *extraction) enter(src []byte, tokens, depth int) {
	x.reader = newReader(src, tokens, depth)
	x.full = func() bool { return x.size() > maxKeys } // looked at early: what refers to many takes memory
	x.stray = func() {
		x.issue("wrong-type")
		x.generic()
	}
}

// why is the issue that an error stands for.
func why(err error) string {
	switch {
	case errors.Is(err, lodge.ErrLimit):
		return "limit"
	case errors.Is(err, errDuplicate):
		return "dup-key"
	}
	return "not-json"
}

// unparsable are the hints of a payload that could not be read: its subjects, where at
// least they can be told, and everything.
func unparsable(issue string, payload []byte) *Hints {
	x := &extraction{found: &found{}}
	if payload != nil {
		x.enter(payload, math.MinInt, 0)
		x.loose, x.limit = true, 10_000
		x.subjectsOnly()
	}
	subjects := x.subjects
	x.found = &found{subjects: subjects, digests: append([]string(nil), subjects...)}
	x.issue(issue)
	return x.hints("", Unparsable, true)
}

// subjectsOnly reads the subjects of a statement, and nothing else.
func (x *extraction) subjectsOnly() {
	if x.peek() != '{' {
		return
	}
	x.members(func(name []byte) {
		if string(name) == "subject" {
			x.subjectList()
		} else {
			x.raw()
		}
	}, nil)
	if x.err != nil {
		x.subjects = nil
	}
}

// top reads the outermost object of a document. What belongs to another kind of document
// is read for whatever looks like an identifier: a document of two kinds hides nothing.
func (x *extraction) top(member func(name []byte)) {
	if !x.is('{') {
		return
	}
	x.members(member, func(name []byte) {
		switch field := string(name); {
		case field == "subject" && x.peek() == '[':
			x.subjectList()
		case signs[field]:
			x.generic()
		}
	})
}

// nested reads a document inside of another one, at the next value. Where its kind is not
// known, other reads it.
func (x *extraction) nested(other func(*extraction)) {
	switch x.peek() {
	case '"':
		x.inText(x.text(), other)
	case '{', '[':
		if src := x.raw(); x.err == nil {
			x.inside(src, other)
		}
	default:
		x.skip()
	}
}

// inText reads a document that is inside a string: JSON, or any text.
func (x *extraction) inText(text string, other func(*extraction)) {
	if x.err != nil {
		return
	}
	x.spend(len(text) / 16)
	src := []byte(text)
	trial := newReader(src, x.tokens, x.depth)
	kind := trial.peek()
	trial.skip()
	trial.end()
	if kind != '{' && kind != '[' || trial.err != nil {
		x.pattern("", text)
		return
	}
	x.inside(src, other)
}

// inside reads src, which is valid JSON, as part of this document.
func (x *extraction) inside(src []byte, other func(*extraction)) {
	x.within(src, func() {
		o := outlined(src, "")
		if !o.confirmed {
			o.read = other
		}
		o.read(x)
	})
}

// within makes x read src, which is part of this document, while read runs.
func (x *extraction) within(src []byte, read func()) {
	outer := x.reader
	x.enter(src, outer.tokens, outer.depth)
	read()
	outer.tokens = x.tokens
	if x.err != nil {
		outer.fail(x.err)
	}
	x.reader = outer
}
