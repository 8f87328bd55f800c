package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/lodgehq/lodge"
)

// Limits of a file of policies. The YAML parser takes quadratic time for much that no policy
// needs, so each document is bounded before it is parsed.
const (
	MaxFile     = 1 << 20  // bytes
	MaxPolicies = 1024     // documents
	maxDocument = 64 << 10 // bytes
	maxMarks    = 2500     // characters that may begin a nested value
	maxIndent   = 64       // bytes before the text of a line
)

// Parse reads policies from YAML, one per document, and normalises them. Unknown members,
// anchors, tags and two policies of one name are refused: a mistyped member must not make
// a policy match something else. An error is one line that wraps lodge.ErrMalformed or
// lodge.ErrLimit.
func Parse(file []byte) ([]Policy, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes (at most %d)", lodge.ErrLimit, len(file), MaxFile)
	}
	var policies []Policy
	line := 1
	for _, document := range split(file) {
		p, err := parse(document)
		if err == nil && p != nil && slices.ContainsFunc(policies, func(other Policy) bool { return other.Name == p.Name }) {
			err = fmt.Errorf("%w: there are two policies %q: give one another name", lodge.ErrMalformed, p.Name)
		}
		if err == nil && len(policies) == MaxPolicies {
			err = fmt.Errorf("%w: more than %d policies in one file", lodge.ErrLimit, MaxPolicies)
		}
		if err != nil && line > 1 {
			err = fmt.Errorf("document that begins at line %d: %w", line, err)
		}
		if err != nil {
			return nil, err
		}
		if p != nil {
			policies = append(policies, *p)
		}
		line += bytes.Count(document, []byte("\n"))
	}
	if len(policies) == 0 {
		return nil, fmt.Errorf("%w: there is no policy in it", lodge.ErrMalformed)
	}
	return policies, nil
}

// split returns the documents of a file. A line that begins with --- begins one, also
// inside of a block of text (YAML 1.2 section 9.1.2).
func split(file []byte) [][]byte {
	var documents [][]byte
	start, at := 0, 0
	for line := range bytes.Lines(file) {
		if rest, ok := bytes.CutPrefix(line, []byte("---")); ok && at > start && len(bytes.TrimLeft(rest, " \t\r\n")) < max(len(rest), 1) {
			documents = append(documents, file[start:at])
			start = at
		}
		at += len(line)
	}
	return append(documents, file[start:])
}

// parse reads one document; nil where it is empty.
func parse(document []byte) (*Policy, error) {
	if err := checkSize(document); err != nil {
		return nil, err
	}
	tree, err := parser.ParseBytes(document, 0)
	if err != nil {
		return nil, malformed(err)
	}
	var p *Policy
	for _, d := range tree.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue
		}
		if p != nil {
			return nil, fmt.Errorf("%w: begin each policy with a line of ---", lodge.ErrMalformed)
		}
		p = &Policy{}
		if err := decode(d.Body, p); err != nil {
			return nil, err
		}
	}
	if p == nil {
		return nil, nil
	}
	normal, err := p.Normalize()
	if err != nil && checkName(p.Name) == nil {
		err = fmt.Errorf("policy %s: %w", p.Name, err)
	}
	return &normal, err
}

func checkSize(document []byte) error {
	if len(document) > maxDocument {
		return fmt.Errorf("%w: a policy of %d bytes (at most %d)", lodge.ErrLimit, len(document), maxDocument)
	}
	marks := 0
	for line := range bytes.Lines(document) {
		for _, c := range line {
			if strings.IndexByte(",[]{}?|>&*!", c) >= 0 {
				marks++
			}
		}
		if indent := len(line) - len(bytes.TrimLeft(line, " -?:\t")); indent > maxIndent {
			return fmt.Errorf("%w: a line is indented by %d (at most %d)", lodge.ErrLimit, indent, maxIndent)
		}
	}
	if marks > maxMarks {
		return fmt.Errorf("%w: more than %d commas and brackets: write lists with one item a line", lodge.ErrLimit, maxMarks)
	}
	return nil
}

func decode(document ast.Node, p *Policy) error {
	v := &strict{}
	ast.Walk(v, document)
	if v.err != nil {
		return v.err
	}
	if err := yaml.NodeToValue(document, p, yaml.Strict()); err != nil {
		return malformed(err)
	}
	return nil
}

// strict looks for what is not allowed.
type strict struct{ err error }

// Visit implements ast.Visitor.
func (v *strict) Visit(node ast.Node) ast.Visitor {
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		v.err = fmt.Errorf("%w: line %d: anchors, aliases, merges and tags are not for policies: write it out",
			lodge.ErrMalformed, node.GetToken().Position.Line)
	}
	if v.err != nil {
		return nil
	}
	return v
}

// malformed says in one line what the YAML library says, without its excerpt of the file.
func malformed(err error) error {
	return fmt.Errorf("%w: %s", lodge.ErrMalformed, strings.Join(strings.Fields(yaml.FormatError(err, false, false)), " "))
}
