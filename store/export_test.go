package store

import (
	"context"
	"runtime"
	"sync"
)

// Exec runs a statement on the connection that writes, while nothing else does, so that
// tests can take room or rights from it and give them back. One that was given up has none to
// take, and the next one has all.
func (s *Store) Exec(ctx context.Context, statement string) error {
	conn := s.writer.sessions[0].conn
	if conn == nil {
		return nil
	}
	_, err := conn.ExecContext(ctx, statement)
	return err
}

// Together runs operations in one transaction, in the order of their keys. Each
// must write.
func (s *Store) Together(operations ...func()) {
	w := s.writer
	w.mu.Lock()
	free := w.free
	w.free = nil
	w.mu.Unlock()
	queued := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.queue)
	}
	var wg sync.WaitGroup
	for i, operation := range operations {
		wg.Go(operation)
		for queued() <= i {
			runtime.Gosched()
		}
	}
	w.mu.Lock()
	w.free = free
	w.elect()
	w.mu.Unlock()
	wg.Wait()
}
