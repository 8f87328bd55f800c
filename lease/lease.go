// Package lease gives a piece of work to one process at a time: it keeps a lease that a store
// hands out for as long as the work takes, and ends the work when the lease is lost.
//
// What the work writes is fenced by the store, which checks the lease in each transaction; what
// it sends elsewhere is only bounded by the context that ends here, before the lease does.
//
// Floor 1: it may import the root package.
package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
)

// Store hands out leases. A term is the proof of one, and grows with each owner.
type Store interface {
	// Acquire takes the lease of that name for d. The term is 0 where somebody else has it; the
	// holder is for people.
	Acquire(ctx context.Context, name, holder string, d time.Duration) (term int64, err error)
	// Renew makes it last for d from now on. The error wraps lodge.ErrStale where it is lost.
	Renew(ctx context.Context, name string, term int64, d time.Duration) error
	// Release gives it back.
	Release(ctx context.Context, name string, term int64) error
}

// A lease is renewed after a third of its time, so that one renewal may fail. What is done
// under it ends a sixth before it does, for what was sent takes a while to arrive.
const (
	renewals = 3
	margin   = 6
)

// lastWords is the time for giving a lease back when the program is to end.
const lastWords = 5 * time.Second

// Lead runs work if this process gets the lease of that name now, and tells whether it did.
// The context of work ends when ctx does, or when the lease is lost: then the error wraps
// lodge.ErrStale. A process that dies leaves the work to others after d.
func Lead(ctx context.Context, s Store, name string, d time.Duration, work func(ctx context.Context, term int64) error) (led bool, err error) {
	asked := time.Now()
	term, err := s.Acquire(ctx, name, Holder(), d)
	if err != nil || term == 0 {
		return false, err
	}
	held, release := Keep(ctx, s, name, term, asked, d)
	defer release()
	err = work(held, term)
	if held.Err() != nil && ctx.Err() == nil {
		return true, fmt.Errorf("lease %s: %w", name, lodge.ErrStale)
	}
	return true, err
}

// Keep renews a lease that was asked for at the time given, until release, which gives it
// back. The context that it returns ends when the lease is lost.
func Keep(ctx context.Context, s Store, name string, term int64, asked time.Time, d time.Duration) (held context.Context, release func()) {
	held, end := context.WithCancel(ctx)
	left := func(asked time.Time) time.Duration { return time.Until(asked.Add(d - d/margin)) }
	over := time.AfterFunc(left(asked), end)
	var renewal sync.WaitGroup
	renewal.Go(func() {
		tick := time.NewTicker(d / renewals)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-held.Done():
				return
			}
			asked := time.Now()
			switch err := s.Renew(held, name, term, d); {
			case errors.Is(err, lodge.ErrStale):
				end()
			case err == nil:
				over.Reset(left(asked))
			}
		}
	})
	return held, func() {
		end()
		over.Stop()
		renewal.Wait()
		over.Stop() // a renewal may have set it again
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
		_ = s.Release(last, name, term) // one that is lost is somebody else's
	}
}

// Holder says to people which process has a lease.
func Holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}
