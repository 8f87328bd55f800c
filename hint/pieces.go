package hint

import "strings"

// pieces keep many short strings in few pieces of memory.
type pieces struct{ last strings.Builder }

// The sizes in bytes of the first piece, and of the largest.
const firstPiece, lastPiece = 1 << 10, 64 << 10

// join returns "name:value".
func (p *pieces) join(name string, value []byte) string {
	if size := len(name) + 1 + len(value); p.last.Cap()-p.last.Len() < size {
		size = max(size, firstPiece, min(2*p.last.Cap(), lastPiece))
		p.last = strings.Builder{}
		p.last.Grow(size)
	}
	start := p.last.Len()
	p.last.WriteString(name)
	p.last.WriteByte(':')
	p.last.Write(value)
	return p.last.String()[start:]
}
