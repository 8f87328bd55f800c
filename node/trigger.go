package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/policy"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/trigger"
)

// triggers is the store as package trigger sees it.
type triggers struct{ *store.Store }

// Under implements trigger.Leases.
func (s triggers) Under(name string, term int64) trigger.Ledger { return s.Store.Under(name, term) }

// Proven implements trigger.Outbox.
func (s triggers) Proven(ctx context.Context, key lodge.Key, signer lodge.Signer, by lodge.EventType) (bool, error) {
	st, err := s.Standing(ctx, key, signer)
	return st.Proven(by), err
}

// Facts implements trigger.Outbox. They are taken out of the payload, for the store keeps
// hints that are cut.
func (s triggers) Facts(ctx context.Context, key lodge.Key, signer lodge.Signer) (trigger.Facts, error) {
	given, narrowed, err := s.Scopes(ctx, key, signer)
	facts := trigger.Facts{Given: given}
	if err != nil {
		return facts, err
	}
	sub, err := s.Envelope(ctx, key, signer)
	if err != nil || len(sub.Raw) == 0 {
		return facts, err
	}
	b, err := bundle.Parse(sub.Raw)
	if err != nil { // an earlier lodge accepted it
		slog.Warn("what an envelope is about can't be read", "key", key, "error", err)
		return facts, nil
	}
	facts.Hints = hint.Extract(b.Envelope.PayloadType, b.Envelope.Payload)
	facts.Scopes = lodge.Hints{Scopes: facts.Hints.Scopes}.Scope(given, narrowed)
	return facts, nil
}

func (n *Node) trigger(ctx context.Context) error {
	return trigger.New(trigger.Config{Outbox: triggers{n.store}, Leases: triggers{n.store}}).Run(ctx)
}

// Applied says what ApplyPolicy did.
type Applied string

// What ApplyPolicy may do.
const (
	PolicyCreated   Applied = "created"
	PolicyUpdated   Applied = "updated"
	PolicyUnchanged Applied = "unchanged"
)

// ApplyPolicy makes a policy of that name be the given one. From then on, every envelope
// that is proven to be lodged triggers it where it matches; see Touched for those before.
func (n *Node) ApplyPolicy(ctx context.Context, p policy.Policy) (Applied, error) {
	p, err := p.Normalize()
	if err != nil {
		return "", err
	}
	before, err := n.store.ApplyPolicy(ctx, lodge.AppliedPolicy{Name: p.Name, Revision: p.Revision(), Body: p.JSON()}, time.Now())
	switch {
	case err != nil:
		return "", err
	case before.Body == nil:
		return PolicyCreated, nil
	case before.Revision != p.Revision():
		return PolicyUpdated, nil
	}
	return PolicyUnchanged, nil
}

// DeletePolicy deletes a policy, or returns an error that wraps lodge.ErrNotFound.
func (n *Node) DeletePolicy(ctx context.Context, name string) error {
	return n.store.DeletePolicy(ctx, name, time.Now())
}

// Policies returns the policies that are applied, by name.
func (n *Node) Policies(ctx context.Context) ([]policy.Policy, error) {
	changed, err := n.store.PolicyChanges(ctx, 0)
	if err != nil {
		return nil, err
	}
	var policies []policy.Policy
	for _, c := range changed {
		if c.Body == nil {
			continue
		}
		var p policy.Policy
		if err := json.Unmarshal(c.Body, &p); err != nil {
			return nil, fmt.Errorf("policy %s: %w", c.Name, err)
		}
		policies = append(policies, p)
	}
	slices.SortFunc(policies, func(a, b policy.Policy) int { return strings.Compare(a.Name, b.Name) })
	return policies, nil
}

// MatchEvent returns what policies match an envelope on: its scopes in effect, and the
// policies whose verdict it is.
func (n *Node) MatchEvent(ctx context.Context, key lodge.Key, signer lodge.Signer) (policy.Event, error) {
	facts, err := triggers{n.store}.Facts(ctx, key, signer)
	e := policy.Event{Scopes: facts.Scopes}
	if facts.Hints == nil {
		e.Scopes = append(facts.Given, lodge.ScopeAll)
	} else {
		e.Verdict = facts.Hints.Policies
	}
	return e, err
}

// Touched is a delivered envelope that a policy matches.
type Touched struct {
	store.Scoped
	Match policy.Match
}

// Touched hands every delivered envelope that p matches to fn, oldest first, until fn
// returns an error, which it returns: what p would have been triggered by.
func (n *Node) Touched(ctx context.Context, p policy.Policy, fn func(Touched) error) error {
	x := policy.NewIndex([]policy.Policy{p})
	var q store.ScopeQuery
	q.Exact, q.Prefixes, q.Untyped = p.Query()
	q.Exact = append(q.Exact, lodge.ScopeAll)
	return n.store.Scoped(ctx, q, func(s store.Scoped) error {
		for _, m := range x.Match(policy.Event{Scopes: s.Scopes}) {
			if err := fn(Touched{s, m}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reaction is what followed from an envelope once it was proven to be lodged.
type Reaction struct {
	Moves     map[lodge.Move]int // how many of its VEX claims changed what
	Triggered []string           // the policies that were asked to look again
}

// maxRequests bounds how many requests about one envelope Reaction looks at.
const maxRequests = 1000

// Reaction returns what followed from an envelope.
func (n *Node) Reaction(ctx context.Context, key lodge.Key, signer lodge.Signer) (r Reaction, err error) {
	if r.Moves, err = n.store.CountMoves(ctx, key, signer); err != nil {
		return r, err
	}
	events, err := n.store.FindEvents(ctx, EventQuery{Key: key, Types: []lodge.EventType{lodge.ReanalysisRequested}}, 0, maxRequests)
	for _, e := range events {
		var request lodge.Request
		if err := json.Unmarshal(e.Data, &request); err != nil {
			return r, err
		}
		r.Triggered = append(r.Triggered, request.Policy)
	}
	slices.Sort(r.Triggered)
	r.Triggered = slices.Compact(r.Triggered)
	return r, err
}

// applyPolicies applies those that the configuration names.
func (n *Node) applyPolicies(ctx context.Context) error {
	for _, path := range n.config.Policies {
		raw, err := n.config.read(path)
		if err != nil {
			return fmt.Errorf("policies: %w", err)
		}
		policies, err := policy.Parse(raw)
		if err != nil {
			return fmt.Errorf("policies: %s: %w", path, err)
		}
		for _, p := range policies {
			if _, err := n.ApplyPolicy(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}
