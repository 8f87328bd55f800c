package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/logtest"
)

// onBoth runs a test against a v1 and a v2 log, each in a bubble with its own clock.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, version)) })
		})
	}
}

func TestDeliversOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		path := w.newPath()
		i, stop := w.open(path, nil)
		first := i.push(w.statement(1), true)
		w.verified(first...)
		if first[0].Duplicate() || first[1].Duplicate() || first[0].Sends != 1 {
			t.Errorf("the first push: %+v", first)
		}
		second := i.push(w.signedAnew(1), true)
		w.verified(second...)
		if !second[0].Duplicate() || !second[1].Duplicate() || second[0].Receipt.Log.LogIndex != first[0].Receipt.Log.LogIndex {
			t.Errorf("the second push: %+v", second)
		}
		i.inOrder(first[0].Key)
		stop()

		again, stop := w.open(path, nil)
		third := again.push(w.statement(1), true)
		stop()
		w.verified(third...)
		w.leaves(1)
		if got := w.referrers(); len(got) != 1 || got[0] != third[1].Receipt.OCI.Digest.String() {
			t.Errorf("referrers %v, receipt %v", got, third[1].Receipt.OCI)
		}
	})
}

// TestFaults holds a row for each way in which a submission can fail: whatever happens,
// the log has the entry once, and the delivery ends with a verified receipt.
func TestFaults(t *testing.T) {
	faults := map[string]struct {
		fault logtest.Fault
		sends int // that are written ahead
	}{
		"refused":              {logtest.Fault{Refuse: true, Count: 3}, 4},
		"429":                  {logtest.Fault{Status: 429, Count: 2, Header: http.Header{"Retry-After": {"30"}}}, 3},
		"503 not applied":      {logtest.Fault{Status: 503}, 2},
		"503 applied":          {logtest.Fault{Status: 503, Apply: true}, 1},
		"500 applied":          {logtest.Fault{Status: 500, Apply: true}, 1},
		"499 applied":          {logtest.Fault{Status: 499, Apply: true}, 1},
		"408 applied":          {logtest.Fault{Status: 408, Apply: true}, 1},
		"reply lost":           {logtest.Fault{Lose: true, Apply: true}, 1},
		"request lost":         {logtest.Fault{Lose: true}, 2},
		"applied late":         {logtest.Fault{Lose: true, Apply: true, Late: settle - time.Second}, 1},
		"stalled, applied":     {logtest.Fault{Stall: time.Hour, Apply: true}, 1},
		"stalled, not applied": {logtest.Fault{Stall: time.Hour}, 2},
		"garbage, applied":     {logtest.Fault{Status: 201, Body: "<html>", Apply: true}, 1},
		"truncated, applied":   {logtest.Fault{Apply: true, Tamper: func(b []byte) []byte { return b[:len(b)/2] }}, 1},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				i, stop := w.open(w.newPath(), nil)
				defer stop()
				w.log.Inject(f.fault)
				w.log.Forget()
				d := i.push(w.statement(1), false)
				w.verified(d...)
				w.leaves(1)
				if d[0].Sends != f.sends {
					t.Errorf("sent %d times, want %d", d[0].Sends, f.sends)
				}
				i.inOrder(d[0].Key)
			})
		})
	}
}

func TestPermanentFailure(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 400, Body: `{"code":3,"message":"no such luck"}`})
		d := i.push(w.statement(1), true)
		if d[0].State != lodge.Failed || d[0].Err.Class != lodge.ClassPermanent {
			t.Fatalf("after a 400: %s, %+v", d[0].State, d[0].Err)
		}
		if d[1].State != lodge.Failed || d[1].Err.Class != lodge.ClassDependency {
			t.Errorf("what requires it: %s, %+v", d[1].State, d[1].Err)
		}
		w.leaves(0)
		w.verified(i.push(w.statement(1), true)...) // a resubmission queues it again
		w.leaves(1)
	})
}

