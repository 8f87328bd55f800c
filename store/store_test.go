package store_test

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
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
		t.TempDir():              "it is a folder",
		"sqlite:":                "there is no path",
		"postgres:/u@h/d":        "want postgres://USER@HOST/DATABASE",
		"postgres://u@h":         "it names no database",
		"postgres://u@h:x":       "it is no URL",
		"postgres://u@h?dbname=": "it names no database",
		"Postgres://u@h/d":       "want sqlite:PATH or postgres://",
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
		"postgres://u@h/d?password=sec;ret":  "postgres://u@h/d",
		"postgres://u@h/d?password=se#cret":  "postgres://u@h/d",
		"postgresql://u@h/d?sslmode=disable": "postgresql://u@h/d",
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

// TestOpenMistaken: one that answers that it has no such database is a mistake.
func TestOpenMistaken(t *testing.T) {
	u, err := url.Parse(storetest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/lodge_is_not_there"
	_, err = store.Open(t.Context(), u.String())
	saysWhy(t, err, "store "+store.Name(u.String()), "does not exist")
	if e := lodge.Classify(err); e.Class == lodge.ClassRetry {
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

// onDisk returns what a SQLite file begins with, and the names beside it.
func onDisk(t *testing.T, path string) (state string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "" // it is no file
	}
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x %q", sha256.Sum256(raw), names)
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
	before := onDisk(t, address)
	_, err = store.Open(t.Context(), address)
	if after := onDisk(t, address); after != before {
		t.Errorf("it was changed: %q, was %q", after, before)
	}
	saysWhy(t, err, "store "+store.Name(address), `another program's tables are in it, such as "customers"`)
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
