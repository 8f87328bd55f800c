package event_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
)

// receiver is a poster that checks what it takes.
type receiver struct {
	mu      sync.Mutex
	checker checker
	posts   int
	refuse  func(e lodge.Event) error // nil: nothing
}

func (r *receiver) Post(_ context.Context, e lodge.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts++
	if r.refuse != nil {
		if err := r.refuse(e); err != nil {
			return err
		}
	}
	raw, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	r.checker.take(raw)
	return nil
}

// set changes what is refused, and returns how many posts there were before.
func (r *receiver) set(refuse func(lodge.Event) error) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
	return r.posts
}

// has fails the test unless exactly n events were taken, in order.
func (r *receiver) has(t *testing.T, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.checker.seen) != n || r.checker.err != nil {
		t.Errorf("%d events, want %d; %v", len(r.checker.seen), n, r.checker.err)
	}
}

var errDown = errors.New("HTTP 500")

func down(lodge.Event) error { return errDown }

func courier(o outbox, p event.Poster) *event.Courier {
	return &event.Courier{Source: event.Source{Name: "hook", Store: o}, Poster: p}
}

func (o outbox) undelivered(t *testing.T, givenUp bool) []lodge.Undelivered {
	t.Helper()
	found, err := o.Undelivered(t.Context(), "hook", givenUp, 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pass lets time go by in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// inBubble runs a test whose hours of waiting cost little.
func inBubble(t *testing.T, test func(*testing.T, outbox)) {
	synctest.Test(t, func(t *testing.T) { test(t, newOutbox(t)) })
}

// TestCourierOrder has a third of all posts fail, of one event five at most: everything arrives
// within the two hours that this takes, in order per subject.
func TestCourierOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		random := rand.New(rand.NewPCG(1, 2))
		failed := map[lodge.Digest]int{}
		r := &receiver{refuse: func(e lodge.Event) error {
			if random.IntN(3) == 0 && failed[e.ID] < 5 {
				failed[e.ID]++
				return errDown
			}
			return nil
		}}
		o.many(t, 600)
		stop := start(t, courier(o, r).Run)
		defer stop()
		pass(2 * time.Hour)
		r.has(t, 600)
		if left := o.undelivered(t, false); len(left) > 0 {
			t.Errorf("%d events wait", len(left))
		}
	})
}

// TestCourierPoison: an event that is never taken stops its key alone, and is given up
// once it was refused for long enough.
func TestCourierPoison(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		poison := lodge.DigestOf([]byte("poison")).String()
		r := &receiver{refuse: func(e lodge.Event) error {
			if e.Subject == poison && e.Type == lodge.EntryQueued {
				return errDown
			}
			return nil
		}}
		c := courier(o, r)
		c.GiveUp = time.Hour
		stop := start(t, c.Run)
		defer stop()
		o.happen(t, 3, "before", "poison", "after")
		pass(10 * time.Second)
		r.has(t, 6)
		for i := range 5 { // others go on, so that it is the event's fault
			pass(10 * time.Minute)
			o.happen(t, 1, fmt.Sprint("other ", i))
			pass(2 * time.Minute)
			if n := len(o.undelivered(t, false)); n != 3 && i < 4 {
				t.Errorf("%d events wait, want 3", n)
			}
		}
		pass(2 * time.Hour)
		o.happen(t, 1, "last")
		pass(3 * time.Hour)
		r.has(t, 6+6+2)
		dead := o.undelivered(t, true)
		if len(dead) != 1 || dead[0].Subject != poison || dead[0].Attempts < 6 || dead[0].Error != "HTTP 500" {
			t.Errorf("given up: %+v", dead)
		}
		if posts := r.set(nil); posts > 14+10 {
			t.Errorf("%d posts", posts)
		}
		r.mu.Lock()
		r.checker.last[poison] = 0 // an operator's replay comes out of turn
		r.mu.Unlock()
		if _, err := o.Redeliver(t.Context(), "hook", time.Now()); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		r.has(t, 6+6+3)
	})
}

// TestCourierDown: a poster that was down for hours while 10,000 events happened gets
// them all, and was not asked often.
func TestCourierDown(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		r := &receiver{refuse: down}
		c := courier(o, r)
		c.GiveUp = time.Hour
		stop := start(t, c.Run)
		defer stop()
		o.many(t, 10_000)
		last, err := o.LastSequence(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Hour)
		if posts := r.set(nil); posts > 3*60*2 {
			t.Errorf("%d posts in three hours", posts)
		}
		pass(10 * time.Minute)
		r.has(t, int(last))
		if dead := o.undelivered(t, true); len(dead) > 0 {
			t.Errorf("%d events were given up", len(dead))
		}
	})
}

// TestCourierGone: 410 disables the sink until it is enabled.
func TestCourierGone(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		gone := lodge.Errorf(lodge.ClassHeld, "http-410", "HTTP 410: gone")
		r := &receiver{refuse: func(lodge.Event) error { return gone }}
		stop := start(t, courier(o, r).Run)
		defer stop()
		o.happen(t, 3, "a", "b")
		pass(time.Minute)
		posts := r.set(nil)
		pass(30 * time.Minute)
		if now := r.set(nil); now != posts {
			t.Errorf("%d posts to a sink that is gone", now-posts)
		}
		c, err := o.Cursor(t.Context(), "hook")
		if err != nil || c.Disabled != "HTTP 410: gone" {
			t.Errorf("%+v, %v", c, err)
		}
		if was, err := o.EnableCursor(t.Context(), "hook", time.Now()); !was || err != nil {
			t.Error(was, err)
		}
		pass(5 * time.Second)
		r.has(t, 6)
	})
}

// TestCourierRetryAfter: no post comes before the time that the receiver asked for.
func TestCourierRetryAfter(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		var until time.Time
		r := &receiver{}
		r.refuse = func(lodge.Event) error {
			if until.IsZero() {
				until = time.Now().Add(time.Hour)
				e := lodge.Errorf(lodge.ClassRetry, "http-429", "HTTP 429")
				e.RetryAfter = time.Hour
				return e
			}
			if time.Now().Before(until) {
				t.Errorf("a post %s too early", time.Until(until))
			}
			return nil
		}
		c := courier(o, r)
		c.Parallel = 1
		stop := start(t, c.Run)
		defer stop()
		o.happen(t, 3, "a", "b", "c")
		pass(59 * time.Minute)
		r.has(t, 0)
		pass(2 * time.Minute)
		r.has(t, 9)
	})
}

// TestCourierReplay: what is replayed has the ids that it had.
func TestCourierReplay(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		r := &receiver{}
		stop := start(t, courier(o, r).Run)
		defer stop()
		o.happen(t, 3, "a", "b")
		pass(5 * time.Second)
		if err := o.ResetCursor(t.Context(), "hook", 2); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		r.has(t, 6)
		if r.checker.repeats != 4 {
			t.Errorf("%d repeats, want 4", r.checker.repeats)
		}
	})
}

// TestCourierFilter: what a sink does not want is not sent, and does not hold it up.
func TestCourierFilter(t *testing.T) {
	inBubble(t, func(t *testing.T, o outbox) {
		r := &receiver{}
		c := courier(o, r)
		c.Wants = func(e lodge.Event) bool { return e.Type == lodge.EntryLogged }
		stop := start(t, c.Run)
		defer stop()
		o.many(t, 300)
		pass(time.Minute)
		r.has(t, 100)
		if c, err := o.Cursor(t.Context(), "hook"); c.Sequence != 300 || err != nil {
			t.Error(c, err)
		}
	})
}
