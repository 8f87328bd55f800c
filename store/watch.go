package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// What is known of followed logs. A shard has one writer, the one that has the lease of its
// log (see Under); whoever reads sees each step whole.

const selectShard = `SELECT s.id, s.target, s.log, s.origin, s.url, s.size, s.root, s.since, s.looked_at, s.first, s.next, s.unsearched, s.speed,
	s.last_event, s.closed, s.trusting, nullif(s.anchored_at, 0), s.checked_at, s.alarm, s.alarm_words, s.alarm_since,
	(SELECT count(*) FROM quarantine q WHERE q.shard = s.id), coalesce((SELECT min(q.idx) FROM quarantine q WHERE q.shard = s.id AND NOT q.proven), -1)
	FROM shard s`

func scanShard(rows *sql.Rows) (s lodge.Shard, err error) {
	var alarm lodge.Alarm
	err = rows.Scan(&s.ID, &s.Target, &s.LogID, &s.Origin, &s.URL, &s.Head.Size, bytesInto{s.Head.Root[:]}, timeInto{&s.Since}, timeInto{&s.Looked},
		&s.First, &s.Next, &s.Unsearched, &s.Speed, &s.Cursor, &s.Closed, &s.Trust, timeInto{&s.Anchor}, timeInto{&s.Checked}, &alarm.Code, &alarm.Message, timeInto{&alarm.Since},
		&s.Quarantined, &s.FirstBad)
	if alarm.Code != "" {
		s.Alarm = &alarm
	}
	return s, err
}

// OpenShard returns what is known of a shard, by target, log id and origin; it is new where
// nothing is. The newest checkpoint comes with its note.
func (s *Store) OpenShard(ctx context.Context, shard lodge.Shard) (lodge.Shard, error) {
	err := s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		_, err := t.exec(`INSERT INTO shard (target, log, origin, url) VALUES (?, ?, ?, ?)
			ON CONFLICT (target, log, origin) DO UPDATE SET url = excluded.url WHERE shard.url <> excluded.url`,
			shard.Target, shard.LogID, shard.Origin, shard.URL)
		return err
	}})
	if err != nil {
		return shard, err
	}
	err = s.query(ctx, selectShard+` WHERE s.target = ? AND s.log = ? AND s.origin = ?`, []any{shard.Target, shard.LogID, shard.Origin},
		func(rows *sql.Rows) (err error) {
			shard, err = scanShard(rows)
			return err
		})
	if err == nil && shard.Head.Size >= 0 {
		_, err = s.row(ctx, `SELECT note FROM checkpoint WHERE shard = ? AND size = ? AND root = ?`,
			[]any{shard.ID, shard.Head.Size, shard.Head.Root[:]}, &shard.Head.Note)
	}
	return shard, err
}

// Shards returns the shards of the log with that address, or of all logs where it is "".
func (s *Store) Shards(ctx context.Context, address string) (shards []lodge.Shard, err error) {
	err = s.query(ctx, selectShard+` WHERE ? = '' OR s.target = ? ORDER BY s.target, s.id`, []any{address, address}, func(rows *sql.Rows) error {
		shard, err := scanShard(rows)
		shards = append(shards, shard)
		return err
	})
	return shards, err
}

// KeepHead makes head the newest checkpoint that is relied on in place of shard.Head, which
// it must still be, or the answer is lodge.ErrStale. The very first says where reading begins:
// at shard.First. With anew, what was known of another tree is given up: its leaves are read again
// from there on.
func (s *Store) KeepHead(ctx context.Context, shard lodge.Shard, head lodge.TreeHead, anew bool, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		n, err := t.exec(`UPDATE shard SET size = ?, root = ?, since = {now}, looked_at = {now}, closed = ?, trusting = ?, alarm = '', alarm_words = '',
			first = CASE WHEN size < 0 THEN ? ELSE first END, next = CASE WHEN size < 0 THEN ? ELSE next END
			WHERE id = ? AND size = ?`, head.Size, head.Root[:], false, false, shard.First, shard.First, shard.ID, shard.Head.Size)
		if err == nil && n == 0 {
			err = fmt.Errorf("checkpoint of %s: it has another one by now than that of %d: %w", shard.Origin, shard.Head.Size, lodge.ErrStale)
		}
		if err != nil {
			return err
		}
		if anew {
			if err := t.forget(shard.ID, min(shard.First, head.Size)); err != nil {
				return err
			}
		}
		if _, err := t.exec(`INSERT INTO checkpoint (shard, size, root, note, at) VALUES (?, ?, ?, ?, {now}) ON CONFLICT (shard, size, root) DO UPDATE SET at = excluded.at`,
			shard.ID, head.Size, head.Root[:], head.Note); err != nil {
			return err
		}
		t.emit(noEnvelope, lodge.UpdatedEvent(shard, head, now))
		return nil
	}})
}

