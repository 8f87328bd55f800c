package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

	d, err = s.Delivery(w.Context(), d.ID)
	w.ok(err)
	refused := d
	refused.State, refused.Err = lodge.Failed, lodge.Errorf(lodge.ClassPermanent, "refused", "no")
	w.ok(s.Advance(w.Context(), lodge.Change{Delivery: refused, From: d.State}, now))
	w.accept(s, third, lodge.Order{Target: log1}, lodge.Order{Target: log2})
	w.equal("after the log has refused it", raw(), "third")
}

// requirementBlocks: a delivery that waits in the queue waits for what a later submission requires
// for it, and whoever was about to send it must not.
func requirementBlocks(w *world) {
	s := w.open()
	alone := lodge.Order{Target: repo1, Subject: image}
	d := w.accept(s, submission("a"), alone)[0].Delivery
	early := w.claim(s, repo1, time.Hour)[0].Delivery
	for range 2 { // the second one changes nothing
		w.accept(s, submission("a"), both...)
	}
	sending := early
	sending.State = lodge.Sending
	if err := s.Advance(w.Context(), lodge.Change{Delivery: sending, From: lodge.Queued}, time.Now()); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("it was sent without what it requires: %v", err)
	}
	w.equal("due while the log does not have it", len(w.claim(s, repo1, 0)), 0)
	w.verify(s, w.claim(s, log1, time.Hour)[0].Delivery, 1)
	jobs := w.claim(s, repo1, time.Hour)
	if len(jobs) != 1 || jobs[0].ID != d.ID || len(jobs[0].Required) != 1 {
		w.Fatalf("due once the log has it: %+v", jobs)
	}

	// What is on its way, or there, requires no more than it did.
	w.advance(s, jobs[0].Delivery, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{Manifest: lodge.Digest{1}}})
	w.accept(s, submission("a"), lodge.Order{Target: log2}, lodge.Order{Target: repo1, Subject: image, Requires: []int{0}})
	required, err := s.Requires(w.Context(), d.ID)
	w.ok(err)
	w.equal("required of what is on its way", len(required), 1)
	now, err := s.Delivery(w.Context(), d.ID)
	w.ok(err)
	w.equal("state", now.State, lodge.Sending)
}

// requeueRace: of a failed delivery that is queued again while what it requires is verified,
// one of the two makes it due.
func requeueRace(w *world) {
	one, other := w.open(), w.open()
	for i := range 20 {
		sub := submission(fmt.Sprint(i))
		accepted := w.accept(one, sub, both...)
		w.fail(one, log1)
		w.accept(one, sub, toLog...)
		job := w.claim(one, log1, time.Hour)[0]
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := other.Accept(w.Context(), sub, []lodge.Order{{Target: repo1, Subject: image}}, time.Now()); err != nil {
				w.Error(err)
			}
		})
		d := job.Delivery
		entry := lodge.Entry{Body: []byte("{}"), Receipt: lodge.LogReceipt{LogID: "ab", LogIndex: int64(i), InclusionProof: &lodge.InclusionProof{}}}
		d.State, d.Receipt = lodge.Verified, &lodge.Receipt{Log: &entry.Receipt}
		err := one.Advance(w.Context(), lodge.Change{Delivery: d, From: lodge.Queued, Entry: &entry}, time.Now())
		wg.Wait()
		w.ok(err)
		then, err := one.Delivery(w.Context(), accepted[1].ID)
		w.ok(err)
		if then.State != lodge.Queued || then.Due.IsZero() {
			w.Fatalf("what it requires is verified, and it is %s, due %s", then.State, then.Due)
		}
	}
}

