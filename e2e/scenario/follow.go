package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// shows is a place where a log is read that can show another one from now on.
type shows struct {
	*servers.Proxy
	now atomic.Pointer[http.Handler]
}

func (s *Site) shows(log Log) *shows {
	s.t.Helper()
	v := &shows{}
	v.show(s.t, log)
	v.Proxy = servers.StartProxy(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*v.now.Load()).ServeHTTP(w, r) }))
	return v
}

func (v *shows) show(t *testing.T, log Log) {
	t.Helper()
	h := servers.Forward(log.Front(t).URL)
	v.now.Store(&h)
}

// copied starts a log with the key and entries of another, from which on they grow apart.
func (s *Site) copied(log Log) Log {
	s.t.Helper()
	switch l := log.(type) {
	case *servers.RekorV1:
		return l.Copy(s.t)
	case *servers.RekorV2:
		return l.Copy(s.t)
	}
	s.t.Fatalf("a log of type %T", log)
	return nil
}

// follows returns a site whose log is seen through a place that can show another one, and a
// machine that follows it.
func (s *Site) follows() (*Site, *shows, *machine) {
	s.t.Helper()
	v := s.shows(s.Log)
	seen := *s
	seen.Front = v.Proxy
	m := seen.machine()
	m.config.Follow = []string{theLog}
	m.config.Watch = &watchList{Every: "100ms", Patience: "2s", Ours: true}
	return &seen, v, m
}

// others adds n entries to a log, by somebody who has nothing to do with the site.
func (s *Site) others(log Log, n int) {
	s.t.Helper()
	other := NewSite(s.t, log)
	m := other.machine()
	if _, r := m.run(nil, other.batch(n), "--key", other.Signer.Public, "--wait", "4m"); r.Code != 0 {
		s.t.Fatalf("adding %d entries: exit status %d\n%s", n, r.Code, r.Stderr)
	}
}

// logStatus is a line of log list -o json.
type logStatus struct {
	Name, Held string
	Shards     []struct {
		Origin                                              string
		Head                                                struct{ Size int64 }
		Next, Quarantined, Unsearched, VerifiedThrough, Lag int64
		Speed, Remaining                                    float64
		Alarm                                               *struct{ Code, Message string }
	}
}

// alarm is the code of what is wrong with the log.
func (l logStatus) alarm() string {
	if len(l.Shards) == 0 || l.Shards[0].Alarm == nil {
		return ""
	}
	return l.Shards[0].Alarm.Code
}

func (m *machine) log(args ...string) servers.Result {
	m.site.t.Helper()
	return m.Run(append([]string{"log"}, args...)...)
}

// conf writes the configuration and returns the flag that names it.
func (m *machine) conf() string {
	m.site.t.Helper()
	return "--config=" + m.site.write("lodge.yaml", m.site.encode(m.config))
}

