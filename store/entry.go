package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// AddProgress notes what was read of a shard, which must have been read up to p.From so far,
// or the answer is lodge.ErrStale. A leaf of our own that was seen at another index before is
// a duplicate, of which an event is written.
func (s *Store) AddProgress(ctx context.Context, shard lodge.Shard, p lodge.Reading, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		n, err := t.exec(`UPDATE shard SET next = ?, unsearched = unsearched + ?, speed = ? WHERE id = ? AND next = ?`,
			p.To, p.Unsearched, p.Speed, shard.ID, p.From)
		if err == nil && n == 0 {
			err = fmt.Errorf("leaves of %s from %d: others have read on: %w", shard.Origin, p.From, lodge.ErrStale)
		}
		if err != nil {
			return err
		}
		if err := t.addQuarantine(shard, p.Bad); err != nil {
			return err
		}
		return t.addOwn(shard, p.Own, p.Events, now)
	}})
}

func (t *tx) addQuarantine(shard lodge.Shard, bad []lodge.Quarantined) error {
	for _, q := range bad {
		if _, err := t.exec(`INSERT INTO quarantine (shard, idx, proven, words, at) VALUES (?, ?, ?, ?, {now}) ON CONFLICT (shard, idx) DO NOTHING`,
			shard.ID, q.Index, q.Proven, text(q.Words)); err != nil {
			return err
		}
	}
	return nil
}

// Mend takes leaves out of the quarantine that could be read after all, with what was found
// in them.
func (s *Store) Mend(ctx context.Context, shard lodge.Shard, p lodge.Reading, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		if _, err := t.exec(`DELETE FROM quarantine WHERE shard = ? AND idx >= ? AND idx < ?`, shard.ID, p.From, p.To); err != nil {
			return err
		}
		if err := t.addQuarantine(shard, p.Bad); err != nil {
			return err
		}
		return t.addOwn(shard, p.Own, p.Events, now)
	}})
}

// AddOwn notes leaves of our own, and with index -1 digests of our own, from events up to
// the sequence to. From before on those must be known, or the answer is lodge.ErrStale.
func (s *Store) AddOwn(ctx context.Context, shard lodge.Shard, before, to int64, own []lodge.Own, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		n, err := t.exec(`UPDATE shard SET last_event = ? WHERE id = ? AND last_event = ?`, to, shard.ID, before)
		if err == nil && n == 0 {
			err = fmt.Errorf("own entries of %s: %w", shard.Origin, lodge.ErrStale)
		}
		if err != nil {
			return err
		}
		return t.addOwn(shard, own, nil, now)
	}})
}

func (t *tx) addOwn(shard lodge.Shard, own []lodge.Own, events []lodge.Event, now time.Time) error {
	for _, o := range own {
		n, err := t.exec(`INSERT INTO own (shard, hash, idx, key, signer) VALUES (?, ?, ?, ?, ?) ON CONFLICT (shard, hash, idx, key, signer) DO NOTHING`,
			shard.ID, o.Hash[:], o.Index, o.Key[:], o.Signer)
		if err != nil {
			return err
		}
		if n == 0 || o.Index < 0 {
			continue
		}
		var others int
		var last int64
		if _, err := t.get(`SELECT count(DISTINCT idx), max(idx) FROM own WHERE shard = ? AND hash = ? AND idx >= 0`,
			[]any{shard.ID, o.Hash[:]}, &others, &last); err != nil {
			return err
		}
		if others > 1 {
			o.Index = last
			events = append(events, lodge.DuplicateEvent(shard, o, now))
		}
	}
	for _, e := range events {
		envelope := noEnvelope
		if key, err := lodge.ParseDigest(e.Subject); err == nil {
			if _, err := t.get(`SELECT min(id) FROM envelope WHERE key = ?`, []any{key[:]}, &envelope); err != nil {
				return err
			}
		}
		t.emit(envelope, e)
	}
	return nil
}

// OwnAfter returns what is ours in a shard behind an id, oldest first, and the last id.
func (s *Store) OwnAfter(ctx context.Context, shard, after int64, limit int) (own []lodge.Own, last int64, err error) {
	last = after
	err = s.query(ctx, `SELECT id, hash, idx, key, signer FROM own WHERE shard = ? AND id > ? ORDER BY id LIMIT ?`, []any{shard, after, limit},
		func(rows *sql.Rows) error {
			var o lodge.Own
			err := rows.Scan(&last, bytesInto{o.Hash[:]}, &o.Index, bytesInto{o.Key[:]}, &o.Signer)
			own = append(own, o)
			return err
		})
	return own, last, err
}

