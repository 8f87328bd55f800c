package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

func hold(w *world) {
	s := w.open()
	w.accept(s, submission("a"), toLog...)
	for range 2 { // the second has no effect
		w.ok(s.Hold(w.Context(), log1, "unauthorized", "HTTP 401 \x00\xff", time.Now()))
	}
	if jobs := w.claim(s, log1, time.Hour); len(jobs) != 0 {
		w.Error("a held target's delivery was claimed")
	}
	if _, ok, err := s.NextDue(w.Context(), log1.Address); ok || err != nil {
		w.Errorf("a held target has something due: %v, %v", ok, err)
	}
	if code, words, err := s.Held(w.Context(), log1.Address); code != "unauthorized" || words != "HTTP 401 \uFFFD\uFFFD" || err != nil {
		w.Errorf("Held = %q, %q, %v", code, words, err)
	}
	w.ok(s.Resume(w.Context(), log1, time.Now()))
	d := w.claim(s, log1, time.Hour)[0].Delivery
	d.Err = lodge.Errorf(lodge.ClassRetry, "http-429", "later")
	w.advance(s, d, lodge.Queued, time.Hour, lodge.Change{})
	w.ok(s.Hold(w.Context(), log1, lodge.CodeLies, "", time.Now()))
	w.ok(s.Resume(w.Context(), log1, time.Now()))
	if jobs := w.claim(s, log1, time.Hour); len(jobs) != 1 {
		w.Error("what waits for a resumed target is not due at once")
	}
	w.equal("events", w.events(s), []string{"EntryQueued", "TargetHeld", "TargetResumed", "TargetHeld", "TargetResumed"})
	targets, err := s.Targets(w.Context())
	w.ok(err)
	w.equal("targets", targets[0], lodge.TargetStatus{Target: log1, Waiting: 1})
}

// graverHold: what only an operator can judge takes the place of what mends by itself, and no
// success of a probe lifts it.
func graverHold(w *world) {
	s := w.open()
	held := func() string {
		code, _, err := s.Held(w.Context(), log1.Address)
		w.ok(err)
		return code
	}
	w.ok(s.Hold(w.Context(), log1, "unauthorized", "HTTP 401", time.Now()))
	w.ok(s.ResumeMended(w.Context(), log1, time.Now()))
	w.equal("mended", held(), "")
	w.ok(s.Hold(w.Context(), log1, "unauthorized", "HTTP 401", time.Now()))
	w.ok(s.Hold(w.Context(), log1, lodge.CodeLies, "it has another leaf there", time.Now()))
	w.equal("while it is held for less", held(), lodge.CodeLies)
	w.ok(s.Hold(w.Context(), log1, "unauthorized", "HTTP 401", time.Now()))
	w.ok(s.ResumeMended(w.Context(), log1, time.Now()))
	w.equal("after a probe", held(), lodge.CodeLies)
	w.ok(s.Resume(w.Context(), log1, time.Now()))
	w.equal("resumed by an operator", held(), "")
	held1, resumed := "TargetHeld", "TargetResumed"
	w.equal("events", w.events(s), []string{held1, resumed, held1, resumed, held1, resumed})
}

func register(w *world) {
	s := w.open()
	renamed, moved := repo1, log1
	renamed.Name, moved.Address = "images", "https://log-2.example"
	w.ok(s.Register(w.Context(), renamed))
	w.ok(s.Register(w.Context(), moved))
	if err := s.Register(w.Context(), lodge.Target{Name: "images", Kind: lodge.KindRepository, Address: "oci://other"}); err == nil {
		w.Error("another repository took over a name")
	}
	targets, err := s.Targets(w.Context())
	w.ok(err)
	w.equal("targets", targets, []lodge.TargetStatus{{Target: renamed}, {Target: moved}, {Target: log2}})
}

// queuedOnce: that an envelope was queued for an address is one fact, also where a log moved
// away from it and another target has it now.
func queuedOnce(w *world) {
	s := w.open()
	moved, heir := log1, log1
	moved.Address, heir.Name = "https://log-2026.example", "heir"
	w.accept(s, submission("a"), toLog...)
	w.ok(s.Register(w.Context(), moved))
	w.ok(s.Register(w.Context(), heir))
	again := w.accept(s, submission("a"), lodge.Order{Target: heir})
	w.equal("a new delivery", again[0].New, true)
	w.accept(s, submission("b"), lodge.Order{Target: heir})
	w.equal("events", w.events(s), []string{"EntryQueued", "EntryQueued"})
	last, err := s.LastSequence(w.Context())
	w.ok(err)
	w.equal("last sequence", last, int64(2))
}

func registerRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			name := fmt.Sprint("new-", i/3)
			target := lodge.Target{Name: name, Kind: lodge.KindLog, Address: "https://" + name}
			if err := stores[i%3].Register(w.Context(), target); err != nil {
				w.Error(err)
			}
		})
	}
	wg.Wait()
	targets, err := stores[0].Targets(w.Context())
	w.ok(err)
	w.equal("targets", len(targets), 3+4)
}

func leafIndex(w *world) {
	s := w.open()
	ctx := w.Context()
	hashes := []lodge.Digest{{1}, {2}, {1}}
	w.ok(s.AddLeaves(ctx, "log", 10, hashes))
	if err := s.AddLeaves(ctx, "log", 10, hashes); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("the same leaves were added twice: %v", err)
	}
	from, size, err := s.LeafRange(ctx, "log")
	w.ok(err)
	w.equal("range", []int64{from, size}, []int64{10, 13})
	got, err := s.FindLeaf(ctx, "log", lodge.Digest{1})
	w.ok(err)
	w.equal("indexes", got, []int64{10, 12})
	got, err = s.FindLeaf(ctx, "other", lodge.Digest{1})
	w.ok(err)
	w.equal("indexes in another log", got, []int64(nil))

	other := w.open()
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { results[i] = []*store.Store{s, other}[i%2].AddLeaves(ctx, "log", 13, hashes) })
	}
	wg.Wait()
	added := 0
	for _, err := range results {
		if err == nil {
			added++
		} else if !errors.Is(err, lodge.ErrStale) {
			w.Error(err)
		}
	}
	w.equal("workers that added the same leaves", added, 1)

	for _, at := range []int64{13, 17} {
		if err := s.SkipLeaves(ctx, "log", at, 100); !errors.Is(err, lodge.ErrStale) {
			w.Errorf("leaves from %d on were skipped: %v", at, err)
		}
	}
	w.ok(s.SkipLeaves(ctx, "log", 16, 100))
	w.ok(s.AddLeaves(ctx, "log", 100, hashes[:1]))
	from, size, err = s.LeafRange(ctx, "log")
	w.ok(err)
	w.equal("range behind the gap", []int64{from, size}, []int64{100, 101})
	got, err = s.FindLeaf(ctx, "log", lodge.Digest{1})
	w.ok(err)
	w.equal("indexes on both sides of it", got, []int64{10, 12, 13, 15, 100})
}

func outbox(w *world) {
	s := w.open()
	for i := range 5 {
		w.accept(s, submission(fmt.Sprint(i)), toLog...)
	}
	page, err := s.Events(w.Context(), 0, 2)
	w.ok(err)
	rest, err := s.Events(w.Context(), page[1].Sequence, 100)
	w.ok(err)
	w.equal("events by pages", []int{len(page), len(rest)}, []int{2, 3})
	last, err := s.LastSequence(w.Context())
	w.ok(err)
	w.equal("last sequence", last, rest[2].Sequence)
	w.equal("source and subject", []string{page[0].Source, page[0].Subject}, []string{log1.Address, submission("0").Key.String()})

	// A fact that is there already takes no number: sequences have no gaps.
	jobs := w.claim(s, log1, time.Minute)
	known, _ := w.verify(s, jobs[0].Delivery, 7)
	again := lodge.LogEvent(lodge.InclusionVerified, known, time.Now())
	failed := jobs[1].Delivery
	failed.Err = lodge.Errorf(lodge.ClassPermanent, "http-400", "no")
	w.advance(s, failed, lodge.Failed, 0, lodge.Change{Events: []lodge.Event{again, lodge.FailedEvent(lodge.EntryFailed, failed, time.Now()), again}})
	w.verify(s, jobs[2].Delivery, 8)
	all, err := s.Events(w.Context(), 0, 100)
	w.ok(err)
	var sequences []int64
	for _, e := range all {
		sequences = append(sequences, e.Sequence)
	}
	w.equal("sequences", sequences, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
}

// outboxRace reads with a cursor while several replicas write: the reader sees every
// event, once, and those of a key in their order.
func outboxRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	const writers, each = 12, 25
	var wg sync.WaitGroup
	for c := range writers {
		wg.Go(func() {
			s := stores[c%3]
			for i := range each {
				a, err := s.Accept(w.Context(), submission(fmt.Sprint(c, "/", i)), toLog, time.Now())
				if err != nil {
					w.Error(err)
					return
				}
				d := a[0].Delivery
				d.State, d.Receipt = lodge.Verified, &lodge.Receipt{Log: &lodge.LogReceipt{LogID: "ab", LogIndex: int64(c*each + i)}}
				change := lodge.Change{Delivery: d, From: lodge.Queued, Events: []lodge.Event{
					lodge.LogEvent(lodge.EntryLogged, d, time.Now()), lodge.LogEvent(lodge.InclusionVerified, d, time.Now())}}
				if err := s.Advance(w.Context(), change, time.Now()); err != nil {
					w.Error(err)
				}
			}
		})
	}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	order := []lodge.EventType{lodge.EntryQueued, lodge.EntryLogged, lodge.InclusionVerified}
	seen := map[string]int{}
	var after int64
	for total, done := 0, false; ; {
		events, err := stores[2].Events(w.Context(), after, 7)
		w.ok(err)
		for _, e := range events {
			if step := seen[e.Subject]; step >= len(order) || e.Type != order[step] {
				w.Fatalf("event %d of %s is %s", step, e.Subject, e.Type)
			}
			seen[e.Subject]++
			after = e.Sequence
			total++
		}
		if len(events) == 0 && done {
			w.equal("events that the reader saw", total, writers*each*len(order))
			return
		}
		select {
		case <-written:
			done = len(events) == 0 // one more look after the last write
		default:
		}
	}
}

