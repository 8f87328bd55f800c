package scenario

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// event is a line of events -o json: a CloudEvent.
type event struct {
	SpecVersion, ID, Type, Source, Subject, Sequence string
	Time                                             time.Time
	Data                                             struct {
		Key, Signer string
		Attempt     int
		Receipt     *struct{ Log *logReceipt }
		Error       *struct{ Class, Code, Message string }
		Scopes      []string
		LogIndex    int64
		Because     []struct{ Kind, Value string }
		Reason      string
		Hints       *struct {
			Digest, Kind, Payload            string
			Scope, Subjects, Vulns, Products []string
			Claims                           [][]string
		}
	}
}

// name is the type without what all types share.
func (e event) name() string {
	return strings.TrimSuffix(strings.TrimPrefix(e.Type, "dev.lodge."), ".v1")
}

// events returns the history of a machine. args are added to the usual flags.
func (m *machine) events(args ...string) []event {
	m.site.t.Helper()
	r := m.Run(append([]string{"events", "-o", "json"}, args...)...)
	if r.Code != 0 {
		m.site.t.Fatalf("lodge events %q: exit status %d\n%s", args, r.Code, r.Stderr)
	}
	var found []event
	for lines := json.NewDecoder(strings.NewReader(r.Stdout)); lines.More(); {
		var e event
		if err := lines.Decode(&e); err != nil {
			m.site.t.Fatalf("reading %q: %v", r.Stdout, err)
		}
		found = append(found, e)
	}
	return found
}

func names(events []event) (names []string) {
	for _, e := range events {
		names = append(names, e.name())
	}
	return names
}

// only returns the one event of a type.
func (s *Site) only(events []event, name string) event {
	s.t.Helper()
	i := slices.IndexFunc(events, func(e event) bool { return e.name() == name })
	if i < 0 || slices.ContainsFunc(events[i+1:], func(e event) bool { return e.name() == name }) {
		s.t.Fatalf("want one %s in %q", name, names(events))
	}
	return events[i]
}

// EntryLoggedEvent wants an event to say where a log has the entry.
func EntryLoggedEvent(t *testing.T, s *Site) {
	m := s.machine()
	d := m.push(s.signed(s.statement(1)))[0]
	e := s.only(m.events(), "EntryLogged")
	log := e.Data.Receipt.Log
	if e.SpecVersion != "1.0" || e.Subject != d.Key || e.Source != s.Front.URL+"/"+log.LogID || log.LeafHash != d.Receipt.Log.LeafHash ||
		log.LogIndex != d.Receipt.Log.LogIndex || e.Data.Signer != d.Signer {
		t.Errorf("%+v about %+v", e, d)
	}
	if m.push(s.signed(s.statement(1))); len(m.events()) != 3 {
		t.Errorf("a duplicate made events: %q", names(m.events()))
	}
}

// EntryQueuedBeforeSubmission wants the event to be there before the log hears anything, also when
// lodge never comes to send it.
func EntryQueuedBeforeSubmission(t *testing.T, s *Site) {
	m := s.machine()
	found, _ := m.exits(3, s.signed(s.statement(1)), "--key", s.Signer.Public, "--wait", "0")
	e := s.only(m.events(), "EntryQueued")
	if e.Subject != found[0].Key || e.Sequence != "1" {
		t.Errorf("%+v", e)
	}
	s.wantNothingSent()

	// And in time: what the proxy sees first of a push comes after the event.
	m = s.beside(t).machine()
	site := m.site
	var queued []event
	site.Front.On(site.submissions(), 1, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		queued = m.events("--type", "EntryQueued")
		next.ServeHTTP(w, r)
	})
	d := m.push(site.signed(site.statement(2)))[0]
	if len(queued) != 1 || queued[0].Subject != d.Key {
		t.Errorf("when the first request came, the events were %+v", queued)
	}
}

// InclusionVerifiedEvent comes after EntryLogged, with a proof.
func InclusionVerifiedEvent(t *testing.T, s *Site) {
	m := s.machine()
	d := m.push(s.signed(s.statement(1)))[0]
	events := m.events(d.Key)
	if got := strings.Join(names(events), " "); got != "EntryQueued EntryLogged InclusionVerified" {
		t.Fatalf("events %s", got)
	}
	proof := events[2].Data.Receipt.Log.InclusionProof
	if proof == nil || proof.TreeSize <= proof.LogIndex || proof.Checkpoint == "" || proof.RootHash != d.Receipt.Log.InclusionProof.RootHash {
		t.Errorf("proof %+v", proof)
	}
}

// EntryFailedEvent carries class, code, attempt and the server's words.
func EntryFailedEvent(t *testing.T, s *Site) {
	m := s.machine()
	s.Front.On(s.submissions(), 1, servers.Answer(http.StatusUnprocessableEntity, `{"code":400,"message":"the moon is not right"}`))
	found, _ := m.exits(1, s.signed(s.statement(1)), "--key", s.Signer.Public)
	e := s.only(m.events(), "EntryFailed")
	if failure := e.Data.Error; e.Subject != found[0].Key || e.Data.Attempt != found[0].Attempts || failure == nil || failure.Class != "permanent" ||
		failure.Code != "refused" || !strings.Contains(failure.Message, "the moon is not right") {
		t.Errorf("%+v with error %+v", e, e.Data.Error)
	}
	// It is queued again, and then there is a second fact, unless that succeeds.
	m.push(s.signed(s.statement(1)))
	if got := names(m.events()); len(got) == 0 || got[len(got)-1] != "InclusionVerified" {
		t.Errorf("after another push: %q", got)
	}
}

