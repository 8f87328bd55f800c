package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
)

// eventPoll is how often events --follow looks for new ones.
const eventPoll = 500 * time.Millisecond

// eventFlags are those of lodge events.
type eventFlags struct {
	types, scopes []string
	since, until  string
	after         int64
	limit         int
	follow        bool
	output        format
}

func newEvents(a *app) *cobra.Command {
	var f eventFlags
	cmd := &cobra.Command{
		Use:   "events [KEY|DIGEST|CVE|PURL|COMPONENT]",
		Short: "Show the event history",
		Long: `Show what has happened, oldest first: all of it, or what is about the envelope with a KEY, an
artifact (DIGEST), a vulnerability (CVE-2026-1234, GHSA-…), a package (pkg:…) or a COMPONENT.
With -o json each line is a CloudEvent, with the hints of its envelope.

Sequences have no gaps: whoever goes on with --after behind the last one that was seen
misses nothing. The same fact has the same id in every store that saw it.`,
		Example: `  lodge events --follow -o json
  lodge events --after 1200 --type InclusionVerified
  lodge events CVE-2024-3094 --since 24h
  lodge events --scope component:openssl`,
		Args: takes(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := f.query(args)
			if err != nil {
				return err
			}
			return a.events(cmd.Context(), query, f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.follow, "follow", false, "go on with new events until interrupted")
	flags.Int64Var(&f.after, "after", 0, "begin behind the event with this sequence `SEQ`")
	flags.StringArrayVar(&f.types, "type", nil, "only events of this type `T`, such as EntryLogged (repeatable)")
	flags.StringArrayVar(&f.scopes, "scope", nil, "only events about envelopes with this scope `S` (repeatable: any of them)")
	flags.StringVar(&f.since, "since", "", "only events from this `TIME` on (RFC 3339, or how long ago, such as 24h)")
	flags.StringVar(&f.until, "until", "", "only events before this `TIME`")
	flags.IntVar(&f.limit, "limit", 0, "show so many events at most; 0 is all")
	f.output.flag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("type", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, t := range lodge.EventTypes {
			names = append(names, t.Name())
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (f *eventFlags) query(args []string) (q node.EventQuery, err error) {
	if f.limit < 0 || f.after < 0 {
		return q, misused("--limit and --after: want 0 or more")
	}
	if f.follow && f.until != "" {
		return q, misused("--follow goes on until it is interrupted: it has no --until")
	}
	for _, name := range f.types {
		t, err := lodge.ParseEventType(name)
		if err != nil {
			return q, misused("--type: %v", err)
		}
		q.Types = append(q.Types, t)
	}
	if q.Scopes, err = node.Scopes(f.scopes); err != nil {
		return q, misused("--scope: %v", err)
	}
	if len(args) > 0 {
		if len(f.scopes) > 0 {
			return q, misused("%q and --scope: want one of them", args[0])
		}
		about, err := parseTopic(args[0])
		if err != nil {
			return q, err
		}
		q.Key, q.Scopes = about.digest, about.scopes
	}
	if q.Since, err = moment("--since", f.since); err == nil {
		q.Until, err = moment("--until", f.until)
	}
	return q, err
}

// moment reads a time, or how long ago it was.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		err = misused("%s %q: want a time such as 2026-01-15T09:00:00Z, or how long ago, such as 24h", flag, text)
	}
	return at, err
}

// errEnough ends the reading of events at the limit.
var errEnough = errors.New("enough")

func (a *app) events(ctx context.Context, q node.EventQuery, f eventFlags) error {
	n, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	ctx, stop := interruptible(ctx)
	defer stop()
	shown := 0
	show := func(e lodge.Event) error {
		if f.limit > 0 && shown == f.limit {
			return errEnough
		}
		shown++
		if f.output.json() {
			return a.printJSON(e)
		}
		return a.print("%s\n", eventText(e))
	}
	after := f.after
	for {
		if after, err = n.Events(ctx, q, after, show); err != nil || !f.follow {
			break
		}
		select {
		case <-time.After(eventPoll):
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(err, errEnough) || f.follow && ctx.Err() != nil {
		return nil
	}
	return err
}

// eventText is a line for people.
func eventText(e lodge.Event) string {
	return fmt.Sprintf("%d  %s  %-17s  %s  %s", e.Sequence, e.Time.Format(time.RFC3339), e.Type.Name(), clean(e.Subject), clean(e.Source))
}
