package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
)

// Claim takes up to n deliveries to the target with that address that are due, and
// leases them: nobody else claims one before the lease ends. A claimed delivery that is
// already in Sending was left by a worker that is gone; it comes as Unknown, since its
// request may have arrived. Load completes a job.
func (s *Store) Claim(ctx context.Context, address string, n int, now, lease time.Time) ([]lodge.Job, error) {
	var claimed []lodge.Job
	err := s.writer.do(ctx, func(t *tx) error {
		claimed = claimed[:0]
		var ids []int64
		if err := t.each(`UPDATE delivery SET attempt = attempt + 1, due_at = ? WHERE id IN (
			SELECT d.id FROM delivery d JOIN target t ON t.id = d.target_id
			WHERE t.address = ? AND t.held = '' AND d.due_at <= ? ORDER BY d.due_at LIMIT ?) RETURNING id`,
			[]any{lease.UnixMicro(), address, now.UnixMicro(), n}, func(rows *sql.Rows) error {
				var id int64
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			}); err != nil {
			return err
		}
		slices.Sort(ids)
		for _, id := range ids {
			found, err := t.deliveries(selectDelivery+` WHERE d.id = ?`, id)
			if err != nil {
				return err
			}
			d := found[0]
			job := lodge.Job{Delivery: d, Lease: lease}
			if _, err := t.get(`SELECT length(e.raw) FROM envelope e JOIN delivery d ON d.envelope_id = e.id WHERE d.id = ?`,
				[]any{id}, &job.Size); err != nil {
				return err
			}
			if d.State == lodge.Sending {
				d.State = lodge.Unknown
				d.Err = lodge.Errorf(lodge.ClassUnknown, "interrupted", "the worker that sent it did not come back")
				job.Delivery = d
				if err := t.apply(lodge.Change{Delivery: d, From: lodge.Sending}, now); err != nil {
					return err
				}
			}
			claimed = append(claimed, job)
		}
		return nil
	})
	return claimed, err
}

// Load completes a claimed job with what is kept apart from the hot row.
func (s *Store) Load(ctx context.Context, job *lodge.Job) (err error) {
	if job.Submission, err = s.Submission(ctx, job.ID); err != nil {
		return err
	}
	var intent sql.NullString
	err = s.reads.QueryRowContext(ctx, `SELECT intent FROM parcel WHERE delivery_id = ?`, job.ID).Scan(&intent)
	if ignoreNoRows(&err); err != nil {
		return err
	}
	if err := fromJSON(intent, &job.Intent); err != nil {
		return err
	}
	job.Required, err = s.proofs(ctx, `SELECT t.kind, t.name, t.address, p.entry, p.bundle FROM requirement r
		JOIN delivery d ON d.id = r.requires_id JOIN target t ON t.id = d.target_id JOIN parcel p ON p.delivery_id = d.id
		WHERE d.state = 'verified' AND r.delivery_id = ? AND p.entry IS NOT NULL ORDER BY r.requires_id`, job.ID)
	if err != nil {
		return err
	}
	job.Memory, err = s.query(ctx, selectDelivery+` JOIN requirement r ON r.delivery_id = d.id
		WHERE r.requires_id = ? AND t.kind = ? ORDER BY d.id`, job.ID, lodge.KindRepository)
	return err
}

// NextDue says when the next delivery to the target with that address is due; ok is
// false where none waits, and where the target is held.
func (s *Store) NextDue(ctx context.Context, address string) (due time.Time, ok bool, err error) {
	var at sql.NullInt64
	err = s.reads.QueryRowContext(ctx, `SELECT min(d.due_at) FROM delivery d JOIN target t ON t.id = d.target_id
		WHERE t.address = ? AND t.held = '' AND d.due_at IS NOT NULL`, address).Scan(&at)
	return time.UnixMicro(at.Int64).UTC(), at.Valid, err
}

// Advance applies a transition, or returns lodge.ErrStale where the delivery is no
// longer in change.From under change.Attempt: somebody else has claimed it.
func (s *Store) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	return s.writer.do(ctx, func(t *tx) error { return t.apply(change, now) })
}

func (t *tx) apply(change lodge.Change, now time.Time) error {
	var due *int64
	if change.State.Live() {
		at := change.Due.UnixMicro()
		due = &at
	}
	sends := 0
	if change.State == lodge.Sending {
		sends = 1
	}
	n, err := t.exec(`UPDATE delivery SET state = ?, due_at = ?, sends = sends + ?, adopted = ?, receipt = ?, error = ?
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
		return t.release(change.ID, now)
	case lodge.Failed:
		return t.failDependents(change, now)
	}
	return nil
}

func (t *tx) keepParcel(change lodge.Change) error {
	if change.Intent == nil && change.Entry == nil && change.State != lodge.Verified {
		return nil
	}
	// Once it is proven to be there, what was written ahead has served.
	_, err := t.exec(`INSERT INTO parcel (delivery_id, intent, entry, bundle) VALUES (?, ?, ?, ?)
		ON CONFLICT (delivery_id) DO UPDATE SET
		intent = CASE WHEN ? = 'verified' THEN NULL ELSE coalesce(excluded.intent, parcel.intent) END,
		entry = coalesce(excluded.entry, parcel.entry), bundle = coalesce(excluded.bundle, parcel.bundle)`,
		change.ID, nullJSON(change.Intent), nullJSON(change.Entry), change.Bundle, change.State)
	return err
}

// record writes the history row and the events of a change.
func (t *tx) record(change lodge.Change, now time.Time) error {
	brief := change.Intent
	if brief != nil {
		short := *brief
		short.Request = nil
		brief = &short
	}
	if _, err := t.exec(`INSERT INTO history (delivery_id, attempt, from_state, to_state, at, intent, error) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		change.ID, change.Attempt, change.From, change.State, now.UnixMicro(), nullJSON(brief), nullJSON(change.Err)); err != nil {
		return err
	}
	for _, e := range change.Events {
		if err := t.emit(e); err != nil {
			return err
		}
	}
	return nil
}

