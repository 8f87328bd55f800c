package deliver_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/store"
)

func TestDeadline(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(t *deliver.Target) { t.Deadline = 10 * time.Minute }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		d := i.push(w.statement(1), true)
		if d[0].State != lodge.Failed || d[0].Err.Code != "deadline" || !strings.Contains(d[0].Err.Message, "refused") {
			t.Errorf("after its deadline: %s, %+v", d[0].State, d[0].Err)
		}
		if d[1].State != lodge.Failed || d[1].Err.Class != lodge.ClassDependency {
			t.Errorf("what requires it: %s, %+v", d[1].State, d[1].Err)
		}
		if took := time.Since(d[0].Accepted); took < 10*time.Minute || took > 12*time.Minute {
			t.Errorf("it was given up after %s", took)
		}
	})
}

// TestProbeAsks: a held target is resumed by what has asked it, not by what ends without; and what
// ends without does not keep those waiting that ask.
func TestProbeAsks(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(t *deliver.Target) { t.Deadline = 10 * time.Minute }
		source, stop := w.open(w.newPath(), nil)
		known := w.keyless(1)
		first := source.acceptKeyless(known)
		first[0].Delivery = source.await(first[0].Delivery)
		w.verified(first...)
		proof, err := source.store.Proof(t.Context(), first[0].ID)
		must(t, err)
		proof.Entry.Receipt = *first[0].Receipt.Log
		stop()

		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 401, Count: -1})
		var expired []lodge.Accepted
		for k := range 20 {
			expired = append(expired, i.accept(w.statement(k), false)...)
		}
		pass(14 * time.Minute)
		adopted := i.acceptKeyless(known, proof.Entry)
		waiting := i.accept(w.statement(20), false)
		pass(2 * time.Minute) // with the probe after 15 minutes
		for _, d := range expired {
			if d := i.await(d.Delivery); d.State != lodge.Failed || d.Err.Code != "deadline" {
				t.Fatalf("after its deadline: %s, %v", d.State, d.Err)
			}
		}
		adopted[0].Delivery = i.await(adopted[0].Delivery)
		w.verified(adopted...)
		if code, _, err := i.store.Held(t.Context(), logAddress); code == "" || err != nil {
			t.Fatalf("resumed without being asked: %v", err)
		}

		w.log.Heal()
		pass(13 * time.Minute)
		last := i.accept(w.statement(21), false)
		pass(2 * time.Minute) // with the probe after 30 minutes
		if d := i.await(waiting[0].Delivery); d.State != lodge.Failed || d.Err.Code != "deadline" {
			t.Errorf("after its deadline: %s, %v", d.State, d.Err)
		}
		last[0].Delivery = i.await(last[0].Delivery)
		w.verified(last...)
		i.resumedOnce()
		w.leaves(2)
	})
}

// TestReadIsNoProbe: that a log can be read says nothing of whether it takes requests.
func TestReadIsNoProbe(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Lose: true, Apply: true, Count: 3})
		var accepted []lodge.Accepted
		for k := range 3 {
			accepted = append(accepted, i.accept(w.statement(k), false)...)
		}
		pass(time.Second)
		w.leaves(3)
		w.log.Inject(logtest.Fault{Status: 401, Count: -1})
		last := i.push(w.statement(3), false)
		pass(30 * time.Minute)
		for k := range accepted {
			accepted[k].Delivery = i.await(accepted[k].Delivery)
		}
		w.verified(accepted...)
		if code, _, err := i.store.Held(t.Context(), logAddress); code == "" || err != nil {
			t.Errorf("resumed by what was read: %v", err)
		}
		w.log.Heal()
		pass(20 * time.Minute)
		last[0].Delivery = i.await(last[0].Delivery)
		w.verified(last...)
		i.resumedOnce()
		w.leaves(4)
	})
}

// TestDeadlineBeginsAnew: whoever hands in again what was given up after its deadline gets
// all of that time once more.
func TestDeadlineBeginsAnew(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(t *deliver.Target) { t.Deadline = 10 * time.Minute }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		for n := range 2 {
			begin := time.Now()
			d := i.push(w.statement(1), false)[0]
			if took := time.Since(begin); d.State != lodge.Failed || d.Err.Code != "deadline" || took < 10*time.Minute || took > 12*time.Minute {
				t.Errorf("try %d: %s after %s: %v", n, d.State, took, d.Err)
			}
			pass(time.Hour)
		}
		begin := time.Now()
		a := i.accept(w.statement(1), false)
		pass(5 * time.Minute)
		w.log.Heal()
		a[0].Delivery = i.await(a[0].Delivery)
		w.verified(a...)
		if took := time.Since(begin); took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
		w.leaves(1)
	})
}

// slowWriter is a store that takes d of the time of each lease to write an intent.
type slowWriter struct {
	deliver.Store
	left *atomic.Int32
	d    time.Duration
}

func (s slowWriter) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	if change.State == lodge.Sending && s.left.Add(-1) >= 0 {
		pass(s.d)
	}
	return s.Store.Advance(ctx, change, now)
}

// TestSlowStore: where writing ahead took most of the lease, nothing is sent in what is left
// of it; no request is begun that has less than half of a lease.
func TestSlowStore(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var left atomic.Int32
		left.Store(2)
		i, stop := w.open(w.newPath(), func(s deliver.Store) deliver.Store { return slowWriter{s, &left, 20 * time.Second} })
		defer stop()
		a := i.accept(w.statement(1), false)
		path := fmt.Sprintf("POST /api/v%d/log/entries", w.version)
		for left.Load() > 0 {
			if n := w.log.Requests(path); n > 0 {
				t.Fatalf("%d submissions in what was left of a lease", n)
			}
			pass(time.Second)
		}
		a[0].Delivery = i.await(a[0].Delivery)
		w.verified(a...)
		w.leaves(1)
		if n := w.log.Requests(path); n != 1 || a[0].Sends != 3 {
			t.Errorf("%d submissions, of %d that were written ahead", n, a[0].Sends)
		}
	})
}