// stands returns how the log stands in the machine's store.
func (m *machine) stands() (l logStatus) {
	m.site.t.Helper()
	r := m.log("list", "-o", "json")
	if err := json.NewDecoder(strings.NewReader(r.Stdout)).Decode(&l); err != nil {
		m.site.t.Fatalf("lodge log list: exit status %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	return l
}

// checks looks at the log once and wants that exit status.
func (m *machine) checks(code int) (logStatus, servers.Result) {
	m.site.t.Helper()
	r := m.log("check", m.conf())
	if r.Code != code {
		m.site.t.Fatalf("lodge log check: exit status %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	return m.stands(), r
}

// await waits until the log stands so.
func (m *machine) await(what string, is func(logStatus) bool) logStatus {
	m.site.t.Helper()
	var l logStatus
	err := servers.Await(m.site.t.Context(), 2*time.Minute, func(context.Context) error {
		if l = m.stands(); !is(l) {
			return fmt.Errorf("want %s; it is %+v", what, l)
		}
		return nil
	})
	if err != nil {
		m.site.t.Fatal(err)
	}
	return l
}

// read tells whether all of n entries were read and verified, and nothing is wrong.
func read(n int64) func(logStatus) bool {
	return func(l logStatus) bool {
		return len(l.Shards) > 0 && l.Shards[0].Next == n && l.Shards[0].VerifiedThrough == n-1 && l.alarm() == "" && l.Held == ""
	}
}

// wantProof takes the proof that the log diverged out of a machine, and judges it elsewhere with
// the log's key alone.
func (m *machine) wantProof() {
	m.site.t.Helper()
	dir := m.site.t.TempDir()
	m.log("check", m.conf(), "--proofs", dir)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		m.site.t.Fatalf("proofs %q, %v", files, err)
	}
	key, origin := m.site.Log.Trust()
	if r := m.Fresh().Run("verify", files[0], "--log-key", key, "--log-origin", origin); r.Code != 0 || !strings.Contains(r.Stdout, "diverged") {
		m.site.t.Errorf("lodge verify: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := m.Fresh().Run("verify", files[0], "--log-key", anotherKey(m.site), "--log-origin", origin); r.Code == 0 {
		m.site.t.Errorf("a proof under another key: %s", r.Stdout)
	}
}

func (m *machine) wantCalm() {
	m.site.t.Helper()
	for _, e := range m.events() {
		if n := e.name(); n == "CheckpointDiverged" || n == "CheckpointRejected" || n == "TargetHeld" {
			m.site.t.Errorf("%s: %s", n, e.Data.Reason)
		}
	}
}

// CheckpointUpdates follows a log from before its first entry, through a restart.
func CheckpointUpdates(t *testing.T, s *Site) {
	s, _, m := s.follows()
	m.Run("log", "check", m.conf()) // makes the store
	follower := m.Start("log", "follow", m.conf(), "-o", "json")
	m.await("an empty log", read(0))
	other := s.machine()
	for n := range 3 {
		other.push(s.signed(s.statement(n)))
		m.await("the entry", read(int64(n)+1))
	}
	s.Log.Restart()
	s.others(s.Log, 300)
	m.await("all entries", read(303))
	follower.Stop()
	sizes := 0
	for _, e := range m.events("--type", "CheckpointUpdated") {
		if e.Subject == "" || !strings.HasSuffix(e.Source, e.Subject) {
			t.Errorf("%+v", e)
		}
		sizes++
	}
	if sizes < 4 || strings.Count(follower.Log(), "CheckpointUpdated") < 4 {
		t.Errorf("%d events\n%s", sizes, follower.Log())
	}
	m.wantCalm()
	m.checks(0)
}

// NewEntriesFound finds what is ours, what others sign about the same, and what a list names.
func NewEntriesFound(t *testing.T, s *Site) {
	s, _, m := s.follows()
	payload := s.statement(1)
	ours := m.push(s.signed(payload))[0]
	listed := newSigner(t)
	m.config.Watch.Keys = []string{listed.Public}
	m.checks(0)

	by := func(key servers.KeyPair, payload []byte) int64 {
		file := s.write("envelope.json", s.envelope(payload, key.Signer, sha256Opts))
		found, _ := s.machine().exits(0, file, "--key", key.Public)
		return found[0].Receipt.Log.LogIndex
	}
	first, second := by(listed, s.statement(2)), by(newSigner(t), payload)
	by(newSigner(t), s.statement(3))
	m.checks(0)
	observed := m.events("--type", "EntryObserved")
	if len(observed) != 2 {
		t.Fatalf("%d entries observed: %+v", len(observed), observed)
	}
	if o := observed[0]; o.Data.LogIndex != first || o.Data.Because[0].Kind != "key" {
		t.Errorf("%+v", o)
	}
	if o := observed[1]; o.Data.LogIndex != second || o.Data.Because[0].Kind != "ours" || o.Subject != ours.Key || o.Data.Hints == nil {
		t.Errorf("%+v", o)
	}
	if s.Log.Version() == 2 { // v1 finds the first by its index
		again := by(s.Signer, payload)
		m.checks(0)
		if d := s.only(m.events("--type", "DuplicateObserved"), "DuplicateObserved"); d.Data.LogIndex != again || d.Subject != ours.Key {
			t.Errorf("%+v", d)
		}
	}
	m.wantCalm()
}

// RollbackRejected restores a backup of the log: that is alarmed, and holds the target once
// it persists.
func RollbackRejected(t *testing.T, s *Site) {
	s, v, m := s.follows()
	s.others(s.Log, 5)
	backup := s.copied(s.Log)
	s.others(s.Log, 7)
	m.checks(0)
	v.show(t, backup)
	if l, _ := m.checks(1); l.alarm() != "rolled-back" || l.Held != "" {
		t.Errorf("%+v", l)
	}
	err := servers.Await(t.Context(), time.Minute, func(context.Context) error {
		if l, _ := m.checks(1); l.Held != "rolled-back" {
			return fmt.Errorf("%+v", l)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	events := m.events()
	if s.only(events, "CheckpointRejected").Data.Reason != "rolled-back" || slices.Contains(names(events), "CheckpointDiverged") {
		t.Errorf("%q", names(events))
	}
	v.show(t, s.Log)
	if r := m.log("resume", theLog); r.Code != 0 {
		t.Errorf("resume: %s", r.Stderr)
	}
	if l, _ := m.checks(0); !read(12)(l) {
		t.Errorf("%+v", l)
	}
}

// forks has a machine follow the log, and then shows it another tree with the same key.
func (s *Site) forks(v *shows, m *machine) Log {
	s.t.Helper()
	s.others(s.Log, 5)
	fork := s.copied(s.Log)
	s.others(s.Log, 4)
	s.others(fork, 6)
	m.checks(0)
	v.show(s.t, fork)
	return fork
}

// ForkDetected shows another tree at the same place.
func ForkDetected(t *testing.T, s *Site) {
	s, v, m := s.follows()
	s.forks(v, m)
	l, r := m.checks(1)
	if l.alarm() != "diverged" || l.Held != "diverged" || l.Shards[0].Head.Size != 9 {
		t.Errorf("%+v", l)
	}
	s.wantOneLine(r.Stderr, "DIVERGED", "trees of 9 and of 11")
	m.wantProof()
	s.only(m.events(), "CheckpointDiverged")
}

// TwoViewsDetected shows two trees at two places at the same time.
func TwoViewsDetected(t *testing.T, s *Site) {
	s, _, m := s.follows()
	s.others(s.Log, 5)
	mirror := s.copied(s.Log)
	m.config.Targets[theLog].Log.Mirrors = []string{s.mirror(mirror)}
	m.checks(0) // the same
	s.others(mirror, 3)
	s.others(s.Log, 6)
	l, r := m.checks(1)
	if l.alarm() != "diverged" || l.Held != "diverged" {
		t.Errorf("%+v", l)
	}
	s.wantOneLine(r.Stderr, "DIVERGED", "trees of 8 and of 11")
	m.wantProof()
}

// mirror is where a log is read.
func (s *Site) mirror(log Log) string {
	s.t.Helper()
	if l, ok := log.(*servers.RekorV2); ok {
		return l.ReadURL
	}
	return log.Front(s.t).URL
}

// DivergenceSurvivesRestart kills the daemon that has caught a log: the next one knows it, and
// so does a second one on the same store.
func DivergenceSurvivesRestart(t *testing.T, s *Site) {
	s, v, m := s.follows()
	fork := s.forks(v, m)
	daemon := m.Start("serve", m.conf())
	m.await("a held target", func(l logStatus) bool { return l.Held == "diverged" })
	daemon.Kill()
	size := fork.Size()
	for range 2 {
		m.Start("serve", m.conf())
	}
	found, _ := m.exits(3, s.signed(s.statement(100)), "--key", s.Signer.Public, "--wait", "5s")
	if found[0].State != "queued" || fork.Size() != size {
		t.Errorf("%+v; the log has %d entries, had %d", found[0], fork.Size(), size)
	}
	events := names(m.events())
	if slices.Contains(events, "InclusionVerified") || slices.Contains(events, "TargetResumed") {
		t.Errorf("%q", events)
	}
	s.only(m.events(), "CheckpointDiverged")
}

// HeldUntilResumed sends nothing to a log that has diverged until an operator says so; then
// what has waited is delivered.
func HeldUntilResumed(t *testing.T, s *Site) {
	s, v, m := s.follows()
	fork := s.forks(v, m)
	m.checks(1)
	file := s.signed(s.statement(100))
	size := fork.Size()
	m.exits(3, file, "--key", s.Signer.Public, "--wait", "30s")
	m.checks(1)
	if fork.Size() != size {
		t.Errorf("the log has %d entries, had %d", fork.Size(), size)
	}
	if r := m.log("resume", theLog); r.Code != 0 {
		t.Fatalf("resume: %s", r.Stderr)
	}
	if l, _ := m.checks(0); !read(size)(l) {
		t.Errorf("%+v", l)
	}
	if d := m.push(file)[0]; d.Receipt.Log.LogIndex != size {
		t.Errorf("%+v", d)
	}
	m.checks(0)
	s.only(m.events(), "CheckpointDiverged")
}

// LostReplyFoundByFollower loses the answer to a submission: the daemon that follows the log
// finds the entry long before the settle time is over.
func LostReplyFoundByFollower(t *testing.T, s *Site) {
	s, v, m := s.follows()
	log := m.config.Targets[theLog]
	log.Settle = "10m"
	m.config.Targets[theLog] = log
	v.On(s.submissions(), 1, servers.Applied(servers.Cut()))
	m.Start("serve", m.conf())
	payload := s.statement(1)
	found, r := m.run(nil, s.signed(payload), "--key", s.Signer.Public, "--wait", "2m")
	if r.Code != 0 || len(found) != 1 || found[0].State != "verified" {
		t.Fatalf("exit status %d, %+v\n%s", r.Code, found, r.Stderr)
	}
	if found[0].Attempts < 2 || v.Count(s.submissions()) != 1 {
		t.Errorf("%d attempts, sent %d times", found[0].Attempts, v.Count(s.submissions()))
	}
	s.wantEntry(payload)
	m.wantCalm()
}
