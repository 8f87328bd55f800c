package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3/database"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite has one writer at a time, so nothing needs a lock of its own.
var sqliteDialect = &dialect{
	name: "sqlite",
	words: strings.NewReplacer("{now}", "lodge_now()", "{lock}", "", "{lock d}", "", "{skip d}", "", "{each}", "json_each", "{id}", "",
		// A bare parameter would be looked at to plan the query, and have it planned again for each other value.
		"LIMIT ?", "LIMIT ? + 0"),
	begin:   "BEGIN IMMEDIATE",
	writers: 1,
	readers: 4,
	lost:    func(error) bool { return false },
	stale:   readOnlyFile,
	goose:   database.DialectSQLite3,
	tables:  `SELECT name FROM sqlite_schema WHERE type = 'table'`,
}

const (
	busyWait   = 20 * time.Second // how long one process waits for another's transaction
	writeCache = 24 << 20         // bytes of pages: the upper levels of the indexes of millions of rows

	// walPages is how many pages (4 KiB) the write-ahead log takes before they are moved to the file.
	// SQLite's own 1,000 are those of 150 accepts. Keys are random, so in a large file each accept
	// changes other pages of the indexes, and moving many at once writes each just once.
	walPages = 16_000
)

// registerClock makes the process's clock known to SQLite: its own can't be controlled in
// tests.
var registerClock = sync.OnceValue(func() error {
	return sqlite.RegisterScalarFunction("lodge_now", 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		return time.Now().UnixMicro(), nil
	})
})

// readOnlyFile tells whether err says that nothing can be written. A connection keeps that
// when it was opened while the file system took no writes.
func readOnlyFile(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_READONLY
}

func openSQLite(ctx context.Context, s *Store, address string) (err error) {
	path := strings.TrimPrefix(address, "sqlite:")
	s.dialect = sqliteDialect
	if err := registerClock(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	switch info, err := os.Stat(path); { // SQLite's own words don't say why
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && info.IsDir():
		return errors.New("it is a folder: name a file")
	}
	if err := lookFirst(ctx, path); err != nil {
		return err
	}
	// FULL: a commit is on the disk when it returns. WAL: reads go on meanwhile.
	if s.db, err = openFile(dsn(path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)", fmt.Sprintf("_pragma=cache_size(-%d)", writeCache>>10),
		fmt.Sprintf("_pragma=wal_autocheckpoint(%d)", walPages))); err != nil {
		return err
	}
	s.db.SetMaxIdleConns(0) // one connection writes, and it is the writer's
	if err := s.dialect.migrate(ctx, s.db); err != nil {
		return cantOpen(path, err)
	}
	if s.reads, err = openFile(dsn(path, "_pragma=query_only(1)")); err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(s.dialect.readers)
	s.reads.SetMaxIdleConns(s.dialect.readers)
	return nil
}

// lookFirst refuses a file of another program before anything about it is changed. What it can't
// read is for Open to say: the file is read as it is, without those who may be at work on it.
func lookFirst(ctx context.Context, path string) error {
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		return nil // the file alone is not what it holds; whoever migrates looks again
	}
	db, err := sql.Open("sqlite", dsn(path, "mode=ro", "immutable=1"))
	if err != nil {
		return err
	}
	if err = sqliteDialect.own(ctx, db); !errors.Is(err, errForeign) {
		err = nil
	}
	return errors.Join(err, db.Close())
}

// cantOpen says why a file can't be opened, where the system knows more than SQLite.
func cantOpen(path string, err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); !ok || e.Code()&0xff != sqlite3.SQLITE_CANTOPEN {
		return err
	}
	f, why := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if why != nil {
		return why
	}
	return errors.Join(err, f.Close())
}

// connector opens connections that leave the -wal and -shm files where they are when they
// close: without those, nothing can be read while nothing can be written.
type connector struct {
	driver driver.Driver
	dsn    string
}

func openFile(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{db.Driver(), dsn}), db.Close()
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	if file, ok := conn.(sqlite.FileControl); ok {
		_, err = file.FileControlPersistWAL("main", 1)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return c.driver }

func dsn(path string, options ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = fmt.Sprintf("_pragma=busy_timeout(%d)", busyWait.Milliseconds())
	for _, option := range options {
		u.RawQuery += "&" + option
	}
	return u.String()
}
