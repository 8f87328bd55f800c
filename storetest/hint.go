package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// hinted is a submission whose payload has these scopes.
func hinted(name string, scopes ...string) lodge.Submission {
	sub := submission(name)
	slices.Sort(scopes)
	document, _ := json.Marshal(map[string]any{"kind": "openvex", "scopes": scopes, "v": 1})
	sub.Hints = lodge.Hints{Version: "1", Document: document, Scopes: scopes}
	return sub
}

// scopesOf returns the scopes that an event carries.
func (w *world) scopesOf(e lodge.Event) []string {
	w.Helper()
	var data struct {
		Key   string `json:"key"`
		Hints struct {
			Scope  []string     `json:"scope"`
			Digest lodge.Digest `json:"digest"`
			Kind   string       `json:"kind"`
		} `json:"hints"`
	}
	w.ok(json.Unmarshal(e.Data, &data))
	if data.Key == "" {
		w.Errorf("event without its fact: %s", e.Data)
	}
	return data.Hints.Scope
}

func (w *world) find(s *store.Store, q store.EventQuery) []lodge.Event {
	w.Helper()
	found, err := s.FindEvents(w.Context(), q, 0, 1000)
	w.ok(err)
	return found
}

// eventsCarryHints: what an event carries is that of the moment when it happened.
func eventsCarryHints(w *world) {
	s := w.open()
	sub := hinted("a", "component:openssl", "cve:CVE-2026-0001")
	w.accept(s, sub, toLog...)
	other := sub
	other.Signer = lodge.KeySigner([]byte("other"))
	w.accept(s, other, toLog...)
	w.accept(s, submission("plain"), toLog...)

	sub.Scopes = []string{"component:zlib"}
	w.accept(s, sub, toLog...)
	w.verify(s, w.claim(s, log1, time.Minute)[0].Delivery, 1)

	var got []string
	for _, e := range w.find(s, store.EventQuery{}) {
		got = append(got, fmt.Sprint(e.Type, " ", w.scopesOf(e)))
	}
	w.equal("events and scopes", got, []string{
		"dev.lodge.EntryQueued.v1 [component:openssl cve:CVE-2026-0001]",
		"dev.lodge.EntryQueued.v1 [component:openssl cve:CVE-2026-0001]",
		"dev.lodge.EntryQueued.v1 []",
		"dev.lodge.ScopesAdded.v1 [component:openssl component:zlib cve:CVE-2026-0001]",
		"dev.lodge.EntryLogged.v1 [component:openssl component:zlib cve:CVE-2026-0001]",
		"dev.lodge.InclusionVerified.v1 [component:openssl component:zlib cve:CVE-2026-0001]",
	})
}

// givenScopesNarrow: what the first submitter gives is in effect instead of what was
// derived, but for all:*; what a later one gives is added, with an event, once.
func givenScopesNarrow(w *world) {
	s := w.open()
	narrow := hinted("narrow", "component:openssl", "cve:CVE-2026-0001")
	narrow.Scopes = []string{"component:openssl"}
	cut := hinted("cut", "all:*", "component:openssl")
	cut.Scopes = []string{"component:zlib"}
	w.accept(s, narrow, toLog...)
	w.accept(s, cut, toLog...)
	narrow.Scopes = []string{"component:zlib"}
	w.accept(s, narrow, toLog...)
	w.accept(s, narrow, toLog...)

	var got []string
	for _, e := range w.find(s, store.EventQuery{}) {
		got = append(got, fmt.Sprint(w.scopesOf(e)))
	}
	w.equal("scopes", got, []string{"[component:openssl]", "[all:* component:zlib]", "[component:openssl component:zlib]"})
	given, narrowed, err := s.Scopes(w.Context(), narrow.Key, narrow.Signer)
	w.ok(err)
	w.equal("given", given, []string{"component:openssl", "component:zlib"})
	w.equal("narrowed", narrowed, true)
}

