package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
)

// attempt is the work on one claimed delivery.
type attempt struct {
	*lane
	job       lodge.Job
	cancelled func() bool // the engine is stopping
}

func (a *attempt) run(ctx context.Context) error {
	if a.job.State == lodge.Queued {
		if err := a.expired(); err != nil {
			return err
		}
	}
	if a.Repository != nil {
		return a.toRepository(ctx)
	}
	att, err := bundle.Reopen(a.job.Submission)
	if err != nil {
		return err
	}
	return a.toLog(ctx, att)
}

// advance makes one transition and tells whoever waits.
func (a *attempt) advance(change lodge.Change) error {
	change.From = a.job.State
	// A transition says what has happened: it is written even while lodge is stopping.
	if err := a.engine.config.Store.Advance(context.Background(), change, time.Now()); err != nil {
		return err
	}
	a.job.Delivery = change.Delivery
	if change.Intent != nil {
		a.job.Intent = change.Intent
	}
	if change.State == lodge.Verified {
		a.engine.remember(change.Delivery)
		a.engine.nudgeAll()
	}
	a.engine.watch.notify(anything)
	if !change.State.Live() {
		a.engine.watch.notify(change.Key.String())
	}
	return nil
}

// next returns the delivery as it is after a step to state, due at that time, with no error.
func (a *attempt) next(state lodge.State, due time.Time) lodge.Delivery {
	d := a.job.Delivery
	d.State, d.Due, d.Err = state, due, nil
	return d
}

// write commits the intent before the first byte leaves (promise 4), and checks right
// before writing that the lease still has time for the request.
func (a *attempt) write(intent lodge.Intent) error {
	if a.job.State == lodge.Unknown {
		if err := a.advance(lodge.Change{Delivery: a.next(lodge.Queued, a.job.Lease)}); err != nil {
			return err
		}
	}
	if err := a.expired(); err != nil {
		return err
	}
	d := a.next(lodge.Sending, a.job.Lease.Add(a.settle()))
	d.Sends++
	if err := a.advance(lodge.Change{Delivery: d, Intent: &intent}); err != nil {
		return err
	}
	if left := time.Until(a.job.Lease); left < a.engine.config.Lease/10 {
		return lodge.Errorf(lodge.ClassRetry, "lease", "%s of the lease are left: too short for a request", left.Round(time.Millisecond))
	}
	return nil
}

// expired is an error once the deadline is over. It is asked only of a delivery that is
// queued: of which nothing was sent, or which is proven absent.
func (a *attempt) expired() error {
	if a.Deadline == 0 || time.Since(a.job.Accepted) <= a.Deadline {
		return nil
	}
	last := "nothing was in the way"
	if a.job.Err != nil {
		last = a.job.Err.Message
	}
	return lodge.Errorf(lodge.ClassPermanent, "deadline", "it was accepted more than %s ago and could not be delivered: %s", a.Deadline, last)
}

// fail makes the transition that an error asks for (design section 4).
func (a *attempt) fail(err error) {
	now := time.Now()
	if errors.Is(err, lodge.ErrStale) {
		slog.Debug("lease lost", "delivery", a.job.ID, "attempt", a.job.Attempt)
		return
	}
	failure := lodge.Classify(err)
	if failure.Class.Final() {
		a.resume() // the target is well enough to refuse it
	}
	switch {
	case a.cancelled():
	case failure.Class == lodge.ClassHeld:
		a.hold(failure, now)
	case failure.Class == lodge.ClassRetry:
		a.refused(failure, now)
	case failure.Class == lodge.ClassUnknown:
		a.doubted(failure, now)
	}
	d := a.next(a.after(failure), now.Add(max(failure.RetryAfter, a.backoff(a.job.Attempt))))
	d.Err = failure
	if d.State == lodge.Unknown && a.job.State == lodge.Sending {
		d.Due = now.Add(a.settle())
	}
	if failure.Class == lodge.ClassReroute {
		d.Due = now // a frozen shard takes nothing: the next one is tried at once
	}
	change := lodge.Change{Delivery: d}
	switch {
	case a.cancelled():
		// Nobody's fault: due at once for whoever comes next, unless bytes may be on their way.
		d.Err = a.job.Err
		if d.State != lodge.Unknown {
			d.Due = now
		}
		change.Delivery = d
	case d.State == lodge.Failed:
		change.Events = []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, now)}
	case a.job.Err == nil && a.job.Attempt == 1:
		change.Events = []lodge.Event{lodge.FailedEvent(lodge.AttemptFailed, d, now)}
	}
	if err := a.advance(change); err != nil && !errors.Is(err, lodge.ErrStale) {
		slog.Error("transition not written; the delivery is taken up again after its lease", "delivery", a.job.ID, "error", err)
	}
}

// after says which state follows a failure in the present one.
func (a *attempt) after(failure *lodge.Error) lodge.State {
	if a.job.State != lodge.Sending {
		if failure.Class.Final() && a.job.State == lodge.Queued {
			return lodge.Failed
		}
		return a.job.State // a search that failed proves nothing: search again
	}
	switch {
	case failure.Class == lodge.ClassRetry, failure.Class == lodge.ClassReroute:
		return lodge.Queued
	case failure.Class.Final():
		return lodge.Failed
	default: // unknown; held too: asking first costs nothing
		return lodge.Unknown
	}
}

// resume takes a held target up again of which this attempt was the probe.
func (a *attempt) resume() {
	if !a.job.Probe {
		return
	}
	if err := a.engine.config.Store.Resume(context.Background(), a.Target.Target, time.Now()); err != nil {
		slog.Error("target could not be resumed", "target", a.Name, "error", err)
	}
	a.nudge()
}

func (a *attempt) hold(failure *lodge.Error, now time.Time) {
	words := fmt.Sprintf("%s: %s", failure.Code, failure.Message)
	if err := a.engine.config.Store.Hold(context.Background(), a.Target.Target, failure.Code, failure.Message, now); err != nil {
		slog.Error("target could not be held", "target", a.Name, "reason", words, "error", err)
	}
	a.engine.watch.notify(holds)
}

func (e *Engine) nudgeAll() {
	for _, l := range e.lanes {
		l.nudge()
	}
}
