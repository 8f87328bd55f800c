package store_test

import (
	"database/sql"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/storetest"
)

func TestSQLite(t *testing.T) { storetest.Run(t, storetest.SQLite) }

func TestPostgres(t *testing.T) { storetest.Run(t, storetest.Postgres) }

func TestOpenRefuses(t *testing.T) {
	for address, cause := range map[string]string{
		t.TempDir():        "it is a folder",
		"sqlite:":          "there is no path",
		"postgres:/u@h/d":  "want postgres://USER@HOST/DATABASE",
		"postgres://u@h":   "it names no database",
		"postgres://u@h:x": "it is no URL",
		filepath.Join(t.TempDir(), "a\x00b", "lodge.db"): "invalid argument",
	} {
		s, err := store.Open(t.Context(), address)
		if err == nil {
			t.Errorf("opened %q: %v", address, s)
		}
		saysWhy(t, err, "store", cause)
	}
	secret := "postgres://u:secret%zz@h/d"
	if err := store.CheckAddress(secret); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%s: error %v", secret, err)
	}
}

// TestName: nothing that people are shown has a password in it.
func TestName(t *testing.T) {
	for address, want := range map[string]string{
		"sqlite:/var/lodge.db":               "/var/lodge.db",
		"/var/lodge.db":                      "/var/lodge.db",
		"postgres://u:secret@h/d":            "postgres://u:xxxxx@h/d",
		"postgres://u@h/d?password=secret":   "postgres://u@h/d?password=xxxxx",
		"postgresql://u@h/d?sslmode=disable": "postgresql://u@h/d?sslmode=disable",
		"postgres://u:secret%zz@h/d":         "postgres",
	} {
		if got := store.Name(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// TestOpenUnreachable: a server that does not answer is something else than a mistake.
func TestOpenUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "postgres://u@" + l.Addr().String() + "/d"
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), address)
	saysWhy(t, err, "store "+address, "refused")
	if e := lodge.Classify(err); e.Class != lodge.ClassRetry || e.Code != "store-unreachable" {
		t.Errorf("error %#v", e)
	}
}

// TestOpenForeign: what another program keeps is left alone.
func TestOpenForeign(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "other.db")
		foreign(t, "sqlite", path, path)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := storetest.Postgres(t)
		foreign(t, "pgx", address, address)
	})
}

func foreign(t *testing.T, driver, dsn, address string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE customers (id int)`); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), address)
	saysWhy(t, err, "store "+address, `another program's tables are in it, such as "customers"`)
	if _, err := db.ExecContext(t.Context(), `DROP TABLE customers`); err != nil {
		t.Fatal(err)
	}
	open(t, address) // nothing was left in it that would be in the way
}

// TestHintsAreStoredOnce changes the hints of an envelope and changes them back: what is there
// already is not stored again.
func TestHintsAreStoredOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lodge.db")
	s := open(t, path)
	if err := accept(t, s, "a", 100); err != nil {
		t.Fatal(err)
	}
	for version, scope := range []string{"cve:CVE-2026-1", "cve:CVE-2026-1", "cve:CVE-2026-2", "cve:CVE-2026-1"} {
		h := lodge.Hints{Version: string(rune('1' + version)), Document: []byte(`{}`), Scopes: []string{scope}}
		old, err := s.Outdated(t.Context(), h.Version, 0, 10)
		if err != nil || len(old) != 1 {
			t.Fatal(old, err)
		}
		if err := s.Rehint(t.Context(), old[0].ID, h); err != nil {
			t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var stored, inEffect int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*), max(e.hint) FROM hint h JOIN envelope e ON e.id = h.envelope_id`).Scan(&stored, &inEffect); err != nil {
		t.Fatal(err)
	}
	if stored != 2 || inEffect != 1 {
		t.Errorf("%d rows of hints, number %d in effect; want 2, and the first", stored, inEffect)
	}
}
