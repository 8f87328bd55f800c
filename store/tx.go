package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"

	"github.com/lodgehq/lodge"
)

// session is a connection that writes, with its prepared statements. One goroutine uses
// it at a time.
type session struct {
	store *Store
	conn  *sql.Conn // nil: to be opened
	stmts map[string]*sql.Stmt
	stale bool // nothing could be written through the last connection
}

// operationError is an operation's own failure, which undoes the transaction: the others
// of its batch have no part in it.
type operationError struct{ error }

func (e *operationError) Unwrap() error { return e.error }

// commit runs the operations in one transaction and sets their errors, where it returns
// none itself.
func (s *session) commit(batch []*operation) (err error) {
	// It does not end with one caller's context: the others' work is in it too.
	ctx := context.Background()
	if limit := s.store.dialect.timeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	t := &tx{ctx: ctx, session: s}
	if err := s.begin(t); err != nil {
		return err
	}
	if err = t.runAll(batch); err == nil {
		_, err = t.exec("COMMIT")
	}
	if err == nil {
		return nil
	}
	// Where the database has already rolled back (disk full) or the connection is of no use any
	// more, a new one begins afresh.
	_, failed := s.conn.ExecContext(ctx, "ROLLBACK")
	if s.isStale(err) || failed != nil {
		s.drop()
	}
	return err
}

// isStale tells whether err is the connection's fault. While it is, those that read are not
// kept either: SQLite's connections of one process share what they know of the file.
func (s *session) isStale(err error) bool {
	stale, keep := s.store.dialect.stale(err), s.store.dialect.readers
	if stale == s.stale {
		return stale
	}
	if s.stale = stale; stale {
		keep = -1
	}
	s.store.reads.SetMaxIdleConns(keep)
	return stale
}

// begin begins a transaction, on a new connection where the old one is lost.
func (s *session) begin(t *tx) (err error) {
	for {
		fresh := s.conn == nil
		if fresh {
			if s.conn, err = s.store.db.Conn(t.ctx); err != nil {
				return s.store.fault(err)
			}
			s.stmts = map[string]*sql.Stmt{}
		}
		_, err = t.exec(s.store.dialect.begin)
		stale := s.isStale(err)
		if err == nil {
			t.failed = false
			return nil
		}
		lost := stale || s.conn.PingContext(t.ctx) != nil
		if lost {
			s.drop()
		}
		if fresh || !lost {
			return err
		}
	}
}

// drop closes the connection for good.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	for _, st := range s.stmts {
		_ = st.Close() // with one left open SQLite would keep the file open
	}
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that it does not go back to the pool
	_ = s.conn.Close()
	s.conn = nil
}

// tx is an operation's view of the running transaction.
type tx struct {
	ctx     context.Context
	session *session
	wrote   bool            // the operation has written something
	failed  bool            // a statement has failed: the transaction can't go on
	late    [tables][][]any // rows, written at the end of the transaction
	events  []emission      // written last of all
}

// runAll runs the operations and writes the rows and events that they have put aside. The log of events is locked last
// and until the end of the transaction, so that its order is the order of commits: a reader
// who has seen a sequence has seen all below it.
func (t *tx) runAll(batch []*operation) error {
	for _, op := range batch {
		t.wrote = false
		if op.err = t.run(op); op.err != nil && (t.wrote || t.failed) {
			return &operationError{op.err}
		}
	}
	err := t.writeLate()
	if err == nil {
		err = t.writeEvents()
	}
	if err != nil {
		return &operationError{err}
	}
	return nil
}

func (t *tx) run(op *operation) (err error) {
	defer func() {
		if r := recover(); r != nil {
			t.failed = true
			err = fmt.Errorf("store: panic: %v", r)
		}
	}()
	return op.run(t)
}

func (t *tx) writeEvents() error {
	if len(t.events) == 0 {
		return nil
	}
	if lock := t.session.store.dialect.lockLog; lock != "" {
		if _, err := t.exec(lock); err != nil {
			return err
		}
	}
	var last int64
	if _, err := t.get(lastSequence, nil, &last); err != nil {
		return err
	}
	wrote, err := t.number(last, t.events)
	if err != nil || wrote == int64(len(t.events)) {
		return err
	}
	// Some were there already and took a number: the others are numbered anew, without gaps.
	if _, err := t.exec(`DELETE FROM outbox WHERE seq > ?`, last); err != nil {
		return err
	}
	var fresh []emission
	taken := map[lodge.Digest]bool{}
	for _, e := range t.events {
		query, args := `SELECT seq FROM outbox WHERE id = ? AND type <> '`+string(lodge.EntryQueued)+`'`, []any{e.ID[:]}
		if e.Type == lodge.EntryQueued { // each by its index
			query, args = `SELECT seq FROM outbox WHERE id = ? AND envelope_id = ?`, append(args, e.envelope)
		}
		known, err := t.get(query, args, new(int64))
		if err != nil {
			return err
		}
		if !known && !taken[e.ID] {
			fresh = append(fresh, e)
		}
		taken[e.ID] = true
	}
	if wrote, err = t.number(last, fresh); err == nil && wrote != int64(len(fresh)) {
		err = fmt.Errorf("%d of %d events behind %d were not written", int64(len(fresh))-wrote, len(fresh), last)
	}
	return err
}

