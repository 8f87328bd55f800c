package deliver

import (
	"context"
	"sync"
	"time"

	"github.com/lodgehq/lodge"
)

// Await returns the delivery once it is verified or failed, or its target or one that it
// waits for is held, or ctx ends; always as it stands then.
func (e *Engine) Await(ctx context.Context, d lodge.Delivery) (lodge.Delivery, error) {
	if !d.State.Live() {
		return d, nil
	}
	news, remove := e.watch.add(d.Key.String())
	defer remove()
	held, removeHeld := e.watch.add(holds)
	defer removeHeld()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for over := false; ; {
		now, err := e.config.Store.Delivery(context.WithoutCancel(ctx), d.ID)
		if err != nil || over || !now.State.Live() {
			return now, err
		}
		if stuck, err := e.stuck(ctx, now); stuck || err != nil {
			return now, err
		}
		select {
		case <-news:
		case <-held:
		case <-look.C:
		case <-ctx.Done():
			over = true
		}
	}
}

// lookEvery is how often a delivery is looked at of which nothing is heard: another process
// tells by events, and not every transition has one.
const lookEvery = 10 * time.Second

// stuck tells whether d waits for an operator, or for a delivery that does.
func (e *Engine) stuck(ctx context.Context, d lodge.Delivery) (bool, error) {
	ctx = context.WithoutCancel(ctx)
	chain := []lodge.Delivery{d}
	if d.Due.IsZero() {
		required, err := e.config.Store.Requires(ctx, d.ID)
		if err != nil {
			return false, err
		}
		chain = append(chain, required...)
	}
	var addresses []string
	for _, d := range chain {
		addresses = append(addresses, d.Target.Address)
		if d.Err == nil || d.Err.Code != codeTagHeld {
			continue
		}
		for address, l := range e.lanes {
			if l.Repository != nil {
				addresses = append(addresses, address)
			}
		}
	}
	for _, address := range addresses {
		if code, _, err := e.config.Store.Held(ctx, address); code != "" || err != nil {
			return true, err
		}
	}
	return false, nil
}

// Follow hands every event behind the sequence after to fn, in order, and then each new
// one as it is committed, until ctx ends or fn returns an error, which it returns. What
// happened is durable before fn hears of it; a program that keeps the sequence of the
// last event that it dealt with misses none.
func (e *Engine) Follow(ctx context.Context, after int64, fn func(lodge.Event) error) error {
	news, remove := e.watch.add(anything)
	defer remove()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		events, err := e.config.Store.Events(ctx, after, 1000)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := fn(event); err != nil {
				return err
			}
			after = event.Sequence
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-news:
		case <-tick.C: // another process may have written some
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// News says on a channel when this engine may have written events, until remove is called.
func (e *Engine) News() (news <-chan struct{}, remove func()) { return e.watch.add(anything) }

// follow wakes those who wait for deliveries that another process worked on.
func (e *Engine) follow(ctx context.Context) error {
	after, known := int64(0), false
	for ctx.Err() == nil {
		err := error(nil)
		if !known {
			after, err = e.config.Store.LastSequence(ctx)
			known = err == nil
		}
		if known {
			err = e.Follow(ctx, after, func(event lodge.Event) error {
				after = event.Sequence
				e.watch.notify(event.Subject)
				if event.Type == lodge.TargetHeld {
					e.watch.notify(holds)
				}
				return nil
			})
		}
		if err != nil { // the lanes say so; what is missed now is read when the store works again
			select {
			case <-time.After(pollEvery):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// What a watcher may wait for besides the news of one key.
const (
	anything = "*"    // any transition
	holds    = "held" // a target was held
)

// watchers wakes whoever waits for news.
type watchers struct {
	mu    sync.Mutex
	byKey map[string]map[chan struct{}]bool // by key, or one of the words above
}

func (w *watchers) add(subject string) (news chan struct{}, remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byKey == nil {
		w.byKey = map[string]map[chan struct{}]bool{}
	}
	if w.byKey[subject] == nil {
		w.byKey[subject] = map[chan struct{}]bool{}
	}
	news = make(chan struct{}, 1)
	w.byKey[subject][news] = true
	return news, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if delete(w.byKey[subject], news); len(w.byKey[subject]) == 0 {
			delete(w.byKey, subject)
		}
	}
}

func (w *watchers) notify(subject string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for news := range w.byKey[subject] {
		select {
		case news <- struct{}{}:
		default: // it has news already
		}
	}
}