// replaceRace: other bytes take the place of what was accepted, or those are on their way; never
// both.
func replaceRace(w *world) {
	one, other := w.open(), w.open()
	for i := range 20 {
		first, second := submission(fmt.Sprint(i)), submission(fmt.Sprint(i))
		second.Raw = []byte("signed anew")
		a := w.accept(one, first, toLog...)[0]
		job := w.claim(one, log1, time.Hour)[0]
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := other.Accept(w.Context(), second, []lodge.Order{{Target: log1}, {Target: log2}}, time.Now()); err != nil {
				w.Error(err)
			}
		})
		d := job.Delivery
		d.State, d.Due = lodge.Sending, time.Now().Add(time.Hour)
		sent := one.Advance(w.Context(), lodge.Change{Delivery: d, From: lodge.Queued, Intent: &lodge.Intent{LeafHash: lodge.Digest{1}}}, time.Now())
		wg.Wait()
		sub, err := one.Submission(w.Context(), a.ID)
		w.ok(err)
		switch {
		case sent == nil:
			w.equal("what is kept while the first is on its way", string(sub.Raw), string(first.Raw))
		case errors.Is(sent, lodge.ErrStale):
			w.equal("what is kept", string(sub.Raw), "signed anew")
			w.claim(one, log1, time.Hour) // out of the way of the next
		default:
			w.Error(sent)
		}
	}
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

// replacedAgain: bytes that took the place of refused ones and were never sent may be replaced too.
func replacedAgain(w *world) {
	s := w.open()
	a := w.accept(s, submission("a"), toLog...)[0]
	d := w.claim(s, log1, time.Hour)[0].Delivery
	d = w.advance(s, d, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{LeafHash: lodge.Digest{1}}})
	d.Err = lodge.Errorf(lodge.ClassPermanent, "refused", "no")
	w.advance(s, d, lodge.Failed, 0, lodge.Change{})
	for _, raw := range []string{"second", "third"} {
		sub := submission("a")
		sub.Raw = []byte(raw)
		w.accept(s, sub, toLog...)
		kept, err := s.Submission(w.Context(), a.ID)
		w.ok(err)
		w.equal("kept", string(kept.Raw), raw)
		w.putOff(s, log1)
	}
}

// putOff claims what is due for the target and has its attempt fail.
func (w *world) putOff(s *store.Store, target lodge.Target) {
	w.Helper()
	jobs := w.claim(s, target, time.Hour)
	if len(jobs) != 1 {
		w.Fatalf("claimed %d deliveries, want one", len(jobs))
	}
	d := jobs[0].Delivery
	d.Err = lodge.Errorf(lodge.ClassRetry, "unreachable", "down")
	w.advance(s, d, lodge.Queued, time.Hour, lodge.Change{})
}

// attemptIsLeftAlone: a resubmission ends the pause after a failed attempt, and leaves the attempt
// alone that follows.
func attemptIsLeftAlone(w *world) {
	s := w.open()
	w.accept(s, submission("a"), toLog...)
	w.putOff(s, log1)
	w.accept(s, submission("a"), toLog...)
	jobs := w.claim(s, log1, time.Hour)
	if len(jobs) != 1 {
		w.Fatalf("a resubmission did not end the pause: claimed %d", len(jobs))
	}
	w.accept(s, submission("a"), toLog...)
	w.advance(s, jobs[0].Delivery, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{LeafHash: image}})
}

// olderThanItsRequirement: what was ordered without a log goes out without it where the log, which
// was asked for later, refuses the envelope.
func olderThanItsRequirement(w *world) {
	s := w.open()
	alone := lodge.Order{Target: repo1, Subject: image}
	w.accept(s, submission("a"), alone)
	w.accept(s, submission("a"), both...)
	w.equal("due while the log may take it", len(w.claim(s, repo1, 0)), 0)
	w.fail(s, log1)
	jobs := w.claim(s, repo1, time.Hour)
	if len(jobs) != 1 || len(jobs[0].Required) != 0 {
		w.Fatalf("once the log has refused it: %+v", jobs)
	}
	sent := w.advance(s, jobs[0].Delivery, lodge.Sending, time.Hour, lodge.Change{Intent: &lodge.Intent{Manifest: lodge.Digest{1}}})
	w.advance(s, sent, lodge.Verified, 0, lodge.Change{})
	sub := submission("a")
	standing, err := s.Standing(w.Context(), sub.Key, sub.Signer)
	w.ok(err)
	w.equal("it is where it was to be", standing.Proven(lodge.ArtifactPublished), true)
}

