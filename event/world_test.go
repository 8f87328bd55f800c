package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/storetest"
)

// outbox is a store as package node hands it to sinks.
type outbox struct{ *store.Store }

func (o outbox) Under(name string, term int64) event.Ledger { return o.Store.Under(name, term) }

var target = lodge.Target{Name: "log", Kind: lodge.KindLog, Address: "https://log.example"}

func open(t testing.TB, address string) outbox {
	t.Helper()
	s, err := store.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Register(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return outbox{s}
}

func newOutbox(t testing.TB) outbox { return open(t, storetest.SQLite(t)) }

// happen makes n events per key, in the order of their types: EntryQueued, EntryLogged,
// InclusionVerified.
func (o outbox) happen(t testing.TB, n int, keys ...string) {
	t.Helper()
	now := time.Now()
	for _, key := range keys {
		sub := lodge.Submission{Key: lodge.DigestOf([]byte(key)), Signer: "signer", Raw: []byte(key)}
		accepted, err := o.Accept(t.Context(), sub, []lodge.Order{{Target: target}}, now)
		if err != nil {
			t.Error(err)
			return
		}
		if n == 1 {
			continue
		}
		d := accepted[0].Delivery
		d.State, d.Receipt = lodge.Verified, &lodge.Receipt{Log: &lodge.LogReceipt{LogID: "ab", LogIndex: d.ID}}
		change := lodge.Change{Delivery: d, From: lodge.Queued, Events: []lodge.Event{
			lodge.LogEvent(lodge.EntryLogged, d, now), lodge.LogEvent(lodge.InclusionVerified, d, now)}[:n-1]}
		if err := o.Advance(t.Context(), change, now); err != nil {
			t.Error(err)
			return
		}
	}
}

// many makes at least n events of many keys, three for each.
func (o outbox) many(t testing.TB, n int) {
	t.Helper()
	done := make(chan struct{})
	const writers = 32
	for w := range writers {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := w; 3*i < n; i += writers {
				o.happen(t, 3, fmt.Sprint("key ", i))
			}
		}()
	}
	for range writers {
		<-done
	}
}

// start runs f until the test ends or stop is called, which waits for it.
func start(t testing.TB, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// eventually waits until it is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("not so after 30s: %s", what)
		}
	}
}

// through waits until a sink is through with everything.
func (o outbox) through(t testing.TB, name string) {
	t.Helper()
	last, err := o.LastSequence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" is through with all events", func() bool {
		c, err := o.Cursor(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return c.Sequence >= last
	})
}

// received is a CloudEvent as a consumer reads it.
type received struct {
	SpecVersion, ID, Type, Source, Subject, Sequence string
	Data                                             json.RawMessage
}

func parse(raw []byte) (r received, sequence int64, err error) {
	if err = json.Unmarshal(raw, &r); err != nil {
		return r, 0, err
	}
	if r.SpecVersion != "1.0" || len(r.ID) != 64 || r.Source == "" || len(r.Data) == 0 {
		return r, 0, fmt.Errorf("no CloudEvent: %.300s", raw)
	}
	sequence, err = strconv.ParseInt(r.Sequence, 10, 64)
	return r, sequence, err
}

// checker sees that each event comes, and those of a subject in their order.
type checker struct {
	repeats int
	seen    map[string]bool  // by id
	last    map[string]int64 // sequence by subject
	err     error
}

func (c *checker) take(raw []byte) {
	r, sequence, err := parse(raw)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	if c.seen == nil {
		c.seen, c.last = map[string]bool{}, map[string]int64{}
	}
	if c.seen[r.ID] {
		c.repeats++
		return
	}
	c.seen[r.ID] = true
	if sequence <= c.last[r.Subject] {
		c.err = errors.Join(c.err, fmt.Errorf("event %d of %s came after %d", sequence, r.Subject, c.last[r.Subject]))
	}
	c.last[r.Subject] = sequence
}
