package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/storetest"
)

// TestSinksSurviveKill: file and webhook get 10,000 events that happened while they were
// down, although the daemon is killed twice meanwhile.
func TestSinksSurviveKill(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, storetest.SQLite(t))
	first := w.serve()
	w.until("the file has some", func() bool { return w.lines() > 0 })
	w.kill(first)
	second := w.serve()
	w.until("the webhook has some", func() bool { return w.hooks() > 2_000 })
	w.kill(second)
	w.serve()
	w.wantAll()
}

// TestSinksAreTakenOver: of two replicas on PostgreSQL one owns each sink. When it is killed,
// the other goes on.
func TestSinksAreTakenOver(t *testing.T) {
	t.Parallel()
	w := newSinkWorld(t, storetest.Postgres(t))
	first := w.serve()
	w.until("the webhook has some", func() bool { return w.hooks() > 100 })
	w.serve()
	before := w.hooks()
	w.until("the webhook has more", func() bool { return w.hooks() > before+500 })
	if n := w.repeated(); n > 0 {
		t.Errorf("%d events came twice from two replicas", n)
	}
	w.kill(first)
	w.wantAll()
}

// sinkWorld is a store with 10,000 events, and a daemon's configuration with a file and a
// webhook that gets them.
type sinkWorld struct {
	t      *testing.T
	folder string
	last   int // sequence of the last event

	mu      sync.Mutex
	seen    map[string]int    // posts by id
	highest map[string]string // sequence by subject, padded
	wrong   []string
}

func newSinkWorld(t *testing.T, address string) *sinkWorld {
	t.Helper()
	w := &sinkWorld{t: t, folder: t.TempDir(), seen: map[string]int{}, highest: map[string]string{}}
	rekor, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	log := httptest.NewServer(rekor)
	t.Cleanup(log.Close)
	hook := httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(hook.Close)
	for name, content := range map[string][]byte{
		"log.pub":     rekor.PublicPEM(),
		"hook.secret": []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"),
		"lodge.yaml": fmt.Appendf(nil, `store: %q
targets: {test: {log: {url: %q, key: log.pub, origin: log.test}}}
events: {file: events.jsonl, webhooks: [{url: %q, secretFile: hook.secret}]}
`, address, log.URL, hook.URL),
	} {
		if err := os.WriteFile(filepath.Join(w.folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.happen(address, lodge.Target{Name: "test", Kind: lodge.KindLog, Address: log.URL})
	return w
}

// happen makes 10,000 events and more, as if deliveries had been made.
func (w *sinkWorld) happen(address string, target lodge.Target) {
	w.t.Helper()
	ctx := w.t.Context()
	s, err := store.Open(ctx, address)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Register(ctx, target); err != nil {
		w.t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 64 {
		writers.Go(func() {
			for n := i; n < 3_400; n += 64 {
				now := time.Now()
				sub := lodge.Submission{Key: lodge.DigestOf(fmt.Append(nil, n)), Signer: "signer", Raw: []byte("raw")}
				accepted, err := s.Accept(ctx, sub, []lodge.Order{{Target: target}}, now)
				if err != nil {
					w.t.Error(err)
					return
				}
				d := accepted[0].Delivery
				d.State, d.Receipt = lodge.Verified, &lodge.Receipt{Log: &lodge.LogReceipt{LogID: "ab", LogIndex: d.ID}}
				if err := s.Advance(ctx, lodge.Change{Delivery: d, From: lodge.Queued, Events: []lodge.Event{
					lodge.LogEvent(lodge.EntryLogged, d, now), lodge.LogEvent(lodge.InclusionVerified, d, now)}}, now); err != nil {
					w.t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	last, err := s.LastSequence(ctx)
	if err != nil || last < 10_000 {
		w.t.Fatal(last, err)
	}
	w.last = int(last)
}

// cloudEvent is what is looked at of an event.
type cloudEvent struct{ ID, Subject, Sequence string }

func (w *sinkWorld) receive(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var e cloudEvent
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sequence := fmt.Sprintf("%020s", e.Sequence)
	switch {
	case err != nil:
		w.wrong = append(w.wrong, err.Error())
	case r.Header.Get("webhook-id") != e.ID:
		w.wrong = append(w.wrong, "a repeat can't be told: webhook-id "+r.Header.Get("webhook-id"))
	case w.seen[e.ID] == 0 && sequence < w.highest[e.Subject]:
		w.wrong = append(w.wrong, "event "+sequence+" came after "+w.highest[e.Subject])
	}
	w.seen[e.ID]++
	w.highest[e.Subject] = max(w.highest[e.Subject], sequence)
}

// serve starts a daemon.
func (w *sinkWorld) serve() *exec.Cmd {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "lodge", "serve", "--config", filepath.Join(w.folder, "lodge.yaml"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been killed
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("%s", log.Bytes())
		}
	})
	return cmd
}

func (w *sinkWorld) kill(cmd *exec.Cmd) {
	w.t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

func (w *sinkWorld) until(what string, so func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if <-tick.C; time.Now().After(deadline) {
			w.t.Fatalf("not so after 2m: %s (file %d, webhook %d of %d)", what, w.lines(), w.hooks(), w.last)
		}
	}
}

func (w *sinkWorld) file() []byte {
	raw, err := os.ReadFile(filepath.Join(w.folder, "events.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return raw
}

func (w *sinkWorld) lines() int { return bytes.Count(w.file(), []byte("\n")) }

// hooks is how many different events the webhook has got.
func (w *sinkWorld) hooks() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// repeated is how many events the webhook has got more than once.
func (w *sinkWorld) repeated() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, posts := range w.seen {
		if posts > 1 {
			n++
		}
	}
	return n
}

// wantAll waits until both sinks have everything. The file holds each event once, in order;
// the webhook has got each, in order per subject.
func (w *sinkWorld) wantAll() {
	w.t.Helper()
	w.until("all events are there", func() bool { return w.lines() >= w.last && w.hooks() >= w.last })
	n := 0
	for line := range bytes.Lines(w.file()) {
		n++
		var e cloudEvent
		if err := json.Unmarshal(line, &e); err != nil || e.Sequence != fmt.Sprint(n) {
			w.t.Fatalf("line %d has event %s, %v", n, e.Sequence, err)
		}
	}
	if n != w.last || w.hooks() != w.last {
		w.t.Errorf("file %d, webhook %d, want %d", n, w.hooks(), w.last)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrong) > 0 {
		w.t.Errorf("%d wrong posts, such as %s", len(w.wrong), w.wrong[0])
	}
}