// forget gives up what was read of a tree that the log no longer has. Its checkpoints stay
// as evidence, and are not compared with any more.
func (t *tx) forget(shard, first int64) error {
	if _, err := t.exec(`UPDATE shard SET first = ?, next = ?, unsearched = 0, anchored_at = {now} WHERE id = ?`, first, first, shard); err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM quarantine WHERE shard = ?`,
		`DELETE FROM own WHERE shard = ? AND idx >= 0`,
	} {
		if _, err := t.exec(query, shard); err != nil {
			return err
		}
	}
	return nil
}

// KeptHead returns the newest checkpoint of at most size leaves that was relied on since the
// shard's tree was last given up; its Size is -1 where there is none.
func (s *Store) KeptHead(ctx context.Context, shard, size int64) (lodge.TreeHead, error) {
	head := lodge.TreeHead{Size: -1}
	_, err := s.row(ctx, `SELECT c.size, c.root, c.note FROM checkpoint c JOIN shard s ON s.id = c.shard
		WHERE c.shard = ? AND c.size <= ? AND c.at >= s.anchored_at ORDER BY c.size DESC, c.at DESC LIMIT 1`,
		[]any{shard, size}, &head.Size, bytesInto{head.Root[:]}, &head.Note)
	return head, err
}

// Looked notes that the log has answered as it should: there is no alarm any more.
func (s *Store) Looked(ctx context.Context, shard int64, closed bool) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		_, err := t.exec(`UPDATE shard SET looked_at = {now}, closed = ?, trusting = ?, alarm = '', alarm_words = '' WHERE id = ?`, closed, false, shard)
		return err
	}})
}

// Rechecked notes that all receipts and the quarantine of a shard were gone over just now.
func (s *Store) Rechecked(ctx context.Context, shard int64) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		_, err := t.exec(`UPDATE shard SET checked_at = {now} WHERE id = ?`, shard)
		return err
	}})
}

// Raise notes what is wrong with a shard, and since when, and writes the event, where there
// is one. It returns since when. That a log diverged or rolled back stays noted whatever else
// is wrong meanwhile, until a look goes well or an operator resumes it.
func (s *Store) Raise(ctx context.Context, shard int64, code, words string, event *lodge.Event) (since time.Time, err error) {
	err = s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		if event != nil {
			t.emit(noEnvelope, *event)
		}
		var at int64
		_, err := t.write(`UPDATE shard SET alarm_since = CASE WHEN alarm IN (?, ?, ?) THEN alarm_since ELSE {now} END,
			alarm = CASE WHEN alarm IN (?, ?) THEN alarm ELSE ? END, alarm_words = CASE WHEN alarm IN (?, ?) THEN alarm_words ELSE ? END
			WHERE id = ? RETURNING alarm_since`,
			[]any{code, lodge.CodeDiverged, lodge.CodeRolledBack, lodge.CodeDiverged, lodge.CodeRolledBack, code,
				lodge.CodeDiverged, lodge.CodeRolledBack, text(words), shard}, &at)
		since = time.UnixMicro(at).UTC()
		return err
	}})
	return since, err
}

// Diverged keeps proof against the log and holds its target, also where that is held for
// something else that would be tried again. The same proof is kept once.
func (s *Store) Diverged(ctx context.Context, shard lodge.Shard, target lodge.Target, d lodge.Divergence, words string, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		if _, err := t.exec(`INSERT INTO divergence (shard, older_size, older_root, newer_size, newer_root, view, proof, at) VALUES (?, ?, ?, ?, ?, ?, ?, {now})
			ON CONFLICT (shard, older_size, older_root, newer_size, newer_root) DO NOTHING`, shard.ID,
			d.Older.Size, d.Older.Root[:], d.Newer.Size, d.Newer.Root[:], text(d.View), string(d.Proof)); err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE shard SET alarm_since = CASE WHEN alarm = ? THEN alarm_since ELSE {now} END, alarm = ?, alarm_words = ? WHERE id = ?`,
			lodge.CodeDiverged, lodge.CodeDiverged, text(words), shard.ID); err != nil {
			return err
		}
		t.emit(noEnvelope, lodge.DivergedEvent(shard, d, now))
		return t.hold(target, lodge.CodeDiverged, words, now)
	}})
}