func TestHeldTarget(t *testing.T) {
	for _, status := range []int{401, 403, 404, 415} {
		onBoth(t, func(t *testing.T, w *world) {
			i, stop := w.open(w.newPath(), nil)
			defer stop()
			w.log.Inject(logtest.Fault{Status: status, Count: -1})
			var accepted []lodge.Accepted
			for k := range 20 {
				accepted = append(accepted, i.push(w.statement(k), true)...) // returns, though nothing is done
			}
			for _, a := range accepted {
				if !a.State.Live() {
					t.Fatalf("after HTTP %d: %s, %v", status, a.State, a.Err)
				}
			}
			if code, _, err := i.store.Held(t.Context(), logAddress); code == "" || err != nil {
				t.Fatalf("HTTP %d did not hold the log: %v", status, err)
			}
			path := fmt.Sprintf("POST /api/v%d/log/entries", w.version)
			before := w.log.Requests(path)
			pass(30 * time.Minute)
			if probes := w.log.Requests(path) - before; probes == 0 || probes > 10 {
				t.Errorf("a held log was tried %d times in half an hour", probes)
			}
			w.leaves(0)
			w.log.Heal() // somebody has mended it, and nobody tells lodge
			pass(20 * time.Minute)
			for k := range accepted {
				accepted[k].Delivery = i.await(accepted[k].Delivery)
			}
			w.verified(accepted...)
			w.leaves(20)
			i.resumedOnce()
		})
	}
}

// TestLyingLog has the log confirm another entry than the one that was sent.
func TestLyingLog(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.verified(i.push(w.statement(1), false)...)
		var other []byte
		w.log.Inject(logtest.Fault{Skip: 1, Tamper: func([]byte) []byte { return other }})
		w.log.Inject(logtest.Fault{Tamper: func(b []byte) []byte { other = b; return b }})
		w.verified(i.push(w.statement(2), false)...)
		d := i.push(w.statement(3), false)[0]
		if d.State == lodge.Verified || d.State == lodge.Placed {
			t.Errorf("another entry's answer was taken for a receipt: %+v", d.Receipt.Log)
		}
		if code, _, err := i.store.Held(t.Context(), logAddress); code != "log-lies" || err != nil {
			t.Errorf("held for %q, %v, want log-lies", code, err)
		}
		w.log.Heal()
		pass(time.Hour)
		if code, _, err := i.store.Held(t.Context(), logAddress); code != "log-lies" || err != nil {
			t.Errorf("a log that lied was taken up again by itself: %q, %v", code, err)
		}
	})
}

func TestOutage(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Path: "/", Refuse: true, Count: -1})
		const n = 50
		var accepted []lodge.Accepted
		for k := range n {
			accepted = append(accepted, i.accept(w.statement(k), false)...)
		}
		pass(30 * time.Minute)
		if asked := w.log.Requests("/"); asked > 300 {
			t.Errorf("%d requests to a log that was down for half an hour", asked)
		}
		w.log.Heal()
		var keys []lodge.Key
		for k := range accepted {
			accepted[k].Delivery = i.await(accepted[k].Delivery)
			keys = append(keys, accepted[k].Key)
		}
		w.verified(accepted...)
		w.leaves(n)
		i.inOrder(keys...)
	})
}

// TestUnwellLog: a log that can be read and takes nothing is asked ever more seldom.
func TestUnwellLog(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 503, Count: -1})
		const n = 50
		var accepted []lodge.Accepted
		for k := range n {
			accepted = append(accepted, i.accept(w.statement(k), false)...)
		}
		pass(30 * time.Minute)
		// All of them once at first, then about one a minute.
		if sent := w.log.Requests(fmt.Sprintf("POST /api/v%d/log/entries", w.version)); sent > n+60 {
			t.Errorf("%d submissions to a log that took none for half an hour", sent)
		}
		w.log.Heal()
		for k := range accepted {
			accepted[k].Delivery = i.await(accepted[k].Delivery)
		}
		w.verified(accepted...)
		w.leaves(n)
	})
}

// TestRepliesOfHalfLost has a log that applies every submission and does not say so of the
// first half: what may be there is asked for while the breaker is open, else the rest would
// be sent one by one, a minute apart.
func TestRepliesOfHalfLost(t *testing.T) {
	const n = 200
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(target *deliver.Target) { target.Concurrency = 48 }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 504, Apply: true, Count: n / 2})
		w.log.Forget()
		begin := time.Now()
		var all []lodge.Accepted
		for k := range n {
			all = append(all, i.accept(w.statement(k), false)...)
		}
		for k := range all {
			all[k].Delivery = i.await(all[k].Delivery)
		}
		w.verified(all...)
		w.leaves(n)
		if took := time.Since(begin); took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// TestRetryAfter has a log refuse ten requests, one after the other, each for a second: it is
