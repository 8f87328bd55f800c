package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lodgehq/lodge"
)

const selectDelivery = `SELECT d.id, d.envelope_id, e.key, e.signer, t.kind, t.name, t.address, d.subject, d.state,
	d.attempt, d.sends, d.adopted, d.due_at, d.accepted_at, d.since, p.receipt, d.error
	FROM delivery d JOIN envelope e ON e.id = d.envelope_id JOIN target t ON t.id = d.target_id LEFT JOIN receipt p ON p.delivery_id = d.id`

func scanDelivery(rows *sql.Rows) (d lodge.Delivery, err error) {
	err = rows.Scan(&d.ID, &d.Envelope, bytesInto{d.Key[:]}, &d.Signer, &d.Target.Kind, &d.Target.Name, &d.Target.Address, bytesInto{d.Subject[:]}, &d.State,
		&d.Attempt, &d.Sends, &d.Adopted, timeInto{&d.Due}, timeInto{&d.Accepted}, timeInto{&d.Since}, jsonInto{&d.Receipt}, jsonInto{&d.Err})
	return d, err
}

func (t *tx) deliveries(query string, args ...any) (found []lodge.Delivery, err error) {
	if err := t.flush(receipts); err != nil { // of other operations of the batch
		return nil, err
	}
	err = t.each(query, args, func(rows *sql.Rows) error {
		d, err := scanDelivery(rows)
		found = append(found, d)
		return err
	})
	return found, err
}

func (s *Store) deliveries(ctx context.Context, query string, args ...any) (found []lodge.Delivery, err error) {
	err = s.query(ctx, query, args, func(rows *sql.Rows) error {
		d, err := scanDelivery(rows)
		found = append(found, d)
		return err
	})
	return found, err
}

// Deliveries returns the deliveries of key, of a subject with that digest, or all where
// the digest is zero, oldest first, beginning behind the id after, limit at most.
func (s *Store) Deliveries(ctx context.Context, digest lodge.Digest, after int64, limit int) ([]lodge.Delivery, error) {
	if digest.IsZero() {
		return s.deliveries(ctx, selectDelivery+` WHERE d.id > ? ORDER BY d.id LIMIT ?`, after, limit)
	}
	return s.deliveries(ctx, selectDelivery+` WHERE d.id > ? AND d.envelope_id IN (
		SELECT id FROM envelope WHERE key = ? UNION SELECT envelope_id FROM scope WHERE scope = ?) ORDER BY d.id LIMIT ?`,
		after, digest[:], artifactScope(digest), limit)
}

// DeliveriesAbout returns the deliveries of the envelopes with one of these scopes, derived
// or given, oldest first, beginning behind the id after, limit at most.
func (s *Store) DeliveriesAbout(ctx context.Context, scopes []string, after int64, limit int) ([]lodge.Delivery, error) {
	return s.deliveries(ctx, selectDelivery+` WHERE d.id > ? AND d.envelope_id IN (
		SELECT envelope_id FROM scope WHERE scope IN (SELECT value FROM {each}(?))) ORDER BY d.id LIMIT ?`, after, toJSON(scopes), limit)
}

// Delivery returns one delivery, or lodge.ErrNotFound.
func (s *Store) Delivery(ctx context.Context, id int64) (lodge.Delivery, error) {
	found, err := s.deliveries(ctx, selectDelivery+` WHERE d.id = ?`, id)
	if err != nil {
		return lodge.Delivery{}, err
	}
	if len(found) == 0 {
		return lodge.Delivery{}, notFound(id)
	}
	return found[0], nil
}

// Requires returns the deliveries that must be verified before the one with that id starts.
func (s *Store) Requires(ctx context.Context, id int64) ([]lodge.Delivery, error) {
	return s.deliveries(ctx, selectDelivery+` JOIN requirement r ON r.requires_id = d.id WHERE r.delivery_id = ? ORDER BY d.id`, id)
}

