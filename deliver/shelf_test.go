package deliver_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
)

// shelf is a store that many sites share one after the other. What changes nothing is read
// once: in a simulation, hours of polling go by.
type shelf struct {
	*store.Store
	name string
	memo *memo // shared by all handles of the file
}

// memo keeps answers until something is written.
type memo struct {
	writes atomic.Int64
	mu     sync.Mutex
	due    map[string]dueMemo
	held   map[string]heldMemo
	none   map[int64]int64 // sequence behind which there was no event, at that count of writes
}

type dueMemo struct {
	writes int64
	due    time.Time
	ok     bool
}

type heldMemo struct {
	writes      int64
	code, words string
}

func newMemo() *memo {
	return &memo{due: map[string]dueMemo{}, held: map[string]heldMemo{}, none: map[int64]int64{}}
}

// wrote is called before and after each write, so that nothing read meanwhile is kept.
func (m *memo) wrote() func() {
	m.writes.Add(1)
	return func() { m.writes.Add(1) }
}

func (s *shelf) Claim(ctx context.Context, address string, n int, now, lease time.Time) ([]lodge.Job, error) {
	defer s.memo.wrote()()
	return s.Store.Claim(ctx, address, n, now, lease)
}

func (s *shelf) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Advance(ctx, change, now)
}

func (s *shelf) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error) {
	defer s.memo.wrote()()
	return s.Store.Accept(ctx, sub, orders, now)
}

func (s *shelf) Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Hold(ctx, target, code, words, now)
}

func (s *shelf) Resume(ctx context.Context, target lodge.Target, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Resume(ctx, target, now)
}

func (s *shelf) Probe(ctx context.Context, address string, now, lease time.Time) ([]lodge.Job, error) {
	defer s.memo.wrote()()
	return s.Store.Probe(ctx, address, now, lease)
}

func (s *shelf) NextDue(ctx context.Context, address string) (time.Time, bool, error) {
	writes := s.memo.writes.Load()
	s.memo.mu.Lock()
	known, found := s.memo.due[address]
	s.memo.mu.Unlock()
	if found && known.writes == writes {
		return known.due, known.ok, nil
	}
	due, ok, err := s.Store.NextDue(ctx, address)
	if err == nil {
		s.memo.mu.Lock()
		s.memo.due[address] = dueMemo{writes, due, ok}
		s.memo.mu.Unlock()
	}
	return due, ok, err
}

func (s *shelf) Held(ctx context.Context, address string) (code, words string, err error) {
	writes := s.memo.writes.Load()
	s.memo.mu.Lock()
	known, found := s.memo.held[address]
	s.memo.mu.Unlock()
	if found && known.writes == writes {
		return known.code, known.words, nil
	}
	code, words, err = s.Store.Held(ctx, address)
	if err == nil {
		s.memo.mu.Lock()
		s.memo.held[address] = heldMemo{writes, code, words}
		s.memo.mu.Unlock()
	}
	return code, words, err
}

func (s *shelf) Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error) {
	writes := s.memo.writes.Load()
	s.memo.mu.Lock()
	at, found := s.memo.none[after]
	s.memo.mu.Unlock()
	if found && at == writes {
		return nil, nil
	}
	events, err := s.Store.Events(ctx, after, limit)
	if err == nil && len(events) == 0 {
		s.memo.mu.Lock()
		clear(s.memo.none)
		s.memo.none[after] = writes
		s.memo.mu.Unlock()
	}
	return events, err
}
