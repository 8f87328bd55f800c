package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// Cursor returns how far the consumer of that name has come. One that is new stands before
// the first event.
func (s *Store) Cursor(ctx context.Context, name string) (lodge.Cursor, error) {
	c := lodge.Cursor{Name: name}
	_, err := s.row(ctx, `SELECT sequence, state, disabled FROM cursor WHERE name = ?`, []any{name}, &c.Sequence, &c.State, &c.Disabled)
	if len(c.State) == 0 {
		c.State = nil // the databases differ
	}
	return c, err
}

// Cursors returns all cursors, by name.
func (s *Store) Cursors(ctx context.Context) (cursors []lodge.CursorStatus, err error) {
	err = s.query(ctx, `SELECT name, sequence, disabled, count(u.seq), count(u.seq) - count(u.due_at)
		FROM cursor LEFT JOIN undelivered u ON u.cursor = cursor.name
		GROUP BY name, sequence, disabled ORDER BY name`, nil, func(rows *sql.Rows) error {
		var c lodge.CursorStatus
		err := rows.Scan(&c.Name, &c.Sequence, &c.Disabled, &c.Waiting, &c.GivenUp)
		c.Waiting -= c.GivenUp
		cursors = append(cursors, c)
		return err
	})
	return cursors, err
}

// Progress moves a cursor and keeps what could not be delivered, in one transaction. It
// returns lodge.ErrStale where the cursor does not stand at p.From: another owner moved it,
// or an operator did.
func (s *Store) Progress(ctx context.Context, p lodge.Progress) error {
	return s.do(ctx, &operation{key: p.Name, run: func(t *tx) error { return t.progress(p) }})
}

func (t *tx) progress(p lodge.Progress) error {
	n, err := t.moveCursor(p)
	if err == nil && n == 0 {
		err = fmt.Errorf("cursor %s does not stand at %d: %w", p.Name, p.From, lodge.ErrStale)
	}
	if err != nil {
		return err
	}
	for _, seq := range p.Delivered {
		if _, err := t.exec(`DELETE FROM undelivered WHERE cursor = ? AND seq = ?`, p.Name, seq); err != nil {
			return err
		}
	}
	for _, u := range p.Failed {
		var due any
		if !u.Due.IsZero() {
			due = u.Due.UnixMicro()
		}
		_, err := t.exec(`INSERT INTO undelivered (cursor, seq, subject, attempts, since, due_at, error) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (cursor, seq) DO UPDATE SET attempts = excluded.attempts, since = excluded.since, due_at = excluded.due_at, error = excluded.error`,
			p.Name, u.Sequence, u.Subject, u.Attempts, u.Since.UnixMicro(), due, text(u.Error))
		if err != nil {
			return err
		}
	}
	return nil
}

// moveCursor makes a cursor that is moved for the first time.
func (t *tx) moveCursor(p lodge.Progress) (int64, error) {
	state := p.State
	if state == nil {
		state = []byte{}
	}
	if p.From == 0 {
		return t.exec(`INSERT INTO cursor (name, sequence, state) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, state = excluded.state WHERE cursor.sequence = 0`,
			p.Name, p.To, state)
	}
	return t.exec(`UPDATE cursor SET sequence = ?, state = ? WHERE name = ? AND sequence = ?`, p.To, state, p.Name, p.From)
}

// ResetCursor puts a cursor behind the event with that sequence, so that those after it
// come again, or are left out where it stood before them. What was undelivered of them is
// forgotten, and the consumer's state too.
func (s *Store) ResetCursor(ctx context.Context, name string, sequence int64) error {
	return s.do(ctx, &operation{key: name, run: func(t *tx) error {
		_, err := t.exec(`INSERT INTO cursor (name, sequence, state) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, state = excluded.state`, name, sequence, []byte{})
		if err == nil {
			_, err = t.exec(`DELETE FROM undelivered WHERE cursor = ? AND seq > ?`, name, sequence)
		}
		return err
	}})
}

// DisableCursor says that a consumer takes no events until EnableCursor, and why. The
// first reason stays.
func (s *Store) DisableCursor(ctx context.Context, name, reason string) error {
	return s.do(ctx, &operation{key: name, run: func(t *tx) error {
		_, err := t.exec(`INSERT INTO cursor (name, sequence, state, disabled) VALUES (?, 0, ?, ?)
			ON CONFLICT (name) DO UPDATE SET disabled = excluded.disabled WHERE cursor.disabled = ''`, name, []byte{}, text(reason))
		return err
	}})
}

// EnableCursor lets a consumer take events again, with what is undelivered at once, and
// tells whether it was disabled.
func (s *Store) EnableCursor(ctx context.Context, name string, now time.Time) (was bool, err error) {
	err = s.do(ctx, &operation{key: name, run: func(t *tx) error {
		n, err := t.exec(`UPDATE cursor SET disabled = '' WHERE name = ? AND disabled <> ''`, name)
		if was = n > 0; err == nil && was {
			_, err = t.exec(`UPDATE undelivered SET due_at = ? WHERE cursor = ? AND due_at > ?`, now.UnixMicro(), name, now.UnixMicro())
		}
		return err
	}})
	return was, err
}

// Undelivered returns what a sink could not take and will be tried again, or what was
// given up, in the order of the events, behind the sequence after, limit at most.
func (s *Store) Undelivered(ctx context.Context, name string, givenUp bool, after int64, limit int) (found []lodge.Undelivered, err error) {
	err = s.query(ctx, `SELECT seq, subject, attempts, since, due_at, error FROM undelivered
		WHERE cursor = ? AND (due_at IS NULL) = ? AND seq > ? ORDER BY seq LIMIT ?`, []any{name, givenUp, after, limit}, func(rows *sql.Rows) error {
		var u lodge.Undelivered
		err := rows.Scan(&u.Sequence, &u.Subject, &u.Attempts, timeInto{&u.Since}, timeInto{&u.Due}, &u.Error)
		found = append(found, u)
		return err
	})
	return found, err
}

// Redeliver has what was given up tried again, as if for the first time, and says how many
// events that are.
func (s *Store) Redeliver(ctx context.Context, name string, now time.Time) (n int64, err error) {
	err = s.do(ctx, &operation{key: name, run: func(t *tx) (err error) {
		n, err = t.exec(`UPDATE undelivered SET attempts = 0, since = ?, due_at = ? WHERE cursor = ? AND due_at IS NULL`,
			now.UnixMicro(), now.UnixMicro(), name)
		return err
	}})
	return n, err
}
