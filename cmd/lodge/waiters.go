package main

import (
	"sync"

	"github.com/lodgehq/lodge"
)

// maxWaiters bounds the deliveries that are waited for at a time. The others are on their
// way as well; they are only reported later.
const maxWaiters = 4096

// parcel is an accepted delivery with where it came from.
type parcel struct {
	item   int // number of the input
	place  int // among the deliveries of that
	source string
	lodge.Accepted
}

// waiters wait for deliveries, each in a goroutine of its own as long as there are not too
// many. Their zero value is ready once finish is set, which waits for one and reports it.
type waiters struct {
	finish func(parcel)

	mu      sync.Mutex
	running int
	backlog []parcel
	left    sync.WaitGroup
}

func (w *waiters) add(p parcel) {
	w.left.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == maxWaiters {
		w.backlog = append(w.backlog, p)
		return
	}
	w.running++
	go func() {
		for more := true; more; p, more = w.next() {
			w.finish(p)
			w.left.Done()
		}
	}()
}

func (w *waiters) next() (p parcel, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.backlog) == 0 {
		w.running--
		return parcel{}, false
	}
	p, w.backlog = w.backlog[0], w.backlog[1:]
	return p, true
}

// idle is closed once everything that was added is finished. Nothing may be added any more.
func (w *waiters) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		w.left.Wait()
		close(done)
	}()
	return done
}
