package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lodgehq/lodge"
)

// Accept makes the deliveries that are asked for and do not exist, with their
// EntryQueued events, in one transaction (promise 1). Deliveries that exist are
// returned as they are; of these, failed ones are queued again, ones that wait after a
// failed attempt are due at once, and queued ones wait for what is required for them now.
// Nothing is written where nothing changes.
//
// Its error wraps lodge.ErrNotFound for a target that is not registered, and is a *lodge.Error with
// the code payload-deleted where retention took the payload and these are other bytes.
func (s *Store) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error) {
	for i, order := range orders {
		if len(order.Requires) > 0 && slices.Max(order.Requires) >= i {
			return nil, fmt.Errorf("order %d requires order %d, which does not come before it", i, slices.Max(order.Requires))
		}
	}
	a := acceptance{sub: sub, orders: orders, now: now}
	if s.repeats.expected() || len(sub.Scopes) > 0 {
		if err := a.find(reader{s, ctx}); err != nil || a.accepted != nil {
			return a.accepted, err
		}
	}
	a.events = make([]lodge.Event, len(orders))
	for i := range orders { // here, so that callers do this beside each other
		a.events[i] = lodge.QueuedEvent(a.delivery(i), now)
	}
	a.sub.Scopes = union(nil, sub.Scopes)
	a.hints = newHints(sub.Hints, sub.Hints.Scope(a.sub.Scopes, len(a.sub.Scopes) > 0), a.artifacts()...)
	if err := s.do(ctx, &operation{key: envelopeKey(sub.Key, sub.Signer), run: a.run}); err != nil {
		// A plain duplicate is answered also while nothing can be written. But what this call has made
		// or queued again may be there, after a COMMIT without an answer, and is no duplicate.
		caused := slices.ContainsFunc(a.accepted, func(x lodge.Accepted) bool { return x.New || x.Requeued })
		if a.accepted = nil; !caused && a.find(reader{s, ctx}) == nil && a.accepted != nil {
			return a.accepted, nil
		}
		return nil, err
	}
	s.repeats.count(a.accepted)
	return a.accepted, nil
}

// repeats tells whether duplicates are to be expected, as they are at first: then reading
// before, beside other readers, is quicker than to find out in a transaction, and else it is not.
type repeats struct{ left atomic.Int32 }

// lastingRepeats is how many accepts must be new until no duplicate is expected any more.
const lastingRepeats = 64

func newRepeats() *repeats {
	r := &repeats{}
	r.left.Store(lastingRepeats)
	return r
}

func (r *repeats) expected() bool { return r.left.Load() > 0 }

func (r *repeats) count(accepted []lodge.Accepted) {
	switch isNew := func(a lodge.Accepted) bool { return a.New }; {
	case !slices.ContainsFunc(accepted, isNew):
		r.left.Store(lastingRepeats)
	case r.expected():
		r.left.Add(-1)
	}
}

// finder reads deliveries: a reader, or a transaction.
type finder interface {
	get(query string, args []any, dest ...any) (found bool, err error)
	deliveries(query string, args ...any) ([]lodge.Delivery, error)
}

// reader reads outside of any transaction.
type reader struct {
	store *Store
	ctx   context.Context
}

func (r reader) get(query string, args []any, dest ...any) (bool, error) {
	return r.store.row(r.ctx, query, args, dest...)
}

func (r reader) deliveries(query string, args ...any) ([]lodge.Delivery, error) {
	return r.store.deliveries(r.ctx, query, args...)
}