// plainResubmissionWidens: one who gives no scopes asks for the derived ones, and gets them
// where an earlier submitter's were in effect instead; once.
func plainResubmissionWidens(w *world) {
	s := w.open()
	sub := hinted("a", "component:openssl", "cve:CVE-2026-0001")
	sub.Scopes = []string{"component:zlib"}
	w.accept(s, sub, toLog...)
	w.equal("scopes at first", w.scopesOf(w.find(s, store.EventQuery{})[0]), []string{"component:zlib"})
	sub.Scopes = nil
	for range 2 {
		w.equal("a duplicate", w.accept(s, sub, toLog...)[0].Duplicate(), true)
	}
	events := w.find(s, store.EventQuery{Types: []lodge.EventType{lodge.ScopesAdded}})
	w.equal("events", len(events), 1)
	w.equal("scopes then", w.scopesOf(events[0]), []string{"component:openssl", "component:zlib", "cve:CVE-2026-0001"})
	if !strings.Contains(string(events[0].Data), `"scopes":["component:openssl","cve:CVE-2026-0001"]`) {
		w.Errorf("added: %s", events[0].Data)
	}
	_, narrowed, err := s.Scopes(w.Context(), sub.Key, sub.Signer)
	w.ok(err)
	w.equal("narrowed", narrowed, false)
}

// eventsAreFound by key, scope, type and time, and never lose their order.
func eventsAreFound(w *world) {
	s := w.open()
	begin := time.Now()
	a := hinted("a", "component:openssl", "cve:CVE-2026-0001")
	w.accept(s, a, toLog...)
	w.accept(s, hinted("b", "component:zlib"), toLog...)
	w.verify(s, w.claim(s, log1, time.Minute)[0].Delivery, 1)
	w.ok(s.Hold(w.Context(), log2, lodge.CodeLies, "", time.Now()))

	for _, test := range []struct {
		name  string
		query store.EventQuery
		want  []int64 // sequences
	}{
		{"all", store.EventQuery{}, []int64{1, 2, 3, 4, 5}},
		{"key", store.EventQuery{Key: a.Key}, []int64{1, 3, 4}},
		{"scope", store.EventQuery{Scopes: []string{"cve:CVE-2026-0001", "cve:CVE-2026-0002"}}, []int64{1, 3, 4}},
		{"no such scope", store.EventQuery{Scopes: []string{"cve:CVE-2026-0002"}}, nil},
		{"type", store.EventQuery{Types: []lodge.EventType{lodge.EntryQueued, lodge.TargetHeld}}, []int64{1, 2, 5}},
		{"type and key", store.EventQuery{Types: []lodge.EventType{lodge.EntryQueued}, Key: a.Key}, []int64{1}},
		{"time", store.EventQuery{Since: begin, Until: time.Now().Add(time.Second)}, []int64{1, 2, 3, 4, 5}},
		{"later", store.EventQuery{Since: time.Now().Add(time.Second)}, nil},
		{"earlier", store.EventQuery{Until: begin.Add(-time.Second)}, nil},
	} {
		var got []int64
		for _, e := range w.find(s, test.query) {
			got = append(got, e.Sequence)
		}
		w.equal(test.name, got, test.want)
	}
	about, err := s.DeliveriesAbout(w.Context(), []string{"component:zlib"}, 0, 10)
	w.ok(err)
	w.equal("deliveries about zlib", len(about), 1)
	w.equal("key", about[0].Key, lodge.DigestOf([]byte("b")))
}

// rehint replaces hints by those of a later extractor; events stay as they are.
func rehint(w *world) {
	s := w.open()
	w.accept(s, hinted("a", "component:openssl"), toLog...)
	narrow := hinted("b", "component:zlib")
	narrow.Scopes = []string{"component:given"}
	w.accept(s, narrow, toLog...)
	none, err := s.Outdated(w.Context(), "1", 0, 10)
	w.ok(err)
	w.equal("outdated under the same version", len(none), 0)
	old, err := s.Outdated(w.Context(), "2", 0, 10)
	w.ok(err)
	w.equal("outdated", len(old), 2)
	for _, o := range old {
		later := hinted("", "component:better").Hints
		later.Version = "2"
		w.ok(s.Rehint(w.Context(), o.ID, later))
	}
	jobs := w.claim(s, log1, time.Minute)
	for i, job := range jobs {
		w.verify(s, job.Delivery, int64(i))
	}
	var got []string
	for _, e := range w.find(s, store.EventQuery{Types: []lodge.EventType{lodge.EntryQueued, lodge.EntryLogged}}) {
		got = append(got, fmt.Sprint(w.scopesOf(e)))
	}
	w.equal("scopes", got, []string{"[component:openssl]", "[component:given]", "[component:better]", "[component:given]"})
	old, err = s.Outdated(w.Context(), "2", 0, 10)
	w.ok(err)
	w.equal("outdated afterwards", len(old), 0)
}
