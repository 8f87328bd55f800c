package lodge

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Hints is what the payload of an envelope says is to be looked at again, as package hint
// took it out. The zero value stands for an envelope that nothing was taken out of.
type Hints struct {
	Version  string          // of the extractor
	Document json.RawMessage // the hint document: RFC 8785 form, its lists capped
	Scopes   []string        // all scopes, sorted
}

// ScopeAll is the scope that every policy matches: something was cut or unreadable.
const ScopeAll = "all:*"

// MaxEventScopes is how many scopes an event carries. With more, ScopeAll is among them.
const MaxEventScopes = 1024

// MaxEventHints is how large the hints of an event are in bytes, so that any sink takes it
// (NATS takes a MiB). Of larger ones it has the numbers alone, and ScopeAll.
const MaxEventHints = 512 << 10

// Scope returns the scopes that are in effect, sorted: those that submitters gave, and the
// derived ones too unless the first submitter narrowed them by giving some. A given scope
// never removes ScopeAll (promise 8).
func (h Hints) Scope(given []string, narrowed bool) []string {
	derived := h.Scopes
	if narrowed {
		derived = nil
		if slices.Contains(h.Scopes, ScopeAll) {
			derived = []string{ScopeAll}
		}
	}
	scope := slices.Concat(given, derived)
	slices.Sort(scope)
	return slices.Compact(scope)
}

// EventHints returns what events carry of the hints: the hint document with the member
// "scope", what is in effect, in the place of "scopes", what was derived; and its digest
// as a reference to the whole. It is nil where there are no hints.
func (h Hints) EventHints(scope []string) json.RawMessage {
	var members map[string]json.RawMessage
	if len(h.Document) == 0 || json.Unmarshal(h.Document, &members) != nil {
		if len(scope) == 0 {
			return nil
		}
		members = map[string]json.RawMessage{}
	}
	delete(members, "scopes")
	members["scope"] = list(shown(scope))
	if len(h.Document) > 0 {
		members["digest"] = []byte(quote(DigestOf(h.Document).String()))
	}
	document := marshal(members)
	if len(document) > MaxEventHints {
		maps.DeleteFunc(members, func(_ string, value json.RawMessage) bool { return value[0] == '[' })
		members["scope"] = list([]string{ScopeAll})
		document = marshal(members)
	}
	return document
}

// shown returns as many scopes as an event has room for. With more, ScopeAll is among them:
// what a reader can't see must not make it miss anything.
func shown(scope []string) []string {
	if len(scope) <= MaxEventScopes {
		return scope
	}
	scope = append(slices.Clone(scope[:MaxEventScopes-1]), ScopeAll)
	slices.Sort(scope)
	return scope
}

func marshal(members map[string]json.RawMessage) json.RawMessage {
	document, err := json.Marshal(members) // in the order of names, which are ASCII
	if err != nil {
		panic(err) // they were JSON before
	}
	return document
}

func list(values []string) json.RawMessage {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return []byte("[" + strings.Join(quoted, ",") + "]")
}
