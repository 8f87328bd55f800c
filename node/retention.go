package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/evidence"
	"github.com/lodgehq/lodge/lease"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/trigger"
)

// pruneEvery is how often what is older than the retention keeps is deleted.
const pruneEvery = time.Hour

// prune deletes now and then what is older than the configuration keeps. The lease is not
// given back, so that of all nodes on the store one does it in each hour.
func (n *Node) prune(ctx context.Context) error {
	for {
		if err := n.pruneOnce(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("what is too old could not be deleted", "error", err)
		}
		select {
		case <-time.After(pruneEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) pruneOnce(ctx context.Context) error {
	const name = "retention"
	term, err := n.store.Acquire(ctx, name, lease.Holder(), pruneEvery)
	if err != nil || term == 0 {
		return err
	}
	r := n.config.Retention
	readers := []string{trigger.Name}
	if n.config.Evidence.Directory != "" {
		readers = append(readers, evidence.Name)
	}
	pruned, err := n.store.Under(name, term).Prune(ctx, store.Retention{
		Payloads: time.Duration(r.Payloads), History: time.Duration(r.History), Events: time.Duration(r.Outbox), Readers: readers}, time.Now())
	if pruned != (store.Pruned{}) {
		slog.Info("deleted what is older than the retention keeps",
			"payloads", pruned.Payloads, "history", pruned.History, "events", pruned.Events)
	}
	if errors.Is(err, lodge.ErrStale) {
		return nil // it took longer than an hour, and another goes on
	}
	return err
}
