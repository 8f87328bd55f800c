// Package store keeps envelopes, deliveries, their history, events and the local leaf
// index in a SQLite file or a PostgreSQL database, durably: what a method has returned
// without an error survives kill -9 and a power cut.
//
// The delivery row is the queue. Every transition of a delivery is one compare-and-swap
// here, which writes the history row and the events of that transaction with it
// (promise 7). One set of queries serves both databases; type dialect is all that differs.
//
// When a delivery is due and when a lease ends is kept by the database's clock, which all
// replicas share (on SQLite it is this machine's): what a caller gives counts as a distance
// from the now that comes with it, so callers' clocks need not agree. All other times, also
// when a sink tries an event again, are the caller's own.
//
// The package may import the root package and database libraries. Methods are safe for
// concurrent use, also by several processes on one database.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
)

// Store is an open database.
type Store struct {
	name    string // for people, without a password
	dialect *dialect
	db      *sql.DB // for writes
	reads   *sql.DB // may be db
	writer  *writer
	queries *queries
	repeats *repeats
	fence   fence // see Under
}

func isPostgres(address string) bool {
	scheme, _, named := strings.Cut(address, ":")
	return named && (scheme == "postgres" || scheme == "postgresql")
}

// Forms are those of an address.
const Forms = "sqlite:PATH or " + postgresForm

const postgresForm = "postgres://USER@HOST/DATABASE"

// CheckAddress says what is wrong with an address, as far as that shows without opening it. It
// does not repeat what may hold a password.
func CheckAddress(address string) error {
	if !isPostgres(address) {
		if strings.Contains(address, "://") && !strings.HasPrefix(address, "sqlite:") {
			return errors.New("want " + Forms)
		}
		if strings.TrimPrefix(address, "sqlite:") == "" {
			return errors.New("want sqlite:PATH: there is no path")
		}
		return nil
	}
	const form = "want " + postgresForm
	u, err := url.Parse(address)
	switch {
	case !strings.Contains(address, "://"):
		return errors.New(form)
	case err != nil:
		return errors.New(form + ": it is no URL; in a password, write what is no letter or digit as %XX")
	case strings.Trim(u.Path, "/") == "" && u.Query().Get("dbname")+u.Query().Get("database")+u.Query().Get("service") == "":
		return errors.New(form + ": it names no database")
	}
	return nil
}

// Name returns an address without the password that may be in it, for people.
func Name(address string) string {
	if !isPostgres(address) {
		return strings.TrimPrefix(address, "sqlite:")
	}
	u, err := url.Parse(address)
	if err != nil {
		return "postgres"
	}
	u.RawQuery, u.Fragment, u.RawFragment = "", "", "" // there can be one in each
	return u.Redacted()
}

// Open opens the database at address, sqlite:PATH (or PATH alone) or postgres://…, and
// brings its schema up to date; several may do so at once. A SQLite file is created with
// its folder where it is missing. A database that does not answer is a *lodge.Error of class
// retry; one that holds another program's tables is refused.
func Open(ctx context.Context, address string) (*Store, error) {
	if err := CheckAddress(address); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	open := openSQLite
	if isPostgres(address) {
		open = openPostgres
	}
	s := &Store{name: Name(address), queries: &queries{stmts: map[string]*sql.Stmt{}}, repeats: newRepeats()}
	if err := open(ctx, s, address); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", s.name, err), s.Close())
	}
	s.writer = newWriter(s)
	return s, nil
}

// Close closes the database. No other method may be running.
func (s *Store) Close() error {
	var errs []error
	if s.writer != nil {
		s.writer.close()
	}
	if s.reads != nil && s.reads != s.db {
		errs = append(errs, s.reads.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// fault says which store failed.
func (s *Store) fault(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("store %s: %w", s.name, err)
}

// queries are prepared once, for the life of the store.
type queries struct {
	mu    sync.Mutex
	stmts map[string]*sql.Stmt // guarded by mu
}

func (s *Store) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s.queries.mu.Lock()
	defer s.queries.mu.Unlock()
	if st, ok := s.queries.stmts[query]; ok {
		return st, nil
	}
	st, err := s.reads.PrepareContext(ctx, s.dialect.sql(query))
	if err == nil {
		s.queries.stmts[query] = st
	}
	return st, err
}

// query reads rows outside of any transaction.
func (s *Store) query(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	s.trace(ctx, nil, query, args)
	st, err := s.prepare(ctx, query)
	if err != nil {
		return s.fault(err)
	}
	rows, err := st.QueryContext(ctx, args...)
	return s.fault(each(rows, err, scan))
}

// row reads the first row into dest; found is false where there is none.
func (s *Store) row(ctx context.Context, query string, args []any, dest ...any) (found bool, err error) {
	err = s.query(ctx, query, args, func(rows *sql.Rows) error {
		if found {
			return nil
		}
		found = true
		return rows.Scan(dest...)
	})
	return found, err
}

// each hands every row to scan and closes them.
func each(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
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