func lease(w *world) {
	s, other := w.open(), w.open()
	ctx := w.Context()
	term, err := s.Acquire(ctx, "follow log", "a", time.Hour)
	if term == 0 || err != nil {
		w.Fatalf("Acquire = %d, %v", term, err)
	}
	if none, err := other.Acquire(ctx, "follow log", "b", time.Hour); none != 0 || err != nil {
		w.Errorf("Acquire of a lease that is held = %d, %v", none, err)
	}
	if another, err := other.Acquire(ctx, "another", "b", time.Hour); another == 0 || err != nil {
		w.Errorf("Acquire of another name = %d, %v", another, err)
	}
	w.ok(s.Renew(ctx, "follow log", term, 0)) // it is over at once
	next, err := other.Acquire(ctx, "follow log", "b", time.Hour)
	if next <= term || err != nil {
		w.Fatalf("Acquire after term %d = %d, %v", term, next, err)
	}
	for name, err := range map[string]error{"Renew": s.Renew(ctx, "follow log", term, time.Hour), "Release": s.Release(ctx, "follow log", term)} {
		if !errors.Is(err, lodge.ErrStale) {
			w.Errorf("%s of a lost lease: %v", name, err)
		}
	}
	w.ok(other.Renew(ctx, "follow log", next, time.Hour))
	w.ok(other.Release(ctx, "follow log", next))
	if last, err := s.Acquire(ctx, "follow log", "a", time.Hour); last <= next || err != nil {
		w.Errorf("Acquire after a release = %d, %v", last, err)
	}
}

func leaseRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	var wg sync.WaitGroup
	terms := make([]int64, 12)
	for i := range terms {
		wg.Go(func() {
			var err error
			if terms[i], err = stores[i%3].Acquire(w.Context(), "one", fmt.Sprint(i), time.Hour); err != nil {
				w.Error(err)
			}
		})
	}
	wg.Wait()
	owners := 0
	for _, term := range terms {
		if term != 0 {
			owners++
		}
	}
	w.equal("owners", owners, 1)
}

func under(w *world) {
	s := w.open()
	term, err := s.Acquire(w.Context(), "follow log", "a", time.Hour)
	w.ok(err)
	w.ok(s.Under("follow log", term).AddLeaves(w.Context(), "log", 0, []lodge.Digest{{1}}))
	w.ok(s.Release(w.Context(), "follow log", term))
	if err := s.Under("follow log", term).AddLeaves(w.Context(), "log", 1, []lodge.Digest{{2}}); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("a worker without its lease wrote: %v", err)
	}
	_, size, err := s.LeafRange(w.Context(), "log")
	w.ok(err)
	w.equal("leaves", size, int64(1))
}

func migrationRace(w *world) {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			s, err := store.Open(w.Context(), w.address)
			if err != nil {
				w.Error(err)
				return
			}
			if err := s.Register(w.Context(), log1); err != nil {
				w.Error(err)
			}
			if err := s.Close(); err != nil {
				w.Error(err)
			}
		})
	}
	wg.Wait()
}