// find answers a plain duplicate from reads alone; accepted stays nil where there is
// something to write.
func (a *acceptance) find(from finder) error {
	key := []any{a.sub.Key[:], a.sub.Signer}
	if len(a.sub.Scopes) > 0 {
		var scopes []string
		if found, err := from.get(`SELECT scopes FROM envelope WHERE key = ? AND signer = ?`, key, jsonInto{&scopes}); err != nil || !found {
			return err
		}
		if len(union(scopes, a.sub.Scopes)) > len(scopes) {
			return nil
		}
	}
	// Without scopes it asks for the derived ones, which those of an earlier submission may keep out.
	found, err := from.deliveries(selectDelivery+` WHERE e.key = ? AND e.signer = ? AND (? OR NOT e.narrowed)`, append(key, len(a.sub.Scopes) > 0)...)
	if err != nil {
		return err
	}
	accepted := make([]lodge.Accepted, len(a.orders))
	for i, order := range a.orders {
		d := ordered(found, order)
		if d == nil || d.State == lodge.Failed {
			return nil
		}
		if paused, err := isPaused(from, *d); err != nil || paused {
			return err
		}
		accepted[i].Delivery = *d
		if waits, err := a.waitsForAll(from, accepted, i); err != nil || !waits {
			return err
		}
	}
	a.accepted = accepted
	return nil
}

// waitsForAll tells whether the delivery of order i, which is there, waits for all that the order
// requires, as far as it still can.
func (a *acceptance) waitsForAll(from finder, accepted []lodge.Accepted, i int) (bool, error) {
	if accepted[i].State != lodge.Queued {
		return true, nil
	}
	for _, required := range a.orders[i].Requires {
		known, err := from.get(`SELECT delivery_id FROM requirement WHERE requires_id = ? AND delivery_id = ?`,
			[]any{accepted[required].ID, accepted[i].ID}, new(int64))
		if err != nil || !known {
			return false, err
		}
	}
	return true, nil
}

// isPaused tells whether d stands in the queue after a failed attempt, of which there is a
// transition. A claim raises the attempt without one: then somebody is at work on it, and is let
// finish, or whoever hands it in again and again would keep it from ever going out.
func isPaused(from finder, d lodge.Delivery) (bool, error) {
	if d.State != lodge.Queued || d.Err == nil {
		return false, nil
	}
	return from.get(`SELECT id FROM history WHERE delivery_id = ? AND attempt = ? LIMIT 1`, []any{d.ID, d.Attempt}, new(int64))
}

// acceptance is one submission on its way into the store.
type acceptance struct {
	sub      lodge.Submission
	orders   []lodge.Order
	now      time.Time
	events   []lodge.Event // by order: that it was queued
	hints    hints
	existing []lodge.Delivery // those of the envelope, locked; as they were
	accepted []lodge.Accepted
}

// artifacts are what the envelope is about and what it is attached to.
func (a *acceptance) artifacts() []lodge.Digest {
	artifacts := slices.Clone(a.sub.Subjects)
	for _, order := range a.orders {
		if !order.Subject.IsZero() {
			artifacts = append(artifacts, order.Subject)
		}
	}
	return artifacts
}

// delivery returns the delivery that order i makes.
func (a *acceptance) delivery(i int) lodge.Delivery {
	order, now := a.orders[i], a.now.Truncate(time.Microsecond).UTC()
	return lodge.Delivery{Key: a.sub.Key, Signer: a.sub.Signer, Target: order.Target, Subject: order.Subject,
		State: lodge.Queued, Accepted: now, Since: now, Due: now}
}

