package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/lodgehq/lodge"
)

const (
	maxBatch   = 512 // operations that share one transaction, and so one fsync
	fewCallers = 16  // that a batch waits for all of
	maxRaces   = 10  // that one operation may lose before it fails
)

// writer commits operations in groups. An operation that finds a connection free leads: it
// takes all operations that wait and runs them in one transaction, then hands the
// connection to the first that came meanwhile. That needs no goroutine of its own.
//
// Operations share their fate only where all is well: when one of them fails after it
// has written something, the transaction is undone and each runs again by itself.
type writer struct {
	store    *Store
	sessions []*session // fixed

	mu      sync.Mutex
	queue   []*operation // guarded by mu
	free    []*session   // guarded by mu
	elected bool         // guarded by mu; the first of the queue leads and has not taken its batch yet
	last    int          // guarded by mu; size of the batch before
}

// operation is a part of a transaction.
type operation struct {
	key   string          // of what it locks: a batch goes through its operations in this order, each envelope's before its deliveries'
	alone bool            // it locks what has other keys too, so it shares no transaction where there are several at a time
	run   func(*tx) error // may run more than once: it resets what it captures
	wake  chan *session   // gets a session to lead with, or nil once err is set
	err   error
}

// envelopeKey is the key of an operation that locks an envelope and its deliveries.
func envelopeKey(key lodge.Key, signer lodge.Signer) string { return string(key[:]) + string(signer) }

// deliveryKey is the key of one that locks a delivery and what requires it: behind its envelope, in
// the order of lockDeliveries.
func deliveryKey(d lodge.Delivery) string {
	return fmt.Sprintf("%s\x00%t%020d", envelopeKey(d.Key, d.Signer), !d.Subject.IsZero(), d.ID)
}

func newWriter(s *Store) *writer {
	w := &writer{store: s}
	for range s.dialect.writers {
		w.sessions = append(w.sessions, &session{store: s})
	}
	w.free = slices.Clone(w.sessions)
	return w
}

func (w *writer) close() {
	for _, s := range w.sessions {
		s.drop()
	}
}

// do runs op in a transaction and returns once that is durable. An error says that
// nothing was kept, except where the connection is lost over a COMMIT: then it may have
// been made all the same. After ctx.Err() nothing was begun.
func (w *writer) do(ctx context.Context, op *operation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op.wake = make(chan *session, 1)
	w.mu.Lock()
	w.queue = append(w.queue, op)
	w.elect()
	w.mu.Unlock()
	var s *session
	select {
	case s = <-op.wake:
	case <-ctx.Done():
		if w.withdraw(op) {
			return ctx.Err()
		}
		s = <-op.wake // it is being committed right now, or it is to lead
	}
	if s != nil {
		w.lead(s)
	}
	return op.err
}

// elect gives a free session to the first of the queue. The caller holds mu.
func (w *writer) elect() {
	if n := len(w.free); n > 0 && len(w.queue) > 0 && !w.elected {
		w.elected = true
		w.queue[0].wake <- w.free[n-1]
		w.free = w.free[:n-1]
	}
}

func (w *writer) withdraw(op *operation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, op)
	if i < 0 || i == 0 && w.elected {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

// lead commits a batch, of which the caller's operation is the first.
func (w *writer) lead(s *session) {
	batch := w.take()
	w.commit(s, slices.SortedStableFunc(slices.Values(batch), func(a, b *operation) int { return cmp.Compare(a.key, b.key) }))
	for _, op := range batch[1:] {
		op.wake <- nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free = append(w.free, s)
	w.elect()
}

// take returns the next batch. Before, it lets those run who are about to add to it, the
// callers that the last commit has woken, until half of them have come: the other half
// prepares what it wants while these are committed. Where they are few it lets all of them
// come, for then an fsync costs more than what they prepare.
func (w *writer) take() []*operation {
	n := 0
	w.mu.Lock()
	enough := max(w.last/2, min(w.last, fewCallers))
	for n < len(w.queue) && len(w.queue) < enough {
		n = len(w.queue)
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	n = min(len(w.queue), maxBatch)
	if len(w.sessions) > 1 {
		if next := slices.IndexFunc(w.queue[:n], func(op *operation) bool { return op.alone }); next >= 0 {
			n = max(next, 1)
		}
	}
	w.last = n
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	w.elected = false
	w.elect()
	return batch
}

// commit runs the batch in one transaction; where that fails, each operation in one of
// its own.
func (w *writer) commit(s *session, batch []*operation) {
	err := s.commit(batch)
	for races := 0; err != nil && len(batch) == 1 && races < maxRaces && w.store.dialect.lost(err); races++ {
		err = s.commit(batch)
	}
	if failed := (*operationError)(nil); errors.As(err, &failed) && len(batch) > 1 {
		for _, op := range batch {
			w.commit(s, []*operation{op})
		}
		return
	}
	if err != nil {
		for _, op := range batch {
			op.err = err
		}
	}
}
