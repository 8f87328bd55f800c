package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/store"
)

// hintsOf takes the hints out of a payload.
func hintsOf(payloadType string, payload []byte) lodge.Hints {
	h := hint.Extract(payloadType, payload)
	return lodge.Hints{Version: hint.Version, Document: h.Document(), Scopes: h.Scopes}
}

// maxScopes bounds how many scopes a submitter may give.
const maxScopes = 256

// Scopes returns given scopes in their canonical form. They name what is concerned, so
// they have no wildcard but all:*. Errors wrap lodge.ErrMalformed or lodge.ErrLimit.
func Scopes(given []string) ([]string, error) {
	if len(given) > maxScopes {
		return nil, fmt.Errorf("%w: %d scopes (at most %d)", lodge.ErrLimit, len(given), maxScopes)
	}
	var scopes []string
	for _, s := range given {
		scope, err := hint.ParseScope(s)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(scope, "*") && scope != lodge.ScopeAll {
			return nil, fmt.Errorf("%w scope %.100q: name what is concerned; wildcards are for policies", lodge.ErrMalformed, s)
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}

// outdatedPage is how many envelopes are held at a time whose hints are outdated.
const outdatedPage = 16

// rehint takes the hints anew out of envelopes that were accepted by a lodge with another
// extractor. What can't be read any more keeps its old hints.
func (n *Node) rehint(ctx context.Context) error {
	var after int64
	for {
		found, err := n.store.Outdated(ctx, hint.Version, after, outdatedPage)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, o := range found {
			after = o.ID
			b, err := bundle.Parse(o.Raw)
			if err != nil {
				slog.Warn("hints are not brought up to date", "envelope", o.ID, "err", err)
				continue
			}
			if err := n.store.Rehint(ctx, o.ID, hintsOf(b.Envelope.PayloadType, b.Envelope.Payload)); err != nil {
				return err
			}
		}
	}
}

// EventQuery says which events are looked for: those that all of its members that are
// set fit.
type EventQuery = store.EventQuery

// eventPage is how many events are read at a time.
const eventPage = 500

// Events hands the events behind the sequence after that fit the query to fn, in order,
// until fn returns an error, which it returns. Next is the sequence to go on behind later.
func (n *Node) Events(ctx context.Context, q EventQuery, after int64, fn func(lodge.Event) error) (next int64, err error) {
	last, err := n.store.LastSequence(ctx) // before the events are read: so what comes meanwhile is read later
	if err != nil {
		return after, err
	}
	for {
		found, err := n.store.FindEvents(ctx, q, after, eventPage)
		if err != nil {
			return after, err
		}
		for _, e := range found {
			if err := fn(e); err != nil {
				return after, err
			}
			after = e.Sequence
		}
		if len(found) < eventPage {
			return max(after, last), nil
		}
	}
}

// DeliveriesAbout returns the deliveries of the envelopes with one of these scopes, derived
// or given, oldest first, beginning behind the id after, limit at most.
func (n *Node) DeliveriesAbout(ctx context.Context, scopes []string, after int64, limit int) ([]lodge.Delivery, error) {
	return n.store.DeliveriesAbout(ctx, scopes, after, limit)
}
