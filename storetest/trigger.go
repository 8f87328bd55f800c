package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// policy is one as it is applied.
func policy(name, body string) lodge.AppliedPolicy {
	return lodge.AppliedPolicy{Name: name, Revision: lodge.DigestOf([]byte(body)), Body: []byte(body)}
}

// names returns name and number of each policy; -name where it was deleted.
func policyNames(policies []lodge.AppliedPolicy) (names []string) {
	for _, p := range policies {
		name := fmt.Sprint(p.Name, " ", p.Number)
		if p.Body == nil {
			name = "-" + name
		}
		names = append(names, name)
	}
	return names
}

func policies(w *world) {
	s, other := w.open(), w.open()
	ctx := w.Context()
	apply := func(p lodge.AppliedPolicy) (was string) {
		before, err := s.ApplyPolicy(ctx, p, time.Now())
		w.ok(err)
		return string(before.Body)
	}
	w.equal("a new policy was", apply(policy("a", `{"v":1}`)), "")
	w.equal("another one was", apply(policy("b", `{"v":1}`)), "")
	w.equal("applied again it was", apply(policy("a", `{"v":1}`)), `{"v":1}`)
	w.equal("changed it was", apply(policy("a", `{"v":2}`)), `{"v":1}`)
	all, err := other.PolicyChanges(ctx, 0)
	w.ok(err)
	w.equal("policies", policyNames(all), []string{"b 2", "a 3"})
	w.equal("revision", all[1].Revision, lodge.DigestOf([]byte(`{"v":2}`)))
	w.ok(other.DeletePolicy(ctx, "b", time.Now()))
	for _, name := range []string{"b", "none"} {
		if err := s.DeletePolicy(ctx, name, time.Now()); !errors.Is(err, lodge.ErrNotFound) {
			w.Errorf("%s was deleted: %v", name, err)
		}
	}
	news, err := s.PolicyChanges(ctx, 3)
	w.ok(err)
	w.equal("what is new behind 3", policyNames(news), []string{"-b 4"})
	w.equal("deleted it was", apply(policy("b", `{"v":1}`)), "")
}

// policyRace has several processes apply policies while one reads: who has seen a number
// has seen all below it.
func policyRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	const writers, each = 6, 10
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				if _, err := stores[i%3].ApplyPolicy(w.Context(), policy(fmt.Sprint(i, "-", j), "{}"), time.Now()); err != nil {
					w.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[string]bool{}
	for after, over := int64(0), false; ; {
		changed, err := stores[0].PolicyChanges(w.Context(), after)
		w.ok(err)
		for _, p := range changed {
			seen[p.Name], after = true, p.Number
		}
		if over {
			break
		}
		select {
		case <-done:
			over = true
		default:
		}
	}
	w.equal("policies that the reader saw", len(seen), writers*each)
}

func react(w *world) {
	s, other := w.open(), w.open()
	ctx := w.Context()
	sub := submission("a")
	w.accept(s, sub, toLog...)
	last, err := s.LastSequence(ctx)
	w.ok(err)
	now := time.Now().Truncate(time.Microsecond).UTC()
	claim := lodge.Claim{Vuln: "CVE-2024-1111", Product: "pkg:npm/a", Author: sub.Signer, Status: "affected", Issued: now, Revision: "1",
		About: image, Key: sub.Key}
	old := claim
	old.Vuln, old.Issued = "CVE-2024-2222", now.Add(-time.Hour)
	request := lodge.RequestedEvent(lodge.Request{Key: sub.Key, Policy: "p", Revision: image}, now)
	reactions := []lodge.Reaction{{Key: sub.Key, Signer: sub.Signer, Requests: []lodge.Event{request},
		Claims: []lodge.ClaimMove{{Claim: claim, Move: lodge.Tightened, From: "fixed"}, {Claim: old, Move: lodge.Outdated, From: "fixed"}}}}
	p := lodge.Progress{Name: "trigger", To: last}
	w.ok(s.React(ctx, p, reactions))
	for _, p := range []lodge.Progress{p, {Name: "trigger", From: last + 1, To: last + 2}} {
		if err := other.React(ctx, p, reactions); !errors.Is(err, lodge.ErrStale) {
			w.Errorf("the same events were reacted to again: %v", err)
		}
	}
	w.equal("events", w.events(s), []string{"EntryQueued", "ReanalysisRequested"})
	known, err := s.Claims(ctx, []lodge.Digest{claim.ID(), old.ID(), image})
	w.ok(err)
	w.equal("what is known", known, []lodge.Claim{claim})
	moves, err := other.ClaimMoves(ctx, sub.Key, sub.Signer, 10)
	w.ok(err)
	w.equal("how many claims were recorded", len(moves), 2)
	w.equal("the second's move", []string{moves[1].Vuln, string(moves[1].Move), moves[1].From}, []string{old.Vuln, "outdated", "fixed"})

	counts, err := other.CountMoves(ctx, sub.Key, sub.Signer)
	w.ok(err)
	w.equal("moves by kind", counts, map[lodge.Move]int{lodge.Tightened: 1, lodge.Outdated: 1})

	// A later word replaces it; a request that was written is not written again, and leaves no gap.
	claim.Status, claim.Issued, claim.Revision = "fixed", now.Add(time.Hour), "2"
	reactions[0].Claims = []lodge.ClaimMove{{Claim: claim, Move: lodge.Loosened, From: "affected"}}
	next := request
	next.ID = image
	reactions[0].Requests = []lodge.Event{request, next}
	w.ok(other.React(ctx, lodge.Progress{Name: "trigger", From: last, To: last + 1}, reactions))
	known, err = s.Claims(ctx, []lodge.Digest{claim.ID()})
	w.ok(err)
	w.equal("what is known then", known, []lodge.Claim{claim})
	seq, err := s.LastSequence(ctx)
	w.ok(err)
	w.equal("the last sequence", seq, last+2)

	// Nothing is written where part of it can't be.
	reactions[0].Key = image
	reactions[0].Requests = []lodge.Event{{ID: lodge.Digest{1}, Type: lodge.ReanalysisRequested, Data: []byte("{}")}}
	if err := s.React(ctx, lodge.Progress{Name: "trigger", From: last + 1, To: last + 2}, reactions); !errors.Is(err, lodge.ErrNotFound) {
		w.Errorf("a reaction about nothing: %v", err)
	}
	c, err := s.Cursor(ctx, "trigger")
	w.ok(err)
	w.equal("the cursor", c.Sequence, last+1)

	term, err := s.Acquire(ctx, "trigger", "me", time.Hour)
	w.ok(err)
	w.ok(s.Release(ctx, "trigger", term))
	if err := s.Under("trigger", term).React(ctx, lodge.Progress{Name: "trigger", From: last + 1, To: last + 2}, nil); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("without its lease: %v", err)
	}
}

