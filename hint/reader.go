package hint

import (
	"bytes"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// A reader reads JSON value by value, without building a tree. Two members of one name in
// an object are an error. After an error all values are empty.
//
// A value of another type than asked for is not lost: it goes to stray, except null,
// which is as if it were not there.
type reader struct {
	lexer
	stray  func()
	full   func() bool // nil, or whether more has been found than may be
	depth  int         // open objects and arrays, those around src too
	limit  int         // of depth
	tokens int         // read so far, of all documents of a payload
	names  [][]byte    // of the members of all open objects, the innermost last
	loose  bool        // members of one name are none of its business
}

func newReader(src []byte, tokens, depth int) *reader {
	return &reader{lexer: lexer{src: src}, depth: depth, limit: dsse.MaxDepth, tokens: tokens}
}

// spend counts tokens, or other work.
func (r *reader) spend(n int) {
	if r.tokens += n; r.tokens > maxTokens {
		r.fail(lodge.ErrLimit)
	}
}

// peek returns the first byte of the value that comes next, '0' for a number, and 0 where
// there is none.
func (r *reader) peek() byte {
	c := r.next()
	if c == '-' || isDigit(c) {
		return '0'
	}
	return c
}

// is tells whether a value of this kind comes next, and disposes of it where not.
func (r *reader) is(kind byte) bool {
	switch next := r.peek(); next {
	case kind:
		return true
	case 'n':
		r.skip()
	case '"', '{', '[', 't', 'f', '0':
		r.stray()
	default:
		r.fail(errSyntax)
	}
	return false
}

// object reads an object. member is called for each name and may read the value; a value
// that it leaves is skipped.
func (r *reader) object(member func(name []byte)) {
	if r.is('{') {
		r.members(member, nil)
	}
}

// members reads the object that comes next. A value that member leaves goes to left, or is
// skipped.
func (r *reader) members(member, left func(name []byte)) {
	if !r.open('{') {
		return
	}
	names := nameSet{first: len(r.names)}
	for more := r.next() != '}'; more; more = r.another('}') {
		name := r.name(&names)
		start := r.pos
		if r.err == nil {
			member(name)
		}
		if r.err == nil && r.pos == start && left != nil {
			left(name)
		}
		if r.err == nil && r.pos == start {
			r.skip()
		}
	}
	r.names = r.names[:names.first]
	r.shut('}')
}

// open reads an opening bracket.
func (r *reader) open(bracket byte) bool {
	r.accept(bracket)
	r.spend(1)
	if r.depth++; r.depth > r.limit {
		r.fail(lodge.ErrLimit)
	}
	return r.err == nil
}

// another tells whether there is another item before the closing bracket, and reads the
// comma.
func (r *reader) another(bracket byte) bool {
	if r.pos < len(r.src) && r.src[r.pos] == ',' {
		r.pos++
		return true
	}
	switch r.next() {
	case ',':
		r.pos++
		return true
	case bracket:
	default:
		r.fail(errSyntax)
	}
	return false
}

// shut reads a closing bracket.
func (r *reader) shut(bracket byte) {
	r.accept(bracket)
	r.depth--
}

// A nameSet is the names of one open object.
type nameSet struct {
	first int                 // of reader.names
	seen  map[string]struct{} // beyond fewNames
}

// fewNames is how many names are compared one by one.
const fewNames = 24

// name reads a member's name and the colon, up to its value.
func (r *reader) name(names *nameSet) []byte {
	if r.next() != '"' {
		r.fail(errSyntax)
		return nil
	}
	name := r.quoted()
	if r.pos < len(r.src) && r.src[r.pos] == ':' { // as nearly always
		r.pos++
	} else {
		r.accept(':')
	}
	if r.pos+1 < len(r.src) && r.src[r.pos] == ' ' && r.src[r.pos+1] > ' ' {
		r.pos++
	} else {
		r.next() // so that pos is where the value begins
	}
	r.spend(1)
	if !r.loose && !r.add(names, name) {
		r.fail(errDuplicate)
	}
	return name
}

// add adds a name to a set, and tells whether it is new there.
func (r *reader) add(names *nameSet, name []byte) bool {
	if names.seen == nil {
		open := r.names[names.first:]
		for _, n := range open {
			if len(n) == len(name) && bytes.Equal(n, name) {
				return false
			}
		}
		if len(open) < fewNames {
			r.names = append(r.names, name)
			return true
		}
		names.seen = make(map[string]struct{}, 2*fewNames)
		for _, n := range open {
			names.seen[string(n)] = struct{}{}
		}
	}
	before := len(names.seen)
	names.seen[string(name)] = struct{}{}
	return len(names.seen) > before
}

// array reads an array; element reads each value, or leaves it.
func (r *reader) array(element func()) {
	if r.is('[') {
		r.elements(element)
	}
}

// elements reads the array that comes next.
func (r *reader) elements(element func()) {
	if !r.open('[') {
		return
	}
	if r.next() != ']' {
		r.rest(element)
	}
	r.shut(']')
}

// rest reads the elements of an open array, from one on, up to the closing bracket.
func (r *reader) rest(element func()) {
	for more := true; more; more = r.another(']') {
		r.next()
		start := r.pos
		if r.err == nil {
			element()
		}
		if r.err == nil && r.pos == start {
			r.skip()
		}
		if r.err == nil && r.full != nil && r.full() {
			r.fail(lodge.ErrLimit)
		}
	}
}

// objects reads an array of objects.
func (r *reader) objects(member func(name []byte)) { r.array(func() { r.object(member) }) }

// bytes reads a string, without a copy of it where it has no escapes.
func (r *reader) bytes() []byte {
	if (r.pos == len(r.src) || r.src[r.pos] != '"') && !r.is('"') {
		return nil
	}
	r.spend(1)
	return r.quoted()
}

// text reads a string.
func (r *reader) text() string { return string(r.bytes()) }

// scalar reads a string, number or boolean as text.
func (r *reader) scalar() string {
	switch r.peek() {
	case '0', 't', 'f':
		r.spend(1)
		return string(r.literal())
	}
	return r.text()
}

// texts reads an array of strings, or one string.
func (r *reader) texts(each func(string)) {
	if r.peek() == '"' {
		each(r.text())
		return
	}
	r.array(func() {
		if s := r.text(); s != "" {
			each(s)
		}
	})
}

// skip reads one value and drops it.
func (r *reader) skip() {
	switch r.peek() {
	case '{':
		if !r.open('{') {
			return
		}
		names := nameSet{first: len(r.names)}
		for more := r.next() != '}'; more; more = r.another('}') {
			r.name(&names)
			r.skip()
		}
		r.names = r.names[:names.first]
		r.shut('}')
	case '[':
		if !r.open('[') {
			return
		}
		for more := r.next() != ']'; more; more = r.another(']') {
			r.skip()
		}
		r.shut(']')
	case '"':
		r.spend(1)
		r.quoted()
	case 0:
		r.fail(errSyntax)
	default:
		r.spend(1)
		r.literal()
	}
}

// raw reads one value and returns its bytes.
func (r *reader) raw() []byte {
	r.next()
	start := r.pos
	r.skip()
	if r.err != nil {
		return nil
	}
	return r.src[start:r.pos]
}

// end makes sure that nothing follows.
func (r *reader) end() {
	r.next()
	if r.err == nil && r.pos < len(r.src) {
		r.fail(errSyntax)
	}
}
