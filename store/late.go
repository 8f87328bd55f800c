package store

import "strings"

// table is one that is hardly read from in the transaction that writes to it. Its rows wait
// until the end, or until somebody is about to read it, and go many to a statement, those of
// all operations together.
type table int

const (
	history table = iota
	documents
	intents
	receipts
	servedIntents // those that are dropped
	tables        // how many there are
)

// lateWrites are the statements for them: what comes before the rows, one row, what comes after.
var lateWrites = [tables]struct{ head, row, tail string }{
	history:   {`INSERT INTO history (delivery_id, attempt, from_state, to_state, at, intent, error) VALUES `, `(?, ?, ?, ?, ?, ?, ?)`, ``},
	documents: {`INSERT INTO hint (envelope_id, number, document) VALUES `, `(?, ?, ?)`, ``},
	intents:   {`INSERT INTO intent (delivery_id, intent) VALUES `, `(?, ?)`, ` ON CONFLICT (delivery_id) DO UPDATE SET intent = excluded.intent`},
	receipts: {`INSERT INTO receipt (delivery_id, receipt, entry, bundle) VALUES `, `(?, ?, ?, ?)`,
		` ON CONFLICT (delivery_id) DO UPDATE SET receipt = excluded.receipt,
		entry = coalesce(excluded.entry, receipt.entry), bundle = coalesce(excluded.bundle, receipt.bundle)`},
	servedIntents: {`DELETE FROM intent WHERE delivery_id IN (`, `?`, `)`},
}

// put writes a row with the transaction. A delivery has at most one change in it, and hints
// are numbered once those before are written, so no row comes twice.
func (t *tx) put(to table, row ...any) {
	t.wrote = true
	t.late[to] = append(t.late[to], row)
}

func (t *tx) writeLate() error {
	for to := range tables {
		if err := t.flush(to); err != nil {
			return err
		}
	}
	return nil
}

// flush writes the rows of one table that wait.
func (t *tx) flush(to table) error {
	rows, w := t.late[to], &lateWrites[to]
	t.late[to] = nil
	_, err := t.runMany(w.head, w.row, w.tail, rows)
	return err
}

// chunks are how many rows one statement takes: few sizes, for each is prepared once.
var chunks = []int{64, 16, 4, 1}

// runMany runs the statement that head, row and tail make for all rows, and says how many
// it wrote.
func (t *tx) runMany(head, row, tail string, rows [][]any) (wrote int64, err error) {
	for _, n := range chunks {
		if len(rows) < n {
			continue
		}
		query := head + row + strings.Repeat(", "+row, n-1) + tail
		for ; len(rows) >= n; rows = rows[n:] {
			var args []any
			for _, r := range rows[:n] {
				args = append(args, r...)
			}
			changed, err := t.exec(query, args...)
			if err != nil {
				return wrote, err
			}
			wrote += changed
		}
	}
	return wrote, nil
}
