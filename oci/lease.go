package oci

import (
	"context"
	"time"

	"github.com/lodgehq/lodge/lease"
)

// The lease under which a referrers index is written, which no registry keeps others away
// from, is short, for whoever has it may be killed, and is renewed for as long as it is needed,
// for a registry may be slow.
const (
	leaseTime = 6 * time.Second
	askEvery  = 50 * time.Millisecond // for a lease that somebody else has
)

// lease waits until this process has the lease of that name. The context that it returns
// ends when the lease is lost, or given back by release.
func (r *Repository) lease(ctx context.Context, name string) (context.Context, func(), error) {
	if r.leases == nil {
		return ctx, func() {}, nil
	}
	poll := time.NewTicker(askEvery)
	defer poll.Stop()
	for {
		asked := time.Now()
		term, err := r.leases.Acquire(ctx, name, lease.Holder(), leaseTime)
		if err != nil {
			return nil, nil, err
		}
		if term > 0 {
			held, release := lease.Keep(ctx, r.leases, name, term, asked, leaseTime)
			return held, release, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}
