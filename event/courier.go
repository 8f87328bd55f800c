package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lodgehq/lodge"
)

// Poster takes one event at a time somewhere, also several beside each other.
type Poster interface {
	// Post returns once the event was taken. The error's RetryAfter is obeyed; an error of
	// the class held disables the sink.
	Post(ctx context.Context, e lodge.Event) error
}

// Courier hands events to a poster one by one, those of a subject in their order, and
// those of different subjects beside each other. An event that is not taken is tried again
// later, and those of the same subject wait for it; others go on. One that was not taken for
// GiveUp, while others were, is given up: it is kept until an operator has it tried again.
//
// A poster that takes nothing at all is asked by one event at a time, ever more seldom, and
// nothing is given up.
type Courier struct {
	Source
	Poster   Poster
	GiveUp   time.Duration // default five days
	Parallel int           // posts at a time; default 8

	health health
}

const (
	defaultGiveUp   = 5 * 24 * time.Hour
	defaultParallel = 8

	courierBatch = 64   // new events at a time
	maxWaiting   = 1000 // undelivered events that may wait before no new ones are taken
	downAfter    = 3    // failures without a success between them

	firstRetry   = 5 * time.Second // of one event, growing four times with each
	longestRetry = 2 * time.Hour
	longestRest  = 24 * time.Hour
)

// Run hands over events until ctx ends. What goes wrong is logged and tried again.
func (c *Courier) Run(ctx context.Context) error { return c.own(ctx, c.serve) }

func (c *Courier) serve(ctx context.Context, ledger Ledger) {
	for broken := 0; ctx.Err() == nil; {
		pause, err := c.round(ctx, ledger)
		if err == nil {
			broken = 0
		} else if ctx.Err() == nil {
			broken++
			pause = backoff(broken, firstPause, 2, longestPause)
			slog.Warn("a sink's events can't be read or marked", "sink", c.Name, "error", err, "again in", pause)
		}
		if pause > 0 {
			c.wait(ctx, pause, c.news(err))
		}
	}
}

// news is not listened to where there is something to wait for.
func (c *Courier) news(err error) <-chan struct{} {
	if err != nil || c.health.streak > 0 {
		return nil
	}
	return c.News
}

// round posts what is due and new events, and marks what came of it. pause is how long to
// wait before the next.
func (c *Courier) round(ctx context.Context, ledger Ledger) (pause time.Duration, err error) {
	cursor, err := ledger.Cursor(ctx, c.Name)
	if err != nil || cursor.Disabled != "" {
		return pollEvery, err
	}
	waiting, err := ledger.Undelivered(ctx, c.Name, false, 0, maxWaiting)
	if err != nil {
		return 0, err
	}
	var r round
	r.wait(waiting, time.Now())
	p := lodge.Progress{Name: c.Name, From: cursor.Sequence, To: cursor.Sequence, State: cursor.State}
	if n := c.room(&r, len(waiting)); n > 0 {
		events, err := c.Store.Events(ctx, cursor.Sequence, n)
		if err != nil {
			return 0, err
		}
		if len(events) > 0 {
			p.To = events[len(events)-1].Sequence
		}
		r.add(c.wanted(events))
	}
	wasDown := c.health.begin()
	if err := c.post(ctx, r.lanes, wasDown); err != nil {
		return 0, err
	}
	c.mark(&p, r.lanes, wasDown)
	if p.To == p.From && len(p.Failed)+len(p.Delivered) == 0 {
		return max(pollEvery, c.health.pause()), nil
	}
	if err := progress(ctx, ledger, p); err != nil && !errors.Is(err, lodge.ErrStale) {
		return 0, err
	}
	if reason := c.health.held; reason != nil {
		slog.Warn("a sink is disabled until an operator enables it", "sink", c.Name, "error", reason)
		return pollEvery, ledger.DisableCursor(context.WithoutCancel(ctx), c.Name, reason.Error())
	}
	return c.health.pause(), nil
}

// room says how many new events are taken: where the poster is down one, if no other is due.
func (c *Courier) room(r *round, waiting int) int {
	switch {
	case waiting >= maxWaiting:
		return 0
	case !c.health.down():
		return courierBatch
	case r.due():
		return 0
	default:
		return 1
	}
}

// post posts what is due of the lanes, several beside each other unless it is a probe.
func (c *Courier) post(ctx context.Context, lanes []*lane, probe bool) error {
	g, ctx := errgroup.WithContext(ctx)
	switch {
	case probe:
		g.SetLimit(1)
	case c.Parallel > 0:
		g.SetLimit(c.Parallel)
	default:
		g.SetLimit(defaultParallel)
	}
	for _, l := range lanes {
		if l.due {
			g.Go(func() error { return c.run(ctx, l) })
		}
	}
	return g.Wait()
}

// run posts the events of a lane up to the first that is not taken.
func (c *Courier) run(ctx context.Context, l *lane) error {
	for _, t := range l.tasks {
		if !t.fresh {
			if err := c.read(ctx, t); err != nil {
				return err
			}
		}
		if !t.done && !c.try(ctx, t) {
			break
		}
	}
	return nil
}

// read fetches an event that was tried before.
func (c *Courier) read(ctx context.Context, t *task) error {
	found, err := c.Store.Events(ctx, t.Sequence-1, 1)
	if err != nil {
		return err
	}
	if len(found) == 0 || found[0].Sequence != t.Sequence {
		slog.Warn("an event that a sink had not taken is not kept any more", "sink", c.Name, "sequence", t.Sequence)
		t.done = true
		return nil
	}
	t.event = found[0]
	return nil
}

// try posts an event and tells whether it was taken. What is interrupted, or not begun
// because the round is over, has not failed.
func (c *Courier) try(ctx context.Context, t *task) bool {
	if ctx.Err() != nil || c.health.stop() {
		return false
	}
	err := c.Poster.Post(ctx, t.event)
	if err != nil && ctx.Err() != nil {
		return false
	}
	t.done, t.failed = err == nil, lodge.Classify(err)
	c.health.note(t.failed)
	return t.done
}

// mark says in p what came of the events.
func (c *Courier) mark(p *lodge.Progress, lanes []*lane, wasDown bool) {
	now := time.Now()
	keep := c.GiveUp
	if keep == 0 {
		keep = defaultGiveUp
	}
	back := wasDown && c.health.streak == 0
	for _, l := range lanes {
		due, reason := now, "waits for the sink"
		for _, t := range l.tasks {
			switch {
			case t.done && !t.fresh:
				p.Delivered = append(p.Delivered, t.Sequence)
			case t.done:
			case t.failed != nil:
				t.fail(now)
				tired := c.health.held == nil && !c.health.down() && now.Sub(t.Since) >= keep
				if tired || t.failed.Class.Final() {
					slog.Warn("an event is given up", "sink", c.Name, "sequence", t.Sequence, "error", t.Error)
					t.Due = time.Time{}
				}
				p.Failed = append(p.Failed, t.Undelivered)
			case t.fresh:
				t.Since, t.Due, t.Error = now, due, reason
				p.Failed = append(p.Failed, t.Undelivered)
			case back && t.Due.After(now): // it failed because everything did
				t.Due = now
				p.Failed = append(p.Failed, t.Undelivered)
			}
			if !t.done && !t.Due.IsZero() {
				due, reason = t.Due, fmt.Sprintf("waits for event %d", t.Sequence)
			}
		}
	}
}
