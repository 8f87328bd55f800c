package scenario

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// badDay is something that is wrong with a log or a registry. lodge has to say it in one
// line, and to deliver what it accepted once it is mended.
type badDay struct {
	name  string
	upset func(s *Site, m *machine) (mend func())
	args  []string // of the push on the bad day
	state string   // of the delivery that suffers
	class string   // of its error
	words []string // of the one line on standard error, or else of the error
	quiet bool     // nothing may reach the log
}

// wait is how long a push waits for what can't come: long enough for a first attempt on a
// machine that is busy.
const wait = "3s"

// BadLog pushes to logs with which something is wrong.
func BadLog(t *testing.T, start func(t *testing.T) *Site) {
	for _, b := range []badDay{
		{
			name: "unreachable", args: []string{"--wait", wait}, state: "queued", class: "retry", words: []string{"connection refused"}, quiet: true,
			upset: func(_ *Site, m *machine) func() {
				url := m.logURL("http://127.0.0.1:1")
				return func() { m.logURL(url) }
			},
		},
		{
			name: "down", args: []string{"--wait", wait}, state: "queued", class: "retry", words: []string{"no whole answer came"}, quiet: true,
			upset: func(s *Site, _ *machine) func() {
				s.Front.On(servers.Requests("", ""), -1, servers.Cut()) // a v2 log's read side is another server
				s.Log.Stop()
				return func() {
					s.Log.Start()
					s.Front.Clear()
				}
			},
		},
		{
			name: "another key than given", state: "queued", class: "held", words: []string{"is held", "key", "mend that and run the same command again"}, quiet: true,
			upset: func(s *Site, m *machine) func() {
				key := m.logKey(anotherKey(s))
				return func() { m.logKey(key) }
			},
		},
		{
			name: "another origin than given", state: "queued", class: "held", words: []string{"is held", "origin", "mend that and run the same command again"}, quiet: true,
			upset: func(_ *Site, m *machine) func() {
				l := m.config.Targets[theLog].Log
				right := l.Origin
				l.Origin = strings.Replace(right, "rekor", "other", 1)
				return func() { l.Origin = right }
			},
		},
		{
			name: "a web site", state: "queued", class: "held", words: []string{"is held", "mend that and run the same command again"}, quiet: true,
			upset: func(s *Site, m *machine) func() {
				site := servers.StartProxy(s.t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					_, _ = fmt.Fprintln(w, "<html><h1>Welcome</h1></html>")
				}))
				url := m.logURL(site.URL)
				return func() { m.logURL(url) }
			},
		},
		{
			name: "401", state: "unknown", class: "held", words: []string{"is held", "go away", "mend that and run the same command again"},
			upset: func(s *Site, _ *machine) func() {
				s.Front.On(s.submissions(), -1, servers.Answer(http.StatusUnauthorized, "go away"))
				return s.Front.Clear
			},
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			m := s.machine()
			mend := b.upset(s, m)
			file := s.signed(s.statement(1))
			b.suffer(s, m, file)
			if n := s.sent(); b.quiet && n != 0 {
				t.Errorf("sent %d times", n)
			}
			mend()
			d := m.push(file)
			s.wantReceipt(d[0], s.hashOf(s.statement(1), sha256Opts))
			s.wantSize(1)
		})
	}
}

// suffer pushes on the bad day: accepted, not delivered, said in one line, and in status.
func (b badDay) suffer(s *Site, m *machine, file string) {
	s.t.Helper()
	found, r := m.exits(3, append([]string{file, "--key", s.Signer.Public}, b.args...)...)
	last := found[len(found)-1]
	if last.State == "verified" || last.Error == nil || last.Error.Class != b.class {
		s.t.Errorf("%+v with error %+v, want class %s", last, last.Error, b.class)
		return
	}
	if b.class == "held" {
		s.wantOneLine(r.Stderr, b.words...)
	} else if !strings.Contains(r.Stderr+last.Error.Message, b.words[0]) {
		s.t.Errorf("error %+v\n%s", last.Error, r.Stderr)
	}
	s.wantOneLine(r.Stderr, "not delivered yet, and safe in")
	if state := m.status(last); state != b.state {
		s.t.Errorf("in the store it is %s, want %s", state, b.state)
	}
}

// status returns the state of a delivery that the store knows.
func (m *machine) status(d delivery) string {
	t := m.site.t
	t.Helper()
	r := m.Run("status", d.Key, "-o", "json")
	for lines := json.NewDecoder(strings.NewReader(r.Stdout)); lines.More(); {
		var row struct {
			Key, State string
			Target     struct{ Name string }
		}
		if err := lines.Decode(&row); err != nil {
			t.Fatalf("reading %q: %v", r.Stdout, err)
		}
		if row.Key == d.Key && row.Target.Name == d.Target {
			return row.State
		}
	}
	t.Fatalf("status: %d, without %s to %s\n%s%s", r.Code, d.Key, d.Target, r.Stdout, r.Stderr)
	return ""
}

// logURL and logKey change the configuration and return what was there.
func (m *machine) logURL(url string) (before string) {
	l := m.config.Targets[theLog].Log
	before, l.URL = l.URL, url
	return before
}

