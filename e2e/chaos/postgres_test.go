package chaos_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
)

// postgres is a database on a PostgreSQL server.
type postgres struct {
	t     *testing.T
	admin *sql.DB // of the server, with the right to make databases
	name  string
	URL   string // of the database
}

// newPostgres makes a database, to be dropped at the end of the test. The server is
// LODGE_TEST_POSTGRES or the local service.
func newPostgres(t *testing.T) *postgres {
	t.Helper()
	server := cmp.Or(os.Getenv("LODGE_TEST_POSTGRES"), "postgres://postgres@127.0.0.1:5432/postgres")
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("LODGE_TEST_POSTGRES is no URL")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	if err := admin.PingContext(t.Context()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true allows no skip: no PostgreSQL at %s: %v", u.Redacted(), err)
		}
		t.Skipf("no PostgreSQL at %s: %v", u.Redacted(), err)
	}
	db := &postgres{t: t, admin: admin, name: "lodge_chaos_" + strings.ToLower(rand.Text()[:10])}
	db.exec("CREATE DATABASE " + db.name)
	t.Cleanup(func() {
		_, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE "+db.name+" WITH (FORCE)")
		if err != nil {
			t.Error(err)
		}
	})
	u.Path = "/" + db.name
	db.URL = u.String()
	return db
}

func (db *postgres) exec(query string, args ...any) {
	db.t.Helper()
	if _, err := db.admin.ExecContext(db.t.Context(), query, args...); err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
}

// cut ends all connections of lodge to the database.
func (db *postgres) cut() {
	db.t.Helper()
	db.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'lodge'", db.name)
}

// down ends all connections and lets nobody connect, as a server does that restarts.
func (db *postgres) down() {
	db.t.Helper()
	db.exec(fmt.Sprintf("ALTER DATABASE %s WITH ALLOW_CONNECTIONS false", db.name))
	db.cut()
}

func (db *postgres) up() {
	db.t.Helper()
	db.exec(fmt.Sprintf("ALTER DATABASE %s WITH ALLOW_CONNECTIONS true", db.name))
}

// readOnly makes the database take no writes: of new connections, and there are only such.
func (db *postgres) readOnly() {
	db.t.Helper()
	db.exec(fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = on", db.name))
	db.cut()
}

// writable takes readOnly back, as far as new connections go: those that are there keep what
// they have, as they do with a server that was a standby.
func (db *postgres) writable() {
	db.t.Helper()
	db.exec(fmt.Sprintf("ALTER DATABASE %s SET default_transaction_read_only = off", db.name))
}
