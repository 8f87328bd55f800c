package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/trigger"
)

// slow takes a tenth of the lease to say what an envelope is about.
type slow struct{ database }

func (d slow) Facts(ctx context.Context, key lodge.Key, signer lodge.Signer) (trigger.Facts, error) {
	<-time.After(shortLease / 10)
	return d.database.Facts(ctx, key, signer)
}

// TestLongPage has a page of events take several times as long as the lease.
func TestLongPage(t *testing.T) {
	w := newWorld(t)
	w.apply("app: component:app")
	components := []string{"app"} // more than an event shows
	for i := range lodge.MaxEventScopes {
		components = append(components, fmt.Sprint("c", i))
	}
	for i := range 40 {
		w.lodge(sbom(fmt.Sprint(i), components...), "s")
	}
	d := slow{database{w.store}}
	ctx, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	done := make(chan error, 1)
	go func() {
		done <- trigger.New(trigger.Config{Outbox: d, Leases: d, Lease: shortLease}).Run(ctx)
	}()
	for len(w.requests()) < 40 && ctx.Err() == nil {
		<-time.After(shortLease / 4)
	}
	end()
	w.ok(<-done)
	if n := len(w.requests()); n != 40 {
		t.Errorf("%d requests, want 40", n)
	}
}

// TestPolicyOfLater reads a policy that this engine does not understand: it says so until
// the policy is mended, and leaves out neither that one nor those that were applied with it.
func TestPolicyOfLater(t *testing.T) {
	w := newWorld(t)
	w.apply("before: component:app")
	_, err := w.store.ApplyPolicy(t.Context(), lodge.AppliedPolicy{Name: "later", Revision: image, Body: []byte(`{"name":7}`)}, time.Now())
	w.ok(err)
	key := w.lodge(sbom("1", "app"), "s")
	ctx, end := context.WithCancel(t.Context())
	end()
	e := w.engine(w.store)
	for range 2 {
		if err := e.Run(ctx); err == nil {
			t.Error("the engine went on without a policy")
		}
	}
	w.apply("later: component:app")
	w.ok(e.Run(ctx))
	if got := w.asked(key); got != "before later" {
		t.Errorf("asked: %q", got)
	}
}

// flaky fails while it is down.
type flaky struct {
	database
	down *atomic.Bool
}

func (d flaky) Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error) {
	if d.down.Load() {
		return nil, errors.New("the disk is gone")
	}
	return d.database.Events(ctx, after, limit)
}

// TestSaysEachOutage: an outage is told once, and so is its end, of the second one too.
func TestSaysEachOutage(t *testing.T) {
	said := make(lines, 100)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(said, nil)))
	defer slog.SetDefault(before)
	w := newWorld(t)
	d := flaky{database{w.store}, &atomic.Bool{}}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	done := make(chan error, 1)
	go func() { done <- trigger.New(trigger.Config{Outbox: d, Leases: d}).Run(ctx) }()
	for i := range 4 {
		d.down.Store(i%2 == 0)
		want := []string{"no policy is triggered", "triggered again"}[i%2]
		select {
		case line := <-said:
			if !strings.Contains(line, want) {
				t.Errorf("it says %s, want %q", line, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nobody said %q", want)
		}
	}
	end()
	w.ok(<-done)
}

// lines are what is written, line by line.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestLargeEvent: what an event has no room for is read from the envelope.
func TestLargeEvent(t *testing.T) {
	w := newWorld(t)
	w.apply("app: component:app", "other: component:other")
	components := []string{"app"}
	for i := range 300 {
		components = append(components, fmt.Sprint(i, strings.Repeat("x", 2000)))
	}
	if got := w.asked(w.lodge(sbom("1", components...), "s")); got != "app" {
		t.Errorf("asked %q", got)
	}
}
