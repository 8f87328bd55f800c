package scenario

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lodgehq/lodge/e2e/servers"
)

// A machine is where lodge is run, with a store and a configuration.
type machine struct {
	*servers.Lodge
	site   *Site
	config config
}

// machine returns one that has never run lodge.
func (s *Site) machine() *machine {
	s.t.Helper()
	return &machine{Lodge: servers.NewLodge(s.t), site: s, config: s.config()}
}

// fresh returns a machine of the same configuration that has never run lodge.
func (m *machine) fresh() *machine {
	return &machine{Lodge: m.Fresh(), site: m.site, config: m.config}
}

// in returns the machine, with its store, as a subtest uses it.
func (m *machine) in(s *Site) *machine {
	return &machine{Lodge: m.For(s.t), site: s, config: m.config}
}

// delivery is a line of push -o json.
type delivery struct {
	Source, Key, Signer, Target, State string
	Duplicate                          bool
	Attempts                           int
	Receipt                            struct {
		Log *logReceipt
		OCI *struct{ Reference, Digest, Subject string }
	}
	Error *struct{ Class, Code, Message string }
}

type logReceipt struct {
	Origin, LogID, EntryUUID, LeafHash string
	LogIndex                           int64
	InclusionProof                     *struct {
		LogIndex, TreeSize   int64
		RootHash, Checkpoint string
	}
}

// flags are those that every push has.
func (m *machine) flags() []string {
	return []string{"push", "--config", m.site.write("lodge.yaml", m.site.encode(m.config)), "-o", "json"}
}

// run pushes and returns how the deliveries stand, those to the log first, and the rest of
// what lodge left. args are added to the usual flags.
func (m *machine) run(stdin io.Reader, args ...string) ([]delivery, servers.Result) {
	m.site.t.Helper()
	r := m.RunInput(stdin, append(m.flags(), args...)...)
	return m.deliveries(r.Stdout), r
}

// deliveries reads push -o json.
func (m *machine) deliveries(stdout string) []delivery {
	m.site.t.Helper()
	var found []delivery
	for lines := json.NewDecoder(strings.NewReader(stdout)); lines.More(); {
		var d delivery
		if err := lines.Decode(&d); err != nil {
			m.site.t.Fatalf("reading %q: %v", stdout, err)
		}
		found = append(found, d)
	}
	slices.SortStableFunc(found, func(a, b delivery) int { return -strings.Compare(a.Target, b.Target) }) // log, images
	return found
}

// exits pushes, and ends the test where the exit status is another.
func (m *machine) exits(code int, args ...string) ([]delivery, servers.Result) {
	m.site.t.Helper()
	found, r := m.run(nil, args...)
	if r.Code != code {
		m.site.t.Fatalf("lodge push %q: exit status %d, want %d\n%s%s", args, r.Code, code, r.Stdout, r.Stderr)
	}
	return found, r
}

// push pushes an envelope of the site's signer to all targets and returns the deliveries,
// which are verified: the log's, then the registry's.
func (m *machine) push(file string) []delivery {
	m.site.t.Helper()
	found, r := m.exits(0, file, "--key", m.site.Signer.Public)
	if len(found) != len(m.config.Deliver) {
		m.site.t.Fatalf("%d deliveries, want %d\n%s%s", len(found), len(m.config.Deliver), r.Stdout, r.Stderr)
	}
	for _, d := range found {
		if d.State != "verified" {
			m.site.t.Errorf("delivered, and %s: %s", d.State, r.Stdout)
		}
	}
	return found
}

// sign signs a statement by lodge sign and returns the envelope's file.
func (m *machine) sign(statement []byte) string {
	m.site.t.Helper()
	r := m.Run("sign", m.site.write("statement.json", statement), "--key", m.site.Signer.Private)
	if r.Code != 0 {
		m.site.t.Fatalf("lodge sign: exit status %d\n%s", r.Code, r.Stderr)
	}
	return m.site.write("envelope.json", []byte(r.Stdout))
}

// wantExisting fails the test unless d are the deliveries of first, done by somebody else.
func (s *Site) wantExisting(d, first []delivery) {
	s.t.Helper()
	if len(d) != len(first) {
		s.t.Fatalf("%d deliveries, at first %d", len(d), len(first))
	}
	for i, again := range d {
		before := first[i] //nolint:gosec // there are as many
		if !again.Duplicate || again.Key != before.Key {
			s.t.Errorf("%s: duplicate = %v of key %s, want a duplicate of %s", again.Target, again.Duplicate, again.Key, before.Key)
		}
		a, b := again.Receipt, before.Receipt
		if a.Log != nil && (a.Log.LogIndex != b.Log.LogIndex || a.Log.LeafHash != b.Log.LeafHash || a.Log.EntryUUID != b.Log.EntryUUID) {
			s.t.Errorf("another entry than at first: %+v, %+v", a.Log, b.Log)
		}
		if a.OCI != nil && *a.OCI != *b.OCI {
			s.t.Errorf("another artifact than at first: %+v, %+v", a.OCI, b.OCI)
		}
	}
}

// wantOneLine fails the test unless stderr has exactly one line with all of words.
func (s *Site) wantOneLine(stderr string, words ...string) {
	s.t.Helper()
	hits := 0
	for line := range strings.Lines(stderr) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			hits++
		}
	}
	if hits != 1 {
		s.t.Errorf("%d lines with %q, want one, in:\n%s", hits, words, stderr)
	}
}

// readFile returns what a file has.
func (s *Site) readFile(path string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes.TrimSpace(b)
}
