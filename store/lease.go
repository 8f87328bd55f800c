package store

import (
	"context"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// Acquire takes the lease of that name for a while: the right to do a piece of work
// alone, across all processes on the database. term is the proof of it, to be given
// to Renew, Release and Under; it grows with each owner. It is 0 where somebody else
// has the lease. holder says to people who has it.
func (s *Store) Acquire(ctx context.Context, name, holder string, d time.Duration) (term int64, err error) {
	err = s.do(ctx, &operation{key: name, run: func(t *tx) error {
		term = 0
		_, err := t.write(`INSERT INTO lease (name, holder, term, expires_at) VALUES (?, ?, 1, {now} + ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, term = lease.term + 1, expires_at = excluded.expires_at
			WHERE lease.expires_at <= {now} RETURNING term`, []any{name, text(holder), d.Microseconds()}, &term)
		return err
	}})
	return term, err
}

// Renew makes the lease last for d from now on, or returns lodge.ErrStale where it is lost.
func (s *Store) Renew(ctx context.Context, name string, term int64, d time.Duration) error {
	return s.keepLease(ctx, name, term, `UPDATE lease SET expires_at = {now} + ? WHERE name = ? AND term = ? AND expires_at > {now}`,
		d.Microseconds(), name, term)
}

// Release gives the lease back, or returns lodge.ErrStale where it is lost already.
func (s *Store) Release(ctx context.Context, name string, term int64) error {
	return s.keepLease(ctx, name, term, `UPDATE lease SET expires_at = 0 WHERE name = ? AND term = ? AND expires_at > {now}`, name, term)
}

func (s *Store) keepLease(ctx context.Context, name string, term int64, query string, args ...any) error {
	return s.do(ctx, &operation{key: name, run: func(t *tx) error {
		n, err := t.exec(query, args...)
		if err == nil && n == 0 {
			err = leaseLost(name, term)
		}
		return err
	}})
}

func leaseLost(name string, term int64) error {
	return fmt.Errorf("lease %s, term %d: %w", name, term, lodge.ErrStale)
}

// fence is a lease that writes are made under.
type fence struct {
	name string
	term int64
}

// Under returns the store for writes by the owner of a lease: each of them checks in its
// transaction that the lease is not lost, else it writes nothing and returns lodge.ErrStale.
func (s *Store) Under(name string, term int64) *Store {
	under := *s
	under.fence = fence{name, term}
	return &under
}

// do runs op in a transaction, under the lease that the store has.
func (s *Store) do(ctx context.Context, op *operation) error {
	if run := op.run; s.fence.term != 0 {
		op.alone = true // it locks the lease too
		op.run = func(t *tx) error {
			found, err := t.get(`SELECT term FROM lease WHERE name = ? AND term = ? AND expires_at > {now}{lock}`,
				[]any{s.fence.name, s.fence.term}, new(int64))
			if err == nil && !found {
				err = leaseLost(s.fence.name, s.fence.term)
			}
			if err != nil {
				return err
			}
			return run(t)
		}
	}
	return s.writer.do(ctx, op)
}