// emit writes an event. A fact that was written before is not written again.
func (t *tx) emit(e lodge.Event) error {
	_, err := t.exec(`INSERT INTO outbox (id, type, source, subject, at, data) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		e.ID[:], e.Type, e.Source, e.Subject, e.Time.UnixMicro(), string(e.Data))
	return err
}

// release makes the deliveries due that waited for this one and for no other.
func (t *tx) release(id int64, now time.Time) error {
	_, err := t.exec(`UPDATE delivery SET due_at = `+dueUnlessBlocked+` WHERE state = 'queued' AND due_at IS NULL
		AND id IN (SELECT delivery_id FROM requirement WHERE requires_id = ?)`, now.UnixMicro(), id)
	return err
}

func (t *tx) failDependents(change lodge.Change, now time.Time) error {
	waiting, err := t.deliveries(selectDelivery+` JOIN requirement r ON r.delivery_id = d.id
		WHERE r.requires_id = ? AND d.state = 'queued' AND d.due_at IS NULL ORDER BY d.id`, change.ID)
	if err != nil {
		return err
	}
	for _, d := range waiting {
		d.State = lodge.Failed
		d.Err = lodge.Errorf(lodge.ClassDependency, "requires", "it requires %s, which failed: %s", change.Target.Name, change.Err.Message)
		if err := t.apply(lodge.Change{Delivery: d, From: lodge.Queued,
			Events: []lodge.Event{lodge.FailedEvent(lodge.EntryFailed, d, now)}}, now); err != nil {
			return err
		}
	}
	return nil
}

func nullJSON[T any](v *T) any {
	if v == nil {
		return nil
	}
	return toJSON(v)
}

// Hold makes a target take nothing until it is resumed, with the code and words of the
// reason. A target that is held already keeps its first reason.
func (s *Store) Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error {
	return s.writer.do(ctx, func(t *tx) error {
		var count int64
		found, err := t.get(`UPDATE target SET held = ?, held_words = ?, held_count = held_count + 1
			WHERE address = ? AND held = '' RETURNING held_count`, []any{code, words, target.Address}, &count)
		if err != nil || !found {
			return err
		}
		return t.emit(lodge.HoldEvent(lodge.TargetHeld, target, code, count, now))
	})
}

// Resume makes a held target take deliveries again, all that wait for it at once.
func (s *Store) Resume(ctx context.Context, target lodge.Target, now time.Time) error {
	return s.writer.do(ctx, func(t *tx) error {
		var id, count int64
		var code string
		found, err := t.get(`SELECT id, held, held_count FROM target WHERE address = ? AND held <> ''`, []any{target.Address}, &id, &code, &count)
		if err != nil || !found {
			return err
		}
		if _, err := t.exec(`UPDATE target SET held = '', held_words = '' WHERE id = ?`, id); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE delivery SET due_at = ? WHERE target_id = ? AND state = 'queued' AND due_at > ?`,
			now.UnixMicro(), id, now.UnixMicro()); err != nil {
			return err
		}
		return t.emit(lodge.HoldEvent(lodge.TargetResumed, target, code, count, now))
	})
}

// Targets returns every target that this store knows.
func (s *Store) Targets(ctx context.Context) (targets []lodge.TargetStatus, err error) {
	err = each(s.reads.QueryContext(ctx, `SELECT kind, name, address, held, held_words,
		(SELECT count(*) FROM delivery d WHERE d.target_id = target.id AND d.state NOT IN ('verified', 'failed')),
		(SELECT count(*) FROM delivery d WHERE d.target_id = target.id AND d.state = 'failed')
		FROM target ORDER BY name`))(func(rows *sql.Rows) error {
		var st lodge.TargetStatus
		err := rows.Scan(&st.Kind, &st.Name, &st.Address, &st.Held, &st.HeldWords, &st.Waiting, &st.Failed)
		targets = append(targets, st)
		return err
	})
	return targets, err
}

// Held returns the code and the words of why a target is held; code is "" where it is not.
func (s *Store) Held(ctx context.Context, address string) (code, words string, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT held, held_words FROM target WHERE address = ?`, address).Scan(&code, &words)
	ignoreNoRows(&err)
	return code, words, err
}
