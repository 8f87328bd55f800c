package hint

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/lodgehq/lodge"
)

// The limits of a hint document.
const (
	MaxList   = 256  // entries of a list
	MaxScopes = 1024 // scopes
)

// Document returns the hint document in its RFC 8785 form. Lists are cut to MaxList
// entries, scopes to MaxScopes; "counts" has their true sizes, "overflow" for each that was
// cut the SHA-256 digest of all its entries, one per line (a claim as its JSON). Where
// anything was cut, all:* is among the scopes.
func (h *Hints) Document() []byte { return h.document(true) }

// Digest returns the SHA-256 digest of the hint document.
func (h *Hints) Digest() lodge.Digest { return sha256.Sum256(h.document(true)) }

// ContentDigest returns the digest of the hint document without its payload's digest:
// another payload with the same one says nothing new.
func (h *Hints) ContentDigest() lodge.Digest { return sha256.Sum256(h.document(false)) }

// document writes members in ascending order of name, so that they are in RFC 8785 order;
// all names and values are ASCII.
func (h *Hints) document(payload bool) []byte {
	lists := []struct {
		name   string
		values []string
		claims bool // values are JSON already
	}{
		{"claims", h.claimRows(), true},
		{"components", h.Components, false},
		{"digests", h.Digests, false},
		{"issues", h.Issues, false},
		{"products", h.Products, false},
		{"repos", h.Repos, false},
		{"scopes", h.Scopes, false},
		{"subjects", h.Subjects, false},
		{"vulns", h.Vulns, false},
	}
	cut := map[string]bool{}
	for _, l := range lists {
		if len(l.values) > limit(l.name) {
			cut[l.name] = true
		}
	}
	members := map[string][]byte{
		"kind":          quote(string(h.Kind)),
		"predicateType": quote(h.PredicateType),
		"v":             []byte("1"),
		"x":             quote(Version),
	}
	if payload {
		members["payload"] = quote(h.Payload.String())
	}
	counts, overflow := map[string][]byte{}, map[string][]byte{}
	for _, l := range lists {
		values := l.values
		if l.name != "issues" {
			counts[l.name] = strconv.AppendInt(nil, int64(len(values)), 10)
		}
		if cut[l.name] {
			overflow[l.name] = quote(setDigest(values))
			values = values[:limit(l.name)]
		}
		if l.name == "scopes" && len(cut) > 0 && !h.All() {
			values = slices.Concat([]string{All}, values[:min(len(values), MaxScopes-1)])
			slices.Sort(values)
		}
		members[l.name] = array(values, l.claims)
	}
	members["counts"], members["overflow"] = object(counts), object(overflow)
	return object(members)
}

func limit(list string) int {
	if list == "scopes" {
		return MaxScopes
	}
	return MaxList
}

// claimRows returns the claims as JSON, in order.
func (h *Hints) claimRows() []string {
	rows := make([]string, len(h.Claims))
	for i, c := range h.Claims {
		rows[i] = string(array([]string{c.Vuln, c.Product, c.Status, c.Justification}, false))
	}
	return rows
}

// setDigest is SHA-256 over the values joined by line feeds.
func setDigest(values []string) string {
	hash := sha256.New()
	for i, v := range values {
		if i > 0 {
			hash.Write([]byte{'\n'})
		}
		hash.Write([]byte(v))
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

func object(members map[string][]byte) []byte {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	out := []byte{'{'}
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, quote(name)...), ':'), members[name]...)
	}
	return append(out, '}')
}

func array(values []string, raw bool) []byte {
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		if raw {
			out = append(out, v...)
		} else {
			out = append(out, quote(v)...)
		}
	}
	return append(out, ']')
}

// quote writes a string of printable ASCII as RFC 8785 does.
func quote(s string) []byte {
	out := append(make([]byte, 0, len(s)+2), '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			out = append(out, '\\')
		}
		out = append(out, s[i])
	}
	return append(out, '"')
}