// HintsFromAttestation wants the events of a VEX statement to carry what it says.
func HintsFromAttestation(t *testing.T, s *Site) {
	m := s.machine()
	statement := s.statement(7)
	m.push(s.signed(statement))
	events := m.events()
	for _, e := range events {
		h := e.Data.Hints
		if h == nil || h.Kind != "openvex" || !slices.Equal(h.Vulns, []string{"CVE-2024-0007"}) || !slices.Equal(h.Subjects, []string{s.Image}) ||
			!slices.Contains(h.Products, "pkg:oci/app") || len(h.Claims) != 1 || h.Claims[0][2] != "fixed" {
			t.Fatalf("%s with hints %+v", e.name(), h)
		}
		for _, scope := range []string{"artifact:" + s.Image, "component:app", "cve:CVE-2024-0007", "purl:pkg:oci/app"} {
			if !slices.Contains(h.Scope, scope) {
				t.Errorf("%s has no scope %s, but %q", e.name(), scope, h.Scope)
			}
		}
		if slices.Contains(h.Scope, "all:*") {
			t.Errorf("%s touches everything: %q", e.name(), h.Scope)
		}
	}
	r := m.Run("hints", s.write("statement.json", statement), "-o", "json")
	var whole struct {
		Scopes []string
		Vulns  []string
	}
	if err := json.Unmarshal([]byte(r.Stdout), &whole); err != nil || r.Code != 0 || !slices.Equal(whole.Scopes, events[0].Data.Hints.Scope) {
		t.Errorf("lodge hints says %s%s", r.Stdout, r.Stderr)
	}
}

// EventHistory finds events by key, digest, CVE, time and sequence, without gaps.
func EventHistory(t *testing.T, s *Site) {
	m := s.machine()
	const n = 20
	begin := time.Now().Add(-time.Second)
	var lines []byte
	for i := range n {
		lines = append(append(lines, s.envelope(s.statement(i), s.Signer.Signer, sha256Opts)...), '\n')
	}
	found, _ := m.exits(0, s.write("all.jsonl", lines), "--key", s.Signer.Public)
	all := m.events()
	if len(all) != 3*n {
		t.Fatalf("%d events, want %d", len(all), 3*n)
	}
	for i, e := range all {
		if e.Sequence != strconv.Itoa(i+1) {
			t.Fatalf("sequence %s comes as number %d", e.Sequence, i+1)
		}
	}
	var three delivery
	for _, d := range found {
		if len(m.events(d.Key)) != 3 {
			t.Errorf("%d events of a key", len(m.events(d.Key)))
		}
		three = d
	}
	for _, test := range []struct {
		args []string
		want int
	}{
		{[]string{three.Key}, 3},
		{[]string{s.Image}, 3 * n},
		{[]string{"CVE-2024-0003"}, 3},
		{[]string{"cve-2024-0003"}, 3},
		{[]string{"CVE-2024-9999"}, 0},
		{[]string{"pkg:oci/app"}, 3 * n},
		{[]string{"app"}, 3 * n},
		{[]string{"--scope", "cve:CVE-2024-0003", "--scope", "cve:CVE-2024-0004"}, 6},
		{[]string{"--after", "50"}, 3*n - 50},
		{[]string{"--after", "50", "--limit", "4"}, 4},
		{[]string{"--type", "EntryLogged"}, n},
		{[]string{"--type", "EntryLogged", "--type", "EntryQueued", "CVE-2024-0003"}, 2},
		{[]string{"--since", begin.UTC().Format(time.RFC3339)}, 3 * n},
		{[]string{"--until", begin.UTC().Format(time.RFC3339)}, 0},
		{[]string{"--since", "0s"}, 0},
	} {
		if got := m.events(test.args...); len(got) != test.want {
			t.Errorf("lodge events %q: %d events, want %d", test.args, len(got), test.want)
		}
	}
}

// SameFactSameID has two stores that know nothing of each other give the same fact the same id.
func SameFactSameID(t *testing.T, s *Site) {
	file := s.signed(s.statement(1))
	m := s.machine()
	other := m.fresh()
	other.config.Targets = map[string]target{"another name": m.config.Targets[theLog]}
	other.config.Deliver = []string{"another name"}
	m.push(file)
	m.push(s.signed(s.statement(2))) // so that the other's proof is of another size
	other.push(file)
	ids := map[string]string{}
	for _, e := range m.events() {
		if e.Subject == s.only(other.events(), "EntryLogged").Subject {
			ids[e.name()] = e.ID
		}
	}
	if len(ids) != 3 {
		t.Fatalf("events %v", ids)
	}
	for _, e := range other.events() {
		if ids[e.name()] != e.ID {
			t.Errorf("%s has the id %s here and %s there", e.name(), ids[e.name()], e.ID)
		}
	}
}
