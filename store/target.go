package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
)

// Register makes target known. A target is the
// same when its address is; another name for it is a renaming. A log may move to
// another address under its name (a new shard), which is warned of; a repository may not.
func (s *Store) Register(ctx context.Context, target lodge.Target) error {
	var moved string
	err := s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		moved = ""
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
			moved = address
			err = t.moveLog(other, address, target.Address)
		case found:
			_, err = t.exec(`UPDATE target SET name = ? WHERE id = ?`, target.Name, id)
		default:
			_, err = t.exec(`INSERT INTO target (kind, name, address) VALUES (?, ?, ?)`,
				target.Kind, target.Name, target.Address)
		}
		return err
	}})
	if err == nil && moved != "" {
		slog.Warn("this log had another address so far: what was lodged there counts as lodged here. Give a log that is quite another one another name",
			"target", target.Name, "was", moved, "is", target.Address)
	}
	return err
}

// moveLog gives a log another address, with all that is known of its shards. What was wrong with
// looking at the old address is over; that it diverged or rolled back is for an operator to judge.
func (t *tx) moveLog(id int64, from, to string) error {
	_, err := t.exec(`UPDATE target SET address = ? WHERE id = ?`, to, id)
	if err == nil {
		_, err = t.exec(`UPDATE shard SET alarm = '', alarm_words = '' WHERE target = ? AND alarm NOT IN (?, ?)`, from, lodge.CodeDiverged, lodge.CodeRolledBack)
	}
	if err == nil {
		_, err = t.exec(`UPDATE shard SET target = ? WHERE target = ? AND NOT EXISTS (
			SELECT 1 FROM shard o WHERE o.target = ? AND o.log = shard.log AND o.origin = shard.origin)`, to, from, to)
	}
	return err
}

// Hold makes a target take nothing until it is resumed, with the code and words of the
// reason. A target that is held already keeps its first reason, unless that one may mend by
// itself and the new one may not.
func (s *Store) Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error { return t.hold(target, code, words, now) }})
}

func (t *tx) hold(target lodge.Target, code, words string, now time.Time) error {
	if !lodge.Mendable(code) {
		if err := t.resume(target, true, now); err != nil {
			return err
		}
	}
	var count int64
	found, err := t.write(`UPDATE target SET held = ?, held_words = ?, held_count = held_count + 1
		WHERE address = ? AND held = '' RETURNING held_count`, []any{code, text(words), target.Address}, &count)
	if found {
		t.emit(noEnvelope, lodge.HoldEvent(lodge.TargetHeld, target, code, count, now))
	}
	return err
}

// Resume makes a held target take deliveries again, all that wait for it at once.
func (s *Store) Resume(ctx context.Context, target lodge.Target, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error { return t.resume(target, false, now) }})
}

// ResumeMended is Resume for a target that is held for something that mends outside of lodge;
// any other stays held.
func (s *Store) ResumeMended(ctx context.Context, target lodge.Target, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error { return t.resume(target, true, now) }})
}

func (t *tx) resume(target lodge.Target, mended bool, now time.Time) error {
	var id, count int64
	var code string
	found, err := t.get(`SELECT id, held, held_count FROM target WHERE address = ? AND held <> ''{lock}`, []any{target.Address}, &id, &code, &count)
	if err != nil || !found || mended && !lodge.Mendable(code) {
		return err
	}
	if _, err := t.exec(`UPDATE target SET held = '', held_words = '' WHERE id = ?`, id); err != nil {
		return err
	}
	t.emit(noEnvelope, lodge.HoldEvent(lodge.TargetResumed, target, code, count, now))
	// What somebody else is changing right now stays due when it is: it is not waited for.
	_, err = t.exec(`UPDATE delivery SET due_at = {now} WHERE id IN (
		SELECT d.id FROM delivery d WHERE d.target_id = ? AND d.state = 'queued' AND d.due_at > {now}{skip d})`, id)
	return err
}

// Targets returns every target that this store knows.
func (s *Store) Targets(ctx context.Context) (targets []lodge.TargetStatus, err error) {
	err = s.query(ctx, `SELECT kind, name, address, held, held_words,
		(SELECT count(*) FROM delivery d WHERE d.target_id = target.id AND d.state NOT IN ('verified', 'failed')),
		(SELECT count(*) FROM delivery d WHERE d.target_id = target.id AND d.state = 'failed')
		FROM target ORDER BY name`, nil, func(rows *sql.Rows) error {
		var st lodge.TargetStatus
		err := rows.Scan(&st.Kind, &st.Name, &st.Address, &st.Held, &st.HeldWords, &st.Waiting, &st.Failed)
		targets = append(targets, st)
		return err
	})
	return targets, err
}

// Held returns the code and the words of why a target is held; code is "" where it is not.
func (s *Store) Held(ctx context.Context, address string) (code, words string, err error) {
	_, err = s.row(ctx, `SELECT held, held_words FROM target WHERE address = ?`, []any{address}, &code, &words)
	return code, words, err
}

// text returns words as PostgreSQL takes them: UTF-8 without NUL.
func text(words string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(words, "\uFFFD"), "\x00", "\uFFFD")
}
