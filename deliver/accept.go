package deliver

import (
	"context"
	"time"

	"github.com/lodgehq/lodge"
)

// pollEvery is how often an engine looks for what other processes on the same store did.
const pollEvery = time.Second

type receiptKey struct {
	key     lodge.Key
	signer  lodge.Signer
	address string
	subject lodge.Digest
}

// receipt is a verified delivery in the receipt cache.
type receipt struct {
	lodge.Delivery
	until time.Time
}

func (e *Engine) remember(d lodge.Delivery) {
	e.receipts.Add(keyOf(d), receipt{d, time.Now().Add(e.config.Cache.TTL)})
}

func keyOf(d lodge.Delivery) receiptKey {
	return receiptKey{d.Key, d.Signer, d.Target.Address, d.Subject}
}

// Accept takes a verified submission. When it returns, the deliveries and their
// EntryQueued events are durable (promise 1). What is verified already comes back with
// its receipt, from the receipt cache where it can: no call to the store, none to a target.
func (e *Engine) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order) ([]lodge.Accepted, error) {
	if cached := e.cached(sub, orders); cached != nil {
		return cached, nil
	}
	accepted, err := e.config.Store.Accept(ctx, sub, orders, time.Now())
	if err != nil {
		return nil, err
	}
	for _, a := range accepted {
		if a.State == lodge.Verified {
			e.remember(a.Delivery)
		} else if l := e.lanes[a.Target.Address]; l != nil {
			l.nudge()
		}
	}
	return accepted, nil
}

func (e *Engine) cached(sub lodge.Submission, orders []lodge.Order) []lodge.Accepted {
	if len(sub.Scopes) > 0 {
		return nil // they may be new, and scopes add up
	}
	accepted := make([]lodge.Accepted, len(orders))
	for i, order := range orders {
		r, ok := e.receipts.Get(receiptKey{sub.Key, sub.Signer, order.Target.Address, order.Subject})
		if !ok || time.Now().After(r.until) {
			return nil
		}
		accepted[i] = lodge.Accepted{Delivery: r.Delivery}
	}
	return accepted
}

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
	for {
		now, err := e.config.Store.Delivery(context.WithoutCancel(ctx), d.ID)
		if err != nil || !now.State.Live() {
			return now, err
		}
		if stuck, err := e.stuck(ctx, now); stuck || err != nil {
			return now, err
		}
		select {
		case <-news:
		case <-held:
		case <-ctx.Done():
			return now, nil
		}
	}
}

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
	for _, d := range chain {
		code, _, err := e.config.Store.Held(ctx, d.Target.Address)
		if code != "" || err != nil {
			return true, err
		}
		if d.Err != nil && d.Err.Code == codeMemoryHeld {
			return true, nil
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
