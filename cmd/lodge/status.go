package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
	"github.com/lodgehq/lodge/node"
)

func newStatus(a *app) *cobra.Command {
	var output format
	var after int64
	var limit int
	cmd := &cobra.Command{
		Use:   "status [KEY|DIGEST|CVE|PURL|COMPONENT]",
		Short: "Show deliveries and targets",
		Long: `Show what became of the envelopes in the local store: those of an idempotency KEY or about a
subject (image, file) with a DIGEST, with the history of each delivery; those about a
vulnerability (CVE-2026-1234, GHSA-…), a package (pkg:…) or a COMPONENT; or all, oldest first,
after the targets. A target that is held takes nothing until that is mended.

Nothing is sent, and nobody is asked: this is what the store knows.`,
		Example: `  lodge status
  lodge status --after 1200 --limit 100
  lodge status CVE-2024-3094
  lodge status $(lodge key vex.dsse.json | cut -d' ' -f1) -o json`,
		Args: takes(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			var about topic
			if len(args) > 0 {
				var err error
				if about, err = parseTopic(args[0]); err != nil {
					return err
				}
			}
			if limit < 1 {
				return misused("--limit %d: want 1 or more", limit)
			}
			return a.status(cmd.Context(), about, after, limit, output)
		},
	}
	cmd.Flags().Int64Var(&after, "after", 0, "begin behind the delivery with this `ID`")
	cmd.Flags().IntVar(&limit, "limit", 100, "show so many deliveries at most")
	output.flag(cmd)
	return cmd
}

func parseDigest(s string) (lodge.Digest, error) {
	d, err := lodge.ParseDigest(s)
	if err != nil {
		err = misused("%v", err)
	}
	return d, err
}

// topic is what somebody asks about.
type topic struct {
	text   string
	digest lodge.Digest // a key, or what is attested; zero where it is something else
	scopes []string     // by which it is found; empty where nothing was asked
}

func parseTopic(s string) (topic, error) {
	t := topic{text: s, scopes: hint.Lookup(s)}
	if digest, err := lodge.ParseDigest(s); err == nil {
		t.digest = digest
	} else if strings.HasPrefix(s, "sha256:") {
		return t, misused("%v", err)
	}
	if len(t.scopes) == 0 {
		return t, misused("%q: want a key, a digest, a vulnerability id, a package URL or a component", s)
	}
	return t, nil
}

// maxHistory is up to how many deliveries are shown with their history.
const maxHistory = 20

func (a *app) status(ctx context.Context, about topic, after int64, limit int, output format) error {
	n, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	targets, err := n.Targets(ctx)
	if err != nil {
		return err
	}
	find := func() ([]lodge.Delivery, error) { return n.Deliveries(ctx, about.digest, after, limit+1) }
	if about.digest.IsZero() && len(about.scopes) > 0 {
		find = func() ([]lodge.Delivery, error) { return n.DeliveriesAbout(ctx, about.scopes, after, limit+1) }
	}
	found, err := find()
	if err != nil {
		return err
	}
	more := len(found) > limit
	if more {
		found = found[:limit]
	}
	if len(found) == 0 && about.text != "" {
		return fmt.Errorf("nothing about %s: %w", about.text, lodge.ErrNotFound)
	}
	whole := about.text != "" && len(found) <= maxHistory
	rows, err := statusRows(ctx, n, found, targets, whole)
	if err != nil {
		return err
	}
	if output.json() {
		for _, row := range rows {
			if err := a.printJSON(row); err != nil {
				return err
			}
		}
	} else if err := a.print("%s", statusText(rows, targets, whole)); err != nil {
		return err
	}
	if more {
		complain(a.stderr, fmt.Sprintf("there are more: --after %d", found[limit-1].ID))
	}
	return nil
}

// statusRow is a line of status -o json.
type statusRow struct {
	ID       int64              `json:"id"`
	Key      lodge.Key          `json:"key"`
	Signer   lodge.Signer       `json:"signer"`
	Target   lodge.Target       `json:"target"`
	Subject  lodge.Digest       `json:"subject,omitzero"`
	State    lodge.State        `json:"state"`
	Attempts int                `json:"attempts"`
	Sends    int                `json:"sends"`
	Adopted  bool               `json:"adopted"` // it was there without this store's doing
	Accepted time.Time          `json:"accepted"`
	Due      time.Time          `json:"due,omitzero"` // of the next attempt
	Held     *lodge.Error       `json:"held,omitempty"`
	Receipt  *lodge.Receipt     `json:"receipt,omitempty"`
	Error    *lodge.Error       `json:"error,omitempty"`
	History  []lodge.Transition `json:"history,omitempty"` // where few are asked for

	VEX       map[lodge.Move]int `json:"vex,omitempty"`       // how many claims changed what when it was lodged; where few are asked for
	Triggered []string           `json:"triggered,omitempty"` // policies that were asked to look again
}