// Published returns the verified deliveries to the target with that address, oldest
// first, beginning behind the id after, limit at most.
func (s *Store) Published(ctx context.Context, address string, after int64, limit int) ([]lodge.Delivery, error) {
	return s.deliveries(ctx, selectDelivery+` WHERE t.address = ? AND d.state = 'verified' AND d.id > ? ORDER BY d.id LIMIT ?`,
		address, after, limit)
}

// Subjects returns the subjects that the envelope already has deliveries for in the
// repository with that address.
func (s *Store) Subjects(ctx context.Context, key lodge.Key, signer lodge.Signer, address string) ([]lodge.Digest, error) {
	found, err := s.deliveries(ctx, selectDelivery+` WHERE e.key = ? AND e.signer = ? AND t.address = ? ORDER BY d.id`, key[:], signer, address)
	var subjects []lodge.Digest
	for _, d := range found {
		subjects = append(subjects, d.Subject)
	}
	return subjects, err
}

// Submission returns what was accepted for the delivery with that id. Its Raw is empty
// where the payload was pruned.
func (s *Store) Submission(ctx context.Context, id int64) (sub lodge.Submission, err error) {
	found, err := s.row(ctx, `SELECT e.key, e.signer, e.raw, e.spki, e.timestamps, e.subjects, e.scopes
		FROM envelope e JOIN delivery d ON d.envelope_id = e.id WHERE d.id = ?`, []any{id},
		bytesInto{sub.Key[:]}, &sub.Signer, &sub.Raw, &sub.SPKI, jsonInto{&sub.Timestamps}, jsonInto{&sub.Subjects}, jsonInto{&sub.Scopes})
	if err == nil && !found {
		err = notFound(id)
	}
	return sub, err
}

// Proof returns the log entry of a verified delivery, or lodge.ErrNotFound.
func (s *Store) Proof(ctx context.Context, id int64) (lodge.Proof, error) {
	proofs, err := s.proofs(ctx, `SELECT t.kind, t.name, t.address, p.receipt, p.entry, p.bundle
		FROM receipt p JOIN delivery d ON d.id = p.delivery_id JOIN target t ON t.id = d.target_id
		WHERE d.id = ? AND d.state = 'verified' AND p.entry IS NOT NULL`, id)
	if err == nil && len(proofs) == 0 {
		err = fmt.Errorf("proof of delivery %d: %w", id, lodge.ErrNotFound)
	}
	if err != nil {
		return lodge.Proof{}, err
	}
	return proofs[0], nil
}

func (s *Store) proofs(ctx context.Context, query string, args ...any) (proofs []lodge.Proof, err error) {
	err = s.query(ctx, query, args, func(rows *sql.Rows) error {
		var p lodge.Proof
		receipt := lodge.Receipt{Log: &p.Entry.Receipt}
		err := rows.Scan(&p.Target.Kind, &p.Target.Name, &p.Target.Address, jsonInto{&receipt}, jsonInto{&p.Entry}, &p.Bundle)
		proofs = append(proofs, p)
		return err
	})
	return proofs, err
}

// History returns the transitions of a delivery, oldest first. The first, that it was queued,
// is in the delivery's own row.
func (s *Store) History(ctx context.Context, id int64) (history []lodge.Transition, err error) {
	err = s.query(ctx, `SELECT 0 AS attempt, '' AS from_state, 'queued' AS to_state, accepted_at AS at, NULL AS intent, NULL AS error, 0 AS id
		FROM delivery WHERE id = ? UNION ALL
		SELECT attempt, from_state, to_state, at, intent, error, id FROM history WHERE delivery_id = ? ORDER BY id`, []any{id, id}, func(rows *sql.Rows) error {
		var h lodge.Transition
		err := rows.Scan(&h.Attempt, &h.From, &h.To, timeInto{&h.Time}, jsonInto{&h.Intent}, jsonInto{&h.Error}, new(int64))
		history = append(history, h)
		return err
	})
	return history, err
}

func notFound(id int64) error { return fmt.Errorf("delivery %d: %w", id, lodge.ErrNotFound) }