// HoldFor holds a target for an alarm of one of its shards, where that has it still: an operator
// may have resumed the log a moment ago.
func (s *Store) HoldFor(ctx context.Context, shard int64, target lodge.Target, code, words string, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		found, err := t.get(`SELECT id FROM shard WHERE id = ? AND alarm = ?{lock}`, []any{shard, code}, new(int64))
		if err != nil || !found {
			return err
		}
		return t.hold(target, code, words, now)
	}})
}

// Divergences returns the proofs against the log with that address, or against all where it
// is "", oldest first.
func (s *Store) Divergences(ctx context.Context, address string) (found []lodge.Divergence, err error) {
	err = s.query(ctx, `SELECT s.origin, s.log, d.older_size, d.older_root, d.newer_size, d.newer_root, d.view, d.proof, d.at, d.resumed_at
		FROM divergence d JOIN shard s ON s.id = d.shard WHERE ? = '' OR s.target = ? ORDER BY d.id`, []any{address, address}, func(rows *sql.Rows) error {
		var d lodge.Divergence
		err := rows.Scan(&d.Origin, &d.LogID, &d.Older.Size, bytesInto{d.Older.Root[:]}, &d.Newer.Size, bytesInto{d.Newer.Root[:]},
			&d.View, (*[]byte)(&d.Proof), timeInto{&d.Time}, timeInto{&d.Resumed})
		found = append(found, d)
		return err
	})
	return found, err
}

// ResumeLog makes a held log take deliveries again. A shard of it that has diverged or rolled
// back takes what the log serves next for its tree.
// What was promised or seen in a tree that was given up is unknown again.
func (s *Store) ResumeLog(ctx context.Context, target lodge.Target, now time.Time) error {
	return s.do(ctx, &operation{alone: true, run: func(t *tx) error {
		given, err := t.exec(`UPDATE shard SET trusting = ?, alarm = '', alarm_words = '' WHERE target = ? AND alarm IN (?, ?)`,
			true, target.Address, lodge.CodeDiverged, lodge.CodeRolledBack)
		if err == nil && given > 0 {
			err = t.doubtPlaced(target, now)
		}
		if err != nil {
			return err
		}
		if _, err := t.exec(`UPDATE divergence SET resumed_at = {now} WHERE resumed_at IS NULL AND shard IN (SELECT id FROM shard WHERE target = ?)`,
			target.Address); err != nil {
			return err
		}
		return t.resume(target, false, now)
	}})
}

// doubtPlaced makes what is placed in a log unknown: the tree that had it is given up.
func (t *tx) doubtPlaced(target lodge.Target, now time.Time) error {
	placed, err := t.deliveries(selectDelivery+` WHERE t.address = ? AND d.state = 'placed' ORDER BY e.key, d.id{lock d}`, target.Address)
	for _, d := range placed {
		if err != nil {
			break
		}
		d.State, d.Due = lodge.Unknown, now
		d.Err = lodge.Errorf(lodge.ClassUnknown, "tree-given-up", "the tree that was to have it is given up: the log is asked again")
		err = t.apply(newTransition(lodge.Change{Delivery: d, From: lodge.Placed}, now))
	}
	return err
}
