package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

func acceptOnce(w *world) {
	s := w.open()
	first := w.accept(s, submission("a"), both...)
	if !first[0].New || !first[1].New {
		w.Errorf("new = %v, %v, want true, true", first[0].New, first[1].New)
	}
	signedAnew := submission("a")
	signedAnew.Raw = []byte("the same statement with another signature")
	second := w.accept(s, signedAnew, both...)
	if second[0].New || second[1].New || second[0].ID != first[0].ID || second[1].ID != first[1].ID {
		w.Errorf("resubmission made %+v", second)
	}
	kept, err := s.Submission(w.Context(), first[0].ID)
	w.ok(err)
	w.equal("what was accepted first is kept as it came", kept, submission("a"))
	w.equal("events", w.events(s), []string{"EntryQueued", "EntryQueued"})
	other := submission("a")
	other.Signer = lodge.KeySigner([]byte("another key"))
	if a := w.accept(s, other, both...); !a[0].New {
		w.Error("another signer's envelope was taken for the first one's")
	}
	more := w.accept(s, submission("a"), lodge.Order{Target: log1}, lodge.Order{Target: log2})
	if more[0].New || !more[1].New {
		w.Errorf("one more target: new = %v, %v, want false, true", more[0].New, more[1].New)
	}
}

// acceptOnceAfterMany has a duplicate come when none is expected any more.
func acceptOnceAfterMany(w *world) {
	s := w.open()
	first := w.accept(s, submission("a"), both...)
	for i := range 100 {
		w.accept(s, submission(fmt.Sprint("another ", i)), both...)
	}
	signedAnew := submission("a")
	signedAnew.Raw = []byte("the same statement with another signature")
	last, err := s.LastSequence(w.Context())
	w.ok(err)
	for range 2 { // the second one is expected
		if again := w.accept(s, signedAnew, both...); again[0].New || again[1].New || again[0].ID != first[0].ID || again[1].ID != first[1].ID {
			w.Errorf("resubmission made %+v", again)
		}
	}
	kept, err := s.Submission(w.Context(), first[0].ID)
	w.ok(err)
	w.equal("what was accepted first is kept as it came", kept, submission("a"))
	after, err := s.LastSequence(w.Context())
	w.ok(err)
	w.equal("events", after, last)
}

func acceptUnknownTarget(w *world) {
	s := w.open()
	unknown := lodge.Order{Target: lodge.Target{Name: "x", Address: "https://x"}}
	_, err := s.Accept(w.Context(), submission("a"), []lodge.Order{{Target: log1}, unknown}, time.Now())
	if !errors.Is(err, lodge.ErrNotFound) {
		w.Errorf("err = %v, want ErrNotFound", err)
	}
	w.equal("what a refused submission left", w.events(s), []string(nil))
	if jobs := w.claim(s, log1, time.Hour); len(jobs) != 0 {
		w.Errorf("a refused submission left %+v", jobs)
	}
}

func scopesAddUp(w *world) {
	s := w.open()
	sub := submission("a")
	sub.Scopes = []string{"component:openssl"}
	a := w.accept(s, sub, both...)
	sub.Scopes = []string{"component:zlib", "component:openssl"}
	w.accept(s, sub, both...)
	kept, err := s.Submission(w.Context(), a[0].ID)
	w.ok(err)
	w.equal("scopes", kept.Scopes, []string{"component:openssl", "component:zlib"})
}

// acceptRace has many callers submit the same few envelopes through several replicas.
func acceptRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	const callers, envelopes = 12, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, ids := 0, map[int64]bool{}
	for c := range callers {
		wg.Go(func() {
			for i := range envelopes {
				sub := submission(fmt.Sprint((i + c) % envelopes))
				sub.Scopes = []string{fmt.Sprint("scope:", c)}
				accepted, err := stores[c%len(stores)].Accept(w.Context(), sub, both, time.Now())
				if err != nil {
					w.Error(err)
					return
				}
				mu.Lock()
				for _, a := range accepted {
					ids[a.ID] = true
					if a.New {
						made++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	w.equal("deliveries that were new", made, 2*envelopes)
	w.equal("deliveries", len(ids), 2*envelopes)
	w.equal("events", len(w.events(stores[0])), (2+callers-1)*envelopes) // all but the first bring a scope
	for id := range ids {
		sub, err := stores[1].Submission(w.Context(), id)
		w.ok(err)
		w.equal("scopes of all submitters", len(sub.Scopes), callers)
	}
}

func cancelled(w *world) {
	s := w.open()
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	if _, err := s.Accept(ctx, submission("a"), both, time.Now()); !errors.Is(err, context.Canceled) {
		w.Errorf("err = %v, want context.Canceled", err)
	}
	w.accept(s, submission("a"), both...)
}

// oneFailureIsItsOwn has callers that fail, before and after they have written something,
// beside callers that succeed.
func oneFailureIsItsOwn(w *world) {
	s := w.open()
	unknown := []lodge.Order{{Target: log1}, {Target: lodge.Target{Name: "x", Address: "https://x"}}}
	var wg sync.WaitGroup
	const n = 40
	for i := range n {
		wg.Go(func() {
			orders := toLog
			if i%4 == 0 {
				orders = unknown
			}
			_, err := s.Accept(w.Context(), submission(fmt.Sprint(i)), orders, time.Now())
			if failed := errors.Is(err, lodge.ErrNotFound); failed != (i%4 == 0) || !failed && err != nil {
				w.Errorf("caller %d: %v", i, err)
			}
		})
		wg.Go(func() {
			err := s.Advance(w.Context(), lodge.Change{Delivery: lodge.Delivery{ID: 1 << 40, State: lodge.Sending}}, time.Now())
			if !errors.Is(err, lodge.ErrStale) {
				w.Errorf("caller %d: %v, want ErrStale", i, err)
			}
		})
	}
	wg.Wait()
	w.equal("events", len(w.events(s)), n*3/4)
	w.equal("deliveries", len(w.claim(s, log1, time.Hour)), n*3/4)
}

func deliveries(w *world) {
	s := w.open()
	sub := submission("a")
	a := w.accept(s, sub, both...)
	other := submission("b")
	other.Subjects = nil
	b := w.accept(s, other, toLog...)
	for _, c := range []struct {
		name   string
		digest lodge.Digest
		want   []int64
	}{
		{"all", lodge.Digest{}, []int64{a[0].ID, a[1].ID, b[0].ID}},
		{"key", other.Key, []int64{b[0].ID}},
		{"subject", image, []int64{a[0].ID, a[1].ID}},
		{"none", lodge.DigestOf([]byte("c")), nil},
	} {
		found, err := s.Deliveries(w.Context(), c.digest, 0, 10)
		w.ok(err)
		var ids []int64
		for _, d := range found {
			ids = append(ids, d.ID)
		}
		w.equal(c.name, ids, c.want)
	}
	page, err := s.Deliveries(w.Context(), lodge.Digest{}, a[0].ID, 1)
	w.ok(err)
	w.equal("second page", page[0].ID, a[1].ID)
	if _, err := s.Delivery(w.Context(), 1<<40); !errors.Is(err, lodge.ErrNotFound) {
		w.Errorf("err = %v, want ErrNotFound", err)
	}
	subjects, err := s.Subjects(w.Context(), sub.Key, sub.Signer, repo1.Address)
	w.ok(err)
	w.equal("subjects", subjects, []lodge.Digest{image})
}
