package trigger_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/trigger"
)

func TestCompare(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	claim := func(status, justification string, after time.Duration, revision string) lodge.Claim {
		return lodge.Claim{Status: status, Justification: justification, Issued: at.Add(after), Revision: revision}
	}
	safe, reason := "not_affected", "component_not_present"
	for _, tt := range []struct {
		name          string
		before, after lodge.Claim
		want          lodge.Move
	}{
		{"demands action", claim(safe, reason, 0, "1"), claim("affected", "", time.Hour, "2"), lodge.Tightened},
		{"was fixed", claim("fixed", "", 0, "1"), claim("affected", "", time.Hour, "2"), lodge.Tightened},
		{"was looked into", claim("under_investigation", "", 0, "1"), claim("affected", "", time.Hour, "2"), lodge.Tightened},
		{"is looked into", claim(safe, reason, 0, "1"), claim("under_investigation", "", time.Hour, "2"), lodge.Tightened},
		{"a reason taken back", claim(safe, reason, 0, "1"), claim(safe, "", time.Hour, "2"), lodge.Tightened},
		{"a status of the future", claim(safe, reason, 0, "1"), claim("melting", "", time.Hour, "2"), lodge.Tightened},
		{"fixed", claim("affected", "", 0, "1"), claim("fixed", "", time.Hour, "2"), lodge.Loosened},
		{"not affected after all", claim("under_investigation", "", 0, "1"), claim(safe, reason, time.Hour, "2"), lodge.Loosened},
		{"less than affected", claim("affected", "", 0, "1"), claim("under_investigation", "", time.Hour, "2"), lodge.Loosened},
		{"safe otherwise", claim(safe, reason, 0, "1"), claim("fixed", "", time.Hour, "2"), lodge.Changed},
		{"another reason", claim(safe, reason, 0, "1"), claim(safe, "vulnerable_code_not_present", time.Hour, "2"), lodge.Changed},
		{"said again", claim(safe, reason, 0, "1"), claim(safe, reason, time.Hour, "2"), lodge.Unchanged},
		{"older", claim(safe, reason, time.Hour, "2"), claim("affected", "", 0, "3"), lodge.Outdated},
		{"of an older revision", claim(safe, reason, 0, "1.10"), claim("affected", "", 0, "1.9"), lodge.Outdated},
		{"of a newer revision", claim(safe, reason, 0, "1.9"), claim("affected", "", 0, "1.10"), lodge.Tightened},
		{"at the same time", claim(safe, reason, 0, ""), claim("affected", "", 0, "1"), lodge.Tightened},
	} {
		if got := trigger.Compare(tt.before, tt.after); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := trigger.Compare(lodge.Claim{About: lodge.Digest{1}}, lodge.Claim{About: lodge.Digest{2}}); got != lodge.Changed {
		t.Errorf("about other artifacts: %s", got)
	}
}

// TestTransitions follows what one author says of a vulnerability over time.
func TestTransitions(t *testing.T) {
	var said bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
	defer slog.SetDefault(before)
	w := newWorld(t)
	w.apply("app: component:app", "other: component:other")
	version := 0
	step := func(what, at, want string, statements ...string) lodge.Key {
		t.Helper()
		version++
		key := w.lodge(vex(version, at, statements...), "vendor")
		if got := w.asked(key); got != want {
			t.Errorf("%s: asked %q, want %q", what, got, want)
		}
		return key
	}
	safe := "CVE-2024-1111 pkg:deb/debian/app not_affected component_not_present"
	first := step("the first word", "2026-01-01T00:00:00Z", "app", safe)
	again := step("said again", "2026-01-02T00:00:00Z", "", safe)
	if !strings.Contains(said.String(), "says nothing new") || !strings.Contains(said.String(), again.String()) || strings.Contains(said.String(), first.String()) {
		t.Errorf("the log says %s", said.String())
	}
	affected := step("affected", "2026-01-03T00:00:00Z", "app!", "CVE-2024-1111 pkg:deb/debian/app affected")
	step("older than that", "2026-01-02T12:00:00Z", "", safe)
	step("fixed", "2026-01-04T00:00:00Z", "app", "CVE-2024-1111 pkg:deb/debian/app fixed")
	step("another product", "2026-01-05T00:00:00Z", "app!", "CVE-2024-1111 pkg:rpm/fedora/app affected")

	i := slices.IndexFunc(w.requests(), func(r request) bool { return r.Key == affected })
	if got := fmt.Sprintf("%+v", *w.requests()[i].VEX); got !=
		"{Move:tightened Counts:map[tightened:1] Claims:[{Vuln:CVE-2024-1111 Product:pkg:deb/debian/app From:not_affected To:affected Justification:}]}" {
		t.Errorf("the request says %s", got)
	}
	moves, err := w.store.ClaimMoves(t.Context(), again, "vendor", 10)
	w.ok(err)
	if len(moves) != 1 || moves[0].Move != lodge.Unchanged || moves[0].From != "not_affected" {
		t.Errorf("of what was said again is kept %+v", moves)
	}

	// What another one signs is another author's word, whatever the document says of its author.
	if got := w.asked(w.lodge(vex(1, "2026-01-01T00:00:00Z", safe, "CVE-2024-2222 pkg:deb/debian/app fixed"), "distributor")); got != "app" {
		t.Errorf("another author: asked %q", got)
	}
	// The same document in another log changes nothing, and says again what it said.
	n := len(w.requests())
	w.verify(w.accept(submission(vex(3, "2026-01-03T00:00:00Z", "CVE-2024-1111 pkg:deb/debian/app affected"), "vendor"), log2)[0].Delivery)
	if w.react(); len(w.requests()) != n {
		t.Error("another log's proof triggered a policy again")
	}
}

// TestNarrowsToNews: of a document about several vulnerabilities, those count of which it
// says something new.
func TestNarrowsToNews(t *testing.T) {
	w := newWorld(t)
	w.apply("one: cve:CVE-2024-1111", "two: cve:CVE-2024-2222", "app: component:app")
	w.lodge(vex(1, "2026-01-01T00:00:00Z", "CVE-2024-1111 pkg:deb/debian/app fixed", "CVE-2024-2222 pkg:deb/debian/app fixed"), "s")
	again := []string{"CVE-2024-1111 pkg:deb/debian/app fixed", "CVE-2024-2222 pkg:deb/debian/app affected"}
	if got := w.asked(w.lodge(vex(2, "2026-01-02T00:00:00Z", again...), "s")); got != "app! two!" {
		t.Errorf("asked %q", got)
	}
	// A submitter's own scope is never left out.
	if got := w.asked(w.lodge(vex(3, "2026-01-03T00:00:00Z", "CVE-2024-1111 pkg:deb/debian/app fixed", "CVE-2024-2222 pkg:deb/debian/app fixed"), "s",
		"cve:CVE-2024-1111")); got != "one" {
		t.Errorf("asked %q", got)
	}
}

// TestHeardForTheFirstTime: a policy that was not asked before is asked, though the author
// has said the same before.
func TestHeardForTheFirstTime(t *testing.T) {
	w := newWorld(t)
	w.apply("app: component:app", "x: component:x", "y: component:y", "second: cve:CVE-2024-2222")
	say := func(version int, extra ...string) []byte {
		return vex(version, fmt.Sprintf("2026-01-%02dT00:00:00Z", version), append(extra, "CVE-2024-1111 pkg:deb/debian/app fixed")...)
	}
	for _, step := range []struct {
		what     string
		document []byte
		scopes   []string
		want     string
	}{
		{"for x alone", say(1), []string{"component:x"}, "x"},
		{"for x again", say(2), []string{"component:x"}, ""},
		{"for y", say(3), []string{"component:y"}, "y"},
		{"for whom it may concern", say(4), nil, "app"},
		{"again", say(5), nil, ""},
		{"with a vulnerability of which it says nothing that is understood", say(6, "CVE-2024-2222 pkg:deb/debian/app Affected"), nil, "app second"},
	} {
		if got := w.asked(w.lodge(step.document, "s", step.scopes...)); got != step.want {
			t.Errorf("%s: asked %q, want %q", step.what, got, step.want)
		}
	}
}

// TestMoreThanVEX: a document is not taken for a repetition because its claims are one.
func TestMoreThanVEX(t *testing.T) {
	w := newWorld(t)
	w.apply("x: component:x", "y: component:y")
	bom := func(component string) []byte {
		return encode(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6",
			"components":      []any{map[string]any{"bom-ref": "r", "type": "library", "name": component, "purl": "pkg:npm/z"}},
			"vulnerabilities": []any{map[string]any{"id": "CVE-2024-1111", "affects": []any{map[string]any{"ref": "r"}}, "analysis": map[string]any{"state": "not_affected"}}}})
	}
	w.asked(w.lodge(bom("x"), "s"))
	key := w.lodge(bom("y"), "s")
	if got := w.asked(key); got != "y" {
		t.Errorf("asked %q", got)
	}
	if moves, err := w.store.ClaimMoves(t.Context(), key, "s", 10); err != nil || len(moves) != 1 || moves[0].Move != lodge.Unchanged {
		t.Errorf("its claims %+v, %v", moves, err)
	}
}