// manyClaims writes as many as one document may have.
func manyClaims(w *world) {
	s := w.open()
	sub := submission("a")
	w.accept(s, sub, toLog...)
	r := lodge.Reaction{Key: sub.Key, Signer: sub.Signer}
	var ids []lodge.Digest
	for i := range 10_000 {
		c := lodge.Claim{Vuln: fmt.Sprint("CVE-2024-", 10_000+i), Product: "pkg:npm/a", Author: sub.Signer, Status: "fixed", Key: sub.Key}
		r.Claims = append(r.Claims, lodge.ClaimMove{Claim: c, Move: lodge.Loosened})
		ids = append(ids, c.ID())
	}
	start := time.Now()
	w.ok(s.React(w.Context(), lodge.Progress{Name: "trigger", To: 1}, []lodge.Reaction{r}))
	w.Logf("%d claims in %v", len(ids), time.Since(start))
	known, err := s.Claims(w.Context(), ids)
	w.ok(err)
	w.equal("claims", len(known), len(ids))
}

func standing(w *world) {
	s := w.open()
	ctx := w.Context()
	sub, alone := submission("a"), submission("b")
	w.accept(s, sub, both...)
	w.accept(s, alone, lodge.Order{Target: repo1, Subject: image})
	is := func(sub lodge.Submission, want store.Standing) {
		w.Helper()
		got, err := s.Standing(ctx, sub.Key, sub.Signer)
		w.ok(err)
		w.equal("standing", got, want)
	}
	is(sub, store.Standing{ToLog: true})
	is(alone, store.Standing{})
	w.verify(s, w.claim(s, log1, time.Hour)[0].Delivery, 1)
	is(sub, store.Standing{ToLog: true, Logged: true})
	is(submission("none"), store.Standing{})
}

// scoped looks for envelopes by patterns of scopes.
func scoped(w *world) {
	s := w.open()
	ctx := w.Context()
	for name, scopes := range map[string][]string{
		"a": {"component:deb/openssl", "repo:github.com/o/n"}, "b": {"component:openssl", "repo:github.com/o_/n"},
		"c": {"component:opensslx", "purl:pkg:npm/%40s/x"}, "d": {"all:*"},
	} {
		sub := submission(name)
		sub.Scopes = scopes
		w.accept(s, sub, toLog...)
	}
	for i, job := range w.claim(s, log1, time.Hour) {
		w.verify(s, job.Delivery, int64(i))
	}
	late := submission("undelivered")
	late.Scopes = []string{"component:openssl"}
	w.accept(s, late, toLog...)
	find := func(q store.ScopeQuery) (found []string) {
		w.ok(s.Scoped(ctx, q, func(e store.Scoped) error {
			for _, name := range []string{"a", "b", "c", "d", "undelivered"} {
				if submission(name).Key == e.Key {
					slices.Sort(e.Scopes)
					found = append(found, fmt.Sprint(name, e.Scopes, len(e.Subjects)))
				}
			}
			return nil
		}))
		slices.Sort(found)
		return found
	}
	w.equal("exact", find(store.ScopeQuery{Exact: []string{"component:openssl", "all:*"}}), []string{"b[component:openssl] 1", "d[all:*] 1"})
	w.equal("prefix", find(store.ScopeQuery{Prefixes: []string{"repo:github.com/o/", "purl:pkg:npm/%40s/"}}),
		[]string{"a[repo:github.com/o/n] 1", "c[purl:pkg:npm/%40s/x] 1"})
	w.equal("of any type", find(store.ScopeQuery{Exact: []string{"component:openssl"}, Untyped: []string{"openssl"}, Prefixes: []string{"repo:"}}),
		[]string{"a[component:deb/openssl repo:github.com/o/n] 1", "b[component:openssl repo:github.com/o_/n] 1"})
	w.equal("a name with a wildcard of the database", find(store.ScopeQuery{Untyped: []string{"%", "o_enssl"}}), []string(nil))
	w.equal("all", len(find(store.ScopeQuery{Prefixes: []string{""}})), 4)
	stop := errors.New("enough")
	if err := s.Scoped(ctx, store.ScopeQuery{Prefixes: []string{""}}, func(store.Scoped) error { return stop }); !errors.Is(err, stop) {
		w.Errorf("the error of the caller is lost: %v", err)
	}
}