func (m *machine) logKey(key string) (before string) {
	l := m.config.Targets[theLog].Log
	before, l.Key = l.Key, key
	return before
}

// anotherKey returns a public key of the same sort as the log's.
func anotherKey(s *Site) string {
	if s.Log.Version() == 1 {
		return newSigner(s.t).Public
	}
	return servers.Ed25519(s.t).Public
}

// BadRegistry pushes to registries with which something is wrong. The log gets its entry once
// all the same.
func BadRegistry(t *testing.T, s *Site) {
	login := servers.Login{User: "ci", Password: "secret"}
	for _, r := range Registries {
		for _, b := range []badDay{
			{
				name: "no login", state: "queued", class: "held", words: []string{"is held", "docker login", "mend that"},
				upset: func(s *Site, m *machine) func() { return func() { m.LogIn(s.Door.Host, login) } },
			},
			{
				name: "wrong login", state: "queued", class: "held", words: []string{"is held", "docker login", "mend that"},
				upset: func(s *Site, m *machine) func() {
					m.LogIn(s.Door.Host, servers.Login{User: "ci", Password: "wrong"})
					return func() { m.LogIn(s.Door.Host, login) }
				},
			},
			{
				name: "no rights to write", state: "unknown", class: "held", words: []string{"is held", "docker login", "mend that"},
				upset: func(s *Site, m *machine) func() {
					m.LogIn(s.Door.Host, login)
					s.Door.On(func(method, _ string) bool { return method != "GET" && method != "HEAD" }, -1,
						servers.Answer(http.StatusForbidden, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`))
					return s.Door.Clear
				},
			},
		} {
			t.Run(r.Name+" "+b.name, func(t *testing.T) {
				t.Parallel()
				s := s.beside(t).With(r, login)
				m := s.machine()
				mend := b.upset(s, m)
				file := s.signed(s.statement(1))
				b.suffer(s, m, file)
				if artifacts := s.Registry.Referrers(repository, s.Image); len(artifacts) != 0 {
					t.Errorf("published: %v", artifacts)
				}
				mend()
				d := m.push(file)
				s.wantOneArtifact(d[1].Receipt.OCI.Digest)
				s.wantEntry(s.statement(1))
			})
		}
		t.Run(r.Name+" unreachable", func(t *testing.T) {
			t.Parallel()
			withoutRegistry(s.beside(t).With(r, servers.Login{}))
		})
		t.Run(r.Name+" without the subject", func(t *testing.T) {
			t.Parallel()
			withoutSubject(s.beside(t).With(r, servers.Login{}))
		})
	}
}

// withoutRegistry pushes while the registry can't be asked. It may know the entry already, so
// the log waits for it as well.
func withoutRegistry(s *Site) {
	s.Door.On(servers.Requests("", ""), -1, servers.Cut())
	m := s.machine()
	found, r := m.exits(3, s.signed(s.statement(1)), "--key", s.Signer.Public, "--wait", wait)
	if e := found[0].Error; e == nil || !strings.Contains(e.Message, s.Door.Host) || !strings.Contains(e.Message, "can't be asked") {
		s.t.Errorf("%+v with error %+v", found[0], e)
	}
	s.wantOneLine(r.Stderr, "2 of 2 not delivered yet, and safe in")
	for _, d := range found {
		if state := m.status(d); state != "queued" {
			s.t.Errorf("%s is %s", d.Target, state)
		}
	}
	if n := s.sent(); n != 0 {
		s.t.Errorf("sent %d times to the log", n)
	}
	s.Door.Clear()
	s.wantOneArtifact(m.push(s.signed(s.statement(1)))[1].Receipt.OCI.Digest)
	s.wantEntry(s.statement(1))
}

// withoutSubject attaches to an image that is not there: that delivery fails for good, in one
// line, and works as soon as the image is pushed.
func withoutSubject(s *Site) {
	present := s.Image
	s.Image = "sha256:" + strings.Repeat("cd", 32)
	m := s.machine()
	found, _ := m.exits(1, s.signed(s.statement(1)), "--key", s.Signer.Public)
	d := found[1]
	if found[0].State != "verified" || d.State != "failed" || d.Error == nil || d.Error.Class != "permanent" ||
		!strings.Contains(d.Error.Message, "not") || !strings.Contains(d.Error.Message, s.Image) {
		s.t.Errorf("%+v\n%+v with error %+v", found[0], d, d.Error)
	}
	s.wantEntry(s.statement(1))
	if tags := s.Registry.Tags(repository); len(tags) != 1 {
		s.t.Errorf("published: %q", tags)
	}
	s.Image = present

	// One that comes later. The same content always makes the same image.
	s.Image = servers.ImageDigest(s.t, "another application")
	file := s.signed(s.statement(2))
	if found, _ = m.exits(1, file, "--key", s.Signer.Public); found[1].Error == nil {
		s.t.Errorf("%+v", found[1])
	}
	s.Registry.PushImage(repository, "v2", "another application")
	s.wantOneArtifact(m.push(file)[1].Receipt.OCI.Digest)
	s.wantEntry(s.statement(2))
}
