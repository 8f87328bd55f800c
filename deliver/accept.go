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

// remember keeps the receipt of a submission's delivery, unless scopes were given: the next
// submission may bring others, or ask for those that these keep out.
func (e *Engine) remember(d lodge.Delivery, sub lodge.Submission) {
	if len(sub.Scopes) > 0 {
		return
	}
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
			e.remember(a.Delivery, sub)
		} else if l := e.lanes[a.Target.Address]; l != nil {
			l.nudge()
		}
	}
	return accepted, nil
}

// Knows tells whether Accept would answer from the receipt cache: without the store, and
// with nothing new.
func (e *Engine) Knows(sub lodge.Submission, orders []lodge.Order) bool {
	return e.cached(sub, orders) != nil
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
