package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/lodgehq/lodge/hint"
)

// Index finds the policies that an event triggers. What that costs grows with the scopes
// of the event and with what they match, not with the number of policies. It never
// changes, so it is safe for concurrent use.
//
// A policy is entered under one kind of its selector only, the one that the fewest
// policies share; the others are looked at once that kind has matched. So a thousand
// policies that all say "component:openssl and …" cost nothing until the rest may match.
type Index struct {
	policies []Policy           // by name
	first    terms              // of the kind that a policy is entered under
	all      []int32            // policies that match everything
	known    map[string][]int32 // by what verdicts call them
}

// NewIndex makes an index over normalised policies. Their names differ.
func NewIndex(policies []Policy) *Index {
	x := &Index{
		policies: slices.SortedFunc(slices.Values(policies), func(a, b Policy) int { return strings.Compare(a.Name, b.Name) }),
		known:    map[string][]int32{},
	}
	uses := map[string]int{}
	for _, p := range x.policies {
		for _, spellings := range p.kinds() {
			for _, scope := range spellings {
				uses[scope]++
			}
		}
	}
	for i, p := range x.policies {
		for _, name := range append([]string{p.Name, p.Revision().String()}, p.KnownAs...) {
			x.known[name] = append(x.known[name], int32(i))
		}
		if slices.Equal(p.Selector, []string{hint.All}) {
			x.all = append(x.all, int32(i))
			continue
		}
		kinds := p.kinds()
		x.first.add(term{int32(i), 1}, kinds[rarest(kinds, uses)])
	}
	x.first.seal()
	return x
}

// kinds returns the selector by kinds: in each, the scopes and their aliases.
func (p *Policy) kinds() (kinds [][]string) {
	last := ""
	for _, scope := range p.Selector { // sorted, so a kind stands together
		if kind := kindOf(scope); kind != last {
			kinds, last = append(kinds, nil), kind
		}
		n := len(kinds) - 1
		kinds[n] = append(append(kinds[n], scope), p.Aliases[scope]...)
	}
	return kinds
}

// rarest returns the kind that is likely to match the fewest events.
func rarest(kinds [][]string, uses map[string]int) (best int) {
	least := 0
	for i, spellings := range kinds {
		n := 0
		for _, scope := range spellings {
			n += uses[scope]
			n += width(scope)
		}
		if i == 0 || n < least {
			best, least = i, n
		}
	}
	return best
}

// width estimates how much more a scope with a * matches than one without: cve:* much,
// repo:github.com/org/* hardly.
func width(scope string) int {
	if !strings.HasSuffix(scope, "*") {
		return 0
	}
	n := 1 << 30
	for i := range len(scope) {
		if separator(scope[i]) {
			n >>= 8
		}
	}
	return n
}

// Event is what policies match on.
type Event struct {
	Scopes []string // canonical, all of them
	// Verdict holds the names, URIs and digests of the policies whose verdict it is.
	Verdict []string
}

// MaxMatched is how many of the scopes that matched Match tells of one policy.
const MaxMatched = 256

// Match is a policy that an event triggers.
type Match struct {
	Policy Policy
	Scopes []string // that matched, sorted; the first MaxMatched of them
	Count  int      // of all that matched
}

// Match returns the policies that the event triggers, by name.
func (x *Index) Match(e Event) []Match {
	found := map[int32]*hit{}
	x.first.match(e.Scopes, found)
	everything := slices.Contains(e.Scopes, hint.All)
	if everything {
		for i := range x.policies {
			if found[int32(i)] == nil {
				found[int32(i)] = &hit{}
			}
		}
	}
	for _, i := range x.all {
		found[i] = &hit{kinds: 1, scopes: []string{hint.All}}
	}
	for _, name := range e.Verdict {
		for _, i := range x.known[name] {
			delete(found, i)
		}
	}
	x.others(e.Scopes, found)
	matches := make([]Match, 0, len(found))
	for _, i := range slices.Sorted(maps.Keys(found)) {
		h := found[i]
		if everything {
			h.scopes = append(h.scopes, hint.All)
		}
		if everything || h.kinds == h.need() {
			matches = append(matches, h.match(x.policies[i]))
		}
	}
	return matches
}

// others looks for the other kinds of those that were found by one kind of several.
func (x *Index) others(scopes []string, found map[int32]*hit) {
	var others terms
	for i, h := range found {
		if kinds := x.policies[i].kinds(); len(kinds) > 1 {
			*h = hit{more: len(kinds) - 1}
			for n, spellings := range kinds {
				others.add(term{i, 1 << n}, spellings)
			}
		}
	}
	others.match(scopes, found)
}

