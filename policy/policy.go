// Package policy says what is to be looked at again: a policy is a named selector over
// scopes, and an event whose scopes it matches triggers it.
//
// A selector is a list of scopes, OR inside a kind and AND between kinds:
//
//	[component:openssl, component:libressl]     what names either
//	[component:openssl, repo:github.com/org/*]  what names openssl and a repository of org
//	[all:*]                                     everything; an empty selector is refused
//
// Scopes match as whole tokens, never as parts of a word: component:openssl is not
// component:pyopenssl. A * at the end, behind one of the separators / : @, stands for
// whatever follows. A component without a type matches that of any type. An event with
// the scope all:* matches every policy.
//
// The package is pure: no clock, no files, no database. It may import the root package,
// dsse and hint.
package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/hint"
)

// Limits of a policy. What is beyond them wraps lodge.ErrLimit.
const (
	MaxName   = 128  // bytes of a name
	MaxText   = 4096 // bytes of a description or reason
	MaxScopes = 500  // scopes of a selector, of all its aliases, and names in knownAs
)

// Priority says how soon a triggered policy is to look.
type Priority string

// The priorities.
const (
	Normal Priority = "normal"
	High   Priority = "high"
)

// Policy is a named selector, in the form that Normalize gives it. Its YAML and its JSON
// have the same members.
type Policy struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description,omitempty" yaml:"description"`
	// Selector holds scopes, OR inside a kind and AND between kinds.
	Selector []string `json:"selector" yaml:"selector"`
	// Aliases are other spellings of scopes in the selector. They may be of another kind
	// and count for the scope that they stand for.
	Aliases map[string][]string `json:"aliases,omitempty" yaml:"aliases"`
	// KnownAs holds the URIs and digests by which verdicts name this policy, besides its
	// name and its revision: a verdict never triggers the policy that it comes from.
	KnownAs []string `json:"knownAs,omitempty" yaml:"knownAs"`
	// Reason is what its events say.
	Reason string `json:"reason,omitempty" yaml:"reason"`
	// Priority of its events; Normal where it is empty.
	Priority Priority `json:"priority" yaml:"priority"`
}

// Normalize returns p in its one form: canonical scopes, sorted, each once. An error
// wraps lodge.ErrMalformed or lodge.ErrLimit and says what to write instead.
func (p Policy) Normalize() (Policy, error) {
	if err := checkName(p.Name); err != nil {
		return Policy{}, err
	}
	for what, text := range map[string]string{"description": p.Description, "reason": p.Reason} {
		if err := checkText(text); err != nil {
			return Policy{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	switch p.Priority = cmp.Or(p.Priority, Normal); {
	case p.Priority != Normal && p.Priority != High:
		return Policy{}, fmt.Errorf("%w: priority %.40q: want normal or high", lodge.ErrMalformed, p.Priority)
	case len(p.Selector) == 0:
		return Policy{}, fmt.Errorf("%w: the selector is empty: write selector: [\"all:*\"] to match everything", lodge.ErrMalformed)
	}
	var err error
	if p.Selector, err = normalizeScopes(p.Selector); err != nil {
		return Policy{}, fmt.Errorf("selector: %w", err)
	}
	if slices.Contains(p.Selector, hint.All) && len(p.Selector) > 1 {
		return Policy{}, fmt.Errorf("%w: selector: all:* matches everything: leave the other scopes out, or it", lodge.ErrMalformed)
	}
	if p.Aliases, err = normalizeAliases(p.Aliases, p.Selector); err != nil {
		return Policy{}, fmt.Errorf("aliases: %w", err)
	}
	p.KnownAs, err = normalizeNames(p.KnownAs)
	return p, err
}

// Revision is the digest of the RFC 8785 form of the normalised policy: the same policy
// has the same revision everywhere, however it is written.
func (p Policy) Revision() lodge.Digest { return lodge.DigestOf(p.JSON()) }

// JSON returns the RFC 8785 form of the normalised policy.
func (p Policy) JSON() []byte {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings always marshal
	}
	return dsse.Canonical("application/json", raw)
}

// checkName keeps names to what is one word in a URL, a file name and a terminal.
func checkName(name string) error {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }
	other := func(r rune) bool { return !letter(r) && !strings.ContainsRune("._-", r) }
	switch {
	case name == "":
		return fmt.Errorf("%w: the policy has no name", lodge.ErrMalformed)
	case len(name) > MaxName:
		return fmt.Errorf("%w: name %.40q…: %d bytes (at most %d)", lodge.ErrLimit, name, len(name), MaxName)
	case !letter(rune(name[0])) || strings.ContainsFunc(name, other):
		return fmt.Errorf("%w: name %q: want lower-case letters, digits and . _ -, a letter or digit first", lodge.ErrMalformed, name)
	}
	return nil
}

func checkText(text string) error {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	switch {
	case len(text) > MaxText:
		return fmt.Errorf("%w: %d bytes (at most %d)", lodge.ErrLimit, len(text), MaxText)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, control):
		return fmt.Errorf("%w: want text in UTF-8 without control characters", lodge.ErrMalformed)
	}
	return nil
}

func normalizeScopes(scopes []string) ([]string, error) {
	if len(scopes) > MaxScopes {
		return nil, fmt.Errorf("%w: %d scopes (at most %d)", lodge.ErrLimit, len(scopes), MaxScopes)
	}
	normal := make([]string, len(scopes))
	for i, scope := range scopes {
		var err error
		if normal[i], err = parsePattern(scope); err != nil {
			return nil, err
		}
	}
	slices.Sort(normal)
	return slices.Compact(normal), nil
}

func normalizeAliases(aliases map[string][]string, selector []string) (map[string][]string, error) {
	normal := map[string][]string{}
	total := 0
	for _, of := range slices.Sorted(maps.Keys(aliases)) {
		scope, err := parsePattern(of)
		if err != nil {
			return nil, err
		}
		if _, ok := slices.BinarySearch(selector, scope); !ok {
			return nil, fmt.Errorf("%w: %s is not in the selector: add it there, or mend its spelling", lodge.ErrMalformed, scope)
		}
		if total += len(aliases[of]); total > MaxScopes {
			return nil, fmt.Errorf("%w: more than %d scopes", lodge.ErrLimit, MaxScopes)
		}
		others, err := normalizeScopes(slices.Concat(normal[scope], aliases[of]))
		if err != nil {
			return nil, err
		}
		if slices.Contains(others, hint.All) {
			return nil, fmt.Errorf("%w: all:* is no alias: write it as the selector", lodge.ErrMalformed)
		}
		if len(others) > 0 {
			normal[scope] = others
		}
	}
	if len(normal) == 0 {
		return nil, nil
	}
	return normal, nil
}

func normalizeNames(names []string) ([]string, error) {
	if len(names) > MaxScopes {
		return nil, fmt.Errorf("knownAs: %w: %d names (at most %d)", lodge.ErrLimit, len(names), MaxScopes)
	}
	for _, name := range names {
		if err := checkText(name); err != nil || name == "" {
			return nil, fmt.Errorf("knownAs: %w: %.40q: want a URI, or a digest such as sha256:…", lodge.ErrMalformed, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	sorted := slices.Sorted(slices.Values(names))
	return slices.Compact(sorted), nil
}