// openPatient opens the database so that a deadlock fails the test: the server does not look for
// one before the time of a transaction is over.
func (w *world) openPatient() *store.Store {
	w.Helper()
	patient := *w
	if strings.HasPrefix(w.address, "postgres") {
		patient.address += "?deadlock_timeout=10min"
	}
	return patient.open()
}

// lockOrder: a verification and a resubmission of one envelope lock its deliveries in one order,
// also where the registry's is older than the log's.
func lockOrder(w *world) {
	one, other := w.openPatient(), w.openPatient()
	for i := range 100 {
		sub := submission(fmt.Sprint(i))
		w.accept(one, sub, lodge.Order{Target: repo1, Subject: image})
		w.accept(one, sub, both...)
		job := w.claim(one, log1, time.Hour)[0]
		sub.Scopes = []string{fmt.Sprint("component:", i)} // something to write
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := other.Accept(w.Context(), sub, both, time.Now()); err != nil {
				w.Error(err)
			}
		})
		w.verify(one, job.Delivery, int64(i))
		wg.Wait()
	}
}

// lockOrderOfSigners: transactions that are about several signers of one payload lock those in one
// order.
func lockOrderOfSigners(w *world) {
	stores := []*store.Store{w.openPatient(), w.openPatient()}
	subs := []lodge.Submission{submission("a"), submission("a")}
	subs[1].Signer = lodge.KeySigner([]byte("another key"))
	for _, sub := range subs {
		w.accept(stores[0], sub, toLog...)
	}
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := range 20 {
				sub := subs[(i+c)%2]
				sub.Scopes = []string{fmt.Sprintf("component:%d-%d", c, i)}
				if _, err := stores[c/2%2].Accept(w.Context(), sub, toLog, time.Now()); err != nil {
					w.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// lockOrderOfBatches: whatever goes over many deliveries takes them in the order of the batches
// that change them meanwhile, or does not wait for them.
func lockOrderOfBatches(w *world) {
	one, other := w.openPatient(), w.openPatient()
	const envelopes, subjects = 12, 8
	orders := slices.Clone(toLog)
	for i := range subjects {
		orders = append(orders, lodge.Order{Target: repo1, Subject: lodge.Digest{byte(i + 1)}})
	}
	sub := func(i int) lodge.Submission { return submission(fmt.Sprint("of many ", i)) }
	for i := range envelopes {
		w.accept(one, sub(i), orders...)
	}
	for round := range 5 {
		jobs := append(w.claim(one, repo1, time.Hour), w.claim(one, log1, time.Hour)...)
		w.equal("claimed", len(jobs), envelopes*(subjects+1))
		rand.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] }) //nolint:gosec // no secret
		var wg sync.WaitGroup
		for i, job := range jobs { // half of them fail, the others wait a little
			change := lodge.Change{Delivery: job.Delivery, From: job.State}
			change.Err, change.Due = lodge.Errorf(lodge.ClassRetry, "busy", "not now"), time.Now().Add(time.Minute)
			if i%2 == 0 {
				change.State = lodge.Failed
			}
			wg.Go(func() {
				if err := one.Advance(w.Context(), change, time.Now()); err != nil && !errors.Is(err, lodge.ErrStale) {
					w.Error(err)
				}
			})
		}
		for i := range envelopes {
			anew := sub(i)
			anew.Scopes = []string{fmt.Sprint("component:", round)} // something to write
			wg.Go(func() {
				if _, err := other.Accept(w.Context(), anew, orders, time.Now()); err != nil {
					w.Error(err)
				}
			})
		}
		for _, target := range []lodge.Target{log1, repo1} {
			wg.Go(func() {
				for range 5 {
					err := other.Hold(w.Context(), target, "held", "by somebody", time.Now())
					if err == nil {
						err = other.Resume(w.Context(), target, time.Now())
					}
					if err == nil {
						_, err = other.Retry(w.Context(), lodge.Key{}, target.Name, time.Now())
					}
					if err != nil {
						w.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for i := range envelopes { // what is paused or failed is due again
			w.accept(one, sub(i), orders...)
		}
	}
}
