package trigger_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

func TestTriggersOnce(t *testing.T) {
	w := newWorld(t)
	w.apply("openssl: component:openssl", "zlib: component:zlib", "all: all:*")
	key := w.lodge(sbom("a", "openssl", "bash"), "s")
	if got := w.asked(key); got != "all openssl" {
		t.Fatalf("asked %q", got)
	}
	r := w.requests()[1]
	events, err := w.store.Events(t.Context(), r.Cause.Sequence-1, 1)
	w.ok(err)
	want := lodge.Request{Key: key, Policy: "openssl", Revision: r.Revision, Reason: "because", Priority: "normal",
		Cause:  lodge.Cause{ID: events[0].ID.Hex(), Type: lodge.InclusionVerified, Sequence: events[0].Sequence},
		Scopes: []string{"component:openssl"}, Count: 1}
	if diff := cmp.Diff(want, r.Request); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// The same payload in another log, and by another signer, is nothing new.
	w.verify(w.accept(submission(sbom("a", "openssl", "bash"), "s"), log2)[0].Delivery)
	w.lodge(sbom("a", "openssl", "bash"), "another")
	if got := w.asked(key); got != "all openssl" {
		t.Errorf("asked again: %q", got)
	}
	// Another revision of a policy is asked about what comes from then on.
	w.apply("openssl: component:openssl component:libressl")
	next := w.lodge(sbom("b", "openssl"), "s")
	if got := w.asked(next); got != "all openssl" {
		t.Errorf("asked %q", got)
	}
	if requests := w.requests(); len(requests) != 4 || requests[3].Revision == r.Revision {
		t.Errorf("requests %+v", requests)
	}
	w.ok(w.store.DeletePolicy(t.Context(), "openssl", time.Now()))
	if got := w.asked(w.lodge(sbom("c", "openssl"), "s")); got != "all" {
		t.Errorf("a deleted policy was asked: %q", got)
	}
	last, err := w.store.LastSequence(t.Context())
	w.ok(err)
	all, err := w.store.Events(t.Context(), 0, 1000)
	w.ok(err)
	if int64(len(all)) != last {
		t.Errorf("%d events up to sequence %d: there are gaps", len(all), last)
	}
}

// TestWaitsForProof makes sure that nothing is asked before an envelope is proven to be
// where it was to be.
func TestWaitsForProof(t *testing.T) {
	w := newWorld(t)
	w.apply("all: all:*")
	both := w.accept(submission(sbom("a", "x"), "s"), log1, repo1)
	w.verify(both[1].Delivery)
	if got := w.asked(both[0].Key); got != "" {
		t.Errorf("published, not logged, and asked %q", got)
	}
	w.verify(both[0].Delivery)
	if got := w.asked(both[0].Key); got != "all" {
		t.Errorf("logged, and asked %q", got)
	}
	alone := w.accept(submission(sbom("b", "x"), "s"), repo1)
	if got := w.asked(alone[0].Key); got != "" {
		t.Errorf("accepted, and asked %q", got)
	}
	w.verify(alone[0].Delivery)
	if got := w.asked(alone[0].Key); got != "all" {
		t.Errorf("published where there is no log, and asked %q", got)
	}
	for name, late := range map[string]bool{"c": false, "d": true} { // a log that was asked for later refuses it
		refused := w.accept(submission(sbom(name, "x"), "s"), repo1)
		if late {
			w.verify(refused[0].Delivery)
		}
		refused = w.accept(submission(sbom(name, "x"), "s"), log1, repo1)
		if !late {
			w.verify(refused[1].Delivery)
		}
		if got := w.asked(refused[0].Key); got != "" {
			t.Errorf("published while the log may take it, and asked %q", got)
		}
		w.refuse(refused[0].Delivery)
		if got := w.asked(refused[0].Key); got != "all" {
			t.Errorf("published, and the log has refused it, and asked %q", got)
		}
	}

	// Where a log or a registry has it, nothing follows from another registry that refuses it.
	logged := w.accept(submission(sbom("e", "x"), "s"), log1, repo1)
	w.verify(logged[0].Delivery)
	published := w.accept(submission(sbom("f", "x"), "s"), repo1, repo2)
	w.verify(published[0].Delivery)
	w.asked(logged[0].Key)
	w.apply("later: component:x")
	w.refuse(logged[1].Delivery)
	w.refuse(published[1].Delivery)
	for _, key := range []lodge.Key{logged[0].Key, published[0].Key} {
		if got := w.asked(key); got != "all" {
			t.Errorf("there, then refused by a registry, and asked %q", got)
		}
	}
}

