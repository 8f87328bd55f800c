package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// statement is one that the store has run.
type statement struct {
	sql  string
	args []any
}

// transaction is what the store has run from BEGIN to COMMIT; a read alone is one too.
type transaction []statement

// tracer collects the transactions that stores commit, in that order.
type tracer struct {
	slog.Handler
	mu   *sync.Mutex
	open map[any]transaction
	made *[]transaction
}

// Enabled implements slog.Handler.
func (tracer) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (t tracer) Handle(ctx context.Context, r slog.Record) error {
	if r.Level != store.LevelTrace {
		return t.Handler.Handle(ctx, r)
	}
	fields := map[string]any{}
	r.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value.Any(); return true })
	in := fields["transaction"]
	query, _ := fields["sql"].(string)
	args, _ := fields["args"].([]any)
	st := statement{query, args}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[in] = append(t.open[in], st)
	if in == nil || st.sql == "COMMIT" {
		*t.made = append(*t.made, t.open[in])
		delete(t.open, in)
	}
	return nil
}

// traced returns the transactions that f has stores make.
func traced(f func() error) (made []transaction, err error) {
	before := slog.Default()
	slog.SetDefault(slog.New(tracer{before.Handler(), &sync.Mutex{}, map[any]transaction{}, &made}))
	defer slog.SetDefault(before)
	return made, f()
}

// merged joins n transactions of one kind at a time: what each begins and ends with comes
// once, and what it writes to the log of events comes last.
func merged(all []transaction, n int) (batches []transaction) {
	for ; len(all) > 0; all = all[min(n, len(all)):] {
		var begin, body, sequence, events, commit transaction
		for _, one := range all[:min(n, len(all))] {
			logged := false // the log of events is locked
			for _, st := range one {
				switch {
				case strings.HasPrefix(st.sql, "BEGIN"):
					begin = transaction{st}
				case st.sql == "COMMIT":
					commit = transaction{st}
				case strings.HasPrefix(st.sql, "INSERT INTO outbox"):
					events = append(events, st)
				case strings.Contains(st.sql, "pg_advisory_xact_lock"), strings.Contains(st.sql, "max(seq)"):
					if !logged {
						sequence, logged = nil, true
					}
					sequence = append(sequence, st)
				default:
					body = append(body, st)
				}
			}
		}
		var batch transaction
		for _, part := range []transaction{begin, body, sequence, events, commit} {
			batch = append(batch, part...)
		}
		batches = append(batches, batch)
	}
	return batches
}

// record is what a store at an address that is empty does to accept and deliver envelopes
// one after the other.
type record struct {
	accepts            []transaction
	claims             []transaction // inFlight at a time
	loads              []transaction
	sendings, receipts []transaction // the two transitions
}

// recorded is how many envelopes a record is about.
const recorded = 8192

func newRecord(address string) (r record, err error) {
	ctx := context.Background()
	s, err := open(address)
	if err != nil {
		return r, err
	}
	defer func() { _ = s.Close() }() // it is thrown away
	step := func(made *[]transaction, f func() error) {
		if err == nil {
			*made, err = traced(f)
		}
	}
	step(&r.accepts, func() (err error) {
		for i := 0; i < recorded && err == nil; i++ {
			_, err = s.Accept(ctx, submission(payload), orders, time.Now())
		}
		return err
	})
	r.accepts = writes(r.accepts)
	var jobs []lodge.Job
	step(&r.claims, func() error {
		for len(jobs) < recorded {
			now := time.Now()
			claimed, err := s.Claim(ctx, target.Address, lodge.PickDue, inFlight, now, now.Add(time.Hour))
			if err != nil {
				return err
			}
			jobs = append(jobs, claimed...)
		}
		return nil
	})
	for i := range jobs {
		var loads, sendings, receipts []transaction
		step(&loads, func() error { return s.Load(ctx, &jobs[i]) })
		step(&sendings, func() error { return send(s, &jobs[i]) })
		step(&receipts, func() error { return verify(s, jobs[i]) })
		r.loads, r.sendings, r.receipts = append(r.loads, loads...), append(r.sendings, sendings...), append(r.receipts, receipts...)
	}
	return r, err
}

// writes leaves out what only reads: whether an envelope is there already is asked before.
func writes(all []transaction) (kept []transaction) {
	for _, one := range all {
		if len(one) > 1 {
			kept = append(kept, one)
		}
	}
	return kept
}

// accept is an accept of n at a time.
func (r record) accept(n int) []transaction { return merged(r.accepts, n) }

// lifeCycle is a whole life cycle of n at a time.
func (r record) lifeCycle(n int) (all []transaction) {
	all = append(r.accept(n), r.claims...)
	all = append(all, r.loads...)
	return append(append(all, merged(r.sendings, n)...), merged(r.receipts, n)...)
}