// TestOrderOfArrival lodges the same documents in every order: what is known at the end is
// what was issued last.
func TestOrderOfArrival(t *testing.T) {
	documents := [][]byte{
		vex(1, "2026-01-01T00:00:00Z", "CVE-2024-1111 pkg:npm/app under_investigation", "CVE-2024-2222 pkg:npm/app affected"),
		vex(2, "2026-01-02T00:00:00Z", "CVE-2024-1111 pkg:npm/app affected"),
		vex(3, "2026-01-02T00:00:00Z", "CVE-2024-1111 pkg:npm/app not_affected component_not_present"),
		vex(1, "2026-01-03T00:00:00Z", "CVE-2024-1111 pkg:npm/app fixed"),
		vex(9, "2099-01-01T00:00:00Z", "CVE-2024-3333 pkg:npm/app fixed"), // a mistake
	}
	var orders [][]int
	var permute func(order []int, n int)
	permute = func(order []int, n int) {
		if n == 4 {
			orders = append(orders, append(slices.Clone(order), 4))
			return
		}
		for i := range 4 {
			if !slices.Contains(order, i) {
				permute(append(slices.Clone(order), i), n+1)
			}
		}
	}
	permute(nil, 0)
	for _, order := range orders {
		w := newWorld(t)
		for _, i := range order {
			w.lodge(documents[i], "s")
		}
		w.react()
		got := map[string]string{}
		for _, c := range []lodge.Claim{{Vuln: "CVE-2024-1111"}, {Vuln: "CVE-2024-2222"}, {Vuln: "CVE-2024-3333"}} {
			c.Product, c.Author = "pkg:npm/app", "s"
			known, err := w.store.Claims(t.Context(), []lodge.Digest{c.ID()})
			w.ok(err)
			if len(known) != 1 || known[0].Issued.Year() > time.Now().Year()+1 {
				t.Fatalf("known of %s: %+v", c.Vuln, known)
			}
			got[c.Vuln] = known[0].Status
		}
		if got["CVE-2024-1111"] != "fixed" || got["CVE-2024-2222"] != "affected" {
			t.Errorf("in the order %v: %v", order, got)
		}
	}
}
