package lease_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
)

// table is a store with one lease.
type table struct {
	mu      sync.Mutex
	term    int64
	ends    time.Time
	refused error // what Renew answers
	renewed int
}

func (s *table) Acquire(_ context.Context, _, _ string, d time.Duration) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.ends) {
		return 0, nil
	}
	s.term++
	s.ends = time.Now().Add(d)
	return s.term, nil
}

func (s *table) Renew(_ context.Context, _ string, term int64, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term != s.term || !time.Now().Before(s.ends) {
		return lodge.ErrStale
	}
	if s.refused == nil {
		s.ends = time.Now().Add(d)
		s.renewed++
	}
	return s.refused
}

func (s *table) Release(_ context.Context, _ string, term int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if term == s.term {
		s.ends = time.Time{}
	}
	return nil
}

const length = 6 * time.Second

func last(ctx context.Context, _ int64) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestLead: work that takes longer than the lease keeps it, and everybody else out.
func TestLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{}
		led, err := lease.Lead(t.Context(), s, "work", length, func(ctx context.Context, term int64) error {
			other, err := lease.Lead(ctx, s, "work", length, last)
			if other || err != nil {
				t.Errorf("somebody else leads: %v, %v", other, err)
			}
			<-time.After(10 * length)
			if ctx.Err() != nil || term != 1 {
				t.Errorf("term %d: %v", term, ctx.Err())
			}
			return errors.ErrUnsupported
		})
		if !led || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v, %v", led, err)
		}
		if led, err := lease.Lead(t.Context(), s, "work", length, func(context.Context, int64) error { return nil }); !led || err != nil {
			t.Errorf("after the lease was given back: %v, %v", led, err)
		}
	})
}

// TestLeaseLost: the work ends before the lease does, whatever became of that.
func TestLeaseLost(t *testing.T) {
	for name, lose := range map[string]func(*table){
		"the store does not answer": func(s *table) { s.refused = errors.New("no") },
		"somebody else has it":      func(s *table) { s.term++ },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, begin := &table{}, time.Now()
				led, err := lease.Lead(t.Context(), s, "work", length, func(ctx context.Context, term int64) error {
					s.mu.Lock()
					lose(s)
					s.mu.Unlock()
					return last(ctx, term)
				})
				if !led || !errors.Is(err, lodge.ErrStale) {
					t.Errorf("%v, %v", led, err)
				}
				if took := time.Since(begin); took >= length {
					t.Errorf("it worked on for %s", took)
				}
			})
		})
	}
}

// TestLeaseSurvivesOneFailure: one renewal may fail.
func TestLeaseSurvivesOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{refused: errors.New("no")}
		_, err := lease.Lead(t.Context(), s, "work", length, func(ctx context.Context, _ int64) error {
			<-time.After(length/3 + time.Second)
			s.mu.Lock()
			s.refused = nil
			s.mu.Unlock()
			<-time.After(10 * length)
			return ctx.Err()
		})
		if err != nil || s.renewed < 10 {
			t.Errorf("%v after %d renewals", err, s.renewed)
		}
	})
}

// TestLeadEndsWithItsContext is no loss of the lease, and gives it back.
func TestLeadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &table{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		led, err := lease.Lead(ctx, s, "work", length, last)
		if !led || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, lodge.ErrStale) {
			t.Errorf("%v, %v", led, err)
		}
		if time.Now().Before(s.ends) {
			t.Error("it was not given back")
		}
	})
}
