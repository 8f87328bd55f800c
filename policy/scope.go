package policy

import (
	"fmt"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
)

// separator tells whether a * may follow c.
func separator(c byte) bool { return c == '/' || c == ':' || c == '@' }

// kindOf returns what stands before the first colon.
func kindOf(scope string) string {
	kind, _, _ := strings.Cut(scope, ":")
	return kind
}

// component starts the scopes of packages: component:name, component:type/name.
const component = "component:"

// hashed is what stands behind the kind of a scope whose value is too long to be written
// out. Nobody can tell what it begins with, so it matches every * of its kind.
const hashed = ":~sha256:"

// parsePattern returns the canonical form of a scope in a selector, which may end in a *.
func parsePattern(scope string) (string, error) {
	pattern, err := canonical(strings.TrimSpace(scope))
	if err != nil {
		return "", err
	}
	// A form that has yet another form would never be equal to what is derived.
	if again, err := canonical(pattern); err != nil || again != pattern {
		return "", fmt.Errorf("%w: scope %.100q has no form of its own: write what lodge hints shows", lodge.ErrMalformed, scope)
	}
	return pattern, nil
}

func canonical(scope string) (string, error) {
	start, starred := strings.CutSuffix(scope, "*")
	if scope == hint.All || !starred {
		return hint.ParseScope(scope)
	}
	if start == "" || !separator(start[len(start)-1]) {
		return "", fmt.Errorf("%w: scope %.100q: a * stands at the end, right behind a / : or @", lodge.ErrMalformed, scope)
	}
	// With a name in the place of the * it is a scope, which has a canonical form.
	if whole, err := hint.ParseScope(start + placeholder); err == nil {
		if start, ok := strings.CutSuffix(whole, placeholder); ok && separator(start[len(start)-1]) {
			return start + "*", nil
		}
	}
	whole, err := hint.ParseScope(scope)
	if err == nil && !strings.HasSuffix(whole, start[len(start)-1:]+"*") {
		err = fmt.Errorf("%w: scope %.100q: a * can't stand there", lodge.ErrMalformed, scope)
	}
	return whole, err
}

// placeholder is fit for a name, a version and a path.
const placeholder = "0"
