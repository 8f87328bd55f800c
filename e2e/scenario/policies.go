package scenario

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// request is the data of a ReanalysisRequested event.
type request struct {
	Key, Policy, Revision, Reason, Priority string
	Cause                                   struct{ ID, Type string }
	Scopes                                  []string
	VEX                                     *struct {
		Move   string
		Claims []struct{ Vuln, From, To string }
	}
}

// requests returns what the policies of a machine were asked about a key, by policy.
func (m *machine) requests(key string) map[string]request {
	m.site.t.Helper()
	found := map[string]request{}
	r := m.Run("events", "-o", "json", "--type", "ReanalysisRequested", key)
	for lines := json.NewDecoder(strings.NewReader(r.Stdout)); lines.More(); {
		var e struct {
			Subject string
			Data    request
		}
		if err := lines.Decode(&e); err != nil || r.Code != 0 {
			m.site.t.Fatalf("exit status %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
		}
		if _, twice := found[e.Data.Policy]; twice || e.Subject != key {
			m.site.t.Errorf("policy %s was asked twice, or about %s", e.Data.Policy, e.Subject)
		}
		found[e.Data.Policy] = e.Data
	}
	return found
}

// wantAsked fails the test unless exactly these policies were asked about a key; one with
// high priority is written with a "!".
func (m *machine) wantAsked(what, key string, want ...string) map[string]request {
	m.site.t.Helper()
	requests := m.requests(key)
	var got []string
	for name, r := range requests {
		if r.Priority == "high" {
			name += "!"
		}
		got = append(got, name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		m.site.t.Errorf("%s: asked %q, want %q", what, got, want)
	}
	return requests
}

// apply applies policies, each "name: scope scope".
func (m *machine) apply(policies ...string) {
	m.site.t.Helper()
	var file strings.Builder
	for _, p := range policies {
		name, selector, _ := strings.Cut(p, ": ")
		fmt.Fprintf(&file, "---\nname: %s\nselector:\n", name)
		for _, scope := range strings.Fields(selector) {
			fmt.Fprintf(&file, "- %q\n", scope)
		}
	}
	if r := m.Run("policy", "apply", m.site.write("policies.yaml", []byte(file.String()))); r.Code != 0 {
		m.site.t.Fatalf("lodge policy apply: exit status %d\n%s\n%s", r.Code, r.Stderr, file.String())
	}
}

// ScopeNarrowsTrigger has what a submitter says an envelope is about narrow what it triggers:
// with component:openssl alone, the policies on openssl and nobody else.
func ScopeNarrowsTrigger(t *testing.T, s *Site) {
	m := s.machine()
	m.apply("openssl: component:openssl", "app: component:app", "cve: cve:CVE-2024-0001 component:app", "zlib: component:zlib",
		"everything: all:*", "images: artifact:"+s.Image)
	derived := m.push(s.signed(s.statement(1)))[0]
	requests := m.wantAsked("as derived", derived.Key, "app", "cve", "everything", "images")
	verified := s.only(m.events("--type", "InclusionVerified", derived.Key), "InclusionVerified")
	if r := requests["cve"]; r.Cause.ID != verified.ID || r.Cause.Type != verified.Type || r.Key != derived.Key || len(r.Revision) != len("sha256:")+64 ||
		!slices.Equal(r.Scopes, []string{"component:app", "component:oci/app", "cve:CVE-2024-0001"}) {
		t.Errorf("the request says %+v", r)
	}

	file := s.signed(s.statement(2))
	found, _ := m.exits(0, file, "--key", s.Signer.Public, "--scope", "component:openssl")
	m.wantAsked("given a scope", found[0].Key, "everything", "openssl")
	m.exits(0, file, "--key", s.Signer.Public, "--scope", "component:zlib")
	m.wantAsked("given another one", found[0].Key, "everything", "openssl", "zlib")
	m.exits(0, file, "--key", s.Signer.Public, "--scope", "component:zlib")
	m.wantAsked("lodged again", found[0].Key, "everything", "openssl", "zlib")
	m.push(file)
	m.wantAsked("lodged without a scope", found[0].Key, "app", "everything", "images", "openssl", "zlib")

	// A policy that comes later is told what it would have been asked about.
	m.apply("late: cve:CVE-2024-0001")
	if r := m.Run("policy", "match", "--policy", "late"); r.Code != 0 || !strings.Contains(r.Stdout, derived.Key) || strings.Contains(r.Stdout, found[0].Key) {
		t.Errorf("lodge policy match: %s%s", r.Stdout, r.Stderr)
	}
	m.wantAsked("before a policy", derived.Key, "app", "cve", "everything", "images")

	// Another store, which finds the entry in the log, asks the same with the same ids.
	other := m.fresh()
	other.apply("openssl: component:openssl", "app: component:app")
	other.push(s.signed(s.statement(1)))
	other.wantAsked("another store", derived.Key, "app")
	here, there := m.events("--type", "ReanalysisRequested", derived.Key), other.events("--type", "ReanalysisRequested", derived.Key)
	if !slices.ContainsFunc(here, func(e event) bool { return len(there) == 1 && e.ID == there[0].ID }) {
		t.Errorf("the same request has another id there: %+v", there)
	}
}

// VEXTransition has what newly demands action trigger at once, what demands less at normal
// priority, what is said again nothing, and says so; by the time of issue, not of arrival.
func VEXTransition(t *testing.T, s *Site) {
	m := s.machine()
	m.apply("app: component:app", "openssl: component:openssl")
	say := func(version, day int, status, justification string) string {
		t.Helper()
		statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":"%s"}}],`+
			`"predicateType":"%s","predicate":{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/vex/%s","author":"A",`+
			`"timestamp":"2026-01-%02dT09:00:00Z","version":%d,"statements":[{"vulnerability":{"name":"CVE-2024-0001"},`+
			`"products":[{"@id":"pkg:oci/app"}],"status":"%s","justification":"%s"}]}}`,
			s.Image[len("sha256:"):], predicateType, s.about, day, version, status, justification)
		return m.push(s.signed(statement))[0].Key
	}
	m.wantAsked("not affected", say(1, 1, "not_affected", "component_not_present"), "app")
	again := say(2, 2, "not_affected", "component_not_present")
	m.wantAsked("said again", again)
	if r := m.Run("status", again); !strings.Contains(r.Stdout, "1 unchanged: it says nothing new, so no policy is triggered") {
		t.Errorf("lodge status says %s%s", r.Stdout, r.Stderr)
	}
	requests := m.wantAsked("affected", say(4, 4, "affected", ""), "app!")
	if vex := requests["app"].VEX; vex == nil || vex.Move != "tightened" || len(vex.Claims) != 1 || vex.Claims[0].From != "not_affected" || vex.Claims[0].To != "affected" {
		t.Errorf("the request says %+v", vex)
	}
	m.wantAsked("issued before that", say(3, 3, "fixed", ""))
	m.wantAsked("fixed", say(5, 5, "fixed", ""), "app")
	m.wantAsked("affected again", say(6, 6, "affected", ""), "app!")
}
