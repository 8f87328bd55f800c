package deliver_test

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/lodgehq/lodge/storetest"
)

// TestSimulationOnPostgres runs schedules as TestSimulation does, with replicas on one
// PostgreSQL: a few, for a database that is one takes its time. -sim.n asks for more.
func TestSimulationOnPostgres(t *testing.T) {
	from, n := *simFrom, uint64(10)
	switch {
	case *simSeed != 0:
		from, n = *simSeed, 1
	case *simN > 0:
		n = *simN
	}
	quietly(t)
	inPostgresBubble(t, onPostgres(t), func(t *testing.T, all *shelves) {
		for seed := from; seed < from+n && simulate(t, seed, all); seed++ {
		}
	})
}

// onPostgres returns a database whose clock is set by the tests: what the store asks for the
// time is a function of the same name that comes first in the search path.
func onPostgres(t *testing.T) (address string) {
	t.Helper()
	u, err := url.Parse(storetest.Postgres(t))
	must(t, err)
	query := u.Query()
	query.Set("search_path", "bubble,pg_catalog")
	u.RawQuery = query.Encode()
	db, err := sql.Open("pgx", u.String())
	must(t, err)
	defer func() { must(t, db.Close()) }()
	_, err = db.ExecContext(t.Context(), `CREATE SCHEMA bubble;
		CREATE SCHEMA beside; -- as lodge wants its own for itself
		CREATE TABLE beside.clock (now timestamptz NOT NULL);
		INSERT INTO beside.clock VALUES (to_timestamp(0));
		CREATE FUNCTION bubble.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now FROM beside.clock'`)
	must(t, err)
	return u.String()
}

// inPostgresBubble is inBubble on a PostgreSQL database.
func inPostgresBubble(t *testing.T, address string, do func(t *testing.T, all *shelves)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		clock, err := sql.Open("pgx", address)
		must(t, err)
		t.Cleanup(func() { must(t, clock.Close()) })
		ours := newMemo()
		ours.clock = func() {
			_, err := clock.ExecContext(context.Background(), `UPDATE beside.clock SET now = $1 WHERE now < $1`, time.Now())
			must(t, err)
		}
		ours.clock()
		var now time.Time
		must(t, clock.QueryRowContext(t.Context(), `SELECT statement_timestamp()`).Scan(&now))
		if !now.Equal(time.Now()) {
			t.Fatalf("the database's clock says %s", now)
		}
		all := &shelves{other: openShelf(t, filepath.Join(dir, "job.db"), newMemo())}
		for range 2 {
			all.main = append(all.main, openShelf(t, address, ours))
		}
		do(t, all)
	})
}
