package policy

// Candidates returns how many policies Match looks at.
func (x *Index) Candidates(e Event) int {
	found := map[int32]*hit{}
	x.first.match(e.Scopes, found)
	return len(found)
}