func TestRate(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(t *deliver.Target) { t.Rate = 2 }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		begin := time.Now()
		var accepted []lodge.Accepted
		for k := range 21 {
			accepted = append(accepted, i.accept(w.statement(k), false)...)
		}
		for k := range accepted {
			accepted[k].Delivery = i.await(accepted[k].Delivery)
		}
		w.verified(accepted...)
		if took := time.Since(begin); took < 9*time.Second || took > 15*time.Second {
			t.Errorf("21 deliveries at 2 a second took %s", took)
		}
	})
}

// elsewhere is a log that has taken the place of another under its name: it does not have the
// shard of the other, and no entry.
type elsewhere struct {
	deliver.Log
	sent atomic.Int32
}

func (e *elsewhere) Has(string) bool { return false }

func (e *elsewhere) Find(context.Context, *bundle.Attestation, lodge.Intent) (rekor.Found, error) {
	return rekor.Found{}, nil
}

func (e *elsewhere) Send(context.Context, *bundle.Attestation, lodge.Intent) (*lodge.Entry, error) {
	e.sent.Add(1)
	return nil, lodge.Errorf(lodge.ClassRetry, "busy", "not now")
}

// TestMovedLog: what one log may have is not sent to another that is given its name, until the
// first can be asked.
func TestMovedLog(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		path := w.newPath()
		i, stop := w.open(path, nil)
		w.log.Inject(logtest.Fault{Apply: true, Lose: true})
		d := i.accept(w.statement(1), false)[0].Delivery
		pass(settle / 2)
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		pass(time.Minute)
		stop()

		other := &elsewhere{}
		w.adjust = func(t *deliver.Target) {
			if t.Log != nil {
				other.Log, t.Log = t.Log, other
			}
		}
		i, stop = w.open(path, nil)
		pass(time.Hour)
		now, err := i.store.Delivery(t.Context(), d.ID)
		must(t, err)
		if now.State != lodge.Unknown || now.Err == nil || now.Err.Code != "shard-unknown" || other.sent.Load() != 0 {
			t.Errorf("under another log: %s, %v; sent %d times", now.State, now.Err, other.sent.Load())
		}
		stop()

		w.adjust = nil
		w.log.Heal()
		i, stop = w.open(path, nil)
		defer stop()
		if d = i.await(d); d.State != lodge.Verified {
			t.Errorf("under its own log: %s, %v", d.State, d.Err)
		}
		w.leaves(1)
	})
}

// TestQueuedMovedLog: what one log has refused for now goes to another that is given its name, also
// where that is of the other version.
func TestQueuedMovedLog(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		path := w.newPath()
		i, stop := w.open(path, nil)
		w.log.Inject(logtest.Fault{Status: http.StatusTooManyRequests, Count: -1})
		d := i.accept(w.statement(1), false)[0].Delivery
		pass(10 * time.Second)
		stop()
		other := newWorld(t, 3-w.version)
		w.log, w.version = other.log, other.version
		i, stop = w.open(path, nil)
		defer stop()
		if d = i.await(d); d.State != lodge.Verified {
			t.Errorf("under the other log: %s, %v", d.State, d.Err)
		}
		w.leaves(1)
	})
}

// far is a registry that takes its time to answer.
type far struct {
	http.RoundTripper
	d time.Duration
}

func (f far) RoundTrip(r *http.Request) (*http.Response, error) {
	pass(f.d)
	return f.RoundTripper.RoundTrip(r)
}

// TestManySubjects: the key tags of a statement about very many images are asked within one lease.
func TestManySubjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.registry = far{w.registry, 50 * time.Millisecond}
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		orders := []lodge.Order{{Target: logTarget}}
		for n := range 1000 {
			orders = append(orders, lodge.Order{Target: ociTarget, Subject: lodge.DigestOf(fmt.Append(nil, n)), Requires: []int{0}})
		}
		accepted, err := i.Accept(t.Context(), w.submission(w.statement(1)), orders)
		must(t, err)
		if d := i.await(accepted[0].Delivery); d.State != lodge.Verified || d.Attempt != 1 {
			t.Errorf("%s at the attempt %d: %v", d.State, d.Attempt, d.Err)
		}
	})
}

// TestRepositoryOfAnother: a repository that only another process on the store delivers to is asked
// for what it has.
func TestRepositoryOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		path := w.newPath()
		first, stopFirst := w.open(path, nil)
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		accepted := first.accept(w.statement(1), true)
		stopFirst()
		w.log.Heal()

		s, err := store.Open(t.Context(), path)
		must(t, err)
		defer s.Close()
		var opened []string
		engine, err := deliver.New(deliver.Config{Store: s, Attest: attest, Targets: w.targets(s)[:1], Open: func(address string) (deliver.Repository, error) {
			opened = append(opened, address)
			return oci.New(address, oci.Options{Transport: w.registry})
		}})
		must(t, err)
		i := &instance{engine, w, s, nil}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- engine.Run(ctx) }()
		d := i.await(accepted[0].Delivery)
		cancel()
		must(t, <-done)
		if d.State != lodge.Verified || len(opened) != 1 || opened[0] != ociTarget.Address {
			t.Errorf("%s, %v; opened %v", d.State, d.Err, opened)
		}
	})
}
