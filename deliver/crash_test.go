package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
)

// mortal is a store whose process dies at one of its transitions: right before it is
// written, or right after. From then on nothing is written any more.
type mortal struct {
	deliver.Store
	at    int64 // the transition, from 1
	after bool
	made  *atomic.Int64
	dead  *atomic.Bool
}

var errDead = errors.New("the process is dead")

func (m mortal) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	if m.dead.Load() {
		return errDead
	}
	dies := m.made.Add(1) == m.at
	if dies && !m.after {
		m.dead.Store(true)
		return errDead
	}
	err := m.Store.Advance(ctx, change, now)
	if dies {
		m.dead.Store(true)
		return errDead
	}
	return err
}

func (m mortal) Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) ([]lodge.Job, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	return m.Store.Claim(ctx, address, pick, n, now, lease)
}

// TestCrash kills lodge at every transition of a delivery to log and registry, right
// before it is durable and right after. The next lodge on the same store ends with one
// entry, one artifact and no event missing.
func TestCrash(t *testing.T) {
	const transitions = 4 // sending and verified, for the log and for the repository
	for at := int64(1); at <= transitions; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d after=%v", at, after), func(t *testing.T) {
				onBoth(t, func(t *testing.T, w *world) {
					var made atomic.Int64
					var dead atomic.Bool
					path := w.newPath()
					victim, stop := w.open(path, func(s deliver.Store) deliver.Store {
						return mortal{s, at, after, &made, &dead}
					})
					victim.accept(w.statement(1), true)
					for deadline := time.Now().Add(time.Hour); !dead.Load(); pass(time.Second) {
						if time.Now().After(deadline) {
							t.Fatalf("only %d transitions were made", made.Load())
						}
					}
					stop()
					w.log.Forget()

					heir, stop := w.open(path, nil)
					defer stop()
					d := heir.push(w.statement(1), true)
					w.verified(d...)
					w.leaves(1)
					if got := w.referrers(); len(got) != 1 {
						t.Errorf("referrers %v, want one", got)
					}
					heir.inOrder(d[0].Key)
				})
			})
		}
	}
}

// TestTwoEngines has two processes on one store work off the same envelopes.
func TestTwoEngines(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		path := w.newPath()
		a, stopA := w.open(path, nil)
		defer stopA()
		b, stopB := w.open(path, nil)
		defer stopB()
		const n = 30
		var accepted []lodge.Accepted
		for k := range n {
			accepted = append(accepted, a.accept(w.statement(k), true)...)
			b.accept(w.signedAnew(k), true)
		}
		var keys []lodge.Key
		for k := range accepted {
			accepted[k].Delivery = b.await(accepted[k].Delivery)
			keys = append(keys, accepted[k].Key)
		}
		w.verified(accepted...)
		w.leaves(n)
		if got := w.referrers(); len(got) != n {
			t.Errorf("%d referrers, want %d", len(got), n)
		}
		a.inOrder(keys...)
	})
}

// counting counts the submissions that reach the store.
type counting struct {
	deliver.Store
	calls *atomic.Int64
}

func (c counting) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error) {
	c.calls.Add(1)
	return c.Store.Accept(ctx, sub, orders, now)
}

// asked counts requests.
type asked struct {
	http.RoundTripper
	requests *atomic.Int64
}

func (a asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.requests.Add(1)
	return a.RoundTripper.RoundTrip(r)
}

// TestReceiptCache: a duplicate within the TTL reaches neither the database nor a target.
func TestReceiptCache(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var calls, requested atomic.Int64
		w.registry = asked{w.registry, &requested}
		i, stop := w.open(w.newPath(), func(s deliver.Store) deliver.Store { return counting{s, &calls} })
		defer stop()
		first := i.push(w.statement(1), true)
		w.verified(first...)
		calls.Store(0)
		requested.Store(0)
		requests := w.log.Requests("/")
		for range 10 {
			again := i.push(w.signedAnew(1), true)
			w.verified(again...)
			if !again[0].Duplicate() || again[1].Receipt.OCI.Digest != first[1].Receipt.OCI.Digest {
				t.Errorf("cached: %+v", again)
			}
		}
		if n := calls.Load(); n != 0 || w.log.Requests("/") != requests || requested.Load() != 0 {
			t.Errorf("duplicates made %d calls to the store, %d requests to the log and %d to the registry", n, w.log.Requests("/")-requests, requested.Load())
		}
		pass(11 * time.Minute)
		if i.accept(w.statement(1), true); calls.Load() != 1 {
			t.Error("a receipt outlived its TTL in the cache")
		}
	})
}

// TestReceiptCacheLeavesScopes: one that was lodged with scopes is not cached, so that the next
// submission can bring others, or ask for the derived ones.
func TestReceiptCacheLeavesScopes(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var calls atomic.Int64
		i, stop := w.open(w.newPath(), func(s deliver.Store) deliver.Store { return counting{s, &calls} })
		defer stop()
		i.scopes = []string{"component:openssl"}
		w.verified(i.push(w.statement(1), false)...)
		i.scopes = nil
		calls.Store(0)
		for n := range 2 {
			if i.accept(w.statement(1), false); calls.Load() != 1 {
				t.Errorf("submission %d without scopes: %d calls to the store in all, want 1", n, calls.Load())
			}
		}
	})
}
