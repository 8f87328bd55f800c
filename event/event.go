// Package event hands the events of the outbox to sinks: files, webhooks, NATS. Each sink
// has a durable cursor of its own and one owner among all processes on a store, so a slow
// or dead sink holds up neither deliveries nor another sink, and one that was down gets
// everything that happened meanwhile.
//
// Events are delivered at least once. A Relay takes them to a sink in the order of their
// sequences; a Courier takes them one by one, in order per subject, and leaves out for a
// while those that are not taken.
//
// The package may import the root package and floors 1 and 2. It declares what it needs of
// a store; package node joins them.
package event

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
)

// Outbox is where events are read.
type Outbox interface {
	// Events returns the events behind a sequence, in order. Whoever has seen a sequence has
	// seen all below it.
	Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error)
}

// Ledger keeps how far a sink has come. Each method is durable when it returns.
type Ledger interface {
	Cursor(ctx context.Context, name string) (lodge.Cursor, error)
	// Progress moves a cursor, or returns lodge.ErrStale where it is not where it was.
	Progress(ctx context.Context, p lodge.Progress) error
	// Undelivered returns what is to be tried again, or what was given up.
	Undelivered(ctx context.Context, name string, givenUp bool, after int64, limit int) ([]lodge.Undelivered, error)
	DisableCursor(ctx context.Context, name, reason string) error
}

// Store is all that sinks need of a database.
type Store interface {
	Outbox
	lease.Store
	// Under returns the ledger for the owner of a lease: without it it writes nothing.
	Under(name string, term int64) Ledger
}

// Source is where the events of one sink come from.
type Source struct {
	Name  string                 // of the sink's cursor and lease
	Store Store                  //
	Wants func(lodge.Event) bool // leaves out the others; nil: every event
	News  <-chan struct{}        // says that there may be new events; nil: polling alone finds them
	Lease time.Duration          // how long the sink is nobody's after its owner has died; default 15s
}

const (
	defaultLease = 15 * time.Second
	pollEvery    = time.Second      // how long what another process did goes unnoticed at most
	lastWords    = 5 * time.Second  // for what is to be written when the work is over
	firstPause   = time.Second      // after a failure, doubled with each
	longestPause = 60 * time.Second // before a sink that does not answer is tried again
)

// own runs work while this process is the one that has the lease, again when it has it
// again, until ctx ends.
func (s *Source) own(ctx context.Context, work func(context.Context, Ledger)) error {
	for ctx.Err() == nil {
		_, err := lease.Lead(ctx, s.Store, s.Name, cmp.Or(s.Lease, defaultLease), func(ctx context.Context, term int64) error {
			work(ctx, s.Store.Under(s.Name, term))
			return nil
		})
		if err != nil && ctx.Err() == nil {
			slog.Warn("a sink is not owned any more, or can't be", "sink", s.Name, "error", err)
		}
		s.wait(ctx, pollEvery, nil)
	}
	return nil
}

// wait returns after d, with news, or when ctx ends.
func (s *Source) wait(ctx context.Context, d time.Duration, news <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-ctx.Done():
	}
}

// wanted returns those of the events that the sink is to get.
func (s *Source) wanted(events []lodge.Event) []lodge.Event {
	if s.Wants == nil {
		return events
	}
	var wanted []lodge.Event
	for _, e := range events {
		if s.Wants(e) {
			wanted = append(wanted, e)
		}
	}
	return wanted
}

// progress marks what is done, also when the work is to end: else it would be done again.
func progress(ctx context.Context, ledger Ledger, p lodge.Progress) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	return ledger.Progress(ctx, p)
}

// backoff is the time before attempt n+1: first, grown by factor with each, limit at most,
// and up to a quarter less, so that those who failed together do not come back together.
func backoff(n int, first time.Duration, factor float64, limit time.Duration) time.Duration {
	d := float64(first)
	for range n - 1 {
		if d *= factor; d >= float64(limit) {
			d = float64(limit)
			break
		}
	}
	return time.Duration(d * (1 - rand.Float64()/4)) //nolint:gosec // nobody gains anything by guessing it
}
