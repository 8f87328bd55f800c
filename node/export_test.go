package node

import (
	"context"

	"github.com/lodgehq/lodge"
)

// Wants is which events the webhook gets.
func (w Webhook) Wants() (func(lodge.Event) bool, error) { return w.wants() }

// KeepRunning runs what a node runs beside its deliveries.
func KeepRunning(ctx context.Context, run func(context.Context) error) {
	worker{"test", run}.keepRunning(ctx)
}
