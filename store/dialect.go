package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// dialect is what differs between the two databases. Queries are written with ? for
// parameters and with these words:
//
//	{now}  the database's clock in microseconds
//	{lock}  keeps the rows that a SELECT found as they are until the transaction ends
//	{lock d}, {skip d}  the same for table d alone; skip leaves out those that are locked
//	{each}  a function that makes rows of a JSON array of strings, in the column "value"
//	{id}  at the end of an INSERT, which goes through tx.insert: the row's id
type dialect struct {
	name     string // of its folder of migrations
	words    *strings.Replacer
	numbered bool             // parameters are $1, $2, …
	returns  bool             // RETURNING tells of the row ({id}); else other means do, in half the time
	begin    string           // begins a writing transaction
	writers  int              // connections that write at the same time
	readers  int              // connections that read at the same time
	lockLog  string           // lets no other transaction write events until this one ends; may be ""
	timeout  time.Duration    // of a transaction; 0: none
	lost     func(error) bool // a race against another transaction was lost: run it again
	stale    func(error) bool // it is the connection's fault: another may do better

	goose  database.Dialect
	tables string // lists the names of the tables that are there
}

// sql returns query as the database takes it.
func (d *dialect) sql(query string) string {
	query = d.words.Replace(query)
	if !d.numbered {
		return query
	}
	var b strings.Builder
	n := 0
	for _, r := range query {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

//go:embed migrations
var migrations embed.FS

// migrateTries bounds how often a migration is begun again that another starter has made.
const migrateTries = 5

// migrate brings the schema up to date. Each migration is one transaction, so of several
// starters one succeeds and the others find it made.
func (d *dialect) migrate(ctx context.Context, db *sql.DB, options ...goose.ProviderOption) error {
	files, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(d.goose, db, files, options...)
	if err != nil {
		return err
	}
	if err := d.own(ctx, db); err != nil {
		return err
	}
	for range migrateTries {
		if err = up(ctx, provider); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

var errForeign = errors.New("another program's tables are in it")

// own makes sure that the database is lodge's, or empty: its tables have plain names.
func (d *dialect) own(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, d.tables)
	var other string
	ours := 0
	err = each(rows, err, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		switch {
		case name == "envelope", name == "delivery":
			ours++
		case name != goose.DefaultTablename && !strings.HasPrefix(name, "sqlite_"):
			other = name
		}
		return err
	})
	if err == nil && ours < 2 && other != "" {
		err = fmt.Errorf("%w, such as %q: give lodge a database of its own", errForeign, other)
	}
	return err
}

func up(ctx context.Context, provider *goose.Provider) error {
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("its schema %d is of a newer lodge (this one knows %d): use that one, or another --state", current, target)
	}
	if current == target {
		return nil
	}
	_, err = provider.Up(ctx)
	return err
}
