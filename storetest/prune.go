package storetest

import (
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// aged returns a store with n verified envelopes, one that waits, and a time at which
// all of that is two days old.
func (w *world) aged(n int) (s *store.Store, verified []lodge.Delivery, waiting lodge.Delivery, later time.Time) {
	s = w.open()
	for i := range n {
		w.accept(s, submission(fmt.Sprint(i)), toLog...)
	}
	for i, job := range w.claim(s, log1, time.Hour) {
		d, _ := w.verify(s, job.Delivery, int64(i))
		verified = append(verified, d)
	}
	w.accept(s, submission("waiting"), toLog...)
	waiting = w.advance(s, w.claim(s, log1, time.Hour)[0].Delivery, lodge.Queued, 0, lodge.Change{})
	return s, verified, waiting, time.Now().Add(48 * time.Hour)
}

const day = 24 * time.Hour

func pruneNothing(w *world) {
	s, _, _, later := w.aged(3)
	for _, r := range []store.Retention{{}, {Payloads: 3 * day, Events: 3 * day, History: 3 * day}} {
		p, err := s.Prune(w.Context(), r, later)
		w.ok(err)
		w.equal("pruned", p, store.Pruned{})
	}
}

func prune(w *world) {
	s, verified, waiting, later := w.aged(3)
	last, err := s.LastSequence(w.Context())
	w.ok(err)
	p, err := s.Prune(w.Context(), store.Retention{Payloads: day, Events: day, History: day}, later)
	w.ok(err)
	// Events: EntryQueued of each, EntryLogged and InclusionVerified of three; the newest stays.
	w.equal("pruned", p, store.Pruned{Payloads: 3, Events: 4 + 6 - 1, History: 3})
	for _, d := range verified {
		now, err := s.Delivery(w.Context(), d.ID)
		w.ok(err)
		w.equal("receipt", now.Receipt, d.Receipt)
		if _, err := s.Proof(w.Context(), d.ID); err != nil {
			w.Error(err)
		}
		sub, err := s.Submission(w.Context(), d.ID)
		w.ok(err)
		w.equal("payload", string(sub.Raw), "")
		history, err := s.History(w.Context(), d.ID)
		w.ok(err)
		w.equal("history", history, []lodge.Transition{{To: lodge.Queued, Time: d.Accepted}})
	}
	sub, err := s.Submission(w.Context(), waiting.ID)
	w.ok(err)
	w.equal("payload that is not delivered yet", string(sub.Raw), "raw waiting")
	history, err := s.History(w.Context(), waiting.ID)
	w.ok(err)
	w.equal("history of what is not over", len(history), 2)
	next := w.accept(s, submission("next"), toLog...)
	events, err := s.Events(w.Context(), last, 10)
	w.ok(err)
	if len(events) != 1 || events[0].Subject != next[0].Key.String() {
		w.Errorf("behind the last sequence: %+v", events)
	}
}

func prunedPayloadComesBack(w *world) {
	s, _, _, later := w.aged(1)
	_, err := s.Prune(w.Context(), store.Retention{Payloads: day}, later)
	w.ok(err)
	if a := w.accept(s, submission("0"), toLog...); a[0].New || a[0].State != lodge.Verified {
		w.Errorf("a duplicate of a pruned envelope: %+v", a[0])
	}
	anew := submission("0")
	anew.Raw = []byte("signed anew")
	w.accept(s, anew, toLog...)
	// The receipt is about the signature that was in the first bytes: with others it would prove nothing.
	if _, err := s.Accept(w.Context(), anew, []lodge.Order{{Target: log2}}, time.Now()); lodge.Classify(err) == nil || lodge.Classify(err).Code != "payload-deleted" {
		w.Errorf("other bytes instead of those that are logged: %v", err)
	}
	a := w.accept(s, submission("0"), lodge.Order{Target: log2})
	sub, err := s.Submission(w.Context(), a[0].ID)
	w.ok(err)
	w.equal("payload for another target", string(sub.Raw), "raw 0")
}

// pruneSparesReaders keeps events, and the payloads that they are about, until those have come to
// them who are to have read them.
func pruneSparesReaders(w *world) {
	s, _, _, later := w.aged(3)
	r := store.Retention{Payloads: day, Events: day, Readers: []string{"fast", "slow"}}
	last, err := s.LastSequence(w.Context())
	w.ok(err)
	w.ok(s.Progress(w.Context(), lodge.Progress{Name: "fast", To: last}))
	p, err := s.Prune(w.Context(), r, later)
	w.ok(err)
	w.equal("before one of them began", p, store.Pruned{})
	// The events: three EntryQueued, then EntryLogged and InclusionVerified of each of the three.
	w.ok(s.Progress(w.Context(), lodge.Progress{Name: "slow", To: 5}))
	p, err = s.Prune(w.Context(), r, later)
	w.ok(err)
	w.equal("half-way", p, store.Pruned{Payloads: 1, Events: 5})
	w.ok(s.Progress(w.Context(), lodge.Progress{Name: "slow", From: 5, To: last}))
	p, err = s.Prune(w.Context(), r, later)
	w.ok(err)
	w.equal("in the end", p, store.Pruned{Payloads: 2, Events: 4})
}
