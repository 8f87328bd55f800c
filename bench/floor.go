package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/lodgehq/lodge"
)

var target = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}

// statements notes the SQL that the store logs when it prepares a statement.
type statements struct {
	slog.Handler
	sql *[]string
}

func (s statements) Enabled(context.Context, slog.Level) bool { return true }

func (s statements) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "statement" && a.Key == "sql" {
			*s.sql = append(*s.sql, a.Value.String())
		}
		return true
	})
	return nil
}

// recorded returns the SQL that f makes a store prepare.
func recorded(f func() error) (sql []string, err error) {
	before := slog.Default()
	slog.SetDefault(slog.New(statements{before.Handler(), &sql}))
	defer slog.SetDefault(before)
	return sql, f()
}

func bytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func submission(size int) lodge.Submission {
	return lodge.Submission{Key: lodge.Digest(bytes(32)), Signer: lodge.KeySigner([]byte("key")), Raw: bytes(size), SPKI: make([]byte, 91),
		Subjects: []lodge.Digest{lodge.Digest(bytes(32))}}
}

// row is one accept as arguments of the statements.
type row struct{ envelope, delivery, history, event []any }

func newRow(size int) row {
	now := time.Now()
	sub := submission(size)
	d := lodge.Delivery{Key: sub.Key, Signer: sub.Signer, Target: target, State: lodge.Queued}
	e := lodge.QueuedEvent(d, now)
	return row{
		envelope: []any{sub.Key[:], string(sub.Signer), sub.Raw, sub.SPKI, `["` + sub.Subjects[0].String() + `"]`, "[]"},
		delivery: []any{int64(0), []byte{}, string(lodge.Queued), now.UnixMicro(), target.Address},
		history:  []any{int64(0), 0, "", string(lodge.Queued), now.UnixMicro(), nil, nil},
		event:    []any{int64(0), e.ID[:], string(e.Type), e.Source, e.Subject, now.UnixMicro(), string(e.Data)},
	}
}

// floor runs the statements of an accept as fast as the database allows.
type floor struct {
	db     *sql.DB
	conn   *sql.Conn
	before []*sql.Stmt // of a transaction
	stmts  [4]*sql.Stmt
	last   []*sql.Stmt // before the events: the lock, where there is one, and the last sequence
	commit *sql.Stmt
}

// newFloor prepares the SQL of an accept, as it was recorded.
func newFloor(driver, dsn string, accept []string) (_ *floor, err error) {
	f := &floor{}
	if f.db, err = sql.Open(driver, dsn); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if f.conn, err = f.db.Conn(ctx); err != nil {
		return nil, err
	}
	for _, query := range accept {
		st, err := f.conn.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(query, "BEGIN"):
			f.before = append(f.before, st)
		case strings.HasPrefix(query, "INSERT INTO envelope"):
			f.stmts[0] = st
		case strings.HasPrefix(query, "INSERT INTO delivery"):
			f.stmts[1] = st
		case strings.HasPrefix(query, "INSERT INTO history"):
			f.stmts[2] = st
		case strings.HasPrefix(query, "INSERT INTO outbox"):
			f.stmts[3] = st
		case strings.HasPrefix(query, "SELECT"):
			f.last = append(f.last, st)
		case query == "COMMIT":
			f.commit = st
		default:
			return nil, fmt.Errorf("an accept has another statement: %s", query)
		}
	}
	return f, nil
}

func (f *floor) close() {
	_ = f.conn.Close()
	_ = f.db.Close()
}

// batch commits rows in one transaction.
func (f *floor) batch(rows []row) error {
	ctx := context.Background()
	for _, st := range f.before {
		if _, err := st.ExecContext(ctx); err != nil {
			return err
		}
	}
	for i := range rows {
		r := &rows[i]
		if err := f.stmts[0].QueryRowContext(ctx, r.envelope...).Scan(&r.delivery[0]); err != nil {
			return err
		}
		if err := f.stmts[1].QueryRowContext(ctx, r.delivery...).Scan(&r.history[0]); err != nil {
			return err
		}
		if _, err := f.stmts[2].ExecContext(ctx, r.history...); err != nil {
			return err
		}
	}
	var last int64
	for _, st := range f.last {
		var column any
		if err := st.QueryRowContext(ctx).Scan(&column); err != nil {
			return err
		}
		last, _ = column.(int64)
	}
	for i := range rows {
		last++
		rows[i].event[0] = last
		if _, err := f.stmts[3].ExecContext(ctx, rows[i].event...); err != nil {
			return err
		}
	}
	_, err := f.commit.ExecContext(ctx)
	return err
}

// rate commits batches of n rows, which are built outside of the time that counts.
func (f *floor) rate(n, size int, span time.Duration) (float64, error) {
	var spent time.Duration
	count := 0
	for spent < span {
		batches := make([][]row, max(1, 1024/n))
		for i := range batches {
			for range n {
				batches[i] = append(batches[i], newRow(size))
			}
		}
		begin := time.Now()
		for _, rows := range batches {
			if err := f.batch(rows); err != nil {
				return 0, err
			}
			count += n
		}
		spent += time.Since(begin)
	}
	return float64(count) / spent.Seconds(), nil
}

// appendRate writes n payloads at a time to a file, each time with an fsync.
func appendRate(dir string, n int, span time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "append"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	data := bytes(n * payload)
	count := 0
	begin := time.Now()
	for time.Since(begin) < span {
		if _, err := f.Write(data); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		count += n
	}
	return float64(count) / time.Since(begin).Seconds(), nil
}
