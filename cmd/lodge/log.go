package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

func newLog(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Follow transparency logs, and say how far they are verified",
		Long: `Follow the logs of the configuration, and say how far they are verified. The daemon follows
those that "follow:" names by itself.`,
	}
	cmd.AddCommand(newLogList(a), newLogCheck(a), newLogFollow(a), newLogResume(a))
	return cmd
}

func newLogList(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the logs: size, verified through, lag, alarms",
		Long: `Show every log that the store knows, a line for each of its shards. "verified through N": every
entry up to index N was read and proven to be in the tree that the log has signed; with "watch:
{from: now}" every one since the log was met. With -o json one log a line.`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			logs, err := n.Logs(cmd.Context())
			if err != nil {
				return err
			}
			for _, l := range logs {
				if err := a.printLog(l, output); err != nil {
					return err
				}
			}
			return nil
		},
	}
	output.flag(cmd)
	return cmd
}

func (a *app) printLog(l node.LogStatus, output format) error {
	if output.json() {
		return a.printJSON(l)
	}
	if len(l.Shards) == 0 {
		return a.print("%s: not followed yet\n", clean(l.Name))
	}
	for _, s := range l.Shards {
		if err := a.print("%s\n", clean(shardText(l, s))); err != nil {
			return err
		}
	}
	return nil
}

// shardText is a line for people.
func shardText(l node.LogStatus, s node.ShardStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: size %d, ", l.Name, s.Origin, s.Head.Size)
	switch {
	case s.First == 0:
		fmt.Fprintf(&b, "verified through %d", s.VerifiedThrough)
	case s.VerifiedThrough < s.First:
		fmt.Fprintf(&b, "to be verified from %d on", s.First)
	default:
		fmt.Fprintf(&b, "verified from %d through %d", s.First, s.VerifiedThrough)
	}
	if s.Lag > 0 {
		fmt.Fprintf(&b, ", %d to read", s.Lag)
		if s.Remaining > 0 {
			fmt.Fprintf(&b, " (about %s)", time.Duration(s.Remaining*float64(time.Second)).Round(time.Second))
		}
	}
	if s.Quarantined > 0 {
		fmt.Fprintf(&b, ", %d in quarantine", s.Quarantined)
	}
	if s.Unsearched > 0 {
		fmt.Fprintf(&b, ", %d not searched", s.Unsearched)
	}
	if s.Closed {
		b.WriteString(", closed")
	}
	if s.Alarm != nil {
		fmt.Fprintf(&b, ", ALARM %s since %s: %s", s.Alarm.Code, s.Alarm.Since.Format(time.RFC3339), s.Alarm.Message)
	}
	if l.Held != "" {
		fmt.Fprintf(&b, ", HELD: %s", l.Held)
	}
	return b.String()
}

