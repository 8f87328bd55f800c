package deliver

import (
	"context"
	"errors"
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
			e.receipts.Set(keyOf(a.Delivery), a.Delivery)
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
		d, ok := e.receipts.GetIfPresent(receiptKey{sub.Key, sub.Signer, order.Target.Address, order.Subject})
		if !ok {
			return nil
		}
		accepted[i] = lodge.Accepted{Delivery: d}
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
	held, removeHeld := e.watch.add("held")
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

// stuck tells whether d waits for an operator.
func (e *Engine) stuck(ctx context.Context, d lodge.Delivery) (bool, error) {
	code, _, err := e.config.Store.Held(context.WithoutCancel(ctx), d.Target.Address)
	waitsForOther := d.Err != nil && d.Err.Code == codeMemoryHeld
	return code != "" || waitsForOther, err
}

// follow wakes those who wait for deliveries that another process finished.
func (e *Engine) follow(ctx context.Context) error {
	after, err := e.config.Store.LastSequence(ctx)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ; err == nil; _, err = wait(ctx, tick.C) {
		var events []lodge.Event
		if events, err = e.config.Store.Events(ctx, after, 1000); err != nil {
			break
		}
		for _, event := range events {
			after = event.Sequence
			e.notify(event)
		}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (e *Engine) notify(event lodge.Event) {
	e.watch.notify(event.Subject)
	if event.Type == lodge.TargetHeld {
		e.watch.notify("held")
	}
}

func wait[T any](ctx context.Context, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
		return v, nil
	case <-ctx.Done():
		return v, ctx.Err()
	}
}