// TestGivenScopes: what a submitter gives narrows what is triggered, what is given later
// adds to it, and nothing takes all:* away.
func TestGivenScopes(t *testing.T) {
	w := newWorld(t)
	w.apply("openssl: component:openssl", "zlib: component:zlib", "both: component:zlib repo:github.com/o/n", "repo: repo:github.com/o/*")
	key := w.lodge(sbom("a", "openssl", "zlib"), "s", "component:openssl")
	if got := w.asked(key); got != "openssl" {
		t.Errorf("asked %q", got)
	}
	w.accept(submission(sbom("a", "openssl", "zlib"), "s", "component:zlib"), log1)
	if got := w.asked(key); got != "openssl zlib" {
		t.Errorf("with another scope asked %q", got)
	}
	// A new scope may be what was missing beside one that was there.
	w.apply("openssl: component:openssl component:other")
	w.accept(submission(sbom("a", "openssl", "zlib"), "s", "repo:github.com/o/n"), log1)
	if got := w.asked(key); got != "both openssl repo zlib" {
		t.Errorf("with a third scope asked %q", got)
	}
	if n := len(w.requests()); n != 4 { // not the changed policy, which the new scope is nothing to
		t.Errorf("%d requests, want 4", n)
	}
	// One who gives no scopes asks for what was derived.
	hidden := w.lodge(sbom("c", "openssl", "zlib"), "s", "component:nobody")
	if got := w.asked(hidden); got != "" {
		t.Errorf("with a scope of nobody's asked %q", got)
	}
	w.accept(submission(sbom("c", "openssl", "zlib"), "s"), log1)
	if got := w.asked(hidden); got != "openssl zlib" {
		t.Errorf("without scopes asked %q", got)
	}
	broken := w.lodge([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{]}`), "s", "component:openssl")
	if got := w.asked(broken); got != "both openssl repo zlib" {
		t.Errorf("what can't be read asked %q", got)
	}
	// Added before the proof is there: the proof has them all.
	early := submission(sbom("b", "zlib"), "s", "component:openssl")
	d := w.accept(early, log1)[0]
	early.Scopes = []string{"component:zlib"}
	w.accept(early, log1)
	if got := w.asked(early.Key); got != "" {
		t.Errorf("not logged, and asked %q", got)
	}
	w.verify(d.Delivery)
	if got := w.asked(early.Key); got != "openssl zlib" {
		t.Errorf("logged, and asked %q", got)
	}
}

// TestAllScopes makes sure that policies see scopes that an event has no room for.
func TestAllScopes(t *testing.T) {
	w := newWorld(t)
	var components []string
	for i := range 3000 {
		components = append(components, fmt.Sprintf("c%04d", i))
	}
	w.apply("last: component:c2999", "none: component:none")
	if got := w.asked(w.lodge(sbom("a", components...), "s")); got != "last" {
		t.Errorf("asked %q", got)
	}
	// Pruned before anybody has looked: what the event shows, which has all:*.
	key := w.lodge(sbom("b", components...), "s")
	pruned, err := w.store.Prune(t.Context(), store.Retention{Payloads: time.Nanosecond}, time.Now().Add(time.Minute))
	w.ok(err)
	if pruned.Payloads == 0 {
		t.Fatal("nothing was pruned")
	}
	if got := w.asked(key); got != "last none" {
		t.Errorf("of a pruned payload asked %q", got)
	}
}

func TestVerdictLoop(t *testing.T) {
	w := newWorld(t)
	w.apply("own: all:*", "other: all:*")
	vsa := func(policy string) []byte {
		return encode(map[string]any{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/verification_summary/v1",
			"subject":   []any{map[string]any{"name": "a", "digest": map[string]any{"sha256": strings.Repeat("ab", 32)}}},
			"predicate": map[string]any{"policy": map[string]any{"uri": policy}, "verificationResult": "PASSED"}})
	}
	if got := w.asked(w.lodge(vsa("own"), "s")); got != "other" {
		t.Errorf("a verdict asked %q", got)
	}
	if got := w.asked(w.lodge(vsa("third"), "s")); got != "other own" {
		t.Errorf("a verdict of somebody else asked %q", got)
	}
}

// TestOneOwner runs engines of several processes beside each other, and beside what happens:
// each event leads to one request.
func TestOneOwner(t *testing.T) {
	w := newWorld(t)
	w.apply("all: all:*")
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		e := w.engine(w.open())
		wg.Go(func() {
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	var keys []lodge.Key
	for i := range 200 {
		keys = append(keys, w.lodge(sbom(fmt.Sprint(i), "x"), "s"))
	}
	deadline := time.Now().Add(time.Minute)
	for len(w.requests()) < len(keys) && time.Now().Before(deadline) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	end()
	wg.Wait()
	var got []lodge.Key
	for _, r := range w.requests() {
		got = append(got, r.Key)
	}
	if !slices.Equal(got, keys) { // in the order in which it happened
		t.Errorf("%d requests for %d envelopes", len(got), len(keys))
	}
}
