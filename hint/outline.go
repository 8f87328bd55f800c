package hint

import (
	"strings"
)

// An outline is what tells documents apart: the members of the outermost object. It is a
// guess from a quick look that checks nothing; whoever reads the document does.
type outline struct {
	kind          Kind
	read          func(*extraction) // reads a document of that kind
	predicateType string            // of a statement
	confirmed     bool              // its kind is known
}

// signs are the members that tell documents apart.
var signs = map[string]bool{
	"_type": true, "predicateType": true, "predicate": true, "subject": true, "signed": true, "signatures": true, "Data": true,
	"bomFormat": true, "specVersion": true, "components": true, "spdxVersion": true, "@context": true, "@graph": true,
	"statements": true, "document": true, "csaf_version": true, "product_tree": true, "SchemaVersion": true, "Results": true, "ArtifactName": true,
	"matches": true, "source": true, "descriptor": true, "runs": true, "artifacts": true, "artifactRelationships": true,
	"affected": true, "aliases": true, "Target": true, "Vulnerabilities": true, "Packages": true, "vulnerabilities": true, "author": true, "experimental_config": true, "id": true, "modified": true, "results": true, "schema_version": true,
	"buildDefinition": true, "runDetails": true, "buildType": true, "builder": true, "recipe": true,
	"materials": true, "products": true, "byproducts": true, "command": true, "scanner": true, "attestations": true,
}

// shape is the members of an object that are signs.
type shape map[string][]byte

// has tells whether all members are there.
func (s shape) has(names ...string) bool {
	for _, name := range names {
		if _, ok := s[name]; !ok {
			return false
		}
	}
	return true
}

// text is a member that is a string.
func (s shape) text(name string) string {
	text, _ := stringOf(s[name])
	return text
}

// mentions tells whether a member, a string or list of strings, has a text in it.
func (s shape) mentions(name, text string) (found bool) {
	if s[name] == nil {
		return false
	}
	r := newReader(s[name], 0, 0)
	r.stray = r.skip
	r.texts(func(item string) { found = found || strings.Contains(item, text) })
	return found
}

// outlined takes a quick look at a document. Of a predicate, predicateType is known.
func outlined(src []byte, predicateType string) *outline {
	if text, ok := stringOf(src); ok { // a predicate that is a string holds a document
		inner := outlined([]byte(text), predicateType)
		return &outline{kind: inner.kind, confirmed: inner.confirmed, read: func(x *extraction) { x.nested((*extraction).generic) }}
	}
	s := shaped(src)
	issue := "unknown-kind"
	if byType(predicateType) != nil {
		issue = "unknown-shape"
	}
	switch known := chosen(s, predicateType); {
	case s.text("bomFormat") == cycloneDX: // shaped has seen no more
		return &outline{kind: CycloneDX, read: (*extraction).cyclonedx, confirmed: true}
	case s.has("predicate") || s.has("predicateType", "subject"):
		return outlinedStatement(s)
	case known != nil && known.kind != Generic:
		return &outline{kind: known.kind, read: known.read, confirmed: true}
	case kindOf(s["Data"]) == '{' || kindOf(s["Data"]) == '"': // old cosign and Syft
		inner := outlined(s["Data"], predicateType)
		return &outline{kind: inner.kind, confirmed: true, read: (*extraction).wrapped}
	case kindOf(s["signed"]) == '{': // of an in-toto link
		inner := outlined(s["signed"], predicateType)
		return &outline{kind: inner.kind, confirmed: true, read: (*extraction).wrapped}
	case known != nil:
		return &outline{kind: known.kind, read: known.read, confirmed: true}
	}
	return &outline{kind: Generic, read: func(x *extraction) {
		x.issue(issue)
		x.generic()
	}}
}

func outlinedStatement(s shape) *outline {
	o := &outline{kind: Generic, confirmed: true, predicateType: s.text("predicateType")}
	var predicate func(*extraction)
	if p, ok := s["predicate"]; ok && kindOf(p) != 'n' {
		inner := outlined(p, o.predicateType)
		o.kind, predicate = inner.kind, inner.read
	} else if known := byType(o.predicateType); known != nil {
		o.kind = known.kind
	}
	o.read = func(x *extraction) { x.statement(predicate) }
	return o
}

// stringOf returns the string that src is.
func stringOf(src []byte) (string, bool) {
	l := lexer{src: src}
	if l.next() != '"' {
		return "", false
	}
	text := string(l.quoted())
	return text, l.err == nil
}

// kindOf returns the first byte of a value, 0 where there is none.
func kindOf(src []byte) byte {
	l := lexer{src: src}
	return l.next()
}

// shaped reads the members of an object that are signs, of a list those of its first
// element. It goes as far as it can: whoever reads the document sees what is wrong.
func shaped(src []byte) shape {
	s := shape{}
	r := newReader(src, 0, 0)
	r.loose = true
	if r.peek() == '[' {
		r.accept('[')
	}
	if r.peek() != '{' || !r.open('{') {
		return s
	}
	for more := r.next() != '}'; more && r.err == nil; more = r.another('}') {
		name := string(r.name(nil))
		value := r.raw()
		if r.err == nil && signs[name] {
			s[name] = value
		}
		if name == "bomFormat" && s.text(name) == cycloneDX {
			break // outweighs everything else, so that large SBOMs are not looked through
		}
	}
	return s
}

// A format is a kind of document.
type format struct {
	kind  Kind
	types []string         // beginnings of its predicate types, without https://, and its payload types
	is    func(shape) bool // nil where only the predicate type tells
	read  func(*extraction)
}

// byType returns the format of a predicate type.
func byType(predicateType string) *format {
	if predicateType == "" {
		return nil
	}
	t := strings.TrimPrefix(predicateType, "https://")
	for i := range formats {
		for _, prefix := range formats[i].types {
			if strings.HasPrefix(t, prefix) {
				return &formats[i]
			}
		}
	}
	return nil
}

// chosen returns the format of a document: that of its shape, with that of its predicate
// type first.
func chosen(s shape, predicateType string) *format {
	known := byType(predicateType)
	if known != nil && (known.is == nil || known.is(s)) {
		return known
	}
	for i := range formats {
		if is := formats[i].is; is != nil && is(s) {
			return &formats[i]
		}
	}
	return nil
}
