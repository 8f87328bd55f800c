package hint_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge/hint"
)

// A node is a JSON value that can be written in another way.
type node struct {
	open  json.Delim // of an object or array, else 0
	names []string
	items []*node
	leaf  []byte
}

// parse reads a JSON value; nil where it is none.
func parse(src []byte) *node {
	d := json.NewDecoder(bytes.NewReader(src))
	d.UseNumber()
	n := parseNode(d)
	if n == nil || d.More() {
		return nil
	}
	return n
}

func parseNode(d *json.Decoder) *node {
	token, err := d.Token()
	if err != nil {
		return nil
	}
	open, ok := token.(json.Delim)
	if !ok {
		leaf, err := json.Marshal(token)
		if err != nil {
			return nil
		}
		return &node{leaf: leaf}
	}
	n := &node{open: open}
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			name, ok := token.(string)
			if err != nil || !ok {
				return nil
			}
			n.names = append(n.names, name)
		}
		item := parseNode(d)
		if item == nil {
			return nil
		}
		n.items = append(n.items, item)
	}
	if _, err := d.Token(); err != nil {
		return nil
	}
	return n
}

// write writes the same value in another way: members in another order, white space
// anywhere, and some elements of arrays twice.
func (n *node) write(b *bytes.Buffer, rng *rand.Rand) {
	space := func() { b.WriteString(strings.Repeat(" \t\r\n"[rng.IntN(4):][:1], rng.IntN(3)*rng.IntN(9))) }
	space()
	defer space()
	switch n.open {
	case '{':
		b.WriteByte('{')
		for i, j := range rng.Perm(len(n.items)) {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			name, _ := json.Marshal(n.names[j])
			if i := bytes.IndexByte(name, 'e'); i > 0 && rng.IntN(8) == 0 && !bytes.Contains(name, []byte(`\`)) {
				name = bytes.Replace(name, []byte("e"), []byte(`\u0065`), 1)
			}
			b.Write(name)
			space()
			b.WriteByte(':')
			n.items[j].write(b, rng)
		}
		space()
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.write(b, rng)
			if rng.IntN(3) == 0 {
				b.WriteByte(',')
				n.items[rng.IntN(i+1)].write(b, rng)
			}
		}
		space()
		b.WriteByte(']')
	default:
		b.Write(n.leaf)
	}
}

// TestSameHints writes each fixture in many other ways that mean the same.
func TestSameHints(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range fixtures(t) {
		want := hint.Extract("", f.input)
		tree := parse(f.input)
		if want.Kind == hint.Unparsable || tree == nil {
			continue
		}
		for range 50 {
			var b bytes.Buffer
			tree.write(&b, rng)
			got := hint.Extract("", b.Bytes())
			if got.ContentDigest() != want.ContentDigest() || got.Author != want.Author || !got.Issued.Equal(want.Issued) || got.Revision != want.Revision {
				t.Fatalf("%s: other hints: %s\n%s", f.path, cmp.Diff(indented(t, want.Document()), indented(t, got.Document())), b.Bytes())
			}
		}
	}
}

// The payload's digest is in the document, and only there.
func TestDigests(t *testing.T) {
	a, b := hint.Extract("", []byte(`{"a":"CVE-2024-0001"}`)), hint.Extract("", []byte(`{"a": "CVE-2024-0001"}`))
	if a.Digest() == b.Digest() || a.ContentDigest() != b.ContentDigest() {
		t.Error("another payload of the same content has another document and the same content")
	}
	if again := hint.Extract("", []byte(`{"a":"CVE-2024-0001"}`)); again.Digest() != a.Digest() {
		t.Error("the same payload has another document")
	}
}

// TestScopesAreNormal: what a scope becomes stays as it is, for values put together of what
// scopes, URLs and purls are made of.
func TestScopesAreNormal(t *testing.T) {
	kinds := []string{"artifact", "builder", "component", "cpe", "cve", "predicate", "product", "purl", "repo", "vuln"}
	pieces := []string{"git+", "git@", "https://", "://", "a.b", "/", ":", ".git", "@", "#", "?", "+", "x", "%2F", "%2f", "%", "é", " ", "*", "~", "\\", "A", "&", "=",
		"pkg:", "npm/", "golang/", "cpe:2.3:", "cpe:/", "a:", "iri:", "csaf:", "sha256:", "CVE-2024-3094", "ghsa-5555-6666-7777", "..", "//", "1.0", "v1"}
	rng := rand.New(rand.NewPCG(1, 2))
	accepted, wrong := 0, 0
	for range 300_000 {
		typed := kinds[rng.IntN(len(kinds))] + ":"
		for range 1 + rng.IntN(8) {
			typed += pieces[rng.IntN(len(pieces))]
		}
		scope, err := hint.ParseScope(typed)
		if err != nil {
			continue
		}
		accepted++
		if again, err := hint.ParseScope(scope); err != nil || again != scope {
			if wrong++; wrong <= 20 {
				t.Errorf("%q becomes %q, then %q, %v", typed, scope, again, err)
			}
		}
	}
	if accepted < 100_000 {
		t.Errorf("only %d were scopes", accepted)
	}
}
