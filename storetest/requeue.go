package storetest

import (
	"errors"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// fail claims what is due for the target and makes it fail for good.
func (w *world) fail(s *store.Store, target lodge.Target) lodge.Delivery {
	w.Helper()
	now := time.Now()
	jobs, err := s.Claim(w.Context(), target.Address, lodge.PickDue, 1, now, now.Add(time.Minute))
	w.ok(err)
	if len(jobs) != 1 {
		w.Fatalf("claimed %d deliveries, want one", len(jobs))
	}
	d := jobs[0].Delivery
	d.State, d.Err = lodge.Failed, lodge.Errorf(lodge.ClassPermanent, "refused", "no")
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: d, From: lodge.Queued}, now))
	return d
}

// requeueTakesRequirementsAlong: to queue a delivery again whose requirement failed is to
// queue that again too, or it would wait for ever.
func requeueTakesRequirementsAlong(w *world) {
	s := w.open()
	accepted := w.accept(s, submission("a"), both...)
	failed := w.fail(s, log1)
	states := func() (states []lodge.State) {
		for _, a := range accepted {
			d, err := s.Delivery(w.Context(), a.ID)
			w.ok(err)
			states = append(states, d.State)
		}
		return states
	}
	w.equal("after the failure", states(), []lodge.State{lodge.Failed, lodge.Failed})

	again := w.accept(s, submission("a"), lodge.Order{Target: repo1, Subject: image})
	w.equal("requeued", again[0].Requeued, true)
	w.equal("duplicate", again[0].Duplicate(), false)
	w.equal("after a resubmission", states(), []lodge.State{lodge.Queued, lodge.Queued})
	d, err := s.Delivery(w.Context(), failed.ID)
	w.ok(err)
	if d.Attempt <= failed.Attempt || !d.Since.After(failed.Since) || d.Due.IsZero() {
		w.Errorf("it is not a new attempt: %+v, before %+v", d, failed)
	}

	w.fail(s, log1)
	n, err := s.Retry(w.Context(), lodge.Key{}, repo1.Name, time.Now())
	w.ok(err)
	w.equal("retried", n, 1)
	w.equal("after a retry of the target", states(), []lodge.State{lodge.Queued, lodge.Queued})
}

// failedBytesAreReplaced: bytes that failed for good do not stand in the way of better
// ones for the same content, and bytes that may be somewhere are kept.
func failedBytesAreReplaced(w *world) {
	s := w.open()
	accepted := w.accept(s, submission("a"), lodge.Order{Target: log1})
	raw := func() string {
		sub, err := s.Submission(w.Context(), accepted[0].ID)
		w.ok(err)
		return string(sub.Raw)
	}
	better := submission("a")
	better.Raw, better.SPKI = []byte("with a timestamp"), []byte("another spelling")
	w.fail(s, log1)
	w.accept(s, better, lodge.Order{Target: log1})
	w.equal("after a failure", raw(), "with a timestamp")

	now := time.Now()
	jobs, err := s.Claim(w.Context(), log1.Address, lodge.PickDue, 1, now, now.Add(time.Minute))
	w.ok(err)
	d := jobs[0].Delivery
	d.State, d.Due = lodge.Sending, now.Add(time.Hour)
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: d, From: lodge.Queued, Intent: &lodge.Intent{LeafHash: lodge.Digest{1}}}, now))
	third := submission("a")
	third.Raw = []byte("third")
	w.accept(s, third, lodge.Order{Target: log1}, lodge.Order{Target: log2})
	w.equal("while it may be on its way", raw(), "with a timestamp")
}

// requeueFences: a worker that holds the lease of a delivery loses it when a resubmission
// makes the delivery due again.
func requeueFences(w *world) {
	s := w.open()
	w.accept(s, submission("a"), lodge.Order{Target: log1})
	now := time.Now()
	jobs, err := s.Claim(w.Context(), log1.Address, lodge.PickDue, 1, now, now.Add(time.Minute))
	w.ok(err)
	waits := jobs[0].Delivery
	waits.Err, waits.Due = lodge.Errorf(lodge.ClassRetry, "unreachable", "refused"), now.Add(time.Hour)
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: waits, From: lodge.Queued}, now))
	w.accept(s, submission("a"), lodge.Order{Target: log1})
	taken, err := s.Claim(w.Context(), log1.Address, lodge.PickDue, 1, now, now.Add(time.Minute))
	w.ok(err)
	if len(taken) != 1 || taken[0].Err == nil {
		w.Fatalf("a resubmission did not make it due, or lost its reason: %+v", taken)
	}
	if err := s.Advance(w.Context(), lodge.Change{Delivery: waits, From: lodge.Queued}, now); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("the one that had the lease before wrote: %v", err)
	}
}
