package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/web"
)

func newServe(a *app) *cobra.Command {
	var check bool
	var listen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Deliver what is accepted, until told to stop",
		Long: `Deliver what pushes with --wait 0, or pushes that were interrupted, have left in the store, to
the targets of the configuration. Several of them, and pushes beside them, share the work
of one store: each delivery has one worker at a time, and what a worker leaves behind when
it dies is taken up when its lease ends.

Ctrl-C or SIGTERM ends it once what is under way has had a moment to finish; a second one
ends it at once. Nothing is lost either way.`,
		Example: `  lodge serve --config /etc/lodge/lodge.yaml
  lodge serve --check`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), listen, check) },
	}
	cmd.Flags().BoolVar(&check, "check", false, "check configuration and store, name the targets, and end")
	cmd.Flags().StringVar(&listen, "listen", "", "answer HTTP at `HOST:PORT`, a loopback address (default as configured, else not at all)")
	return cmd
}

func (a *app) serve(ctx context.Context, listen string, check bool) error {
	c, err := a.config()
	if err != nil {
		return err
	}
	if len(c.Targets) == 0 {
		return unreadable(fmt.Errorf("the configuration names no targets: put them under targets: in %s", a.configFile()))
	}
	if listen != "" {
		c.Listen = listen
	}
	if c.Listen != "" {
		if err := web.CheckListen(c.Listen); err != nil {
			return unreadable(err)
		}
	}
	n, err := node.Open(ctx, c)
	if err != nil {
		return unreadable(err)
	}
	err = a.serveTargets(ctx, n, c, check)
	return errors.Join(err, n.Close())
}

func (a *app) serveTargets(ctx context.Context, n *node.Node, c node.Config, check bool) error {
	for _, name := range slices.Sorted(maps.Keys(c.Targets)) {
		if err := a.print("target %s: %s\n", clean(name), clean(describe(c.Targets[name]))); err != nil {
			return err
		}
	}
	if check {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // so the second signal ends the process at once
	if err := a.print("serving %s\n", clean(store.Name(c.Store))); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if c.Listen != "" {
		l, err := web.Listen(ctx, c.Listen)
		if err != nil {
			return unreadable(fmt.Errorf("%w: name another with --listen", err))
		}
		if err := a.print("listening on http://%s\n", l.Addr()); err != nil {
			return err
		}
		g.Go(func() error { return web.Serve(ctx, l, n) })
	}
	g.Go(func() error {
		if err := n.Run(ctx); err != nil {
			return fmt.Errorf("delivering: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// describe says what a target is and where.
func describe(t node.Target) string {
	if t.Log != nil {
		return "log " + t.Log.URL
	}
	return "repository " + t.OCI.Repository
}