func newLogCheck(a *app) *cobra.Command {
	var proofs string
	var output format
	cmd := &cobra.Command{
		Use:   "check [NAME…]",
		Short: "Look at the logs now, and say what is wrong",
		Long: `Look at the logs of these names once (default: those that the configuration follows, or all its
logs): the checkpoint, all new entries, all stored receipts, what is in quarantine. Where
another process follows a log right now, it is shown as it stands. Nothing is delivered.

Exit status: 0 all is well, 1 there is an alarm, a divergence that nobody has decided on, an
entry that is not what the tree has, or a held target; 2 wrong usage.`,
		Example: `  lodge log check
  lodge log check sigstore --proofs .`,
		Args: takes(0, -1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, names, err := a.openLogs(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			return a.checkLogs(cmd.Context(), n, names, proofs, output)
		},
	}
	cmd.Flags().StringVar(&proofs, "proofs", "", "write the proofs that a log diverged into this folder `DIR`, for lodge verify")
	output.flag(cmd)
	return cmd
}

// openLogs opens the node of the configuration and says which logs are meant.
func (a *app) openLogs(ctx context.Context, names []string) (*node.Node, []string, error) {
	c, err := a.config()
	if err != nil {
		return nil, nil, err
	}
	followed := c.Followed()
	if len(names) == 0 {
		names = followed
	}
	if len(names) == 0 {
		return nil, nil, unreadable(fmt.Errorf("the configuration names no log: put one under targets: in %s", a.configFile()))
	}
	for _, name := range names {
		if t, ok := c.Targets[name]; !ok || t.Log == nil {
			return nil, nil, misused("the configuration names no log %q (%s)", name, known(&c))
		}
	}
	n, err := node.Open(ctx, c)
	return n, names, unreadable(err)
}

func (a *app) checkLogs(ctx context.Context, n *node.Node, names []string, proofs string, output format) error {
	wrong := false
	for _, name := range names {
		if err := n.CheckLog(ctx, name); errors.Is(err, lodge.ErrStale) {
			complain(a.stderr, fmt.Sprintf("%s: another process follows it; this is how it stands", name))
		} else if err != nil {
			complain(a.stderr, fmt.Sprintf("%s: %v", name, err))
			wrong = true
		}
	}
	logs, err := n.Logs(ctx)
	if err != nil {
		return err
	}
	checked := map[string]bool{}
	for _, name := range names {
		checked[name] = true
	}
	for _, l := range logs {
		if !checked[l.Name] {
			continue
		}
		if err := a.printLog(l, output); err != nil {
			return err
		}
		bad, err := a.findings(ctx, n, l, proofs)
		if err != nil {
			return err
		}
		wrong = wrong || bad || l.Held != ""
	}
	if wrong {
		return exitError(exitFailed)
	}
	return nil
}

// findings says on standard error what is wrong with a log, and tells whether anything is.
func (a *app) findings(ctx context.Context, n *node.Node, l node.LogStatus, proofs string) (wrong bool, err error) {
	for _, s := range l.Shards {
		wrong = wrong || s.Alarm != nil || s.FirstBad >= 0
		if err := a.quarantined(ctx, n, l.Name, s.Shard); err != nil {
			return true, err
		}
	}
	found, err := n.Divergences(ctx, l.Address)
	if err != nil {
		return true, err
	}
	for i, d := range found {
		where := ""
		if proofs != "" {
			where = filepath.Join(proofs, fmt.Sprintf("divergence-%.16s-%d.json", d.LogID, i+1))
			if err := os.WriteFile(where, append(d.Proof, '\n'), 0o644); err != nil {
				return true, fmt.Errorf("--proofs: %w", err)
			}
			where = ": " + where
		}
		decided := "lodge log resume " + l.Name + " goes on in spite of it"
		if d.Resumed.IsZero() {
			wrong = true
		} else {
			decided = "resumed " + d.Resumed.Format(time.RFC3339)
		}
		complain(a.stderr, fmt.Sprintf("%s: %s: DIVERGED %s: trees of %d and of %d that can't both be its own, seen at %s; %s%s",
			l.Name, d.Origin, d.Time.Format(time.RFC3339), d.Older.Size, d.Newer.Size, d.View, decided, where))
	}
	return wrong, nil
}

// quarantined names the entries in quarantine, in one line those that follow each other for
// the same reason.
func (a *app) quarantined(ctx context.Context, n *node.Node, name string, s lodge.Shard) error {
	var first, last lodge.Quarantined
	say := func() {
		switch {
		case first.Words == "":
		case first.Index == last.Index:
			complain(a.stderr, fmt.Sprintf("%s: %s: entry %d: %s", name, s.Origin, first.Index, first.Words))
		default:
			complain(a.stderr, fmt.Sprintf("%s: %s: entries %d to %d: %s", name, s.Origin, first.Index, last.Index, first.Words))
		}
	}
	for after := int64(-1); ; {
		bad, err := n.Quarantine(ctx, s, after, 1000)
		if err != nil || len(bad) == 0 {
			say()
			return err
		}
		for _, q := range bad {
			if q.Index != last.Index+1 || q.Words != first.Words {
				say()
				first = q
			}
			after, last = q.Index, q
		}
	}
}

func newLogFollow(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "follow [NAME…]",
		Short: "Follow the logs until interrupted, without delivering anything",
		Long: `Follow the logs of these names (default: those that the configuration follows, or all its
logs) until interrupted, and print what happens with them. Nothing is delivered. Several
processes can be started on one store: one of them follows a log, the others stand by.`,
		Args: takes(0, -1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, names, err := a.openLogs(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			return a.followLogs(cmd.Context(), n, names, output)
		},
	}
	output.flag(cmd)
	return cmd
}

// logEvents are those that following a log leads to.
var logEvents = []lodge.EventType{lodge.CheckpointUpdated, lodge.CheckpointDiverged, lodge.CheckpointRejected,
	lodge.EntryObserved, lodge.DuplicateObserved, lodge.TargetHeld, lodge.TargetResumed}

func (a *app) followLogs(ctx context.Context, n *node.Node, names []string, output format) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	after, err := n.Events(ctx, node.EventQuery{Types: logEvents, Since: time.Now()}, 0, func(lodge.Event) error { return nil })
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- n.FollowLogs(ctx, names) }()
	show := func(e lodge.Event) error {
		if output.json() {
			return a.printJSON(e)
		}
		return a.print("%s\n", eventText(e))
	}
	tick := time.NewTicker(eventPoll)
	defer tick.Stop()
	for err == nil {
		if after, err = n.Events(ctx, node.EventQuery{Types: logEvents}, after, show); err != nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	interrupted := ctx.Err() != nil
	stop()
	if followed := <-done; followed != nil || interrupted {
		return followed
	}
	return err
}

func newLogResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "resume NAME",
		Short: "Take a held log up again, in spite of what was found",
		Long: `Make a log that is held take deliveries again. Where it has diverged or has lost entries, the
tree that it serves next is taken for its own, unless it extends the one that was relied on:
then all its entries are read anew, and receipts from before are not held against it. The
proofs are kept.`,
		Args: takes(1, 1, "the NAME of a log"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			held, err := n.ResumeLog(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !held {
				return a.print("%s was not held\n", clean(args[0]))
			}
			return a.print("%s is taken up again\n", clean(args[0]))
		},
	}
}