// kinds is a set of the kinds in one policy's selector, one bit each.
type kinds uint32

// hit is what an event has of one policy.
type hit struct {
	kinds  kinds // that matched
	more   int   // kinds in the selector, besides one
	scopes []string
}

func (h *hit) need() kinds { return 1<<(h.more+1) - 1 }

func (h *hit) match(p Policy) Match {
	slices.Sort(h.scopes)
	h.scopes = slices.Compact(h.scopes)
	return Match{Policy: p, Scopes: h.scopes[:min(len(h.scopes), MaxMatched)], Count: len(h.scopes)}
}

// term is a scope of a policy's selector, or an alias of one.
type term struct {
	policy int32
	kind   kinds // of the scope in the selector, one bit
}

// terms finds terms by the scopes that they match. The zero value is empty.
type terms struct {
	exact   map[string][]term
	untyped map[string][]term // by name: the components without a type, once more
	prefix  map[string][]term // by what stands before the *
	starred map[string]bool   // the kinds in prefix
	filter  filter            // of the keys of all maps of terms
}

// add enters a term under all its spellings.
func (ts *terms) add(t term, spellings []string) {
	if ts.exact == nil {
		ts.exact, ts.untyped, ts.prefix = map[string][]term{}, map[string][]term{}, map[string][]term{}
		ts.starred = map[string]bool{}
	}
	for _, scope := range spellings {
		if start, starred := strings.CutSuffix(scope, "*"); starred {
			kind := kindOf(scope)
			ts.starred[kind] = true
			ts.prefix[start] = append(ts.prefix[start], t)
			if hashed := kind + hashed; !strings.HasPrefix(hashed, start) {
				ts.prefix[hashed] = append(ts.prefix[hashed], t)
			}
			continue
		}
		ts.exact[scope] = append(ts.exact[scope], t)
		if name, ok := strings.CutPrefix(scope, component); ok {
			ts.untyped[name] = append(ts.untyped[name], t)
		}
	}
}

// seal makes match quick where there are many terms. None is added after it.
func (ts *terms) seal() {
	ts.filter = newFilter(len(ts.exact) + len(ts.untyped) + len(ts.prefix))
	for _, keys := range []map[string][]term{ts.exact, ts.untyped, ts.prefix} {
		for key := range keys {
			ts.filter.add(key)
		}
	}
}

// match adds to found what the scopes have of each policy.
func (ts *terms) match(scopes []string, found map[int32]*hit) {
	if ts.exact == nil {
		return
	}
	for _, scope := range scopes {
		look := func(in map[string][]term, key string) {
			if !ts.filter.may(key) {
				return
			}
			for _, t := range in[key] {
				h := found[t.policy]
				if h == nil {
					h = &hit{}
					found[t.policy] = h
				}
				h.kinds |= t.kind
				if n := len(h.scopes); n == 0 || h.scopes[n-1] != scope {
					h.scopes = append(h.scopes, scope)
				}
			}
		}
		look(ts.exact, scope)
		if name, ok := strings.CutPrefix(scope, component); ok {
			if _, name, ok = strings.Cut(name, "/"); ok {
				look(ts.untyped, name)
			}
		}
		if !ts.starred[kindOf(scope)] {
			continue
		}
		for i := range len(scope) {
			if separator(scope[i]) {
				look(ts.prefix, scope[:i+1])
			}
		}
	}
}

// Selects tells whether the selector, or an alias of it, names a scope.
func (p *Policy) Selects(scope string) bool {
	if scope == hint.All || slices.Contains(p.Selector, hint.All) {
		return true
	}
	var ts terms
	for _, spellings := range p.kinds() {
		ts.add(term{}, spellings)
	}
	found := map[int32]*hit{}
	ts.match([]string{scope}, found)
	return len(found) > 0
}

// Query returns the scopes that a selector looks for: by themselves, those that begin
// with a prefix (all where that is empty), and those of components with a name of any type.
func (p *Policy) Query() (exact, prefixes, untyped []string) {
	for _, spellings := range p.kinds() {
		for _, scope := range spellings {
			if scope == hint.All {
				return nil, []string{""}, nil
			}
			if prefix, ok := strings.CutSuffix(scope, "*"); ok {
				prefixes = append(prefixes, prefix, kindOf(scope)+hashed)
				continue
			}
			exact = append(exact, scope)
			if name, ok := strings.CutPrefix(scope, component); ok {
				untyped = append(untyped, name)
			}
		}
	}
	return exact, prefixes, untyped
}