func (a *acceptance) run(t *tx) error {
	a.existing, a.accepted = nil, nil
	var envelope, number int64
	if a.hints.document != nil {
		number = firstHints
	}
	made, err := t.insert(`INSERT INTO envelope (key, signer, raw, spki, timestamps, subjects, scopes, narrowed, extractor, hint)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key, signer) DO NOTHING{id}`,
		[]any{a.sub.Key[:], a.sub.Signer, a.sub.Raw, a.sub.SPKI, toJSON(a.sub.Timestamps), toJSON(a.sub.Subjects),
			toJSON(a.sub.Scopes), len(a.sub.Scopes) > 0, a.hints.version, number}, &envelope)
	switch {
	case err == nil && made:
		if number > 0 {
			t.put(documents, envelope, number, string(a.hints.document))
		}
		err = t.keepScopes(envelope, a.hints)
	case err == nil:
		if err = a.find(t); err != nil || a.accepted != nil {
			return err
		}
		envelope, err = a.merge(t)
	}
	if err != nil {
		return err
	}
	a.accepted = make([]lodge.Accepted, len(a.orders))
	for i := range a.orders {
		if err := a.keep(t, envelope, i, made); err != nil {
			return err
		}
	}
	for i := range a.accepted {
		if !a.accepted[i].New {
			a.accepted[i].Requeued = a.accepted[i].State == lodge.Failed
			if err := t.requeue(&a.accepted[i].Delivery, a.now); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge finds the envelope and its deliveries, which from here on nobody else changes or adds
// to, and adds what the submission brings to it.
func (a *acceptance) merge(t *tx) (id int64, err error) {
	var size int
	var pruned []byte
	var narrowed bool
	var scopes []string
	if _, err := t.get(`SELECT id, length(raw), pruned, narrowed, scopes FROM envelope WHERE key = ? AND signer = ?{lock}`,
		[]any{a.sub.Key[:], a.sub.Signer}, &id, &size, &pruned, &narrowed, jsonInto{&scopes}); err != nil {
		return 0, err
	}
	if err := t.lockDeliveries(id); err != nil {
		return 0, err
	}
	if a.existing, err = t.deliveries(selectDelivery+` WHERE d.envelope_id = ? ORDER BY d.id`, id); err != nil {
		return 0, err
	}
	if err := a.addScopes(t, id, narrowed, scopes); err != nil {
		return 0, err
	}
	if size == 0 {
		return id, a.restore(t, id, pruned)
	}
	return id, a.replace(t, id)
}

// lockDeliveries keeps the deliveries of an envelope as they are until the transaction ends: what
// becomes of one depends on those that it requires. Logs, which have no subject, come first, as
// where one is verified and lets go on what required it: nobody waits for each other. It is a
// statement of its own, so that the next one sees what those have written that it had to wait for.
func (t *tx) lockDeliveries(envelope int64) error {
	return t.each(`SELECT id FROM delivery WHERE envelope_id = ? ORDER BY length(subject), id{lock}`, []any{envelope}, func(*sql.Rows) error { return nil })
}

// ordered returns the one of an envelope's deliveries that an order asks for, nil where it is not
// there.
func ordered(deliveries []lodge.Delivery, order lodge.Order) *lodge.Delivery {
	at := slices.IndexFunc(deliveries, func(d lodge.Delivery) bool {
		return d.Target.Address == order.Target.Address && d.Subject == order.Subject
	})
	if at < 0 {
		return nil
	}
	return &deliveries[at]
}

// restore puts back a payload that was pruned, where a delivery needs it. The receipts of logs are
// about the signature that was in it, so where there are such it must be those very bytes.
func (a *acceptance) restore(t *tx, envelope int64, pruned []byte) error {
	missing := func(order lodge.Order) bool { return ordered(a.existing, order) == nil }
	if !slices.ContainsFunc(a.orders, missing) {
		return nil // what is there is verified, or it would not have been pruned
	}
	if digest := lodge.DigestOf(a.sub.Raw); !bytes.Equal(digest[:], pruned) {
		logged, err := t.get(`SELECT d.id FROM delivery d JOIN receipt p ON p.delivery_id = d.id
			WHERE d.envelope_id = ? AND p.entry IS NOT NULL AND p.bundle IS NULL`, []any{envelope}, new(int64))
		if err == nil && logged {
			err = lodge.Errorf(lodge.ClassPermanent, "payload-deleted",
				"its payload was deleted after the time of retention.payloads, and these are other bytes, perhaps of another signature: hand in those that were handed in first")
		}
		if err != nil {
			return err
		}
	}
	_, err := t.exec(`UPDATE envelope SET raw = ?, pruned = NULL, spki = ?, timestamps = ? WHERE id = ?`, a.sub.Raw, a.sub.SPKI, toJSON(a.sub.Timestamps), envelope)
	return err
}

// replace takes the new bytes instead of those that were accepted first, as long as nothing of
// those was sent, or it all failed: then what made them fail may be mended in these (another
// signature, a timestamp). Whoever is at work with the old ones loses its lease.
func (a *acceptance) replace(t *tx, envelope int64) error {
	stamps := toJSON(a.sub.Timestamps)
	n, err := t.exec(`UPDATE envelope SET raw = ?, spki = ?, timestamps = ?, subjects = ? WHERE id = ? AND (raw <> ? OR timestamps = 'null' AND timestamps <> ?) AND NOT EXISTS (
		SELECT 1 FROM delivery d LEFT JOIN intent i ON i.delivery_id = d.id
		WHERE d.envelope_id = envelope.id AND d.state <> 'failed' AND (d.state <> 'queued' OR i.intent IS NOT NULL))`,
		a.sub.Raw, a.sub.SPKI, stamps, toJSON(a.sub.Subjects), envelope, a.sub.Raw, stamps)
	if err != nil || n == 0 {
		return err
	}
	if _, err := t.exec(`DELETE FROM intent WHERE delivery_id IN (SELECT id FROM delivery WHERE envelope_id = ?)`, envelope); err != nil {
		return err
	}
	_, err = t.exec(`UPDATE delivery SET attempt = attempt + 1, due_at = `+dueUnlessBlocked+` WHERE envelope_id = ? AND state = 'queued'`, envelope)
	return err
}

// keep finds the delivery of order i, or makes it. It is due unless one that it requires
// is not verified, and those stay as they are until the transaction ends.
func (a *acceptance) keep(t *tx, envelope int64, i int, fresh bool) error {
	order := a.orders[i]
	if d := ordered(a.existing, order); d != nil {
		a.accepted[i].Delivery = *d
		return a.require(t, i)
	}
	d, insert := a.delivery(i), insertDue
	for _, required := range order.Requires {
		if a.accepted[required].State != lodge.Verified {
			d.Due, insert = time.Time{}, insertBlocked
		}
	}
	made, err := t.insert(insert, []any{envelope, subjectColumn(order.Subject), lodge.Queued, a.now.UnixMicro(), order.Target.Address}, &d.ID)
	if err == nil && !made {
		err = fmt.Errorf("target %s: %w", order.Target.Name, lodge.ErrNotFound)
	}
	if err != nil {
		return err
	}
	d.Envelope = envelope
	a.accepted[i] = lodge.Accepted{Delivery: d, New: true}
	t.emit(about(envelope), a.events[i])
	if !fresh && !order.Subject.IsZero() {
		if err := t.index(envelope, false, []string{artifactScope(order.Subject)}); err != nil {
			return err
		}
	}
	return a.require(t, i)
}

const (
	insertDue     = insertDelivery + `{now}` + insertFrom
	insertBlocked = insertDelivery + `NULL` + insertFrom

	insertDelivery = `INSERT INTO delivery (envelope_id, target_id, subject, state, accepted_at, since, due_at) SELECT ?, id, ?, ?, ?, {now}, `
	insertFrom     = ` FROM target WHERE address = ?{id}`
)

// require makes the delivery of order i wait for those that the order requires. Once something
// of it is on its way it waits for no more: what was sent would not be known again.
func (a *acceptance) require(t *tx, i int) error {
	d, added := &a.accepted[i], int64(0)
	if d.State != lodge.Queued && d.State != lodge.Failed {
		return nil
	}
	for _, required := range a.orders[i].Requires {
		n, err := t.exec(`INSERT INTO requirement (delivery_id, requires_id) VALUES (?, ?) ON CONFLICT DO NOTHING`,
			d.ID, a.accepted[required].ID)
		if err != nil {
			return err
		}
		added += n
	}
	if added == 0 || d.New {
		return nil
	}
	return t.restart(d.ID)
}

// restart makes a queued delivery due, unless it waits for another. Whoever is at work on it loses
// its lease.
func (t *tx) restart(id int64) error {
	_, err := t.exec(`UPDATE delivery SET attempt = attempt + 1, due_at = `+dueUnlessBlocked+` WHERE id = ? AND state = ?`, id, lodge.Queued)
	return err
}

// requeue puts a failed or waiting delivery, of an envelope whose deliveries are locked, into the
// queue, and the failed ones that it requires: due now, or not due while one of those is not
// verified. It is a new attempt, so whoever is at work on it loses its lease.
func (t *tx) requeue(d *lodge.Delivery, now time.Time) error {
	switch paused, err := isPaused(t, *d); {
	case err != nil:
		return err
	case paused:
		return t.restart(d.ID)
	case d.State != lodge.Failed:
		return nil
	}
	required, err := t.deliveries(selectDelivery+` JOIN requirement r ON r.requires_id = d.id
		WHERE r.delivery_id = ? AND d.state = 'failed' ORDER BY d.id`, d.ID)
	for i := range required {
		if err == nil {
			err = t.requeue(&required[i], now)
		}
	}
	if err != nil {
		return err
	}
	n, err := t.exec(`UPDATE delivery SET state = ?, attempt = attempt + 1, since = {now}, error = NULL, due_at = `+dueUnlessBlocked+`
		WHERE id = ? AND state = ?`, lodge.Queued, d.ID, lodge.Failed)
	if err != nil || n == 0 {
		return err // n is 0 where another one that requires it was first
	}
	change := lodge.Change{Delivery: *d, From: d.State}
	change.State, change.Err = lodge.Queued, nil
	change.Attempt++
	*d = change.Delivery
	t.record(newTransition(change, now))
	return nil
}

// dueUnlessBlocked is now, or NULL while a required delivery is not verified.
const dueUnlessBlocked = `CASE WHEN EXISTS (
	SELECT 1 FROM requirement r JOIN delivery q ON q.id = r.requires_id
	WHERE r.delivery_id = delivery.id AND q.state <> 'verified') THEN NULL ELSE {now} END`

// Retry queues failed deliveries again: those of key where it is set, and those to the
// target of that name where it is set, with the deliveries that failed because of them.
// It returns how many.
func (s *Store) Retry(ctx context.Context, key lodge.Key, target string, now time.Time) (int, error) {
	n := 0
	err := s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		n = 0
		found, err := t.deliveries(selectDelivery+` WHERE d.state = 'failed' AND (? OR e.key = ?) AND (? OR t.name = ? OR t.address = ?
			OR EXISTS (SELECT 1 FROM requirement r JOIN delivery q ON q.id = r.requires_id JOIN target u ON u.id = q.target_id
				WHERE r.delivery_id = d.id AND q.state = 'failed' AND (u.name = ? OR u.address = ?)))
			ORDER BY e.key, d.id`, key.IsZero(), key[:], target == "", target, target, target, target)
		for i := range found {
			if err == nil {
				err = t.retry(found[i], now)
			}
		}
		n = len(found)
		return err
	}})
	return n, err
}

// retry queues a delivery again if it is still failed once it is locked, with its envelope's others.
func (t *tx) retry(d lodge.Delivery, now time.Time) error {
	if err := t.lockDeliveries(d.Envelope); err != nil {
		return err
	}
	found, err := t.deliveries(selectDelivery+` WHERE d.id = ? AND d.state = 'failed'`, d.ID)
	if err != nil || len(found) == 0 {
		return err
	}
	return t.requeue(&found[0], now)
}

// union returns the sorted set of both.
func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
