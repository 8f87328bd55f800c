package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	log1  = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}
	repo1 = lodge.Target{Name: "repo", Kind: lodge.KindRepository, Address: "oci://registry.example/app"}
	image = lodge.DigestOf([]byte("image"))
)

func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, target := range []lodge.Target{log1, repo1} {
		if err := s.Register(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func newStore(t *testing.T) *store.Store { return open(t, filepath.Join(t.TempDir(), "lodge.db")) }

func submission(name string) lodge.Submission {
	return lodge.Submission{
		Key: lodge.DigestOf([]byte(name)), Signer: lodge.KeySigner([]byte("key")),
		Raw: []byte("raw " + name), SPKI: []byte("spki"), Subjects: []lodge.Digest{image},
	}
}

// both orders a log delivery and a repository delivery that requires it.
var both = []lodge.Order{{Target: log1}, {Target: repo1, Subject: image, Requires: []int{0}}}

func accept(t *testing.T, s *store.Store, sub lodge.Submission, orders ...lodge.Order) []lodge.Accepted {
	t.Helper()
	accepted, err := s.Accept(t.Context(), sub, orders, start)
	if err != nil {
		t.Fatal(err)
	}
	return accepted
}

func claim(t *testing.T, s *store.Store, target lodge.Target, at time.Time) []lodge.Job {
	t.Helper()
	jobs, err := s.Claim(t.Context(), target.Address, 100, at, at.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for i := range jobs {
		if err := s.Load(t.Context(), &jobs[i]); err != nil {
			t.Fatal(err)
		}
	}
	return jobs
}

func advance(t *testing.T, s *store.Store, d lodge.Delivery, to lodge.State, change lodge.Change) lodge.Delivery {
	t.Helper()
	change.Delivery, change.From = d, d.State
	change.State = to
	if err := s.Advance(t.Context(), change, start); err != nil {
		t.Fatal(err)
	}
	return change.Delivery
}

func eventTypes(t *testing.T, s *store.Store) (types []lodge.EventType) {
	t.Helper()
	events, err := s.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range events {
		if e.Sequence != int64(i+1) {
			t.Errorf("event %d has sequence %d", i+1, e.Sequence)
		}
		types = append(types, e.Type)
	}
	return types
}

func TestAcceptOnce(t *testing.T) {
	s := newStore(t)
	first := accept(t, s, submission("a"), both...)
	if !first[0].New || !first[1].New {
		t.Errorf("new = %v, %v, want true, true", first[0].New, first[1].New)
	}
	signedAnew := submission("a")
	signedAnew.Raw = []byte("the same statement with another signature")
	second := accept(t, s, signedAnew, both...)
	if second[0].New || second[1].New || second[0].ID != first[0].ID || second[1].ID != first[1].ID {
		t.Errorf("resubmission made %+v", second)
	}
	kept, err := s.Submission(t.Context(), first[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(submission("a"), kept); diff != "" {
		t.Errorf("what was accepted first is not kept as it came:\n%s", diff)
	}
	want := []lodge.EventType{lodge.EntryQueued, lodge.EntryQueued}
	if diff := cmp.Diff(want, eventTypes(t, s)); diff != "" {
		t.Error(diff)
	}
	other := submission("a")
	other.Signer = lodge.KeySigner([]byte("another key"))
	if a := accept(t, s, other, both...); !a[0].New {
		t.Error("another signer's envelope was taken for the first one's")
	}
}

func TestAcceptUnknownTarget(t *testing.T) {
	s := newStore(t)
	_, err := s.Accept(t.Context(), submission("a"), []lodge.Order{{Target: lodge.Target{Name: "x", Address: "https://x"}}}, start)
	if !errors.Is(err, lodge.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
	if got := eventTypes(t, s); len(got) != 0 {
		t.Errorf("a refused submission left events %v", got)
	}
}

func TestScopesAddUp(t *testing.T) {
	s := newStore(t)
	sub := submission("a")
	sub.Scopes = []string{"component:openssl"}
	a := accept(t, s, sub, both...)
	sub.Scopes = []string{"component:zlib", "component:openssl"}
	accept(t, s, sub, both...)
	kept, err := s.Submission(t.Context(), a[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"component:openssl", "component:zlib"}, kept.Scopes); diff != "" {
		t.Error(diff)
	}
}

func TestLifeCycle(t *testing.T) {
	s := newStore(t)
	accept(t, s, submission("a"), both...)
	if jobs := claim(t, s, repo1, start); len(jobs) != 0 {
		t.Fatalf("claimed a delivery whose requirement is not verified: %+v", jobs)
	}
	jobs := claim(t, s, log1, start)
	if len(jobs) != 1 || len(jobs[0].Memory) != 1 || jobs[0].Size != len("raw a") {
		t.Fatalf("claimed %+v", jobs)
	}
	if again := claim(t, s, log1, start); len(again) != 0 {
		t.Fatalf("claimed twice: %+v", again)
	}
	d := jobs[0].Delivery
	d.Due = start.Add(time.Hour)
	intent := lodge.Intent{Request: []byte("request"), LeafHash: image, TreeSize: 7}
	d = advance(t, s, d, lodge.Sending, lodge.Change{Intent: &intent})
	entry := lodge.Entry{Kind: "hashedrekord", Body: []byte("{}"), Receipt: lodge.LogReceipt{LogID: "ab", LogIndex: 3, InclusionProof: &lodge.InclusionProof{}}}
	d.Receipt = &lodge.Receipt{Log: &entry.Receipt}
	d = advance(t, s, d, lodge.Verified, lodge.Change{Entry: &entry, Events: []lodge.Event{
		lodge.LogEvent(lodge.EntryLogged, d, start), lodge.LogEvent(lodge.InclusionVerified, d, start)}})

	jobs = claim(t, s, repo1, start)
	if len(jobs) != 1 || len(jobs[0].Required) != 1 {
		t.Fatalf("after its requirement was verified: %+v", jobs)
	}
	if diff := cmp.Diff(lodge.Proof{Target: log1, Entry: entry}, jobs[0].Required[0]); diff != "" {
		t.Error(diff)
	}
	want := []lodge.EventType{lodge.EntryQueued, lodge.EntryQueued, lodge.EntryLogged, lodge.InclusionVerified}
	if diff := cmp.Diff(want, eventTypes(t, s)); diff != "" {
		t.Error(diff)
	}
	history, err := s.History(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	var path []lodge.State
	for _, h := range history {
		path = append(path, h.To)
	}
	if diff := cmp.Diff([]lodge.State{lodge.Queued, lodge.Sending, lodge.Verified}, path); diff != "" {
		t.Error(diff)
	}
}

func TestFencing(t *testing.T) {
	s := newStore(t)
	accept(t, s, submission("a"), lodge.Order{Target: log1})
	slow := claim(t, s, log1, start)[0].Delivery
	fast := claim(t, s, log1, start.Add(2*time.Minute))[0].Delivery
	if fast.Attempt != slow.Attempt+1 {
		t.Fatalf("attempts %d, %d", slow.Attempt, fast.Attempt)
	}
	stale := lodge.Change{Delivery: slow, From: lodge.Queued, Intent: &lodge.Intent{LeafHash: image}}
	stale.State, stale.Due = lodge.Sending, start.Add(time.Hour)
	if err := s.Advance(t.Context(), stale, start); !errors.Is(err, lodge.ErrStale) {
		t.Errorf("a worker without its lease wrote: err = %v", err)
	}
	advance(t, s, fast, lodge.Failed, lodge.Change{})
}

func TestInterruptedSendIsUnknown(t *testing.T) {
	s := newStore(t)
	accept(t, s, submission("a"), lodge.Order{Target: log1})
	d := claim(t, s, log1, start)[0].Delivery
	d.Due = start.Add(time.Hour)
	intent := lodge.Intent{Request: []byte("the very bytes"), TreeSize: 7}
	advance(t, s, d, lodge.Sending, lodge.Change{Intent: &intent})
	if jobs := claim(t, s, log1, start.Add(59*time.Minute)); len(jobs) != 0 {
		t.Fatal("claimed before lease and settle time were over")
	}
	jobs := claim(t, s, log1, start.Add(time.Hour))
	if len(jobs) != 1 || jobs[0].State != lodge.Unknown {
		t.Fatalf("claimed %+v, want it unknown", jobs)
	}
	if diff := cmp.Diff(&intent, jobs[0].Intent); diff != "" {
		t.Errorf("what was written ahead: %s", diff)
	}
}

func TestFailureReachesDependents(t *testing.T) {
	s := newStore(t)
	a := accept(t, s, submission("a"), both...)
	d := claim(t, s, log1, start)[0].Delivery
	d.Err = lodge.Errorf(lodge.ClassPermanent, "http-400", "no")
	advance(t, s, d, lodge.Failed, lodge.Change{})
	dependent, err := s.Delivery(t.Context(), a[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	if dependent.State != lodge.Failed || dependent.Err.Class != lodge.ClassDependency {
		t.Fatalf("dependent is %s, %+v", dependent.State, dependent.Err)
	}
	if n, err := s.Retry(t.Context(), d.Key, "", start); n != 2 || err != nil {
		t.Fatalf("Retry = %d, %v, want 2", n, err)
	}
	if jobs := claim(t, s, repo1, start); len(jobs) != 0 {
		t.Error("the dependent did not wait again")
	}
	if jobs := claim(t, s, log1, start); len(jobs) != 1 {
		t.Error("the failed delivery was not queued again")
	}
}

func TestHold(t *testing.T) {
	s := newStore(t)
	accept(t, s, submission("a"), lodge.Order{Target: log1})
	for range 2 { // the second has no effect
		if err := s.Hold(t.Context(), log1, "unauthorized", "HTTP 401", start); err != nil {
			t.Fatal(err)
		}
	}
	if jobs := claim(t, s, log1, start); len(jobs) != 0 {
		t.Error("a held target's delivery was claimed")
	}
	if code, words, err := s.Held(t.Context(), log1.Address); code != "unauthorized" || words != "HTTP 401" || err != nil {
		t.Errorf("Held = %q, %q, %v", code, words, err)
	}
	if err := s.Resume(t.Context(), log1, start); err != nil {
		t.Fatal(err)
	}
	if jobs := claim(t, s, log1, start); len(jobs) != 1 {
		t.Error("a resumed target's delivery was not claimed")
	}
	want := []lodge.EventType{lodge.EntryQueued, lodge.TargetHeld, lodge.TargetResumed}
	if diff := cmp.Diff(want, eventTypes(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestRegister(t *testing.T) {
	s := newStore(t)
	renamed := repo1
	renamed.Name = "images"
	moved := log1
	moved.Address = "https://log-2.example"
	for _, target := range []lodge.Target{renamed, moved} {
		if err := s.Register(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Register(t.Context(), lodge.Target{Name: "images", Kind: lodge.KindRepository, Address: "oci://other"}); err == nil {
		t.Error("another repository took over a name")
	}
	targets, err := s.Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]lodge.TargetStatus{{Target: renamed}, {Target: moved}}, targets); diff != "" {
		t.Error(diff)
	}
}

func TestLeafIndex(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	hashes := []lodge.Digest{{1}, {2}, {1}}
	if err := s.AddLeaves(ctx, "log", 10, hashes); err != nil {
		t.Fatal(err)
	}
	if err := s.AddLeaves(ctx, "log", 10, hashes); !errors.Is(err, lodge.ErrStale) {
		t.Errorf("the same leaves were added twice: %v", err)
	}
	if from, size, err := s.LeafRange(ctx, "log"); from != 10 || size != 13 || err != nil {
		t.Errorf("LeafRange = %d, %d, %v", from, size, err)
	}
	if got, err := s.FindLeaf(ctx, "log", lodge.Digest{1}); !cmp.Equal(got, []int64{10, 12}) || err != nil {
		t.Errorf("FindLeaf = %v, %v", got, err)
	}
	if got, err := s.FindLeaf(ctx, "other", lodge.Digest{1}); got != nil || err != nil {
		t.Errorf("FindLeaf in another log = %v, %v", got, err)
	}
}

// TestConcurrentAccept has many callers submit the same few envelopes through two open
// stores on one file, as two processes would.
func TestConcurrentAccept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lodge.db")
	stores := []*store.Store{open(t, path), open(t, path)}
	const callers, envelopes = 16, 20
	var wg sync.WaitGroup
	made := make([]int, callers)
	for c := range callers {
		wg.Go(func() {
			for i := range envelopes {
				a, err := stores[c%2].Accept(t.Context(), submission(fmt.Sprint(i)), both, start)
				if err != nil {
					t.Error(err)
					return
				}
				if a[0].New {
					made[c]++
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range made {
		total += n
	}
	if total != envelopes {
		t.Errorf("%d deliveries were new, want %d", total, envelopes)
	}
	if got := len(eventTypes(t, stores[0])); got != 2*envelopes {
		t.Errorf("%d events, want %d", got, 2*envelopes)
	}
}

func TestCancelledAccept(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Accept(ctx, submission("a"), both, start); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
	accept(t, s, submission("a"), both...)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if s, err := store.Open(t.Context(), dir); err == nil {
		t.Errorf("opened a folder as a database: %v", s)
	}
}
