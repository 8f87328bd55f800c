package hint

import (
	"bytes"
	"sync/atomic"
)

// A part is the components of a large document from one in the middle on, read beside those
// before it. Where that one begins is a guess. It is right when the reading of those before
// comes to it: as an array's elements do not depend on each other, what was found is then
// the same as if they had been read one after the other. Wherever it may not be, nothing of
// it is taken.
type part struct {
	bom
	start int           // of its first component
	given atomic.Bool   // up
	done  chan struct{} // closed when it is read
}

// partSize is the size in bytes of what is read in one part.
const partSize = 1 << 20

// readAhead begins to read a part of the components that come next; nil where there are few.
func (b *bom) readAhead() *part {
	start := b.middle()
	if start < 0 {
		return nil
	}
	x := &extraction{found: &found{}}
	x.enter(b.src, 0, b.depth+1)
	x.pos = start
	p := &part{bom: bom{extraction: x}, start: start, done: make(chan struct{})}
	x.full = func() bool { return p.given.Load() || x.size() > maxKeys }
	go func() {
		defer close(p.done)
		p.rest(func() { p.component(false) })
	}()
	return p
}

// middle guesses where, in the array of objects that comes next, one begins at about three
// fifths: the digest of the payload is made at the same time. -1 where there is none. All
// objects are taken to begin like the first one, up to the name of its first member.
func (b *bom) middle() int {
	l := lexer{src: b.src, pos: b.pos}
	if len(l.src)-l.pos < partSize || l.next() != '[' {
		return -1
	}
	l.pos++
	begin := l.pos
	if l.next() != '{' {
		return -1
	}
	space := l.pos - begin
	l.pos++
	if l.next() != '"' || l.quoted() == nil {
		return -1
	}
	sign := append([]byte("},"), l.src[begin:l.pos]...)
	middle := begin + (len(l.src)-begin)/5*3
	found := bytes.Index(l.src[middle:], sign)
	if found < 0 {
		return -1
	}
	return middle + found + len("},") + space
}

// take takes what a part found, and goes on behind it. It tells whether it did.
func (b *bom) take(p *part) bool {
	<-p.done
	if p.err != nil || b.tokens+p.tokens > maxTokens {
		return false
	}
	b.spend(p.tokens)
	b.pos = p.pos
	b.merge(p.found)
	b.refs = append(b.refs, p.refs...)
	return true
}

// stop waits until a part, if any, is no longer read. It gives up what nobody waited for.
func (p *part) stop() {
	if p != nil {
		p.given.Store(true)
		<-p.done
	}
}
