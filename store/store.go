// Package store keeps envelopes, deliveries, their history, events and the local leaf
// index in one SQLite file, durably: what a method has returned without an error
// survives kill -9 and a power cut (synchronous=FULL, WAL).
//
// Every transition of a delivery is one compare-and-swap here, which writes the history
// row and the events of that transition in the same transaction (promise 7).
//
// It may import the root package and database libraries. Methods are safe for
// concurrent use, also by several processes on one file.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// busyWait is how long one process waits for another's transaction on the same file.
const busyWait = 20 * time.Second

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database.
type Store struct {
	db     *sql.DB
	writer *writer
	reads  *sql.DB // query-only connections
}

// Open opens the SQLite file at path, creates it with its folder where it is missing,
// and brings its schema up to date.
func Open(ctx context.Context, path string) (*Store, error) {
	s, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return s, nil
}

func open(ctx context.Context, path string) (_ *Store, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, "_txlock=immediate", "_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)", "_pragma=foreign_keys(1)"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := migrate(ctx, db); err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	reads, err := sql.Open("sqlite", dsn(path, "_pragma=query_only(1)"))
	if err != nil {
		return nil, err
	}
	reads.SetMaxOpenConns(4)
	reads.SetMaxIdleConns(4)
	return &Store{db: db, reads: reads, writer: newWriter(conn)}, nil
}

// Close closes the database. No other method may be running.
func (s *Store) Close() error {
	return errors.Join(s.reads.Close(), s.writer.conn.Close(), s.db.Close())
}

func dsn(path string, options ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = fmt.Sprintf("_pragma=busy_timeout(%d)", busyWait.Milliseconds())
	for _, option := range options {
		u.RawQuery += "&" + option
	}
	return u.String()
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(database.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("its schema %d is of a newer lodge (this one knows %d): use that one, or another --state", current, target)
	}
	_, err = provider.Up(ctx)
	return err
}