// number writes events behind the sequence last and says how many were not there.
func (t *tx) number(last int64, events []emission) (int64, error) {
	var rows [][]any
	for _, e := range events {
		last++
		rows = append(rows, []any{last, e.ID[:], e.Type, e.Source, e.Subject, e.Time.UnixMicro(), string(e.Data), e.envelope, e.envelope})
	}
	return t.runMany(`INSERT INTO outbox (seq, id, type, source, subject, at, data, envelope_id, hint) VALUES `,
		`(?, ?, ?, ?, ?, ?, ?, ?, (SELECT hint FROM envelope WHERE id = ?))`, ` ON CONFLICT DO NOTHING`, rows)
}

// emission is an event on its way into the outbox.
type emission struct {
	lodge.Event
	envelope sql.NullInt64 // that it is about, and whose hints it carries
}

// about names an envelope to emit; noEnvelope is for events about something else.
func about(envelope int64) sql.NullInt64 { return sql.NullInt64{Int64: envelope, Valid: true} }

var noEnvelope sql.NullInt64

// emit writes events with the transaction. A fact that was written before is not
// written again.
func (t *tx) emit(envelope sql.NullInt64, events ...lodge.Event) {
	t.wrote = true
	for _, e := range events {
		t.events = append(t.events, emission{e, envelope})
	}
}

// LevelTrace is the level at which every statement is logged with its arguments, and with
// the transaction that it is part of. It is below slog.LevelDebug.
const LevelTrace = slog.LevelDebug - 4

// trace logs a statement that is about to run; transaction is nil for a read outside of any.
func (s *Store) trace(ctx context.Context, transaction any, query string, args []any) {
	if slog.Default().Enabled(ctx, LevelTrace) {
		slog.Log(ctx, LevelTrace, "statement", "transaction", transaction, "sql", s.dialect.sql(query), "args", args)
	}
}

// stmt returns query prepared, for the life of the connection.
func (t *tx) stmt(query string, args []any) (*sql.Stmt, error) {
	t.session.store.trace(t.ctx, t, query, args)
	if st, ok := t.session.stmts[query]; ok {
		return st, nil
	}
	st, err := t.session.conn.PrepareContext(t.ctx, t.session.store.dialect.sql(query))
	if err == nil {
		t.session.stmts[query] = st
	}
	return st, err
}

func (t *tx) fault(err error) error {
	if err != nil {
		t.failed = true
	}
	return t.session.store.fault(err)
}

// exec runs query and says how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	_, n, err := t.result(query, args)
	return n, err
}

func (t *tx) result(query string, args []any) (res sql.Result, n int64, err error) {
	st, err := t.stmt(query, args)
	if err != nil {
		return nil, 0, t.fault(err)
	}
	if res, err = st.ExecContext(t.ctx, args...); err != nil {
		return nil, 0, t.fault(err)
	}
	n, err = res.RowsAffected()
	t.wrote = t.wrote || n > 0
	return res, n, t.fault(err)
}

// insert runs an INSERT of at most one row that ends in {id}, and sets id to that of the row;
// made is false where it wrote none.
func (t *tx) insert(query string, args []any, id *int64) (made bool, err error) {
	if t.session.store.dialect.returns {
		return t.write(query, args, id)
	}
	res, n, err := t.result(query, args)
	if err != nil || n == 0 {
		return false, err
	}
	*id, err = res.LastInsertId()
	return true, t.fault(err)
}

// get scans the first row into dest; found is false where there is none.
func (t *tx) get(query string, args []any, dest ...any) (found bool, err error) {
	err = t.each(query, args, func(rows *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return rows.Scan(dest...)
	})
	return found, err
}

// each scans every row through scan.
func (t *tx) each(query string, args []any, scan func(*sql.Rows) error) error {
	st, err := t.stmt(query, args)
	if err != nil {
		return t.fault(err)
	}
	rows, err := st.QueryContext(t.ctx, args...)
	return t.fault(each(rows, err, scan))
}

// change is each for a query that writes what it returns.
func (t *tx) change(query string, args []any, scan func(*sql.Rows) error) error {
	return t.each(query, args, func(rows *sql.Rows) error {
		t.wrote = true
		return scan(rows)
	})
}

// write runs a query that writes at most one row and scans the number that it returns of
// it; made is false where it wrote none.
func (t *tx) write(query string, args []any, number *int64) (made bool, err error) {
	err = t.change(query, args, func(rows *sql.Rows) error {
		made = true
		return rows.Scan(number)
	})
	return made, err
}