// asked again about when it said.
func TestRetryAfter(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(target *deliver.Target) { target.Concurrency = 1 }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 429, Count: 10, Header: http.Header{"Retry-After": {"1"}}})
		begin := time.Now()
		accepted := i.accept(w.statement(1), false)
		accepted[0].Delivery = i.await(accepted[0].Delivery)
		w.verified(accepted...)
		w.leaves(1)
		if took := time.Since(begin); took < 10*time.Second || took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// flaky is a store that fails for a while, as with a full disk.
type flaky struct {
	deliver.Store
	broken *atomic.Bool
}

func (f flaky) Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) ([]lodge.Job, error) {
	if f.broken.Load() {
		return nil, errors.New("the disk is full")
	}
	return f.Store.Claim(ctx, address, pick, n, now, lease)
}

func (f flaky) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	if f.broken.Load() {
		return errors.New("the disk is full")
	}
	return f.Store.Advance(ctx, change, now)
}

// TestStoreFails: a store that fails in the middle of a delivery and comes back leaves
// one entry, one artifact and no event missing.
func TestStoreFails(t *testing.T) {
	onBoth(t, func(_ *testing.T, w *world) {
		var broken atomic.Bool
		i, stop := w.open(w.newPath(), func(s deliver.Store) deliver.Store { return flaky{s, &broken} })
		defer stop()
		w.log.Inject(logtest.Fault{Apply: true, Stall: 2 * time.Second})
		a := i.accept(w.statement(1), true)
		pass(time.Second)
		broken.Store(true)
		pass(10 * time.Minute)
		w.leaves(1)
		broken.Store(false)
		for k := range a {
			a[k].Delivery = i.await(a[k].Delivery)
		}
		w.verified(a...)
		w.leaves(1)
		i.inOrder(a[0].Key)
	})
}

// TestRegistryOutage: a registry that is down holds up what goes there, and nothing else.
func TestRegistryOutage(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var status atomic.Int32
		status.Store(http.StatusServiceUnavailable)
		w.registry = gate{w.registry, &status}
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		for k := range 50 {
			i.accept(w.statement(k), true)
		}
		pass(10 * time.Minute)
		begin := time.Now()
		d := i.push(w.statement(1000), false)
		w.verified(d...)
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("an envelope for the log alone took %s while the registry was down", took)
		}
	})
}

// gate answers with a status in place of the registry behind it, while it is set.
type gate struct {
	registry http.RoundTripper
	status   *atomic.Int32
}

func (g gate) RoundTrip(r *http.Request) (*http.Response, error) {
	status := g.status.Load()
	if status == 0 {
		return g.registry.RoundTrip(r)
	}
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(int(status))
	res := recorder.Result()
	res.Request = r
	return res, nil
}

// TestRegistryWithoutRights: nothing waits for a registry that nobody may read, and once
// that is mended the same push goes through.
func TestRegistryWithoutRights(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var status atomic.Int32
		w.registry = gate{w.registry, &status}
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		status.Store(http.StatusForbidden)
		begin := time.Now()
		d := i.push(w.statement(1), true)
		if took := time.Since(begin); !d[0].State.Live() || !d[1].State.Live() || took > time.Minute {
			t.Fatalf("%s, %s after %s", d[0].State, d[1].State, took)
		}
		w.leaves(0)
		status.Store(0)
		if err := i.store.Resume(t.Context(), ociTarget, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.verified(i.push(w.statement(1), true)...)
		w.leaves(1)
	})
}

// TestUnknownCanFail: what is in doubt, then proven absent, and can't be sent any more,
// ends; and so does what waits for it.
func TestUnknownCanFail(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.adjust = func(t *deliver.Target) { t.Deadline = time.Minute }
		i, stop := w.open(w.newPath(), nil)
		defer stop()
		w.log.Inject(logtest.Fault{Status: 503, Count: -1})
		d := i.push(w.statement(1), true)
		if d[0].State != lodge.Failed || d[0].Err.Code != "deadline" || !strings.Contains(d[0].Err.Message, "503") {
			t.Errorf("%s, %+v", d[0].State, d[0].Err)
		}
		if d[1].State != lodge.Failed || d[1].Err.Class != lodge.ClassDependency {
			t.Errorf("what requires it: %s, %+v", d[1].State, d[1].Err)
		}
		w.leaves(0)
	})
}
