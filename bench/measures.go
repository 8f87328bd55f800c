package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// callers are the numbers of concurrent callers that are measured.
var callers = []int{1, 16, 256}

// options of an SQLite connection are the store's own; NORMAL is measured to know what
// FULL costs, the store does not offer it.
func options(synchronous string) string {
	return "?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=cache_size(-24576)&_pragma=wal_autocheckpoint(16000)&_pragma=synchronous(" + synchronous + ")"
}

// prepare makes a store with the target in it.
func prepare(address string) error {
	s, err := open(address)
	if err != nil {
		return err
	}
	return s.Close()
}

// system is one kind of database under measure.
type system struct {
	prefix string        // of the names of its measures
	fresh  func() string // makes an empty database and returns the store's address
	drop   func(string)  // removes it
	driver string        // for the floor
	dsn    func(address, synchronous string) string
	record record
}

// withStore measures a store on a new database.
func (sys *system) withStore(measure func(*store.Store) (float64, error)) (float64, error) {
	address := sys.fresh()
	defer sys.drop(address)
	s, err := open(address)
	if err != nil {
		return 0, err
	}
	rate, err := measure(s)
	return rate, errors.Join(err, s.Close())
}

// floorRate runs transactions that take so many envelopes on new databases, again and again
// for that long.
func (sys *system) floorRate(all []transaction, synchronous string, span time.Duration) (float64, error) {
	var spent time.Duration
	done := 0.0
	for spent < span {
		address := sys.fresh()
		if err := prepare(address); err != nil {
			return 0, err
		}
		f, err := newFloor(sys.driver, sys.dsn(address, synchronous))
		if err != nil {
			return 0, err
		}
		begin := time.Now()
		for i := range all {
			if err = f.run(all[i]); err != nil {
				break
			}
		}
		spent += time.Since(begin)
		done += recorded
		f.close()
		sys.drop(address)
		if err != nil {
			return 0, err
		}
	}
	return done / spent.Seconds(), nil
}

// acceptRate has callers accept as many envelopes as a floor is about into new databases,
// again and again for that long.
func (sys *system) acceptRate(callers int, span time.Duration) (float64, error) {
	var spent time.Duration
	done := 0.0
	for ; spent < span; done += recorded {
		if _, err := sys.withStore(func(s *store.Store) (float64, error) {
			took, err := accept(s, callers, payload, recorded)
			spent += took
			return 0, err
		}); err != nil {
			return 0, err
		}
	}
	return done / spent.Seconds(), nil
}

// round takes every measure once, what is compared next to each other.
func (b *bench) round(sys *system) error {
	for _, n := range callers {
		if err := b.take(fmt.Sprintf("%sfloor %d", sys.prefix, n), func() (float64, error) { return sys.floorRate(sys.record.accept(n), "FULL", b.span) }); err != nil {
			return err
		}
		if err := b.take(fmt.Sprintf("%saccept %d", sys.prefix, n), func() (float64, error) {
			return sys.acceptRate(n, b.span)
		}); err != nil {
			return err
		}
	}
	if err := b.take(sys.prefix+"life cycle floor 256", func() (float64, error) {
		return sys.floorRate(sys.record.lifeCycle(256), "FULL", b.span)
	}); err != nil {
		return err
	}
	if err := b.take(sys.prefix+"life cycle 256", func() (float64, error) {
		return sys.withStore(func(s *store.Store) (float64, error) { return lifeRate(s, 256, b.span) })
	}); err != nil {
		return err
	}
	for _, events := range []struct {
		of   string
		work func(*store.Store) error
	}{
		{"events of life cycles to a file 256", func(s *store.Store) error { _, err := lifeRate(s, 256, b.span); return err }},
		{"events of policies to a file", func(s *store.Store) error { return ask(s, b.span) }},
	} {
		if err := b.take(sys.prefix+events.of, func() (float64, error) {
			return sys.withStore(func(s *store.Store) (float64, error) {
				return sinkRate(s, b.dir, func() error { return events.work(s) })
			})
		}); err != nil {
			return err
		}
	}
	return b.take(sys.prefix+"duplicates 256", func() (float64, error) {
		return sys.withStore(func(s *store.Store) (float64, error) {
			rate, written, err := duplicateRate(s, 256, b.span)
			b.written = max(b.written, written)
			return rate, err
		})
	})
}

