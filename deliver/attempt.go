package deliver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
)

// attempt is the work on one claimed delivery.
type attempt struct {
	*lane
	base  context.Context // ends when the engine stops
	job   lodge.Job
	first bool // no attempt has failed since it was queued
	sent  bool // something may have left in this attempt
}

func (l *lane) newAttempt(base context.Context, job lodge.Job) *attempt {
	return &attempt{lane: l, base: base, job: job, first: job.Err == nil}
}

// run makes the attempt, with searches until the lease ends.
func (a *attempt) run() error {
	ctx, cancel := context.WithDeadline(a.base, a.job.Lease)
	defer cancel()
	if err := a.engine.config.Store.Load(ctx, &a.job); err != nil {
		return aside{err}
	}
	if a.job.State == lodge.Queued {
		if err := a.expired(); err != nil {
			return err
		}
	}
	if a.Log != nil {
		return a.toLog(ctx)
	}
	return a.toRepository(ctx)
}

// advance makes one transition and tells whoever waits.
func (a *attempt) advance(change lodge.Change) error {
	change.From = a.job.State
	// A transition says what has happened: it is written even while lodge is stopping.
	if err := a.engine.config.Store.Advance(context.Background(), change, time.Now()); err != nil {
		return aside{err}
	}
	a.job.Delivery = change.Delivery
	if change.State == lodge.Verified {
		a.engine.remember(change.Delivery, a.job.Submission)
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

// absent notes that a search has proven the target not to have it: what was unknown may be
// sent again.
func (a *attempt) absent() error {
	if a.job.State == lodge.Unknown {
		last := a.job.Err
		if err := a.advance(lodge.Change{Delivery: a.next(lodge.Queued, a.job.Lease)}); err != nil {
			return err
		}
		a.job.Err = last // for expired to tell
	}
	return a.expired()
}

// minRate is what a request is given time for, in bytes a second.
const minRate = 128 << 10

// write commits the intent before the first byte leaves (promise 4). The context that it
// returns ends with the lease, which is long enough for the request that follows at once.
func (a *attempt) write(intent lodge.Intent) (context.Context, context.CancelFunc, error) {
	lease := a.engine.config.Lease + time.Duration(len(intent.Request))*time.Second/minRate
	a.job.Lease = time.Now().Add(lease)
	d := a.next(lodge.Sending, a.job.Lease.Add(a.settle()))
	d.Sends++
	if err := a.advance(lodge.Change{Delivery: d, Intent: &intent}); err != nil {
		return nil, nil, err
	}
	if left := time.Until(a.job.Lease); left < lease/2 {
		return nil, nil, aside{lodge.Errorf(lodge.ClassRetry, "lease", "only %s of the lease are left", left.Round(time.Millisecond))}
	}
	a.sent = true
	ctx, cancel := context.WithDeadline(a.base, a.job.Lease)
	return ctx, cancel, nil
}

// expired is an error once the deadline is over. It is asked only of a delivery that is
// queued: of which nothing was sent, or which is proven absent.
func (a *attempt) expired() error {
	if a.Deadline == 0 || time.Since(a.job.Since) <= a.Deadline {
		return nil
	}
	last := "it was not tried in that time"
	if a.job.Err != nil {
		last = a.job.Err.Message
	}
	return lodge.Errorf(lodge.ClassPermanent, "deadline", "it could not be delivered in %s: %s", a.Deadline, last)
}

// fail makes the transition that an error asks for.
func (a *attempt) fail(err error) {
	if errors.Is(err, lodge.ErrStale) {
		slog.Debug("lease lost", "delivery", a.job.ID, "attempt", a.job.Attempt)
		return
	}
	now := time.Now()
	failure := lodge.Classify(err)
	v := follows(a.job.State, err, a.base.Err() != nil)
	d := a.next(v.next, now)
	if d.Err = failure; v.interrupted {
		d.Err = a.job.Err
	}
	switch v.due {
	case settled:
		d.Due = now.Add(a.settle())
	case later:
		d.Due = now.Add(a.pauseAfter(failure, a.job.Attempt))
	}
	change := lodge.Change{Delivery: d}
	if d.State == lodge.Failed {
		change.Events = []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, now)}
	} else if a.first && d.Err != nil {
		change.Events = []lodge.Event{lodge.FailedEvent(lodge.AttemptFailed, d, now)}
	}
	if err := a.advance(change); err != nil && !errors.Is(err, lodge.ErrStale) {
		slog.Error("transition not written; the delivery is taken up again after its lease", "delivery", a.job.ID, "error", err)
	}
	a.blame(v.blame, failure, now)
	if d.State == lodge.Failed {
		a.probed()
	}
}

// probed draws the conclusion of a probe of a held target that has come to an end. The target takes
// requests again where it has taken this one, or refused it for good.
func (a *attempt) probed() {
	switch {
	case !a.job.Probe:
	case a.sent:
		a.resume()
	default:
		a.spare()
	}
}

// resume takes a held target up again.
func (a *attempt) resume() {
	if err := a.engine.config.Store.ResumeMended(context.Background(), a.Target.Target, time.Now()); err != nil {
		slog.Error("target could not be resumed", "target", a.Name, "error", err)
		return
	}
	slog.Info("target resumed", "target", a.Name)
	a.nudge()
}

// spare lets another delivery be the probe at once: what could be read, or was not even asked, says
// nothing about whether the target takes requests.
func (a *attempt) spare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.probe, a.patience = time.Time{}, a.patience/2
	a.nudge()
}

// blame tells the lane what an attempt has shown of the target.
func (a *attempt) blame(b blame, failure *lodge.Error, now time.Time) {
	switch b {
	case held:
		a.hold(failure, now)
	case refused:
		a.refused(failure, now)
	case doubted:
		a.doubted(failure, now)
	}
}
