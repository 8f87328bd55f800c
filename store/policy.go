package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// ApplyPolicy makes a policy of that name be the given one. It returns what it was before:
// of the same revision where nothing was to be done, without a body where it was not there.
func (s *Store) ApplyPolicy(ctx context.Context, p lodge.AppliedPolicy, now time.Time) (before lodge.AppliedPolicy, err error) {
	err = s.do(ctx, &operation{alone: true, run: func(t *tx) (err error) {
		before, err = t.policy(p.Name)
		if err != nil || before.Revision == p.Revision && before.Body != nil {
			return err
		}
		return t.changePolicy(p.Name, p.Revision, string(p.Body), now)
	}})
	return before, err
}

// DeletePolicy deletes a policy, or returns lodge.ErrNotFound.
func (s *Store) DeletePolicy(ctx context.Context, name string, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		before, err := t.policy(name)
		if err == nil && before.Body == nil {
			err = fmt.Errorf("policy %.200q: %w", name, lodge.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return t.changePolicy(name, before.Revision, nil, now)
	}})
}

// policy returns the policy of that name. From here on nobody else changes any, so that
// numbers are in the order of commits.
func (t *tx) policy(name string) (p lodge.AppliedPolicy, err error) {
	if lock := t.session.store.dialect.lockLog; lock != "" {
		if _, err := t.exec(lock); err != nil {
			return p, err
		}
	}
	err = t.each(selectPolicy+` WHERE name = ?`, []any{name}, func(rows *sql.Rows) (err error) {
		p, err = scanPolicy(rows)
		return err
	})
	return p, err
}

func (t *tx) changePolicy(name string, revision lodge.Digest, body any, now time.Time) error {
	_, err := t.exec(`INSERT INTO policy (name, number, revision, body, at)
		VALUES (?, (SELECT coalesce(max(number), 0) + 1 FROM policy), ?, ?, ?) ON CONFLICT (name) DO UPDATE
		SET number = excluded.number, revision = excluded.revision, body = excluded.body, at = excluded.at`,
		name, revision[:], body, now.UnixMicro())
	return err
}

const selectPolicy = `SELECT name, number, revision, body, at FROM policy`

func scanPolicy(rows *sql.Rows) (p lodge.AppliedPolicy, err error) {
	var body sql.RawBytes
	err = rows.Scan(&p.Name, &p.Number, bytesInto{p.Revision[:]}, &body, timeInto{&p.Time})
	if body != nil {
		p.Body = json.RawMessage(bytes.Clone(body))
	}
	return p, err
}

// PolicyChanges returns the policies that were applied or deleted by a change with a
// number above after, in the order of those numbers: each as it is now. Whoever has seen a
// number has seen all below it.
func (s *Store) PolicyChanges(ctx context.Context, after int64) (changed []lodge.AppliedPolicy, err error) {
	err = s.query(ctx, selectPolicy+` WHERE number > ? ORDER BY number`, []any{after}, func(rows *sql.Rows) error {
		p, err := scanPolicy(rows)
		changed = append(changed, p)
		return err
	})
	return changed, err
}
