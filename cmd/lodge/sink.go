package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

func newSink(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sink",
		Short: "Show where events go, have them sent again",
		Long: `The sinks of events: a JSON Lines file, webhooks, NATS. They are configured under events: and
run with lodge serve. Each has a place of its own in the sequence of events; a sink that is
down gets what it has missed when it is back.`,
	}
	cmd.AddCommand(newSinkList(a), newSinkReplay(a), newSinkEnable(a))
	return cmd
}

const sinkName = "the NAME of a sink (lodge sink list shows it)"

// withStore runs f with the local store open.
func (a *app) withStore(ctx context.Context, f func(*node.Node) error) error {
	n, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	return f(n)
}

func newSinkList(a *app) *cobra.Command {
	var output format
	var after int64
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "Show the sinks, or the events that one has not taken",
		Long: `Show every sink that has run on the store: the sequence of the last event that it is through
with, how many have happened since, how many it did not take and gets again or were given
up, and whether it is disabled. With a NAME: those that it did not take.`,
		Args: takes(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd.Context(), func(n *node.Node) error {
				if len(args) > 0 {
					return a.undelivered(cmd.Context(), n, args[0], after, output)
				}
				return a.sinks(cmd.Context(), n, output)
			})
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "with NAME: begin behind the event with this sequence `SEQ`")
	output.flag(cmd)
	return cmd
}

func (a *app) sinks(ctx context.Context, n *node.Node, output format) error {
	sinks, err := n.Sinks(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "SINK\tSEQUENCE\tBEHIND\tWAITING\tGIVEN UP\tDISABLED")
	for _, s := range sinks {
		if output.json() {
			if err := a.printJSON(s); err != nil {
				return err
			}
		}
		disabled := "no"
		if s.Disabled != "" {
			disabled = s.Disabled
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", clean(s.Name), s.Sequence, s.Behind, s.Waiting, s.GivenUp, clean(disabled))
	}
	if output.json() {
		return nil
	}
	_ = w.Flush() // into memory
	return a.print("%s", b.String())
}

// undeliveredRow is a line of sink list NAME -o json.
type undeliveredRow struct {
	Sequence int64     `json:"sequence"`
	Subject  string    `json:"subject"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	Due      time.Time `json:"due,omitzero"` // of the next attempt; none where it was given up
	Error    string    `json:"error"`
}

// undeliveredPage is how many undelivered events are shown of each kind.
const undeliveredPage = 1000

func (a *app) undelivered(ctx context.Context, n *node.Node, sink string, after int64, output format) error {
	for _, givenUp := range []bool{true, false} {
		page, err := n.Undelivered(ctx, sink, givenUp, after, undeliveredPage)
		if err != nil {
			return err
		}
		for _, u := range page {
			if err := a.printUndelivered(u, output); err != nil {
				return err
			}
		}
		if len(page) == undeliveredPage {
			complain(a.stderr, fmt.Sprintf("there may be more: --after %d", page[len(page)-1].Sequence))
		}
	}
	return nil
}

func (a *app) printUndelivered(u lodge.Undelivered, output format) error {
	if output.json() {
		return a.printJSON(undeliveredRow(u))
	}
	next := "given up"
	if !u.Due.IsZero() {
		next = "again at " + u.Due.Format(time.RFC3339)
	}
	return a.print("%d  %s  %d attempts since %s, %s: %s\n", u.Sequence, clean(u.Subject), u.Attempts, u.Since.Format(time.RFC3339), next, clean(u.Error))
}

func newSinkReplay(a *app) *cobra.Command {
	var after int64
	var failed bool
	cmd := &cobra.Command{
		Use:   "replay NAME --after SEQ | --failed",
		Short: "Have events sent to a sink again",
		Long: `Have a sink go on behind the event with a sequence: it gets those after it again, or does not
get those before it. With --failed it gets again what was given up, and nothing else. The
daemon does it within a second; repeats have the ids that they had.

A JSON Lines file holds each event once. To replay into it, move it away first.`,
		Example: `  lodge sink replay file --after 0
  lodge sink replay https://hooks.example/lodge --failed`,
		Args: takes(1, 1, sinkName),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("after") == failed || after < 0 {
				return misused("say what to send again: --after SEQ (0 is everything), or --failed")
			}
			return a.withStore(cmd.Context(), func(n *node.Node) error {
				if !failed {
					if err := n.ReplaySink(cmd.Context(), args[0], after); err != nil {
						return err
					}
					return a.print("%s goes on behind event %d\n", clean(args[0]), after)
				}
				count, err := n.RetrySink(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print("%d events that were given up are sent again\n", count)
			})
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "the sequence `SEQ` behind which it goes on")
	cmd.Flags().BoolVar(&failed, "failed", false, "what was given up")
	return cmd
}

func newSinkEnable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "enable NAME",
		Short: "Let a disabled sink get events again",
		Long: `Let a sink get events again that was disabled because its receiver answered that it is gone
(410). It gets everything that it has missed; lodge sink replay --after leaves some out.`,
		Args: takes(1, 1, sinkName),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd.Context(), func(n *node.Node) error {
				was, err := n.EnableSink(cmd.Context(), args[0])
				switch {
				case err != nil:
					return err
				case !was:
					return a.print("%s was not disabled\n", clean(args[0]))
				}
				return a.print("%s gets events again\n", clean(args[0]))
			})
		},
	}
}
