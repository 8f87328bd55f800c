package store

import (
	"context"
	"database/sql"

	"github.com/lodgehq/lodge"
)

// Timestamps returns the RFC 3161 timestamps that were taken for envelopes with this key,
// whoever signed them, limit at most.
func (s *Store) Timestamps(ctx context.Context, key lodge.Key, limit int) (all [][]byte, err error) {
	err = s.query(ctx, `SELECT timestamps FROM envelope WHERE key = ? ORDER BY id LIMIT ?`, []any{key[:], limit}, func(rows *sql.Rows) error {
		var some [][]byte
		err := rows.Scan(jsonInto{&some})
		all = append(all, some...)
		return err
	})
	return all[:min(len(all), limit)], err
}
