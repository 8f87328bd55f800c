package bundle

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/lodgehq/lodge"
)

// Statement is what an in-toto statement says about what it is about. It is zero where the
// payload is none.
type Statement struct {
	PredicateType string
	Subjects      []lodge.Digest // SHA-256 only, sorted, without duplicates
}

// statementType starts the `_type` of every version of the in-toto statement.
const statementType = "https://in-toto.io/Statement/"

// ParseStatement reads the head of an in-toto statement (attestation framework, Statement
// v0.1 and v1). It never fails: a payload that is no statement, and a member of another
// type than specified, just gives less. Real statements have subjects without a SHA-256
// digest, or with something shorter under that name; these are left out.
func ParseStatement(payloadType string, payload []byte) Statement {
	if !isInToto(payloadType) {
		return Statement{}
	}
	// A map takes member names as they are; a struct would take `PREDICATETYPE` too.
	var top map[string]json.RawMessage
	if json.Unmarshal(payload, &top) != nil {
		return Statement{}
	}
	predicateType := text(top["predicateType"])
	// Some producers leave `_type` out; links (`_type: link`) have no predicate type.
	_, typed := top["_type"]
	if typed && !strings.HasPrefix(text(top["_type"]), statementType) || !typed && predicateType == "" {
		return Statement{}
	}
	return Statement{PredicateType: predicateType, Subjects: subjects(top["subject"])}
}

// isInToto is loose about the payload type, for producers are: in-toto's own media types,
// plain JSON, and the statement's type itself. The payload's `_type` decides.
func isInToto(payloadType string) bool {
	essence, _, _ := strings.Cut(strings.ToLower(payloadType), ";")
	essence = strings.TrimSpace(essence)
	return essence == "application/json" || strings.HasSuffix(essence, "+json") ||
		strings.HasPrefix(payloadType, statementType)
}

func subjects(raw json.RawMessage) []lodge.Digest {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	var digests []lodge.Digest
	for _, item := range list {
		var subject, digest map[string]json.RawMessage
		if json.Unmarshal(item, &subject) != nil || json.Unmarshal(subject["digest"], &digest) != nil {
			continue
		}
		if d, err := lodge.ParseDigest("sha256:" + strings.ToLower(text(digest["sha256"]))); err == nil {
			digests = append(digests, d)
		}
	}
	slices.SortFunc(digests, func(a, b lodge.Digest) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(digests)
}

// text returns a JSON string's value, or nothing.
func text(raw json.RawMessage) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
