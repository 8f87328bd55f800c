package trigger

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/policy"
)

// subject is what an event says of the envelope that it is about.
type subject struct {
	Key    lodge.Key
	Signer lodge.Signer
	Target lodge.Target
	Scopes []string // of ScopesAdded: the new ones
	Hints  *struct {
		Kind   hint.Kind
		Scope  []string // in effect when it happened; complete below lodge.MaxEventScopes and without all:*
		Counts struct{ Claims int }
	}
}

// whole tells whether the event itself has all that is needed: all scopes, uncut, and neither
// claims nor the policies whose verdict it is.
func (s *subject) whole() bool {
	return s.Hints != nil && s.Hints.Kind != "" && s.Hints.Kind != hint.Verdict && s.Hints.Counts.Claims == 0 &&
		len(s.Hints.Scope) < lodge.MaxEventScopes && !slices.Contains(s.Hints.Scope, lodge.ScopeAll)
}

// react returns what follows from an event; nil where nothing does.
func (e *Engine) react(ctx context.Context, l Ledger, event lodge.Event) (*lodge.Reaction, error) {
	switch event.Type {
	case lodge.InclusionVerified, lodge.ArtifactPublished, lodge.ScopesAdded:
	case lodge.EntryFailed: // what is published may have waited for this log
	default:
		return nil, nil
	}
	var s subject
	if err := json.Unmarshal(event.Data, &s); err != nil {
		return nil, err
	}
	if event.Type == lodge.EntryFailed && s.Target.Kind != lodge.KindLog {
		return nil, nil
	}
	if event.Type != lodge.InclusionVerified {
		proven, err := e.config.Outbox.Proven(ctx, s.Key, s.Signer, event.Type)
		if err != nil || !proven {
			return nil, err // InclusionVerified or EntryFailed comes later, or has come
		}
	}
	facts, err := e.facts(ctx, &s)
	if err != nil {
		return nil, err
	}
	r := lodge.Reaction{Key: s.Key, Signer: s.Signer}
	scopes := facts.Scopes
	var moved *lodge.Movement
	if h := facts.Hints; h != nil && len(h.Claims) > 0 {
		var all []lodge.ClaimMove
		if r.Claims, all, err = moves(ctx, l, &s, facts, event.Time); err != nil {
			return nil, err
		}
		moved = movement(all)
		if event.Type != lodge.ScopesAdded { // what a submitter names is named for a reason
			scopes = narrow(facts, all)
		}
		if scopes == nil {
			slog.Info("a VEX document says nothing new: no policy is triggered", "key", s.Key, "signer", s.Signer, "claims", lodge.CountMoves(moved.Counts))
		}
	}
	if scopes != nil {
		r.Requests = e.requests(event, &s, facts, scopes, moved)
	}
	if len(r.Claims) == 0 && len(r.Requests) == 0 {
		return nil, nil
	}
	return &r, nil
}

// facts returns what an envelope is about: what the event has of it, where that is enough.
func (e *Engine) facts(ctx context.Context, s *subject) (Facts, error) {
	if s.whole() {
		return Facts{Scopes: s.Hints.Scope}, nil
	}
	facts, err := e.config.Outbox.Facts(ctx, s.Key, s.Signer)
	if err == nil && facts.Hints == nil { // pruned: what the event shows has all:* where it is cut
		facts.Scopes = union(facts.Given, []string{lodge.ScopeAll})
		if s.Hints != nil {
			facts.Scopes = s.Hints.Scope
		}
	}
	return facts, err
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// narrow returns the scopes that policies are matched with: all of them, but for those of
// vulnerabilities on which a VEX document says what was known. It is nil where a document
// says nothing new at all. A document that is more than VEX, and one of which something
// could not be read, is never taken for a mere repetition; nor are given scopes left out.
func narrow(f Facts, moves []lodge.ClaimMove) []string {
	if f.Hints.Kind != hint.OpenVEX && f.Hints.Kind != hint.CSAF || f.Hints.All() || len(f.Hints.Issues) > 0 {
		return f.Scopes
	}
	news := map[string]bool{} // by vulnerability: whether there is any
	some := false
	for _, m := range moves {
		moved := m.Move != lodge.Unchanged && m.Move != lodge.Outdated
		news[m.Vuln] = news[m.Vuln] || moved
		some = some || moved
	}
	if !some {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(f.Scopes), func(scope string) bool {
		kind, id, _ := strings.Cut(scope, ":")
		isNew, claimed := news[id]
		return (kind == "cve" || kind == "vuln") && claimed && !isNew && !slices.Contains(f.Given, scope)
	})
}

// requests returns what the policies are asked that match.
func (e *Engine) requests(event lodge.Event, s *subject, f Facts, scopes []string, moved *lodge.Movement) []lodge.Event {
	match := policy.Event{Scopes: scopes}
	if f.Hints != nil {
		match.Verdict = f.Hints.Policies
	}
	var requests []lodge.Event
	for _, m := range e.index.Match(match) {
		if event.Type == lodge.ScopesAdded && !slices.ContainsFunc(s.Scopes, m.Policy.Selects) {
			continue // the new scopes are nothing to it
		}
		priority := m.Policy.Priority
		if moved != nil && moved.Move == lodge.Tightened {
			priority = policy.High
		}
		requests = append(requests, lodge.RequestedEvent(lodge.Request{
			Key: s.Key, Policy: m.Policy.Name, Revision: m.Policy.Revision(), Reason: m.Policy.Reason, Priority: string(priority),
			Cause:  lodge.Cause{ID: event.ID.Hex(), Type: event.Type, Sequence: event.Sequence},
			Scopes: m.Scopes, Count: m.Count, VEX: moved,
		}, time.Now()))
	}
	return requests
}
