package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/lodgehq/lodge"
)

// LeafRange says for which leaves of a log the local index is complete: [from, size).
// Both are 0 for a log that was never indexed.
func (s *Store) LeafRange(ctx context.Context, logID string) (from, size int64, err error) {
	_, err = s.row(ctx, `SELECT first, size FROM leaf_range WHERE log = ?`, []any{logID}, &from, &size)
	return from, size, err
}

// AddLeaves appends the hashes of the leaves at, at+1, … of a log. at must be where the
// index ends, else the answer is lodge.ErrStale: another worker has added them. The
// first call for a log says from where on its index is complete.
func (s *Store) AddLeaves(ctx context.Context, logID string, at int64, hashes []lodge.Digest) error {
	return s.do(ctx, &operation{key: logID, run: func(t *tx) error {
		var id, size int64
		found, err := t.get(`SELECT id, size FROM leaf_range WHERE log = ?{lock}`, []any{logID}, &id, &size)
		if err != nil {
			return err
		}
		if !found {
			size = at
			if _, err := t.insert(`INSERT INTO leaf_range (log, first, size) VALUES (?, ?, ?){id}`, []any{logID, at, at}, &id); err != nil {
				return err
			}
		}
		if size != at {
			return fmt.Errorf("leaves of log %s from %d: the index ends at %d: %w", logID, at, size, lodge.ErrStale)
		}
		for i := range hashes {
			if _, err := t.exec(`INSERT INTO leaf (log, hash, idx) VALUES (?, ?, ?)`, id, hashes[i][:], at+int64(i)); err != nil {
				return err
			}
		}
		_, err = t.exec(`UPDATE leaf_range SET size = ? WHERE id = ?`, at+int64(len(hashes)), id)
		return err
	}})
}

// SkipLeaves has the index of a log begin anew at to: complete is what is added from there
// on. at must be where it ends, else the answer is lodge.ErrStale. What is indexed already
// is kept, for it is still true.
func (s *Store) SkipLeaves(ctx context.Context, logID string, at, to int64) error {
	return s.do(ctx, &operation{key: logID, run: func(t *tx) error {
		n, err := t.exec(`UPDATE leaf_range SET first = ?, size = ? WHERE log = ? AND size = ? AND size <= ?`, to, to, logID, at, to)
		if err == nil && n == 0 {
			err = fmt.Errorf("leaves of log %s up to %d: the index does not end at %d: %w", logID, to, at, lodge.ErrStale)
		}
		return err
	}})
}

// FindLeaf returns the indexes of the leaves of a log that have this hash.
func (s *Store) FindLeaf(ctx context.Context, logID string, hash lodge.Digest) (indexes []int64, err error) {
	err = s.query(ctx, `SELECT l.idx FROM leaf l JOIN leaf_range r ON r.id = l.log
		WHERE r.log = ? AND l.hash = ? ORDER BY l.idx`, []any{logID, hash[:]}, func(rows *sql.Rows) error {
		var index int64
		err := rows.Scan(&index)
		indexes = append(indexes, index)
		return err
	})
	return indexes, err
}
