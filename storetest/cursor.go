package storetest

import (
	"errors"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

func cursor(w *world) {
	s, other := w.open(), w.open()
	ctx := w.Context()
	c, err := s.Cursor(ctx, "sink file")
	w.ok(err)
	w.equal("a new cursor", c, lodge.Cursor{Name: "sink file"})
	if err := s.Progress(ctx, lodge.Progress{Name: "sink file", From: 3, To: 5}); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("a cursor that is not there was moved: %v", err)
	}
	w.ok(s.Progress(ctx, lodge.Progress{Name: "sink file", To: 5, State: []byte{0, 255}}))
	for _, from := range []int64{0, 4, 6} {
		if err := other.Progress(ctx, lodge.Progress{Name: "sink file", From: from, To: 7}); !errors.Is(err, lodge.ErrStale) {
			w.Errorf("a cursor at 5 was moved from %d: %v", from, err)
		}
	}
	w.ok(other.Progress(ctx, lodge.Progress{Name: "sink file", From: 5, To: 5, State: []byte("next")}))
	w.ok(other.Progress(ctx, lodge.Progress{Name: "a", To: 1}))
	cursors, err := s.Cursors(ctx)
	w.ok(err)
	w.equal("cursors", cursors, []lodge.CursorStatus{{Cursor: lodge.Cursor{Name: "a", Sequence: 1}}, {Cursor: lodge.Cursor{Name: "sink file", Sequence: 5}}})
	moved, err := s.Cursor(ctx, "sink file")
	w.ok(err)
	w.equal("state", string(moved.State), "next")

	term, err := s.Acquire(ctx, "sink file", "me", time.Hour)
	w.ok(err)
	under := s.Under("sink file", term)
	w.ok(under.Progress(ctx, lodge.Progress{Name: "sink file", From: 5, To: 6}))
	w.ok(s.Release(ctx, "sink file", term))
	if err := under.Progress(ctx, lodge.Progress{Name: "sink file", From: 6, To: 7}); !errors.Is(err, lodge.ErrStale) {
		w.Errorf("an owner without its lease moved the cursor: %v", err)
	}
}

func cursorRace(w *world) {
	stores := []*store.Store{w.open(), w.open(), w.open()}
	var wg sync.WaitGroup
	moves := make([]int, 12)
	for i := range moves {
		wg.Go(func() {
			for from := range int64(10) {
				err := stores[i%3].Progress(w.Context(), lodge.Progress{Name: "one", From: from, To: from + 1})
				if err == nil {
					moves[i]++
				} else if !errors.Is(err, lodge.ErrStale) {
					w.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range moves {
		total += n
	}
	c, err := stores[0].Cursor(w.Context(), "one")
	w.ok(err)
	w.equal("moves", int64(total), c.Sequence)
}

func undelivered(w *world) {
	s := w.open()
	ctx, now := w.Context(), time.Now().UTC().Truncate(time.Microsecond)
	failed := func(seq int64, due time.Duration) lodge.Undelivered {
		return lodge.Undelivered{Sequence: seq, Subject: "key", Attempts: 1, Since: now, Due: now.Add(due), Error: "HTTP 500"}
	}
	list := func(givenUp bool, after int64) (sequences []int64) {
		w.Helper()
		found, err := s.Undelivered(ctx, "hook", givenUp, after, 10)
		w.ok(err)
		for _, u := range found {
			sequences = append(sequences, u.Sequence)
		}
		return sequences
	}
	first, last := failed(2, time.Minute), failed(9, time.Hour)
	last.Due = time.Time{}
	w.ok(s.Progress(ctx, lodge.Progress{Name: "hook", To: 9, Failed: []lodge.Undelivered{first, failed(5, 0), last}}))
	w.ok(s.Progress(ctx, lodge.Progress{Name: "other", To: 9, Failed: []lodge.Undelivered{first}}))
	found, err := s.Undelivered(ctx, "hook", false, 0, 1)
	w.ok(err)
	w.equal("the first", found, []lodge.Undelivered{first})
	w.equal("waiting", list(false, 0), []int64{2, 5})
	w.equal("waiting behind the first", list(false, 2), []int64{5})
	w.equal("given up", list(true, 0), []int64{9})
	cursors, err := s.Cursors(ctx)
	w.ok(err)
	w.equal("status", cursors[0], lodge.CursorStatus{Cursor: lodge.Cursor{Name: "hook", Sequence: 9}, Waiting: 2, GivenUp: 1})
	if err := s.Progress(ctx, lodge.Progress{Name: "hook", From: 8, To: 10, Delivered: []int64{2}}); !errors.Is(err, lodge.ErrStale) {
		w.Error(err)
	}
	first.Attempts, first.Due = 2, time.Time{}
	w.ok(s.Progress(ctx, lodge.Progress{Name: "hook", From: 9, To: 9, Failed: []lodge.Undelivered{first}, Delivered: []int64{5}}))
	w.equal("waiting after the second attempt", list(false, 0), []int64(nil))
	w.equal("given up after the second attempt", list(true, 0), []int64{2, 9})
	n, err := s.Redeliver(ctx, "hook", now)
	w.ok(err)
	w.equal("to be delivered again", n, int64(2))
	w.equal("waiting after that", list(false, 0), []int64{2, 9})
	w.ok(s.ResetCursor(ctx, "hook", 4))
	w.equal("waiting behind a reset cursor", list(false, 0), []int64{2})
	c, err := s.Cursor(ctx, "hook")
	w.ok(err)
	w.equal("reset cursor", c.Sequence, int64(4))
	w.ok(s.ResetCursor(ctx, "new", 7))
}

func disabledCursor(w *world) {
	s := w.open()
	ctx, now := w.Context(), time.Now().UTC().Truncate(time.Microsecond)
	u := lodge.Undelivered{Sequence: 2, Subject: "key", Attempts: 1, Since: now, Due: now.Add(time.Hour), Error: "HTTP 500"}
	w.ok(s.Progress(ctx, lodge.Progress{Name: "hook", To: 3, Failed: []lodge.Undelivered{u}}))
	for _, reason := range []string{"HTTP 410 \x00", "another"} {
		w.ok(s.DisableCursor(ctx, "hook", reason))
	}
	w.ok(s.DisableCursor(ctx, "new", "HTTP 410"))
	c, err := s.Cursor(ctx, "hook")
	w.ok(err)
	w.equal("disabled", c, lodge.Cursor{Name: "hook", Sequence: 3, Disabled: "HTTP 410 \uFFFD"})
	for _, want := range []bool{true, false} {
		was, err := s.EnableCursor(ctx, "hook", now)
		w.ok(err)
		w.equal("was disabled", was, want)
	}
	found, err := s.Undelivered(ctx, "hook", false, 0, 1)
	w.ok(err)
	w.equal("due", found[0].Due, now)
	if was, err := s.EnableCursor(ctx, "nobody", now); was || err != nil {
		w.Errorf("EnableCursor of none = %v, %v", was, err)
	}
}
