package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/storetest"
)

func TestSQLite(t *testing.T) { storetest.Run(t, storetest.SQLite) }

func TestPostgres(t *testing.T) { storetest.Run(t, storetest.Postgres) }

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if s, err := store.Open(t.Context(), dir); err == nil {
		t.Errorf("opened a folder as a database: %v", s)
	}
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
