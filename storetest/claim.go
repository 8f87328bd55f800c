package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

func lifeCycle(w *world) {
	s := w.open()
	w.accept(s, submission("a"), both...)
	if jobs := w.claim(s, repo1, 0); len(jobs) != 0 {
		w.Fatalf("claimed a delivery whose requirement is not verified: %+v", jobs)
	}
	jobs := w.claim(s, log1, time.Hour)
	if len(jobs) != 1 || len(jobs[0].Siblings) != 1 || jobs[0].Size != len("raw a") || jobs[0].Attempt != 1 {
		w.Fatalf("claimed %+v", jobs)
	}
	w.equal("submission", jobs[0].Submission, submission("a"))
	if again := w.claim(s, log1, time.Hour); len(again) != 0 {
		w.Fatalf("claimed twice: %+v", again)
	}
	intent := lodge.Intent{Request: []byte("request"), LeafHash: image, TreeSize: 7}
	d := w.advance(s, jobs[0].Delivery, lodge.Sending, time.Hour, lodge.Change{Intent: &intent})
	d, entry := w.verify(s, d, 3)

	jobs = w.claim(s, repo1, time.Hour)
	if len(jobs) != 1 || len(jobs[0].Required) != 1 {
		w.Fatalf("after its requirement was verified: %+v", jobs)
	}
	w.equal("proof", jobs[0].Required[0], lodge.Proof{Target: log1, Entry: entry})
	w.equal("events", w.events(s), []string{"EntryQueued", "EntryQueued", "EntryLogged", "InclusionVerified"})
	now, err := s.Delivery(w.Context(), d.ID)
	w.ok(err)
	w.equal("receipt", now.Receipt, d.Receipt)
	if !now.Due.IsZero() || now.Sends != 1 {
		w.Errorf("verified and still due %s, sent %d times", now.Due, now.Sends)
	}
	history, err := s.History(w.Context(), d.ID)
	w.ok(err)
	var path []lodge.State
	for _, h := range history {
		path = append(path, h.To)
	}
	w.equal("history", path, []lodge.State{lodge.Queued, lodge.Sending, lodge.Verified})
	if history[1].Intent == nil || history[1].Intent.TreeSize != 7 || history[1].Intent.Request != nil {
		w.Errorf("intent in the history: %+v", history[1].Intent)
	}
	if again := w.accept(s, submission("a"), both...); again[0].State != lodge.Verified || again[0].New {
		w.Errorf("a duplicate of what is verified: %+v", again[0])
	}
}

func fencing(w *world) {
	s, other := w.open(), w.open()
	w.accept(s, submission("a"), toLog...)
	slow := w.claim(s, log1, 0)[0].Delivery
	fast := w.claim(other, log1, time.Hour)[0].Delivery
	if fast.Attempt != slow.Attempt+1 {
		w.Fatalf("attempts %d, %d", slow.Attempt, fast.Attempt)
	}
	stale := lodge.Change{Delivery: slow, From: lodge.Queued, Intent: &lodge.Intent{LeafHash: image}}
	stale.State, stale.Due = lodge.Sending, time.Now().Add(time.Hour)
	if err := s.Advance(w.Context(), stale, time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("a worker without its lease wrote: err = %v", err)
	}
	w.advance(other, fast, lodge.Failed, 0, lodge.Change{})
}

func interruptedSendIsUnknown(w *world) {
	s := w.open()
	w.accept(s, submission("a"), toLog...)
	d := w.claim(s, log1, time.Hour)[0].Delivery
	intent := lodge.Intent{Request: []byte("the very bytes"), TreeSize: 7}
	d = w.advance(s, d, lodge.Sending, time.Hour, lodge.Change{Intent: &intent})
	if jobs := w.claim(s, log1, time.Hour); len(jobs) != 0 {
		w.Fatal("claimed before lease and settle time were over")
	}
	w.advance(s, d, lodge.Sending, 0, lodge.Change{}) // the end of the lease has come
	jobs := w.claim(s, log1, time.Hour)
	if len(jobs) != 1 || jobs[0].State != lodge.Unknown || jobs[0].Attempt != d.Attempt+1 {
		w.Fatalf("claimed %+v, want it unknown", jobs)
	}
	w.equal("what was written ahead", jobs[0].Intent, &intent)
	w.advance(s, jobs[0].Delivery, lodge.Queued, 0, lodge.Change{})
}

