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
	if failed != nil || s.store.dialect.stale(err) {
		s.drop()
	}
	return err
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
		if err == nil {
			t.failed = false
			return nil
		}
		lost := s.store.dialect.stale(err) || s.conn.PingContext(t.ctx) != nil
		if lost {
			s.drop()
		}
		if fresh || !lost {
			return err
		}
	}
}

// drop closes the connection for good, and its statements with it.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that it does not go back to the pool
	_ = s.conn.Close()
	s.conn = nil
}

// tx is an operation's view of the running transaction.
type tx struct {
	ctx     context.Context
	session *session
	wrote   bool          // the operation has written something
	failed  bool          // a statement has failed: the transaction can't go on
	events  []lodge.Event // of the transaction; written at its end
}

// runAll runs the operations and writes their events. The log of events is locked last
// and until the end of the transaction, so that its order is the order of commits: a reader
// who has seen a sequence has seen all below it.
func (t *tx) runAll(batch []*operation) error {
	for _, op := range batch {
		t.wrote = false
		if op.err = t.run(op); op.err != nil && (t.wrote || t.failed) {
			return &operationError{op.err}
		}
	}
	if err := t.writeEvents(); err != nil {
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
	for _, e := range t.events {
		n, err := t.exec(`INSERT INTO outbox (seq, id, type, source, subject, at, data) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			last+1, e.ID[:], e.Type, e.Source, e.Subject, e.Time.UnixMicro(), string(e.Data))
		if err != nil {
			return err
		}
		last += n
	}
	return nil
}

// emit writes an event with the transaction. A fact that was written before is not
// written again.
func (t *tx) emit(events ...lodge.Event) {
	t.wrote = true
	t.events = append(t.events, events...)
}

// stmt returns query prepared, for the life of the connection. The log shows each once.
func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if st, ok := t.session.stmts[query]; ok {
		return st, nil
	}
	translated := t.session.store.dialect.sql(query)
	slog.Debug("statement", "sql", translated)
	st, err := t.session.conn.PrepareContext(t.ctx, translated)
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
	st, err := t.stmt(query)
	if err != nil {
		return 0, t.fault(err)
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, t.fault(err)
	}
	n, err := res.RowsAffected()
	t.wrote = t.wrote || n > 0
	return n, t.fault(err)
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
	st, err := t.stmt(query)
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