func (b *bench) sqlite(rounds int) (err error) {
	n := 0
	sys := &system{
		fresh:  func() string { n++; return filepath.Join(b.dir, fmt.Sprintf("%d.db", n)) },
		drop:   remove,
		driver: "sqlite",
		dsn:    func(path, synchronous string) string { return "file:" + path + options(synchronous) },
	}
	if sys.record, err = newRecord(sys.fresh()); err != nil {
		return err
	}
	b.record = sys.record
	for range rounds {
		for _, n := range callers {
			if err := b.take(fmt.Sprintf("append %d", n), func() (float64, error) { return appendRate(b.dir, n, b.span) }); err != nil {
				return err
			}
		}
		if err := b.round(sys); err != nil {
			return err
		}
		if err := b.take("NORMAL floor 256", func() (float64, error) { return sys.floorRate(sys.record.accept(256), "NORMAL", b.span) }); err != nil {
			return err
		}
	}
	return nil
}

// postgres measures in the database at address, whose schema public it empties.
func (b *bench) postgres(rounds int, address string) (err error) {
	sys := &system{
		prefix: "PostgreSQL ",
		fresh:  func() string { emptied(address); return address },
		drop:   func(string) {},
		driver: "pgx",
		dsn:    func(address, _ string) string { return address },
	}
	if sys.record, err = newRecord(sys.fresh()); err != nil {
		return err
	}
	for range rounds {
		if err := b.round(sys); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(path + suffix) // some are not there
	}
}

func emptied(address string) {
	f, err := newFloor("pgx", address)
	if err == nil {
		_, _ = f.conn.ExecContext(context.Background(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
		f.close()
	}
}

// large measures a store with many queued deliveries beside an empty one, each in a
// process of its own, so that its memory is known.
func (b *bench) large(rounds, rows int) error {
	big := filepath.Join(b.dir, "large.db")
	if err := b.fill(big, rows); err != nil {
		return err
	}
	for i := range rounds {
		empty := filepath.Join(b.dir, fmt.Sprintf("empty-%d.db", i))
		for _, c := range []struct{ name, path string }{{"empty", empty}, {"large", big}} {
			var r childResult
			if err := b.take("accept 256, "+c.name, func() (float64, error) {
				var err error
				r, err = b.runChild(c.path)
				return r.Accept, err
			}); err != nil {
				return err
			}
			b.rates["claim, "+c.name] = append(b.rates["claim, "+c.name], r.Claim)
			b.rates["memory, "+c.name] = append(b.rates["memory, "+c.name], r.Memory)
		}
	}
	return nil
}

// fill makes a store with queued deliveries of small payloads.
func (b *bench) fill(path string, rows int) error {
	if err := prepare(path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+path+options("OFF"))
	if err != nil {
		return err
	}
	defer db.Close()
	for _, query := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO envelope (key, signer, raw, subjects, scopes) SELECT randomblob(32), 'sha256:' || printf('%064x', 1), randomblob(512), '[]', '[]' FROM n`,
		`INSERT INTO delivery (envelope_id, target_id, subject, state, accepted_at, since, due_at) SELECT id, 1, x'', 'queued', ?1 + id, ?1 + id, ?1 + id FROM envelope`,
		`INSERT INTO outbox (seq, id, type, source, subject, at, data, envelope_id) SELECT id, randomblob(32), 'dev.lodge.EntryQueued.v1',
			'https://log.example', 'sha256:' || printf('%064x', id), ?, printf('%300s', 'data'), envelope_id FROM delivery`,
	} {
		arg := any(time.Now().Add(-time.Hour).UnixMicro())
		if strings.HasPrefix(query, "WITH") {
			arg = rows
		}
		if _, err := db.ExecContext(context.Background(), query, arg); err != nil {
			return err
		}
	}
	return nil
}

// childResult is what a child process prints.
type childResult struct {
	Accept, Claim float64 // per second
	Memory        float64 // bytes
}

func (b *bench) runChild(path string) (r childResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(context.Background(), self, "-child", path, "-span", b.span.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

func measureChild(address string, span time.Duration, out io.Writer) error {
	s, err := open(address)
	if err != nil {
		return err
	}
	var r childResult
	if r.Accept, err = acceptRate(s, 256, payload, span); err != nil {
		return err
	}
	begin, claimed := time.Now(), 0
	for claimed < 4096 {
		now := time.Now()
		jobs, err := s.Claim(context.Background(), target.Address, lodge.PickDue, 256, now, now.Add(time.Hour))
		if err != nil {
			return err
		}
		if len(jobs) == 0 {
			break
		}
		claimed += len(jobs)
	}
	r.Claim = float64(claimed) / time.Since(begin).Seconds()
	r.Memory = peakMemory()
	if err := s.Close(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
