package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// maxBatch bounds how many operations share one transaction, and so one fsync.
const maxBatch = 512

// writer commits operations in groups: whoever finds the connection free takes all
// operations that wait and runs them in one transaction, each in a savepoint of its own,
// so that one operation's failure is its own. It needs no goroutine of its own.
type writer struct {
	conn *sql.Conn
	turn chan struct{} // holds a token while nobody commits

	mu    sync.Mutex
	queue []*operation // guarded by mu

	stmts map[string]*sql.Stmt // used by the holder of the turn
}

type operation struct {
	run  func(*tx) error // may run twice: it resets what it captures
	done chan struct{}   // closed once err is set
	err  error
}

func newWriter(conn *sql.Conn) *writer {
	w := &writer{conn: conn, turn: make(chan struct{}, 1), stmts: map[string]*sql.Stmt{}}
	w.turn <- struct{}{}
	return w
}

// do runs op in a transaction and returns once that is durable. An error says that
// nothing of op was kept, except ctx.Err(): then it was never begun.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	op := &operation{run: run, done: make(chan struct{})}
	w.mu.Lock()
	w.queue = append(w.queue, op)
	w.mu.Unlock()
	for {
		select {
		case <-op.done:
			return op.err
		case <-w.turn:
			w.commitNext()
			w.turn <- struct{}{}
		case <-ctx.Done():
			if w.withdraw(op) {
				return ctx.Err()
			}
			<-op.done // somebody is committing it right now
			return op.err
		}
	}
}

func (w *writer) withdraw(op *operation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, queued := range w.queue {
		if queued == op {
			w.queue = append((w.queue)[:i:i], (w.queue)[i+1:]...)
			return true
		}
	}
	return false
}

func (w *writer) commitNext() {
	w.mu.Lock()
	batch := w.queue
	w.queue = nil
	if len(batch) > maxBatch {
		w.queue = append(w.queue, batch[maxBatch:]...)
		batch = batch[:maxBatch]
	}
	w.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	if err := w.commit(batch); err != nil {
		for _, op := range batch {
			op.err = err
		}
	}
	for _, op := range batch {
		close(op.done)
	}
}

// commit runs the batch in one transaction. It does not end with one caller's context:
// the others' work is in it too.
func (w *writer) commit(batch []*operation) error {
	ctx := context.Background()
	t := &tx{ctx: ctx, w: w}
	if _, err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, op := range batch {
		if op.err = t.savepoint(op.run); op.err != nil && t.broken != nil {
			break
		}
	}
	err := t.broken
	if err == nil {
		_, err = t.exec("COMMIT")
	}
	if err != nil {
		// Where SQLite has already rolled back (disk full), this one has nothing to do.
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// tx is an operation's view of the running transaction.
type tx struct {
	ctx    context.Context
	w      *writer
	broken error // why the whole transaction must be given up
}

func (t *tx) savepoint(run func(*tx) error) (err error) {
	if _, t.broken = t.exec("SAVEPOINT op"); t.broken != nil {
		return t.broken
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: panic: %v", r)
		}
		if err != nil {
			_, t.broken = t.exec("ROLLBACK TO op")
		}
		if t.broken == nil {
			_, t.broken = t.exec("RELEASE op")
		}
	}()
	return run(t)
}

// stmt returns query prepared, for the life of the store.
func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if st, ok := t.w.stmts[query]; ok {
		return st, nil
	}
	st, err := t.w.conn.PrepareContext(t.ctx, query)
	if err == nil {
		t.w.stmts[query] = st
	}
	return st, err
}

// exec runs query and says how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	st, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// get scans the first row into dest; found is false where there is none.
func (t *tx) get(query string, args []any, dest ...any) (found bool, err error) {
	st, err := t.stmt(query)
	if err != nil {
		return false, err
	}
	err = st.QueryRowContext(t.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// each scans every row through scan.
func (t *tx) each(query string, args []any, scan func(*sql.Rows) error) error {
	st, err := t.stmt(query)
	if err != nil {
		return err
	}
	return each(st.QueryContext(t.ctx, args...))(scan)
}

// each hands every row to scan and closes them.
func each(rows *sql.Rows, err error) func(scan func(*sql.Rows) error) error {
	return func(scan func(*sql.Rows) error) error {
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}
