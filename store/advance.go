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
	return s.do(ctx, &operation{key: string(change.Key[:]), run: func(t *tx) error { return t.apply(change, now) }})
}

func (t *tx) apply(change lodge.Change, now time.Time) error {
	var due *int64
	if change.State.Live() {
		left := change.Due.Sub(now).Microseconds()
		due = &left
	}
	sends := 0
	if change.State == lodge.Sending {
		sends = 1
	}
	n, err := t.exec(`UPDATE delivery SET state = ?, due_at = {now} + ?, sends = sends + ?, adopted = ?, receipt = ?, error = ?
		WHERE id = ? AND attempt = ? AND state = ?`, change.State, due, sends, change.Adopted,
		nullJSON(change.Receipt), nullJSON(change.Err), change.ID, change.Attempt, change.From)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("delivery %d, attempt %d: %w", change.ID, change.Attempt, lodge.ErrStale)
	}
	if err := t.keepParcel(change); err != nil {
		return err
	}
	if err := t.record(change, now); err != nil {
		return err
	}
	switch change.State {
	case lodge.Verified:
		return t.release(change.ID)
	case lodge.Failed:
		return t.failDependents(change, now)
	}
	return nil
}

func (t *tx) keepParcel(change lodge.Change) error {
	switch {
	case change.Intent != nil || change.Entry != nil:
		// Once it is proven to be there, what was written ahead has served.
		_, err := t.exec(`INSERT INTO parcel (delivery_id, intent, entry, bundle) VALUES (?, ?, ?, ?)
			ON CONFLICT (delivery_id) DO UPDATE SET
			intent = CASE WHEN ? = 'verified' THEN NULL ELSE coalesce(excluded.intent, parcel.intent) END,
			entry = coalesce(excluded.entry, parcel.entry), bundle = coalesce(excluded.bundle, parcel.bundle)`,
			change.ID, nullJSON(change.Intent), nullJSON(change.Entry), change.Bundle, change.State)
		return err
	case change.State == lodge.Verified:
		_, err := t.exec(`UPDATE parcel SET intent = NULL WHERE delivery_id = ?`, change.ID)
		return err
	default:
		return nil
	}
}

// record writes the history row and the events of a change.
func (t *tx) record(change lodge.Change, now time.Time) error {
	brief := change.Intent
	if brief != nil {
		short := *brief
		short.Request = nil
		brief = &short
	}
	t.emit(change.Events...)
	_, err := t.exec(`INSERT INTO history (delivery_id, attempt, from_state, to_state, at, intent, error) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		change.ID, change.Attempt, change.From, change.State, now.UnixMicro(), nullJSON(brief), nullJSON(change.Err))
	return err
}

// release makes the deliveries due that waited for this one and for no other. They are
// locked by a statement before: so of two that verify what a third waits for, the one
// that commits last sees that the other is verified.
func (t *tx) release(id int64) error {
	waiting, err := t.waiting(id)
	for _, d := range waiting {
		if err == nil {
			_, err = t.exec(`UPDATE delivery SET due_at = `+dueUnlessBlocked+` WHERE id = ?`, d.ID)
		}
	}
	return err
}

func (t *tx) failDependents(change lodge.Change, now time.Time) error {
	waiting, err := t.waiting(change.ID)
	for _, d := range waiting {
		if err != nil {
			break
		}
		d.State = lodge.Failed
		d.Err = lodge.Errorf(lodge.ClassDependency, "requires", "it requires %s, which failed: %s", change.Target.Name, change.Err.Message)
		err = t.apply(lodge.Change{Delivery: d, From: lodge.Queued,
			Events: []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, now)}}, now)
	}
	return err
}

// waiting returns, and locks, the deliveries that wait for the one with that id.
func (t *tx) waiting(id int64) ([]lodge.Delivery, error) {
	return t.deliveries(selectDelivery+` JOIN requirement r ON r.delivery_id = d.id
		WHERE r.requires_id = ? AND d.state = 'queued' AND d.due_at IS NULL ORDER BY d.id{lock d}`, id)
}
