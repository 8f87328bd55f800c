package rekor

import (
	"context"
	"sync"

	"github.com/lodgehq/lodge/tlog"
)

// rounds share one way to the log among all who ask for its newest checkpoint: whoever asks
// while a fetch is under way waits for the next one, together with all others who do. So
// nobody gets the answer to a fetch that began before they asked, which could not prove that
// an entry sent meanwhile is absent.
type rounds struct {
	run func(context.Context) (tlog.Checkpoint, error) // never called concurrently

	mu      sync.Mutex
	running bool
	next    *round // not begun yet; nil where nobody waits
}

// round is one fetch. Its result is written before done is closed.
type round struct {
	ctx    context.Context
	cancel context.CancelFunc // by the last one who gives up waiting

	waiting int // guarded by rounds.mu

	done chan struct{}
	head tlog.Checkpoint
	err  error
}

// join waits for a fetch that begins from now on.
func (r *rounds) join(ctx context.Context) (tlog.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return tlog.Checkpoint{}, err
	}
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
		r.next.ctx, r.next.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	mine := r.next
	mine.waiting++
	if !r.running {
		r.running = true
		go r.loop()
	}
	r.mu.Unlock()

	select {
	case <-mine.done:
		return mine.head, mine.err
	case <-ctx.Done():
		r.leave(mine)
		return tlog.Checkpoint{}, ctx.Err()
	}
}

// leave gives up on a round, and ends it where nobody else waits for it.
func (r *rounds) leave(gone *round) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone.waiting--; gone.waiting > 0 {
		return
	}
	gone.cancel()
	if r.next == gone {
		r.next = nil // nobody joins a round that is already cancelled
	}
}

// loop runs rounds until nobody waits for one.
func (r *rounds) loop() {
	for {
		r.mu.Lock()
		now := r.next
		r.next = nil
		r.running = now != nil
		r.mu.Unlock()
		if now == nil {
			return
		}
		now.head, now.err = r.run(now.ctx)
		now.cancel()
		close(now.done)
	}
}