func statusRows(ctx context.Context, n *node.Node, found []lodge.Delivery, targets []lodge.TargetStatus, history bool) ([]statusRow, error) {
	rows := make([]statusRow, len(found))
	for i, d := range found {
		rows[i] = statusRow{
			ID: d.ID, Key: d.Key, Signer: d.Signer, Target: d.Target, Subject: d.Subject, State: d.State, Attempts: d.Attempt,
			Sends: d.Sends, Adopted: d.Adopted, Accepted: d.Accepted, Due: d.Due, Receipt: d.Receipt, Error: d.Err,
		}
		for _, t := range targets {
			if t.Address == d.Target.Address && t.Held != "" && d.State.Live() {
				rows[i].Held = &lodge.Error{Class: lodge.ClassHeld, Code: t.Held, Message: t.HeldWords}
			}
		}
		if history {
			var err error
			if rows[i].History, err = n.History(ctx, d.ID); err != nil {
				return nil, err
			}
			reaction, err := n.Reaction(ctx, d.Key, d.Signer)
			if err != nil {
				return nil, err
			}
			rows[i].VEX, rows[i].Triggered = reaction.Moves, reaction.Triggered
		}
	}
	return rows, nil
}

// statusText is the table, or one block per delivery with its history.
func statusText(rows []statusRow, targets []lodge.TargetStatus, whole bool) string {
	var b strings.Builder
	if whole {
		for _, row := range rows {
			row.block(&b)
		}
		return b.String()
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "TARGET\tWAITING\tFAILED\tHELD")
	for _, t := range targets {
		held := "no"
		if t.Held != "" {
			held = fmt.Sprintf("%s: %s; %s", t.Held, t.HeldWords, mend(t.Name, t.Held))
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", clean(t.Name), t.Waiting, t.Failed, clean(held))
	}
	_ = w.Flush() // into memory
	b.WriteString("\n")
	_, _ = fmt.Fprintln(w, "ID\tACCEPTED\tKEY\tTARGET\tSTATE\t")
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", row.ID, row.Accepted.Format(time.RFC3339), row.Key, clean(row.place()), row.State, clean(row.outcome()))
	}
	_ = w.Flush()
	return b.String()
}

func (r statusRow) place() string { return place(lodge.Delivery{Target: r.Target, Subject: r.Subject}) }

// outcome says where it is, or why it is not.
func (r statusRow) outcome() string {
	switch {
	case r.Receipt != nil && r.Receipt.Log != nil:
		return fmt.Sprintf("log index %d", r.Receipt.Log.LogIndex)
	case r.Receipt != nil && r.Receipt.OCI != nil:
		return "artifact " + r.Receipt.OCI.Digest.String()
	case r.Held != nil:
		return "the target is held: " + r.Held.Message
	case r.Error != nil:
		return r.Error.Message
	}
	return ""
}

// vex says what the claims of an envelope changed.
func (r statusRow) vex() string {
	text := lodge.CountMoves(r.VEX)
	if text != "" && len(r.Triggered) == 0 && r.VEX[lodge.Unchanged]+r.VEX[lodge.Outdated] > 0 &&
		r.VEX[lodge.Tightened]+r.VEX[lodge.Loosened]+r.VEX[lodge.Changed] == 0 {
		text += ": it says nothing new, so no policy is triggered"
	}
	return text
}

// block describes one delivery with its history.
func (r statusRow) block(b *strings.Builder) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-9s %s\n", name, clean(value))
		}
	}
	fmt.Fprintf(b, "%s %s\n", r.Key, clean(r.place()))
	line("signer", string(r.Signer))
	line("state", string(r.State))
	line("outcome", r.outcome())
	if r.Receipt != nil && r.Receipt.Log != nil {
		line("log id", r.Receipt.Log.LogID)
		line("leaf hash", r.Receipt.Log.LeafHash.String())
		line("uuid", r.Receipt.Log.EntryUUID)
	}
	if r.Receipt != nil && r.Receipt.OCI != nil {
		line("reference", r.Receipt.OCI.Reference)
	}
	line("VEX", r.vex())
	line("triggered", strings.Join(r.Triggered, " "))
	for _, h := range r.History {
		text := string(h.To)
		if h.Error != nil {
			text += fmt.Sprintf(": %s (%s %s)", h.Error.Message, h.Error.Class, h.Error.Code)
		}
		line(h.Time.Format(time.RFC3339), text)
	}
}
