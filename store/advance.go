package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// Advance applies a transition, or returns lodge.ErrStale where the delivery is no
// longer in change.From under change.Attempt: somebody else has claimed it.
func (s *Store) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	step := newTransition(change, now) // here, so that callers do this beside each other
	return s.do(ctx, &operation{key: string(change.Key[:]), run: func(t *tx) error { return t.apply(step) }})
}

// transition is a change with its columns.
type transition struct {
	lodge.Change
	now                     time.Time
	due                     *int64 // microseconds from now; nil where it is over
	sends                   int
	receipt, failure, entry any // JSON or nil
	intent, brief           any // JSON or nil; brief is without the request
}

func newTransition(change lodge.Change, now time.Time) *transition {
	step := &transition{Change: change, now: now,
		receipt: nullJSON(change.Receipt), failure: nullJSON(change.Err), entry: nullJSON(change.Entry)}
	if change.State.Live() {
		left := change.Due.Sub(now).Microseconds()
		step.due = &left
	}
	if change.State == lodge.Sending {
		step.sends = 1
	}
	if change.Intent != nil {
		brief := *change.Intent
		brief.Request = nil
		step.intent, step.brief = toJSON(change.Intent), toJSON(brief)
	}
	return step
}

func (t *tx) apply(step *transition) error {
	n, err := t.exec(`UPDATE delivery SET state = ?, due_at = {now} + ?, sends = sends + ?, adopted = ?, receipt = ?, error = ?
		WHERE id = ? AND attempt = ? AND state = ?`, step.State, step.due, step.sends, step.Adopted,
		step.receipt, step.failure, step.ID, step.Attempt, step.From)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("delivery %d, attempt %d: %w", step.ID, step.Attempt, lodge.ErrStale)
	}
	if err := t.keepParcel(step); err != nil {
		return err
	}
	if err := t.record(step); err != nil {
		return err
	}
	switch step.State {
	case lodge.Verified:
		return t.release(step.ID)
	case lodge.Failed:
		return t.failDependents(step)
	}
	return nil
}

func (t *tx) keepParcel(step *transition) error {
	switch {
	case step.intent != nil || step.entry != nil:
		// Once it is proven to be there, what was written ahead has served.
		_, err := t.exec(`INSERT INTO parcel (delivery_id, intent, entry, bundle) VALUES (?, ?, ?, ?)
			ON CONFLICT (delivery_id) DO UPDATE SET
			intent = CASE WHEN ? = 'verified' THEN NULL ELSE coalesce(excluded.intent, parcel.intent) END,
			entry = coalesce(excluded.entry, parcel.entry), bundle = coalesce(excluded.bundle, parcel.bundle)`,
			step.ID, step.intent, step.entry, step.Bundle, step.State)
		return err
	case step.State == lodge.Verified:
		_, err := t.exec(`UPDATE parcel SET intent = NULL WHERE delivery_id = ?`, step.ID)
		return err
	default:
		return nil
	}
}

// record writes the history row and the events of a change.
func (t *tx) record(step *transition) error {
	t.emit(step.Events...)
	_, err := t.exec(`INSERT INTO history (delivery_id, attempt, from_state, to_state, at, intent, error) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		step.ID, step.Attempt, step.From, step.State, step.now.UnixMicro(), step.brief, step.failure)
	return err
}

// release makes the deliveries due that waited for this one and for no other. They are
// locked by a statement before: so of two that verify what a third waits for, the one
// that commits last sees that the other is verified.
func (t *tx) release(id int64) error {
	waiting, err := t.waiting(id)
	for _, d := range waiting {
		if err == nil {
			_, err = t.exec(`UPDATE delivery SET since = {now}, due_at = `+dueUnlessBlocked+` WHERE id = ?`, d.ID)
		}
	}
	return err
}

func (t *tx) failDependents(step *transition) error {
	waiting, err := t.waiting(step.ID)
	for _, d := range waiting {
		if err != nil {
			break
		}
		d.State = lodge.Failed
		d.Err = lodge.Errorf(lodge.ClassDependency, "requires", "it requires %s, which failed: %s", step.Target.Name, step.Err.Message)
		err = t.apply(newTransition(lodge.Change{Delivery: d, From: lodge.Queued,
			Events: []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, step.now)}}, step.now))
	}
	return err
}

// waiting returns, and locks, the deliveries that wait for the one with that id.
func (t *tx) waiting(id int64) ([]lodge.Delivery, error) {
	return t.deliveries(selectDelivery+` JOIN requirement r ON r.delivery_id = d.id
		WHERE r.requires_id = ? AND d.state = 'queued' AND d.due_at IS NULL ORDER BY d.id{lock d}`, id)
}
