package store

import (
	"context"
	"database/sql"
	"math"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
)

// Retention says how long things are kept; 0 is for ever. Receipts and proofs always are.
type Retention struct {
	Payloads time.Duration // envelopes, from acceptance on, once every delivery of theirs is verified
	Events   time.Duration // the newest event stays, so that sequences go on
	History  time.Duration // transitions of deliveries that are over; the first, into queued, stays

	// Readers are cursors: what their consumers have not come to yet stays, events and payloads.
	Readers []string
}

// Pruned counts what Prune has deleted.
type Pruned struct {
	Payloads, Events, History int
}

// pruneBatch is how much goes in one transaction, so that others need not wait for long.
const pruneBatch = 500

// Prune deletes what is older than r keeps. A sink whose cursor is older than the events
// that are left has missed some.
func (s *Store) Prune(ctx context.Context, r Retention, now time.Time) (p Pruned, err error) {
	read := int64(math.MaxInt64 - 1)
	for _, name := range r.Readers {
		c, err := s.Cursor(ctx, name)
		if err != nil {
			return p, err
		}
		read = min(read, c.Sequence)
	}
	for _, part := range []struct {
		keep  time.Duration
		n     *int
		prune func(ctx context.Context, before, read int64, n *int) error
	}{
		{r.Payloads, &p.Payloads, s.prunePayloads},
		{r.Events, &p.Events, s.pruneEvents},
		{r.History, &p.History, s.pruneHistory},
	} {
		if part.keep > 0 && err == nil {
			err = part.prune(ctx, now.Add(-part.keep).UnixMicro(), read, part.n)
		}
	}
	return p, err
}

// wanted finds what still needs the payload of an envelope.
const wanted = ` (EXISTS (SELECT 1 FROM delivery w WHERE w.envelope_id = envelope.id AND (w.state <> 'verified' OR w.accepted_at >= ?))
	OR EXISTS (SELECT 1 FROM outbox o WHERE o.envelope_id = envelope.id AND o.seq > ?))`

func (s *Store) prunePayloads(ctx context.Context, before, read int64, total *int) error {
	var after int64
	for {
		var ids []int64
		// They are locked in the order of their keys, as others do.
		if err := s.query(ctx, `SELECT id FROM (SELECT id, key FROM envelope WHERE id > ? AND length(raw) > 0 AND NOT`+wanted+` ORDER BY id LIMIT ?) e ORDER BY key`,
			[]any{after, before, read, pruneBatch}, func(rows *sql.Rows) error {
				var id int64
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			}); err != nil || len(ids) == 0 {
			return err
		}
		var n int
		err := s.do(ctx, &operation{alone: true, run: func(t *tx) (err error) {
			n, err = t.prunePayloads(ids, before, read)
			return err
		}})
		*total += n
		if err != nil {
			return err
		}
		after = slices.Max(ids)
	}
}

func (t *tx) prunePayloads(ids []int64, before, read int64) (n int, err error) {
	for _, id := range ids {
		var raw []byte
		// Once it is locked nobody adds a delivery; one that came before is seen by the update.
		if _, err := t.get(`SELECT raw FROM envelope WHERE id = ?{lock}`, []any{id}, &raw); err != nil {
			return n, err
		}
		digest := lodge.DigestOf(raw)
		changed, err := t.exec(`UPDATE envelope SET raw = ?, pruned = ? WHERE id = ? AND length(raw) > 0 AND NOT`+wanted, []byte{}, digest[:], id, before, read)
		if err != nil {
			return n, err
		}
		n += int(changed)
	}
	return n, nil
}

func (s *Store) pruneEvents(ctx context.Context, before, read int64, total *int) error {
	var end int64 // the first event that stays
	found, err := s.row(ctx, `SELECT seq FROM outbox WHERE at >= ? ORDER BY seq LIMIT 1`, []any{before}, &end)
	if err == nil && !found {
		end, err = s.LastSequence(ctx)
	}
	if err != nil {
		return err
	}
	return s.deleteAll(ctx, total, `DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE seq < ? ORDER BY seq LIMIT ?)`, min(end, read+1), pruneBatch)
}

func (s *Store) pruneHistory(ctx context.Context, before, _ int64, total *int) error {
	var end int64
	if _, err := s.row(ctx, `SELECT coalesce((SELECT id FROM history WHERE at >= ? ORDER BY id LIMIT 1), (SELECT max(id) + 1 FROM history), 0)`,
		[]any{before}, &end); err != nil {
		return err
	}
	return s.deleteAll(ctx, total, `DELETE FROM history WHERE id IN (SELECT h.id FROM history h JOIN delivery d ON d.id = h.delivery_id
		WHERE h.id < ? AND d.state IN (?, ?) ORDER BY h.id LIMIT ?)`, end, lodge.Verified, lodge.Failed, pruneBatch)
}

// deleteAll runs query, which deletes a batch, until it finds less than that.
func (s *Store) deleteAll(ctx context.Context, total *int, query string, args ...any) error {
	for {
		var n int64
		err := s.do(ctx, &operation{alone: true, run: func(t *tx) (err error) {
			n, err = t.exec(query, args...)
			return err
		}})
		*total += int(n)
		if err != nil || n < pruneBatch {
			return err
		}
	}
}
