package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"github.com/lodgehq/lodge"
)

// postgresDialect reads the clock as it stands at the beginning of each statement, which
// leaves {now} usable for an index.
var postgresDialect = &dialect{
	name: "postgres",
	words: strings.NewReplacer("{now}", "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint",
		"{lock}", " FOR NO KEY UPDATE", "{lock d}", " FOR NO KEY UPDATE OF d", "{skip d}", " FOR NO KEY UPDATE OF d SKIP LOCKED",
		"{each}", "jsonb_array_elements_text", "{id}", " RETURNING id"),
	numbered: true,
	returns:  true,
	begin:    "BEGIN ISOLATION LEVEL READ COMMITTED",
	writers:  4,
	readers:  8,
	lockLog:  `SELECT pg_advisory_xact_lock(7310)`,
	timeout:  time.Minute,
	lost:     lostRace,
	stale:    readOnly,
	goose:    database.DialectPostgres,
	tables: `SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() WHERE c.relkind = 'r'
		AND NOT EXISTS (SELECT 1 FROM pg_depend p WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid AND p.deptype = 'e')`, // not an extension's
}

// settings make a commit durable also where the server's default does not, and end the
// transaction of a host that has vanished in the middle of it.
const settings = `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
	SET idle_in_transaction_session_timeout = '30s';
	SET application_name = 'lodge'`

func openPostgres(ctx context.Context, s *Store, address string) error {
	s.dialect = postgresDialect
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return err
	}
	s.db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, settings)
		return err
	}))
	s.reads = s.db
	s.db.SetMaxOpenConns(s.dialect.writers + s.dialect.readers)
	s.db.SetMaxIdleConns(s.dialect.readers)
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // seconds, times
	if err != nil {
		return err
	}
	err = s.dialect.migrate(ctx, s.db, goose.WithSessionLocker(locker))
	answer, answered := errors.AsType[*pgconn.PgError](err)
	mistaken := answered && (answer.Code == "3D000" || strings.HasPrefix(answer.Code, "28")) // database, role, password
	if unreachable := (*pgconn.ConnectError)(nil); errors.As(err, &unreachable) && !mistaken {
		return &lodge.Error{Class: lodge.ClassRetry, Code: "store-unreachable", Message: lodge.OneLine(err.Error()), Err: err}
	}
	return err
}

// lostRace tells whether err is a deadlock, or a row that somebody else has just made.
func lostRace(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{"40001", "40P01", "23505"}, e.Code)
}

// readOnly tells whether err says that nothing can be written. A connection keeps that when
// the server, a standby, becomes the primary.
func readOnly(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "25006"
}
