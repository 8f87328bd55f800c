package store_test

import (
	"testing"

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
