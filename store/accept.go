package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
)

// Register makes target known and returns it as the store names it. A target is the
// same when its address is; another name for it is a renaming. A log may move to
// another address under its name (a new shard), a repository may not.
func (s *Store) Register(ctx context.Context, target lodge.Target) error {
	return s.writer.do(ctx, func(t *tx) error {
		var id int64
		var name string
		found, err := t.get(`SELECT id, name FROM target WHERE address = ? AND kind = ?`,
			[]any{target.Address, target.Kind}, &id, &name)
		if err != nil {
			return err
		}
		if found && name == target.Name {
			return nil
		}
		var other int64
		var address string
		taken, err := t.get(`SELECT id, address FROM target WHERE name = ?`, []any{target.Name}, &other, &address)
		switch {
		case err != nil:
			return err
		case taken && (found || target.Kind != lodge.KindLog):
			return fmt.Errorf("target %q has been %s so far: give %s another name", target.Name, address, target.Address)
		case taken:
			_, err = t.exec(`UPDATE target SET address = ? WHERE id = ?`, target.Address, other)
		case found:
			_, err = t.exec(`UPDATE target SET name = ? WHERE id = ?`, target.Name, id)
		default:
			_, err = t.exec(`INSERT INTO target (kind, name, address) VALUES (?, ?, ?)`,
				target.Kind, target.Name, target.Address)
		}
		return err
	})
}

