package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// Advance applies a transition, or returns lodge.ErrStale where the delivery is no longer in
// change.From under change.Attempt: somebody has claimed it, or a submission or an operator has
// moved it. To Verified, under a log that has diverged, it returns a *lodge.Error of class held.
func (s *Store) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	step := newTransition(change, now) // here, so that callers do this beside each other
	return s.do(ctx, &operation{key: deliveryKey(change.Delivery), run: func(t *tx) error { return t.apply(step) }})
}

// transition is a change with its columns.
type transition struct {
	lodge.Change
	now                     time.Time
	due                     *int64 // microseconds from now; nil where it is over
	sends                   int
	failure, receipt, entry any // JSON or nil; entry is without the receipt
	intent, brief           any // JSON or nil; brief is without the request
}

func newTransition(change lodge.Change, now time.Time) *transition {
	step := &transition{Change: change, now: now, failure: nullJSON(change.Err)}
	if change.Entry != nil {
		rest := *change.Entry
		rest.Receipt = lodge.LogReceipt{}
		step.entry = toJSON(rest)
	}
	if change.Entry != nil || change.State == lodge.Verified {
		step.receipt = nullJSON(change.Receipt)
	}
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
	n, err := t.exec(`UPDATE delivery SET state = ?, due_at = {now} + ?, sends = sends + ?, adopted = ?, error = ?
		WHERE id = ? AND attempt = ? AND state = ?`+unlessDiverged,
		step.State, step.due, step.sends, step.Adopted, step.failure, step.ID, step.Attempt, step.From, step.State)
	if err == nil && n == 0 {
		err = t.refused(step)
	}
	if err != nil {
		return err
	}
	t.record(step)
	switch step.State {
	case lodge.Verified:
		return t.release(step.ID)
	case lodge.Failed:
		return t.failDependents(step)
	}
	return nil
}

// unlessDiverged withholds what a log says that has been caught with two trees: nothing is
// verified under either of them until an operator has decided.
const unlessDiverged = ` AND (CAST(? AS TEXT) <> 'verified' OR NOT EXISTS (
	SELECT 1 FROM target WHERE target.id = delivery.target_id AND target.held = 'diverged'))`

// refused says why a transition did not apply.
func (t *tx) refused(step *transition) error {
	found, err := t.get(`SELECT id FROM delivery WHERE id = ? AND attempt = ? AND state = ?`, []any{step.ID, step.Attempt, step.From}, new(int64))
	if err != nil {
		return err
	}
	if found {
		return lodge.Errorf(lodge.ClassHeld, lodge.CodeDiverged, "the log has diverged: nothing that it says is taken for proof until it is resumed")
	}
	return fmt.Errorf("delivery %d, attempt %d: %w", step.ID, step.Attempt, lodge.ErrStale)
}

// record writes with the transaction what goes with a change: the history row, the events,
// and what is kept apart from the hot row.
func (t *tx) record(step *transition) {
	t.emit(about(step.Envelope), step.Events...)
	t.put(history, step.ID, step.Attempt, step.From, step.State, step.now.UnixMicro(), step.brief, step.failure)
	if step.intent != nil {
		t.put(intents, step.ID, step.intent)
	}
	if step.receipt != nil {
		t.put(receipts, step.ID, step.receipt, step.entry, step.Bundle)
	}
	if step.State == lodge.Verified {
		t.put(servedIntents, step.ID)
	}
}

// release makes the deliveries due that waited for this one and for no other. They are
// locked by a statement before: so of two that verify what a third waits for, the one
// that commits last sees that the other is verified.
func (t *tx) release(id int64) error {
	var waiting []int64
	err := t.each(`SELECT d.id FROM requirement r JOIN delivery d ON d.id = r.delivery_id
		WHERE r.requires_id = ? AND d.state = 'queued' AND d.due_at IS NULL ORDER BY d.id{lock d}`, []any{id}, func(rows *sql.Rows) error {
		var id int64
		err := rows.Scan(&id)
		waiting = append(waiting, id)
		return err
	})
	for _, id := range waiting {
		if err == nil {
			err = t.unblock(id)
		}
	}
	return err
}

// unblock makes a delivery due that waits for others, if those are verified.
func (t *tx) unblock(id int64) error {
	_, err := t.exec(`UPDATE delivery SET since = {now}, due_at = `+dueUnlessBlocked+` WHERE id = ?`, id)
	return err
}

// failDependents fails with a delivery what waits for it, except what was ordered before it, and so
// without it: that waits for it no more.
func (t *tx) failDependents(step *transition) error {
	waiting, err := t.deliveries(selectDelivery+` JOIN requirement r ON r.delivery_id = d.id
		WHERE r.requires_id = ? AND d.state = 'queued' AND d.due_at IS NULL ORDER BY d.id{lock d}`, step.ID)
	for _, d := range waiting {
		if err != nil {
			break
		}
		if d.ID < step.ID { // as ids grow under the envelope's lock, it came to require it later
			if _, err = t.exec(`DELETE FROM requirement WHERE delivery_id = ? AND requires_id = ?`, d.ID, step.ID); err == nil {
				err = t.unblock(d.ID)
			}
			continue
		}
		d.State = lodge.Failed
		d.Err = lodge.Errorf(lodge.ClassDependency, "requires", "it requires %s, which failed: %s", step.Target.Name, step.Err.Message)
		err = t.apply(newTransition(lodge.Change{Delivery: d, From: lodge.Queued,
			Events: []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, step.now)}}, step.now))
	}
	return err
}
