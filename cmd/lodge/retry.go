package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
)

func newRetry(a *app) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "retry KEY | --target NAME",
		Short: "Queue failed deliveries again, take a held target up again",
		Long: `Queue the failed deliveries of the envelope with the idempotency KEY again, or those to a
target. A target that is held is taken up again. The next push with that target, or the
daemon, delivers them; nothing is sent by this command.`,
		Example: `  lodge retry --target https://rekor.example
  lodge retry $(lodge key vex.dsse.json | cut -d' ' -f1)`,
		Args: takes(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && target == "" {
				return misused("say what to retry: the KEY of an envelope, or --target NAME")
			}
			var key lodge.Key
			if len(args) > 0 {
				var err error
				if key, err = parseDigest(args[0]); err != nil {
					return err
				}
			}
			return a.retry(cmd.Context(), key, target)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "target by `NAME` or address")
	return cmd
}

func (a *app) retry(ctx context.Context, key lodge.Key, target string) error {
	n, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	if !key.IsZero() {
		found, err := n.Deliveries(ctx, key, 0, 1)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("delivery of %s: %w", key, lodge.ErrNotFound)
		}
		if err != nil {
			return err
		}
	}
	if target != "" {
		held, err := n.Resume(ctx, target)
		if err != nil {
			return err
		}
		if held {
			if err := a.print("%s is taken up again\n", clean(target)); err != nil {
				return err
			}
		}
	}
	queued, err := n.Retry(ctx, key, target)
	if err != nil {
		return err
	}
	return a.print("%d failed deliveries queued again; the next push with their targets delivers them\n", queued)
}