// claimsNeverOverlap has workers of several replicas claim at the same time.
func claimsNeverOverlap(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	const n = 200
	for i := range n {
		w.accept(stores[0], submission(fmt.Sprint(i)), toLog...)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	claimed := map[int64]int{}
	for c := range 9 {
		wg.Go(func() {
			for {
				now := time.Now()
				jobs, err := stores[c%3].Claim(w.Context(), log1.Address, lodge.PickDue, 7, now, now.Add(time.Hour))
				if err != nil {
					w.Error(err)
				}
				mu.Lock()
				for _, job := range jobs {
					claimed[job.ID]++
				}
				done := len(claimed) == n
				mu.Unlock()
				if err != nil || done {
					return
				}
			}
		})
	}
	wg.Wait()
	for id, times := range claimed {
		if times != 1 {
			w.Errorf("delivery %d was claimed %d times", id, times)
		}
	}
}

func oldestFirst(w *world) {
	s := w.open()
	var want []int64
	for i := range 5 {
		want = append(want, w.accept(s, submission(fmt.Sprint(i)), toLog...)[0].ID)
	}
	var got []int64
	for range want {
		now := time.Now()
		jobs, err := s.Claim(w.Context(), log1.Address, lodge.PickDue, 1, now, now.Add(time.Hour))
		w.ok(err)
		got = append(got, jobs[0].ID)
	}
	w.equal("order of claims", got, want)
}

func nextDue(w *world) {
	s := w.open()
	if _, ok, err := s.NextDue(w.Context(), log1.Address); ok || err != nil {
		w.Errorf("nothing waits: %v, %v", ok, err)
	}
	w.accept(s, submission("a"), toLog...)
	if due, ok, err := s.NextDue(w.Context(), log1.Address); !ok || err != nil || time.Until(due) > time.Second {
		w.Errorf("due at %s, %v, %v, want now", due, ok, err)
	}
	w.claim(s, log1, time.Hour)
	due, ok, err := s.NextDue(w.Context(), log1.Address)
	if left := time.Until(due); !ok || err != nil || left < 50*time.Minute || left > time.Hour {
		w.Errorf("due in %s, %v, %v, want the end of the lease", left, ok, err)
	}
}

func failureReachesDependents(w *world) {
	s := w.open()
	a := w.accept(s, submission("a"), both...)
	d := w.claim(s, log1, time.Hour)[0].Delivery
	d.Err = lodge.Errorf(lodge.ClassPermanent, "http-400", "no")
	w.advance(s, d, lodge.Failed, 0, lodge.Change{})
	dependent, err := s.Delivery(w.Context(), a[1].ID)
	w.ok(err)
	if dependent.State != lodge.Failed || dependent.Err.Class != lodge.ClassDependency {
		w.Fatalf("dependent is %s, %+v", dependent.State, dependent.Err)
	}
	w.equal("events", w.events(s), []string{"EntryQueued", "EntryQueued", "EntryFailed"})
	if n, err := s.Retry(w.Context(), d.Key, "", time.Now()); n != 2 || err != nil {
		w.Fatalf("Retry = %d, %v, want 2", n, err)
	}
	if jobs := w.claim(s, repo1, time.Hour); len(jobs) != 0 {
		w.Error("the dependent did not wait again")
	}
	jobs := w.claim(s, log1, time.Hour)
	if len(jobs) != 1 {
		w.Fatal("the failed delivery was not queued again")
	}
	d = jobs[0].Delivery
	d.Err = lodge.Errorf(lodge.ClassPermanent, "http-400", "no again")
	w.advance(s, d, lodge.Failed, 0, lodge.Change{})
	again := w.accept(s, submission("a"), both...)
	w.equal("states after a resubmission", []lodge.State{again[0].State, again[1].State}, []lodge.State{lodge.Queued, lodge.Queued})
	if n := len(w.claim(s, log1, time.Hour)); n != 1 {
		w.Errorf("claimed %d after a resubmission, want 1", n)
	}
}

// lastRequirementReleases verifies what a delivery waits for on two replicas at once:
// whichever is last makes it due.
func lastRequirementReleases(w *world) {
	stores := []*store.Store{w.open(), w.open()}
	orders := []lodge.Order{{Target: log1}, {Target: log2}, {Target: repo1, Subject: image, Requires: []int{0, 1}}}
	const n = 30
	for i := range n {
		w.accept(stores[0], submission(fmt.Sprint(i)), orders...)
	}
	jobs := [][]lodge.Job{w.claim(stores[0], log1, time.Hour), w.claim(stores[1], log2, time.Hour)}
	for i := range n {
		var wg sync.WaitGroup
		for k := range jobs {
			wg.Go(func() {
				d := jobs[k][i].Delivery
				d.State = lodge.Verified
				if err := stores[k].Advance(w.Context(), lodge.Change{Delivery: d, From: lodge.Queued}, time.Now()); err != nil {
					w.Error(err)
				}
			})
		}
		wg.Wait()
		if got := w.claim(stores[0], repo1, time.Hour); len(got) != 1 {
			w.Fatalf("envelope %d: %d deliveries were released, want 1", i, len(got))
		}
	}
}

// doubtfulAlone claims what was sent and is not proven to be there, before what waits longer
// and was never sent.
func doubtfulAlone(w *world) {
	s := w.open()
	claim := func(n int) (jobs []lodge.Job) {
		now := time.Now()
		jobs, err := s.Claim(w.Context(), log1.Address, lodge.PickDoubtful, n, now, now.Add(time.Hour))
		w.ok(err)
		return jobs
	}
	want := map[int64]lodge.State{}
	var made []lodge.Delivery
	for i, state := range []lodge.State{lodge.Queued, lodge.Sending, lodge.Unknown, lodge.Placed, lodge.Verified, lodge.Failed} {
		w.accept(s, submission(fmt.Sprint(i)), toLog...)
		d := w.claim(s, log1, time.Hour)[0].Delivery
		switch state {
		case lodge.Sending:
			want[d.ID] = lodge.Unknown // whoever sent it is gone
		case lodge.Unknown, lodge.Placed:
			want[d.ID] = state
		case lodge.Failed:
			d.Err = lodge.Errorf(lodge.ClassPermanent, "http-400", "no")
		}
		if state != lodge.Queued {
			d = w.advance(s, d, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{TreeSize: 7}})
		}
		made = append(made, w.advance(s, d, state, time.Hour, lodge.Change{}))
	}
	for _, d := range made[:4] { // the end of their leases has come
		w.advance(s, d, d.State, 0, lodge.Change{})
	}
	got := map[int64]lodge.State{}
	for _, n := range []int{1, 10} {
		jobs := claim(n)
		if n == 1 && len(jobs) != 1 {
			w.Errorf("claimed %d, want 1", len(jobs))
		}
		for _, job := range jobs {
			got[job.ID] = job.State
		}
	}
	w.equal("claimed", got, want)
	if rest := w.claim(s, log1, time.Hour); len(rest) != 1 || rest[0].State != lodge.Queued {
		w.Errorf("left: %+v", rest)
	}
}
