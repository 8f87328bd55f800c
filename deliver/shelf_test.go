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
	clock  func() // sets the database's clock where it is not the bubble's own
	writes atomic.Int64
	mu     sync.Mutex
	due    map[string]dueMemo
	held   map[string]heldMemo
	events map[int64]eventsMemo // by the sequence that they are behind
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

type eventsMemo struct {
	writes int64
	events []lodge.Event
}

func newMemo() *memo {
	return &memo{due: map[string]dueMemo{}, held: map[string]heldMemo{}, events: map[int64]eventsMemo{}}
}

// tell is called before whatever asks the database for the time.
func (m *memo) tell() {
	if m.clock != nil {
		m.clock()
	}
}

// wrote is called before and after each write, so that nothing read meanwhile is kept.
func (m *memo) wrote() func() {
	m.tell()
	m.writes.Add(1)
	return func() { m.writes.Add(1) }
}

func (s *shelf) Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) ([]lodge.Job, error) {
	defer s.memo.wrote()()
	return s.Store.Claim(ctx, address, pick, n, now, lease)
}

func (s *shelf) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Advance(ctx, change, now)
}

func (s *shelf) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error) {
	defer s.memo.wrote()()
	return s.Store.Accept(ctx, sub, orders, now)
}

func (s *shelf) ResumeMended(ctx context.Context, target lodge.Target, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.ResumeMended(ctx, target, now)
}

func (s *shelf) Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Hold(ctx, target, code, words, now)
}

func (s *shelf) Resume(ctx context.Context, target lodge.Target, now time.Time) error {
	defer s.memo.wrote()()
	return s.Store.Resume(ctx, target, now)
}

func (s *shelf) NextDue(ctx context.Context, address string) (time.Time, bool, error) {
	writes := s.memo.writes.Load()
	s.memo.mu.Lock()
	known, found := s.memo.due[address]
	s.memo.mu.Unlock()
	if found && known.writes == writes {
		return known.due, known.ok, nil
	}
	s.memo.tell()
	due, ok, err := s.Store.NextDue(ctx, address)
	if err == nil {
		s.memo.mu.Lock()
		s.memo.due[address] = dueMemo{writes, due, ok}
		s.memo.mu.Unlock()
	}
	return due, ok, err
}

func (s *shelf) Acquire(ctx context.Context, name, holder string, d time.Duration) (term int64, err error) {
	s.memo.tell()
	return s.Store.Acquire(ctx, name, holder, d)
}

func (s *shelf) Renew(ctx context.Context, name string, term int64, d time.Duration) error {
	s.memo.tell()
	return s.Store.Renew(ctx, name, term, d)
}

func (s *shelf) Release(ctx context.Context, name string, term int64) error {
	s.memo.tell()
	return s.Store.Release(ctx, name, term)
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
	known, found := s.memo.events[after]
	s.memo.mu.Unlock()
	if found && known.writes == writes {
		return known.events, nil
	}
	events, err := s.Store.Events(ctx, after, limit)
	if err == nil {
		s.memo.mu.Lock()
		if len(s.memo.events) > 100 {
			clear(s.memo.events)
		}
		s.memo.events[after] = eventsMemo{writes, events}
		s.memo.mu.Unlock()
	}
	return events, err
}
