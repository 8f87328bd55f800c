package watch_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

const (
	patience = 100 * time.Millisecond
	longest  = 30 * time.Second // that anything may take
)

// world is a log, a store, and whoever follows the one and keeps it in the other.
type world struct {
	*testing.T
	version rekor.Version
	log     *logtest.Log
	address string
	target  lodge.Target
	list    watch.List
	mirrors []watch.View
	sources []watch.Source // in place of the log alone
	fromNow bool
	recheck time.Duration
	waits   time.Duration // before a rollback holds the target
	store   *store.Store  // of the test itself
}

// onBoth runs a test on a log of each version.
func onBoth(t *testing.T, test func(w *world)) {
	for _, version := range []rekor.Version{rekor.Version1, rekor.Version2} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			t.Parallel()
			test(newWorld(t, version))
		})
	}
}

func newWorld(t *testing.T, version rekor.Version) *world {
	t.Helper()
	w := &world{T: t, version: version, address: "sqlite:" + filepath.Join(t.TempDir(), "lodge.db"), recheck: time.Hour, waits: patience,
		target: lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}}
	var err error
	if version == rekor.Version1 {
		w.log, err = logtest.NewV1("log.test")
	} else {
		w.log, err = logtest.NewV2("log.test")
	}
	w.ok(err)
	w.store = w.open()
	w.ok(w.store.Register(t.Context(), w.target))
	return w
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// open opens the store as one more process would.
func (w *world) open() *store.Store {
	w.Helper()
	s, err := store.Open(w.Context(), w.address)
	w.ok(err)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

// view reads a log.
func (w *world) view(log *logtest.Log) watch.Log {
	w.Helper()
	o := rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{w.log.Key()}}
	var v watch.Log
	var err error
	if w.version == rekor.Version1 {
		v, err = rekor.NewV1Reader(o)
	} else {
		v, err = rekor.NewV2Reader(o)
	}
	w.ok(err)
	return v
}

func (w *world) follower(s *store.Store) *watch.Follower {
	w.Helper()
	sources := w.sources
	if sources == nil {
		sources = []watch.Source{{Log: w.view(w.log), Mirrors: w.mirrors}}
	}
	f, err := watch.New(watch.Config{
		Target: w.target, Sources: sources, Leases: s, List: w.list,
		Under: func(name string, term int64) watch.Store { return s.Under(name, term) },
		Every: 5 * time.Millisecond, Patience: w.waits, Recheck: w.recheck, FromNow: w.fromNow,
	})
	w.ok(err)
	return f
}

// follow starts a process that follows the log, until stop is called or the test ends.
func (w *world) follow() (stop func()) {
	w.Helper()
	f := w.follower(w.open())
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
	w.Cleanup(stop)
	return stop
}

// await waits until what is true.
func (w *world) await(what string, is func() bool) {
	w.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(longest); !is(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatalf("not in time: %s; shard %+v, events %v", what, w.shard(), w.events())
		}
	}
}

// shard returns what is known of the log's shard.
func (w *world) shard() lodge.Shard {
	w.Helper()
	shards, err := w.store.Shards(w.Context(), w.target.Address)
	w.ok(err)
	if len(shards) == 0 {
		return lodge.Shard{Head: lodge.TreeHead{Size: -1}, FirstBad: -1}
	}
	return shards[0]
}

func (w *world) awaitRead(size int64) {
	w.Helper()
	w.await(fmt.Sprintf("%d entries read", size), func() bool { return w.shard().Next == size })
}

// awaitLook waits until so many requests for checkpoints more were made.
func (w *world) awaitLooks(n int) {
	w.Helper()
	path := "/checkpoint"
	if w.version == rekor.Version1 {
		path = "GET /api/v1/log"
	}
	before := w.log.Requests(path)
	w.await("looks", func() bool { return w.log.Requests(path) >= before+n })
}

func (w *world) events() (names []string) {
	w.Helper()
	events, err := w.store.Events(w.Context(), 0, 10_000)
	w.ok(err)
	for _, e := range events {
		names = append(names, e.Type.Name())
	}
	return names
}

func (w *world) count(name string) (n int) {
	w.Helper()
	for _, e := range w.events() {
		if e == name {
			n++
		}
	}
	return n
}

func (w *world) held() string {
	w.Helper()
	code, _, err := w.store.Held(w.Context(), w.target.Address)
	w.ok(err)
	return code
}

func (w *world) add(n int) {
	for range n {
		w.log.Append(fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"other","number":%d}`, w.log.Size()))
	}
}

// wantCalm fails the test where anything was raised that would call an operator.
func (w *world) wantCalm() {
	w.Helper()
	if code := w.held(); code != "" {
		w.Errorf("the target is held: %s", code)
	}
	if events := w.events(); slices.Contains(events, "CheckpointDiverged") || slices.Contains(events, "CheckpointRejected") {
		w.Errorf("an alarm: %v", events)
	}
}

// wantDiverged waits for the proof and judges it with the log's key alone.
func (w *world) wantDiverged() lodge.Divergence {
	w.Helper()
	w.await("divergence", func() bool { return w.held() == lodge.CodeDiverged })
	found, err := w.store.Divergences(w.Context(), w.target.Address)
	w.ok(err)
	if len(found) != 1 || w.count("CheckpointDiverged") != 1 || w.count("TargetHeld") != 1 {
		w.Fatalf("%d divergences, events %v", len(found), w.events())
	}
	d, err := tlog.ParseDivergence(found[0].Proof)
	w.ok(err)
	if _, _, err := d.Check(w.log.Key()); err != nil {
		w.Errorf("the proof: %v", err)
	}
	return found[0]
}
