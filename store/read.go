package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

const selectDelivery = `SELECT d.id, e.key, e.signer, t.kind, t.name, t.address, d.subject, d.state,
	d.attempt, d.sends, d.adopted, d.due_at, d.accepted_at, d.receipt, d.error
	FROM delivery d JOIN envelope e ON e.id = d.envelope_id JOIN target t ON t.id = d.target_id`

func scanDelivery(rows *sql.Rows) (d lodge.Delivery, err error) {
	var key, subject []byte
	var due sql.NullInt64
	var accepted int64
	var receipt, failure sql.NullString
	if err := rows.Scan(&d.ID, &key, &d.Signer, &d.Target.Kind, &d.Target.Name, &d.Target.Address, &subject, &d.State,
		&d.Attempt, &d.Sends, &d.Adopted, &due, &accepted, &receipt, &failure); err != nil {
		return d, err
	}
	copy(d.Key[:], key)
	copy(d.Subject[:], subject)
	d.Accepted = time.UnixMicro(accepted).UTC()
	if due.Valid {
		d.Due = time.UnixMicro(due.Int64).UTC()
	}
	if err := fromJSON(receipt, &d.Receipt); err != nil {
		return d, err
	}
	return d, fromJSON(failure, &d.Err)
}

func (t *tx) deliveries(query string, args ...any) (found []lodge.Delivery, err error) {
	err = t.each(query, args, func(rows *sql.Rows) error {
		d, err := scanDelivery(rows)
		found = append(found, d)
		return err
	})
	return found, err
}

func (s *Store) query(ctx context.Context, query string, args ...any) (found []lodge.Delivery, err error) {
	err = each(s.reads.QueryContext(ctx, query, args...))(func(rows *sql.Rows) error {
		d, err := scanDelivery(rows)
		found = append(found, d)
		return err
	})
	return found, err
}

// Deliveries returns the deliveries of key, of a subject with that digest, or all where
// the digest is zero, oldest first, beginning behind the id after, limit at most.
func (s *Store) Deliveries(ctx context.Context, digest lodge.Digest, after int64, limit int) ([]lodge.Delivery, error) {
	return s.query(ctx, selectDelivery+` WHERE d.id > ? AND (? OR e.key = ? OR d.subject = ? OR EXISTS (
		SELECT 1 FROM json_each(e.subjects) WHERE value = ?)) ORDER BY d.id LIMIT ?`,
		after, digest.IsZero(), digest[:], digest[:], digest.String(), limit)
}

// Delivery returns one delivery, or lodge.ErrNotFound.
func (s *Store) Delivery(ctx context.Context, id int64) (lodge.Delivery, error) {
	found, err := s.query(ctx, selectDelivery+` WHERE d.id = ?`, id)
	if err != nil {
		return lodge.Delivery{}, err
	}
	if len(found) == 0 {
		return lodge.Delivery{}, fmt.Errorf("delivery %d: %w", id, lodge.ErrNotFound)
	}
	return found[0], nil
}

// Subjects returns the subjects that the envelope already has deliveries for in the
// repository with that address.
func (s *Store) Subjects(ctx context.Context, key lodge.Key, signer lodge.Signer, address string) ([]lodge.Digest, error) {
	found, err := s.query(ctx, selectDelivery+` WHERE e.key = ? AND e.signer = ? AND t.address = ? ORDER BY d.id`, key[:], signer, address)
	var subjects []lodge.Digest
	for _, d := range found {
		subjects = append(subjects, d.Subject)
	}
	return subjects, err
}

