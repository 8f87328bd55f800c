package node_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lodgehq/lodge/node"
)

// TestWorkerBeginsAgain: what fails beside the deliveries, for a while, is done in the end; and
// it does not keep a node from stopping.
func TestWorkerBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		node.KeepRunning(t.Context(), func(context.Context) error {
			if runs++; runs < 4 {
				return errors.New("the database is started anew")
			}
			return nil
		})
		if runs != 4 {
			t.Errorf("it ran %d times, want until it was done", runs)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		begin := time.Now()
		node.KeepRunning(ctx, func(context.Context) error { return errors.New("for ever") })
		if took := time.Since(begin); took != time.Hour {
			t.Errorf("it stopped after %s", took)
		}
	})
}