// FindOwn returns what is ours in a shard under that hash: leaves, and digests at index -1.
func (s *Store) FindOwn(ctx context.Context, shard int64, hash lodge.Digest) (own []lodge.Own, err error) {
	err = s.query(ctx, `SELECT idx, key, signer FROM own WHERE shard = ? AND hash = ? ORDER BY idx`, []any{shard, hash[:]}, func(rows *sql.Rows) error {
		o := lodge.Own{Hash: hash}
		err := rows.Scan(&o.Index, bytesInto{o.Key[:]}, &o.Signer)
		own = append(own, o)
		return err
	})
	return own, err
}

// Pending returns the deliveries to the log with that address whose bytes were sent, or may
// have been, and that are not proven to be there.
func (s *Store) Pending(ctx context.Context, address string) (pending []lodge.Pending, err error) {
	err = s.query(ctx, `SELECT d.id, d.attempt, d.state, d.due_at, e.key, e.signer, i.intent
		FROM delivery d JOIN envelope e ON e.id = d.envelope_id JOIN target t ON t.id = d.target_id JOIN intent i ON i.delivery_id = d.id
		WHERE t.address = ? AND d.state IN ('sending', 'unknown', 'placed') ORDER BY d.id`, []any{address}, func(rows *sql.Rows) error {
		var p lodge.Pending
		var intent lodge.Intent
		err := rows.Scan(&p.ID, &p.Attempt, &p.State, timeInto{&p.Due}, bytesInto{p.Key[:]}, &p.Signer, jsonInto{&intent})
		p.Hash, p.LogID = intent.LeafHash, intent.LogID
		pending = append(pending, p)
		return err
	})
	return pending, err
}

// Expedite makes a delivery due now that waits to ask whether its entry is there: it is. What
// was unknown is placed from here on, so that it is not sent again where whoever asks next does
// not see the entry yet: its settle time may not be over.
func (s *Store) Expedite(ctx context.Context, p lodge.Pending) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		waiting, err := t.deliveries(selectDelivery+` WHERE d.id = ? AND d.attempt = ? AND d.state IN ('unknown', 'placed') AND d.due_at > {now}{lock d}`, p.ID, p.Attempt)
		if err != nil || len(waiting) == 0 {
			return err
		}
		now := time.Now()
		change := lodge.Change{Delivery: waiting[0], From: waiting[0].State}
		change.State, change.Due = lodge.Placed, now
		return t.apply(newTransition(change, now))
	}})
}

// Quarantine returns the leaves of a shard that could not be read, behind an index.
func (s *Store) Quarantine(ctx context.Context, shard, after int64, limit int) (found []lodge.Quarantined, err error) {
	err = s.query(ctx, `SELECT idx, proven, words, at FROM quarantine WHERE shard = ? AND idx > ? ORDER BY idx LIMIT ?`, []any{shard, after, limit}, func(rows *sql.Rows) error {
		var q lodge.Quarantined
		err := rows.Scan(&q.Index, &q.Proven, &q.Words, timeInto{&q.Since})
		found = append(found, q)
		return err
	})
	return found, err
}

const selectEnvelope = `SELECT e.id, e.key, e.signer, e.raw, e.spki, e.subjects, e.scopes FROM envelope e`

func scanEnvelope(rows *sql.Rows) (id int64, sub lodge.Submission, err error) {
	err = rows.Scan(&id, bytesInto{sub.Key[:]}, &sub.Signer, &sub.Raw, &sub.SPKI, jsonInto{&sub.Subjects}, jsonInto{&sub.Scopes})
	return id, sub, err
}

// Envelope returns what was accepted under a key and signer. Its Raw is empty where the
// payload was pruned.
func (s *Store) Envelope(ctx context.Context, key lodge.Key, signer lodge.Signer) (sub lodge.Submission, err error) {
	found := false
	err = s.query(ctx, selectEnvelope+` WHERE e.key = ? AND e.signer = ?`, []any{key[:], signer}, func(rows *sql.Rows) error {
		found = true
		_, sub, err = scanEnvelope(rows)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("envelope %s: %w", key, lodge.ErrNotFound)
	}
	return sub, err
}

// EnvelopesAfter returns what was accepted behind an id, oldest first, and the last id.
func (s *Store) EnvelopesAfter(ctx context.Context, after int64, limit int) (subs []lodge.Submission, last int64, err error) {
	last = after
	err = s.query(ctx, selectEnvelope+` WHERE e.id > ? ORDER BY e.id LIMIT ?`, []any{after, limit}, func(rows *sql.Rows) error {
		id, sub, err := scanEnvelope(rows)
		last, subs = id, append(subs, sub)
		return err
	})
	return subs, last, err
}