// Submission returns what was accepted for the delivery with that id.
func (s *Store) Submission(ctx context.Context, id int64) (sub lodge.Submission, err error) {
	var key []byte
	var subjects, scopes string
	err = s.reads.QueryRowContext(ctx, `SELECT e.key, e.signer, e.raw, e.spki, e.subjects, e.scopes
		FROM envelope e JOIN delivery d ON d.envelope_id = e.id WHERE d.id = ?`, id).
		Scan(&key, &sub.Signer, &sub.Raw, &sub.SPKI, &subjects, &scopes)
	if ignoreNoRows(&err) {
		return sub, fmt.Errorf("delivery %d: %w", id, lodge.ErrNotFound)
	}
	if err != nil {
		return sub, err
	}
	copy(sub.Key[:], key)
	return sub, errors.Join(json.Unmarshal([]byte(subjects), &sub.Subjects), json.Unmarshal([]byte(scopes), &sub.Scopes))
}

// Proof returns the log entry of a verified delivery, or lodge.ErrNotFound.
func (s *Store) Proof(ctx context.Context, id int64) (lodge.Proof, error) {
	proofs, err := s.proofs(ctx, `SELECT t.kind, t.name, t.address, p.entry, p.bundle
		FROM parcel p JOIN delivery d ON d.id = p.delivery_id JOIN target t ON t.id = d.target_id
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
	err = each(s.reads.QueryContext(ctx, query, args...))(func(rows *sql.Rows) error {
		var p lodge.Proof
		var entry string
		if err := rows.Scan(&p.Target.Kind, &p.Target.Name, &p.Target.Address, &entry, &p.Bundle); err != nil {
			return err
		}
		proofs = append(proofs, p)
		return json.Unmarshal([]byte(entry), &proofs[len(proofs)-1].Entry)
	})
	return proofs, err
}

// History returns the transitions of a delivery, oldest first.
func (s *Store) History(ctx context.Context, id int64) (history []lodge.Transition, err error) {
	err = each(s.reads.QueryContext(ctx, `SELECT attempt, from_state, to_state, at, intent, error FROM history
		WHERE delivery_id = ? ORDER BY id`, id))(func(rows *sql.Rows) error {
		var h lodge.Transition
		var at int64
		var intent, failure sql.NullString
		if err := rows.Scan(&h.Attempt, &h.From, &h.To, &at, &intent, &failure); err != nil {
			return err
		}
		h.Time = time.UnixMicro(at).UTC()
		if err := errors.Join(fromJSON(intent, &h.Intent), fromJSON(failure, &h.Error)); err != nil {
			return err
		}
		history = append(history, h)
		return nil
	})
	return history, err
}

// Events returns the events behind the sequence after, in order, limit at most.
func (s *Store) Events(ctx context.Context, after int64, limit int) (events []lodge.Event, err error) {
	err = each(s.reads.QueryContext(ctx, `SELECT seq, id, type, source, subject, at, data FROM outbox
		WHERE seq > ? ORDER BY seq LIMIT ?`, after, limit))(func(rows *sql.Rows) error {
		var e lodge.Event
		var id []byte
		var at int64
		if err := rows.Scan(&e.Sequence, &id, &e.Type, &e.Source, &e.Subject, &at, (*[]byte)(&e.Data)); err != nil {
			return err
		}
		copy(e.ID[:], id)
		e.Time = time.UnixMicro(at).UTC()
		events = append(events, e)
		return nil
	})
	return events, err
}

func subjectColumn(d lodge.Digest) []byte {
	if d.IsZero() {
		return []byte{}
	}
	return d[:]
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("store: %T does not marshal: %v", v, err)) // the root package's types always do
	}
	return string(b)
}

func fromJSON[T any](text sql.NullString, v **T) error {
	if !text.Valid {
		return nil
	}
	*v = new(T)
	return json.Unmarshal([]byte(text.String), *v)
}

// ignoreNoRows clears sql.ErrNoRows and tells whether it was that.
func ignoreNoRows(err *error) bool {
	if errors.Is(*err, sql.ErrNoRows) {
		*err = nil
		return true
	}
	return false
}

// LastSequence returns the sequence of the newest event, 0 where there is none.
func (s *Store) LastSequence(ctx context.Context) (seq int64, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM outbox`).Scan(&seq)
	return seq, err
}