// Accept makes the deliveries that are asked for and do not exist, with their
// EntryQueued events, in one transaction (promise 1). Deliveries that exist are
// returned as they are; of these, failed ones are queued again, and ones that wait
// after a failed attempt are due at once. Nothing is written where nothing changes.
func (s *Store) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error) {
	if known, err := s.known(ctx, sub, orders); err != nil || known != nil {
		return known, err
	}
	var accepted []lodge.Accepted
	err := s.writer.do(ctx, func(t *tx) error {
		accepted = accepted[:0]
		envelope, err := t.keepEnvelope(sub)
		if err != nil {
			return err
		}
		ids := make([]int64, len(orders))
		for i, order := range orders {
			var made lodge.Accepted
			if made, err = t.keepDelivery(envelope, order, now); err != nil {
				return err
			}
			ids[i] = made.ID
			for _, required := range order.Requires {
				if _, err = t.exec(`INSERT INTO requirement (delivery_id, requires_id) VALUES (?, ?) ON CONFLICT DO NOTHING`,
					made.ID, ids[required]); err != nil {
					return err
				}
			}
			accepted = append(accepted, made)
		}
		for i := range accepted {
			if err := t.makeDue(&accepted[i], now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return accepted, nil
}

// known answers a plain duplicate from reads alone; nil where there is something to write.
func (s *Store) known(ctx context.Context, sub lodge.Submission, orders []lodge.Order) ([]lodge.Accepted, error) {
	var scopes []string
	var text string
	err := s.reads.QueryRowContext(ctx, `SELECT scopes FROM envelope WHERE key = ? AND signer = ?`, sub.Key[:], sub.Signer).Scan(&text)
	if ignoreNoRows(&err); err != nil || text == "" {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &scopes); err != nil {
		return nil, err
	}
	if len(union(scopes, sub.Scopes)) > len(scopes) {
		return nil, nil
	}
	var accepted []lodge.Accepted
	for _, order := range orders {
		found, err := s.query(ctx, selectDelivery+` WHERE e.key = ? AND e.signer = ? AND t.address = ? AND d.subject = ?`,
			sub.Key[:], sub.Signer, order.Target.Address, subjectColumn(order.Subject))
		if err != nil || len(found) == 0 || found[0].State == lodge.Failed || waits(found[0]) {
			return nil, err
		}
		accepted = append(accepted, lodge.Accepted{Delivery: found[0]})
	}
	return accepted, nil
}

// waits tells whether d stands in the queue after a failed attempt. Its lease may be
// held all the same: then the holder loses it, which its next write will tell it.
func waits(d lodge.Delivery) bool { return d.State == lodge.Queued && d.Err != nil }

func (t *tx) keepEnvelope(sub lodge.Submission) (id int64, err error) {
	var text string
	found, err := t.get(`SELECT id, scopes FROM envelope WHERE key = ? AND signer = ?`, []any{sub.Key[:], sub.Signer}, &id, &text)
	if err != nil {
		return 0, err
	}
	if !found {
		_, err = t.get(`INSERT INTO envelope (key, signer, raw, spki, subjects, scopes) VALUES (?, ?, ?, ?, ?, ?) RETURNING id`,
			[]any{sub.Key[:], sub.Signer, sub.Raw, sub.SPKI, toJSON(sub.Subjects), toJSON(union(nil, sub.Scopes))}, &id)
		return id, err
	}
	var scopes []string
	if err := json.Unmarshal([]byte(text), &scopes); err != nil {
		return 0, err
	}
	if all := union(scopes, sub.Scopes); len(all) > len(scopes) {
		_, err = t.exec(`UPDATE envelope SET scopes = ? WHERE id = ?`, toJSON(all), id)
	}
	return id, err
}

// keepDelivery finds the delivery or makes it. A new one is not due yet.
func (t *tx) keepDelivery(envelope int64, order lodge.Order, now time.Time) (lodge.Accepted, error) {
	where := selectDelivery + ` WHERE d.envelope_id = ? AND t.address = ? AND d.subject = ?`
	key := []any{envelope, order.Target.Address, subjectColumn(order.Subject)}
	if found, err := t.deliveries(where, key...); err != nil || len(found) > 0 {
		if err != nil {
			return lodge.Accepted{}, err
		}
		return lodge.Accepted{Delivery: found[0]}, nil
	}
	made, err := t.exec(`INSERT INTO delivery (envelope_id, target_id, subject, state, accepted_at)
		SELECT ?, id, ?, ?, ? FROM target WHERE address = ?`,
		envelope, subjectColumn(order.Subject), lodge.Queued, now.UnixMicro(), order.Target.Address)
	if err != nil {
		return lodge.Accepted{}, err
	}
	if made == 0 {
		return lodge.Accepted{}, fmt.Errorf("target %s: %w", order.Target.Name, lodge.ErrNotFound)
	}
	found, err := t.deliveries(where, key...)
	if err != nil {
		return lodge.Accepted{}, err
	}
	d := found[0]
	if err := t.record(lodge.Change{Delivery: d, Events: []lodge.Event{lodge.QueuedEvent(d, now)}}, now); err != nil {
		return lodge.Accepted{}, err
	}
	return lodge.Accepted{Delivery: d, New: true}, nil
}

// makeDue puts a delivery that is new, failed or waiting into the queue, due now, or
// not due while something that it requires is not verified.
func (t *tx) makeDue(a *lodge.Accepted, now time.Time) error {
	if !a.New && a.State != lodge.Failed && !waits(a.Delivery) {
		return nil
	}
	change := lodge.Change{Delivery: a.Delivery, From: a.State}
	change.State, change.Err = lodge.Queued, nil
	if _, err := t.exec(`UPDATE delivery SET state = ?, error = NULL, due_at = `+dueUnlessBlocked+` WHERE id = ?`,
		lodge.Queued, now.UnixMicro(), a.ID); err != nil {
		return err
	}
	if a.State == lodge.Failed {
		if err := t.record(change, now); err != nil {
			return err
		}
	}
	a.Delivery = change.Delivery
	return nil
}

// dueUnlessBlocked is the due time that its parameter gives, or NULL while a required
// delivery is not verified.
const dueUnlessBlocked = `CASE WHEN EXISTS (
	SELECT 1 FROM requirement r JOIN delivery q ON q.id = r.requires_id
	WHERE r.delivery_id = delivery.id AND q.state <> 'verified') THEN NULL ELSE ? END`

// Retry queues failed deliveries again: those of key where it is set, and those to the
// target of that name where it is set, with the deliveries that failed because of them.
// It returns how many.
func (s *Store) Retry(ctx context.Context, key lodge.Key, target string, now time.Time) (int, error) {
	n := 0
	err := s.writer.do(ctx, func(t *tx) error {
		n = 0
		failed, err := t.deliveries(selectDelivery+` WHERE d.state = 'failed' AND (? OR e.key = ?) AND (? OR t.name = ? OR t.address = ?
			OR EXISTS (SELECT 1 FROM requirement r JOIN delivery q ON q.id = r.requires_id JOIN target u ON u.id = q.target_id
				WHERE r.delivery_id = d.id AND q.state = 'failed' AND (u.name = ? OR u.address = ?)))
			ORDER BY d.id`, key.IsZero(), key[:], target == "", target, target, target, target)
		if err != nil {
			return err
		}
		for _, d := range failed {
			if err := t.makeDue(&lodge.Accepted{Delivery: d}, now); err != nil {
				return err
			}
		}
		n = len(failed)
		return nil
	})
	return n, err
}

// union returns the sorted set of both.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
