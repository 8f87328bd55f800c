package event

import (
	"context"
	"errors"
	"log/slog"

	"github.com/lodgehq/lodge"
)

// Sink takes events somewhere. One goroutine uses it at a time.
type Sink interface {
	// Open makes it ready for the events behind the sequence after. Those beyond it that it
	// was given before come again.
	Open(ctx context.Context, after int64) error
	// Deliver hands over events and returns once they are durable there. An error of a final
	// class says that it will never take one of them, and has taken none. After another error
	// any of them may be there, and the next call is Close.
	Deliver(ctx context.Context, events []lodge.Event) error
	// Close ends the use that Open began, whatever that returned.
	Close() error
}

// Relay hands events to a sink in the order of their sequences.
type Relay struct {
	Source
	Sink Sink
}

// maxBatch is how many events are handed to a sink at a time.
const maxBatch = 512

// Run hands over events until ctx ends. What goes wrong is logged and tried again.
func (r *Relay) Run(ctx context.Context) error { return r.own(ctx, r.serve) }

// serve opens the sink again after each failure.
func (r *Relay) serve(ctx context.Context, ledger Ledger) {
	for failures := 0; ctx.Err() == nil; {
		moved, err := r.use(ctx, ledger)
		if moved {
			failures = 0
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		failures++
		pause := backoff(failures, firstPause, 2, longestPause)
		slog.Warn("a sink takes no events", "sink", r.Name, "error", err, "again in", pause)
		r.wait(ctx, pause, nil)
	}
}

// use hands over events from the cursor on until something goes wrong, or the cursor is
// not where it was; that is no error. moved tells whether it got on.
func (r *Relay) use(ctx context.Context, ledger Ledger) (moved bool, err error) {
	cursor, err := ledger.Cursor(ctx, r.Name)
	if err != nil {
		return false, err
	}
	if cursor.Disabled != "" {
		r.wait(ctx, pollEvery, nil)
		return false, nil
	}
	defer func() { err = errors.Join(err, r.Sink.Close()) }()
	if err := r.Sink.Open(ctx, cursor.Sequence); err != nil {
		return false, err
	}
	for at := cursor.Sequence; ; moved = true {
		events, err := r.next(ctx, ledger, at)
		if err != nil || len(events) == 0 {
			return moved, err
		}
		refused, err := r.deliver(ctx, r.wanted(events))
		if err != nil {
			return moved, err
		}
		p := lodge.Progress{Name: r.Name, From: at, To: events[len(events)-1].Sequence, Failed: refused}
		if err := progress(ctx, ledger, p); errors.Is(err, lodge.ErrStale) {
			return moved, nil
		} else if err != nil {
			return moved, err
		}
		at = p.To
	}
}

// next waits for events behind at. There are none where the cursor is not there any more:
// an operator has moved it.
func (r *Relay) next(ctx context.Context, ledger Ledger, at int64) ([]lodge.Event, error) {
	for {
		events, err := r.Store.Events(ctx, at, maxBatch)
		if err != nil || len(events) > 0 {
			return events, err
		}
		r.wait(ctx, pollEvery, r.News)
		if cursor, err := ledger.Cursor(ctx, r.Name); err != nil || cursor.Sequence != at || cursor.Disabled != "" {
			return nil, err
		}
	}
}

// deliver hands over events and returns those that the sink will never take.
func (r *Relay) deliver(ctx context.Context, events []lodge.Event) (refused []lodge.Undelivered, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	err = r.Sink.Deliver(ctx, events)
	if err == nil || !lodge.Classify(err).Class.Final() {
		return nil, err
	}
	if e := events[0]; len(events) == 1 {
		slog.Warn("a sink refuses an event", "sink", r.Name, "sequence", e.Sequence, "error", err)
		return []lodge.Undelivered{{Sequence: e.Sequence, Subject: e.Subject, Attempts: 1, Since: e.Time, Error: err.Error()}}, nil
	}
	for i := range events { // each by itself, so that the others are taken
		more, err := r.deliver(ctx, events[i:i+1])
		if err != nil {
			return nil, err
		}
		refused = append(refused, more...)
	}
	return refused, nil
}
