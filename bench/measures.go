package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lodgehq/lodge/store"
)

// callers are the numbers of concurrent callers that are measured.
var callers = []int{1, 16, 256}

// options of an SQLite connection are the store's own; NORMAL is measured to know what
// FULL costs, the store does not offer it.
func options(synchronous string) string {
	return "?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)&_pragma=cache_size(-24576)&_pragma=synchronous(" + synchronous + ")"
}

// record learns the SQL of an accept, and of the rest of a life cycle.
func record(address string) (accept, life []string, err error) {
	ctx := context.Background()
	if err := prepare(address); err != nil {
		return nil, nil, err
	}
	s, err := store.Open(ctx, address) // a connection prepares each statement once
	if err != nil {
		return nil, nil, err
	}
	accept, err = recorded(func() error {
		_, err := s.Accept(ctx, submission(payload), orders, time.Now())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	due := make(chan struct{}, 1)
	due <- struct{}{}
	close(due)
	life, err = recorded(func() error { return deliverAll(s, due) })
	return accept, life, errors.Join(err, s.Close())
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
	accept []string // SQL
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

func (sys *system) floorRate(n int, synchronous string, span time.Duration) (float64, error) {
	address := sys.fresh()
	defer sys.drop(address)
	if err := prepare(address); err != nil {
		return 0, err
	}
	f, err := newFloor(sys.driver, sys.dsn(address, synchronous), sys.accept)
	if err != nil {
		return 0, err
	}
	defer f.close()
	return f.rate(n, payload, span)
}

// round takes every measure once, what is compared next to each other.
func (b *bench) round(sys *system) error {
	for _, n := range callers {
		if err := b.take(fmt.Sprintf("%sfloor %d", sys.prefix, n), func() (float64, error) { return sys.floorRate(n, "FULL", b.span) }); err != nil {
			return err
		}
		if err := b.take(fmt.Sprintf("%saccept %d", sys.prefix, n), func() (float64, error) {
			return sys.withStore(func(s *store.Store) (float64, error) { return acceptRate(s, n, payload, b.span) })
		}); err != nil {
			return err
		}
	}
	if err := b.take(sys.prefix+"life cycle 256", func() (float64, error) {
		return sys.withStore(func(s *store.Store) (float64, error) { return lifeRate(s, 256, b.span) })
	}); err != nil {
		return err
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
	if sys.accept, b.life, err = record(sys.fresh()); err != nil {
		return err
	}
	b.accept = sys.accept
	for range rounds {
		for _, n := range callers {
			if err := b.take(fmt.Sprintf("append %d", n), func() (float64, error) { return appendRate(b.dir, n, b.span) }); err != nil {
				return err
			}
		}
		if err := b.round(sys); err != nil {
			return err
		}
		if err := b.take("NORMAL floor 256", func() (float64, error) { return sys.floorRate(256, "NORMAL", b.span) }); err != nil {
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
	if sys.accept, _, err = record(sys.fresh()); err != nil {
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
	f, err := newFloor("pgx", address, nil)
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
	f, err := newFloor("sqlite", "file:"+path+options("OFF"), b.accept)
	if err != nil {
		return err
	}
	defer f.close()
	const batch = 10_000
	for done := 0; done < rows; done += batch {
		made := make([]row, min(batch, rows-done))
		for i := range made {
			made[i] = newRow(512)
		}
		if err := f.batch(made); err != nil {
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
		jobs, err := s.Claim(context.Background(), target.Address, 256, now, now.Add(time.Hour))
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
