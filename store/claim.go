package store

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
)

// Claim takes up to n due deliveries to the target with that address, and leases them:
// nobody else claims one before the lease ends. A claimed delivery that is already in
// Sending was left by a worker that is gone; it comes as Unknown, since its request may
// have arrived. Load completes a job.
func (s *Store) Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) ([]lodge.Job, error) {
	var claimed []lodge.Job
	err := s.do(ctx, &operation{alone: true, run: func(t *tx) (err error) {
		claimed, err = t.claim(address, pick, n, lease.Sub(now))
		for i := range claimed {
			if job := &claimed[i]; err == nil {
				job.Lease, job.Due, job.Probe = lease, lease, pick == lodge.PickHeld
				err = t.doubt(&job.Delivery, now)
			}
		}
		return err
	}})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

func (t *tx) claim(address string, pick lodge.Pick, n int, lease time.Duration) (claimed []lodge.Job, err error) {
	var id int64
	target := lodge.Target{Address: address}
	if found, err := t.get(`SELECT id, kind, name FROM target WHERE address = ? AND (held <> '') = ?`,
		[]any{address, pick == lodge.PickHeld}, &id, &target.Kind, &target.Name); err != nil || !found {
		return nil, err
	}
	query := claimDue
	if pick == lodge.PickDoubtful {
		query = claimDoubtful
	}
	err = t.change(query, []any{id, n, lease.Microseconds()}, func(rows *sql.Rows) error {
		job := lodge.Job{Delivery: lodge.Delivery{Target: target}}
		err := rows.Scan(&job.ID, &job.Envelope, bytesInto{job.Subject[:]}, &job.State, &job.Attempt, &job.Sends, &job.Adopted, timeInto{&job.Accepted}, timeInto{&job.Since},
			jsonInto{&job.Err}, bytesInto{job.Key[:]}, &job.Signer, &job.Size)
		claimed = append(claimed, job)
		return err
	})
	slices.SortFunc(claimed, func(a, b lodge.Job) int { return cmp.Compare(a.ID, b.ID) })
	return claimed, err
}

const (
	claimDue      = selectDue + claimThem
	claimDoubtful = selectDue + ` AND d.state IN ('sending', 'unknown', 'placed')` + claimThem

	selectDue = `WITH due AS (SELECT d.id FROM delivery d WHERE d.target_id = ? AND d.due_at <= {now}`
	claimThem = ` ORDER BY d.due_at LIMIT ?{skip d})
		UPDATE delivery SET attempt = attempt + 1, due_at = {now} + ? WHERE id IN (SELECT id FROM due)
		RETURNING id, envelope_id, subject, state, attempt, sends, adopted, accepted_at, since, error,
		(SELECT key FROM envelope e WHERE e.id = envelope_id), (SELECT signer FROM envelope e WHERE e.id = envelope_id),
		(SELECT length(raw) FROM envelope e WHERE e.id = envelope_id)`
)

// doubt makes a delivery that another worker has left in Sending Unknown.
func (t *tx) doubt(d *lodge.Delivery, now time.Time) error {
	if d.State != lodge.Sending {
		return nil
	}
	d.State = lodge.Unknown
	d.Err = lodge.Errorf(lodge.ClassUnknown, "interrupted", "the worker that sent it did not come back")
	return t.apply(newTransition(lodge.Change{Delivery: *d, From: lodge.Sending}, now))
}

// Load completes a claimed job with what is kept apart from the hot row.
func (s *Store) Load(ctx context.Context, job *lodge.Job) error {
	var requires, others bool
	sub := &job.Submission
	found, err := s.row(ctx, `SELECT e.key, e.signer, e.raw, e.spki, e.timestamps, e.subjects, e.scopes, i.intent, p.receipt,
		EXISTS (SELECT 1 FROM requirement r WHERE r.delivery_id = d.id), EXISTS (SELECT 1 FROM delivery o WHERE o.envelope_id = d.envelope_id AND o.id <> d.id)
		FROM delivery d JOIN envelope e ON e.id = d.envelope_id 
		LEFT JOIN intent i ON i.delivery_id = d.id LEFT JOIN receipt p ON p.delivery_id = d.id WHERE d.id = ?`, []any{job.ID},
		bytesInto{sub.Key[:]}, &sub.Signer, &sub.Raw, &sub.SPKI, jsonInto{&sub.Timestamps}, jsonInto{&sub.Subjects}, jsonInto{&sub.Scopes}, jsonInto{&job.Intent}, jsonInto{&job.Receipt},
		&requires, &others)
	if err == nil && !found {
		err = notFound(job.ID)
	}
	if err == nil && requires {
		job.Required, err = s.proofs(ctx, `SELECT t.kind, t.name, t.address, p.receipt, p.entry, p.bundle FROM requirement r
			JOIN delivery d ON d.id = r.requires_id JOIN target t ON t.id = d.target_id JOIN receipt p ON p.delivery_id = d.id
			WHERE d.state = 'verified' AND r.delivery_id = ? AND p.entry IS NOT NULL ORDER BY r.requires_id`, job.ID)
	}
	if err == nil && others && job.Target.Kind == lodge.KindLog {
		job.Siblings, err = s.deliveries(ctx, selectDelivery+` WHERE d.envelope_id = ? AND t.kind = ? ORDER BY d.id`, job.Envelope, lodge.KindRepository)
	}
	return err
}

// NextDue says when the next delivery to the target with that address is due, by the
// clock of this machine; ok is false where none waits, and where the target is held.
func (s *Store) NextDue(ctx context.Context, address string) (due time.Time, ok bool, err error) {
	var left sql.NullInt64
	now := time.Now()
	_, err = s.row(ctx, `SELECT min(d.due_at) - {now} FROM delivery d
		WHERE d.target_id = (SELECT id FROM target WHERE address = ? AND held = '') AND d.due_at IS NOT NULL`, []any{address}, &left)
	return now.Add(time.Duration(left.Int64) * time.Microsecond).UTC(), left.Valid, err
}
