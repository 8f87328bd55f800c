// Package trigger asks policies to look again. It reads the outbox by a cursor; for each
// envelope that is proven to be there it finds out what its VEX claims change for those
// who know the author's last word, and which policies its scopes match, and writes a
// ReanalysisRequested event for each.
//
// One process on a store does this at a time. What follows from an event is written in one
// transaction with the cursor, so a crash neither loses nor doubles a request.
//
// The package may import the root package and floors 1 and 2. It declares what it needs of
// a store; package node joins them.
package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/lease"
	"github.com/lodgehq/lodge/policy"
)

// Name of the cursor and of the lease.
const Name = "trigger"

// Outbox is where events are read, and what they are about.
type Outbox interface {
	// Events returns the events behind a sequence, in order. Whoever has seen a sequence has
	// seen all below it.
	Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error)
	// PolicyChanges returns the policies that were applied or deleted by a change with a
	// number above after, in the order of the numbers.
	PolicyChanges(ctx context.Context, after int64) ([]lodge.AppliedPolicy, error)
	// Facts returns what an envelope is about.
	Facts(ctx context.Context, key lodge.Key, signer lodge.Signer) (Facts, error)
	// Proven tells whether an event of that type shows that an envelope is where it was to be: in
	// a log, or published where no log is to have it, or all have refused it.
	Proven(ctx context.Context, key lodge.Key, signer lodge.Signer, by lodge.EventType) (bool, error)
}

// Ledger keeps what was done. Each method is durable when it returns.
type Ledger interface {
	Cursor(ctx context.Context, name string) (lodge.Cursor, error)
	// React writes reactions and moves the cursor in one transaction, or returns
	// lodge.ErrStale where the cursor is not where it was.
	React(ctx context.Context, p lodge.Progress, reactions []lodge.Reaction) error
	// Claims returns the last known claims with these ids, as far as there are any.
	Claims(ctx context.Context, ids []lodge.Digest) ([]lodge.Claim, error)
	// ClaimMoves returns what the claims of an envelope moved when they came.
	ClaimMoves(ctx context.Context, key lodge.Key, signer lodge.Signer, limit int) ([]lodge.ClaimMove, error)
}

// Leases give the work one owner.
type Leases interface {
	lease.Store
	// Under returns the ledger for the owner: without its lease it writes nothing.
	Under(name string, term int64) Ledger
}

// Facts is what an envelope is about.
type Facts struct {
	Hints  *hint.Hints // nil where the payload is gone
	Given  []string    // scopes that submitters gave
	Scopes []string    // in effect, sorted; all of them
}

// Config says what an engine works with.
type Config struct {
	Outbox Outbox
	Leases Leases
	Lease  time.Duration // how long the work is nobody's after its owner has died; default 15s
}

// Engine asks policies to look again.
type Engine struct {
	config Config

	// What the owner knows of the policies, up to the change with a number; one goroutine uses
	// it at a time.
	number   int64
	policies map[string]policy.Policy
	index    *policy.Index
	broken   bool // and that was said
}

// New returns an engine. Nothing runs until Run.
func New(c Config) *Engine {
	c.Lease = cmp.Or(c.Lease, defaultLease)
	return &Engine{config: c, policies: map[string]policy.Policy{}, index: policy.NewIndex(nil)}
}

const (
	defaultLease = 15 * time.Second
	pollEvery    = 500 * time.Millisecond // an event is unnoticed for so long at most
	lastWords    = 5 * time.Second        // for what is left to be done when ctx ends
	pageSize     = 500                    // events that are read at a time
)

// Run works until ctx ends, then is done with what has happened so far. What goes wrong is
// logged and tried again.
func (e *Engine) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := e.own(ctx, e.serve); err != nil && ctx.Err() == nil && !errors.Is(err, lodge.ErrStale) {
			e.report(err)
		}
		wait(ctx, pollEvery)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := e.own(ctx, e.drain); !errors.Is(err, lodge.ErrStale) {
		return err
	}
	return nil // somebody else is at it
}

// report says that the work fails, or is done again: once each.
func (e *Engine) report(err error) {
	switch {
	case err != nil && !e.broken:
		slog.Error("no policy is triggered until this works again", "error", err)
	case err == nil && e.broken:
		slog.Info("policies are triggered again")
	}
	e.broken = err != nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// own does work while this process is the one that may; nothing where another one is.
func (e *Engine) own(ctx context.Context, work func(context.Context, Ledger) error) error {
	_, err := lease.Lead(ctx, e.config.Leases, Name, e.config.Lease, func(ctx context.Context, term int64) error {
		return work(ctx, e.config.Leases.Under(Name, term))
	})
	return err
}

// serve reacts to events as they come.
func (e *Engine) serve(ctx context.Context, l Ledger) error {
	for ctx.Err() == nil {
		if err := e.drain(ctx, l); err != nil {
			return err
		}
		e.report(nil)
		wait(ctx, pollEvery)
	}
	return nil
}

// drain reacts to the events that there are.
func (e *Engine) drain(ctx context.Context, l Ledger) error {
	for {
		if n, err := e.step(ctx, l); n == 0 || err != nil {
			return err
		}
	}
}

// step reacts to a page of events and says how many it was.
func (e *Engine) step(ctx context.Context, l Ledger) (int, error) {
	cursor, err := l.Cursor(ctx, Name)
	if err != nil {
		return 0, err
	}
	events, err := e.config.Outbox.Events(ctx, cursor.Sequence, pageSize)
	if err != nil || len(events) == 0 {
		return 0, err
	}
	// After the events: so a policy that was there when one happened is known.
	if err := e.learn(ctx); err != nil {
		return 0, err
	}
	p := lodge.Progress{Name: Name, From: cursor.Sequence}
	var reactions []lodge.Reaction
	for _, event := range events {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		r, err := e.react(ctx, l, event)
		if err != nil {
			return 0, fmt.Errorf("event %d (%s): %w", event.Sequence, event.Type.Name(), err)
		}
		p.To = event.Sequence
		if r == nil {
			continue
		}
		reactions = append(reactions, *r)
		if len(r.Claims) > 0 || len(reactions) == maxReactions { // the next one may build on these claims
			if err := l.React(ctx, p, reactions); err != nil {
				return 0, err
			}
			p.From, reactions = p.To, nil
		}
	}
	if p.To > p.From {
		err = l.React(ctx, p, reactions)
	}
	return len(events), err
}

// maxReactions is how many reactions are written at a time.
const maxReactions = 64

// learn takes in the policies that have changed.
func (e *Engine) learn(ctx context.Context) error {
	changed, err := e.config.Outbox.PolicyChanges(ctx, e.number)
	if err != nil || len(changed) == 0 {
		return err
	}
	for _, c := range changed {
		if c.Body == nil {
			delete(e.policies, c.Name)
			continue
		}
		var p policy.Policy
		if err := json.Unmarshal(c.Body, &p); err != nil {
			return fmt.Errorf("policy %s: %w", c.Name, err)
		}
		e.policies[c.Name] = p
	}
	e.index = policy.NewIndex(slices.Collect(maps.Values(e.policies)))
	e.number = changed[len(changed)-1].Number
	return nil
}
