package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/policy"
)

// matchFlags are those of lodge policy match.
type matchFlags struct {
	policy string
	scopes []string
	output format
}

func newPolicyMatch(a *app) *cobra.Command {
	var f matchFlags
	cmd := &cobra.Command{
		Use:   "match [FILE|KEY|SEQUENCE] [--policy NAME|FILE]",
		Short: "Say what would trigger what",
		Long: `Say which policies a FILE (an envelope, a statement, an SBOM, …) would trigger, or the
envelope with a KEY, or the one that the event with a SEQUENCE is about. Nothing is requested.

With --policy alone it is the other way round: the envelopes lodged so far that would have
triggered the policy of that NAME, or each policy in a FILE that is not applied yet. Whether
a VEX document said anything new, and which policy a verdict comes from, is not looked at
then: it may name more envelopes, never fewer.`,
		Example: `  lodge policy match sbom.cdx.json
  lodge policy match --policy new.yaml
  lodge policy match vex.json --scope component:openssl`,
		Args: takes(0, 1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.policy == "" {
				return misused("say what to match: a FILE, a KEY, the SEQUENCE of an event, or --policy")
			}
			if len(args) == 0 && len(f.scopes) > 0 {
				return misused("--scope goes with a FILE")
			}
			n, err := a.policyStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			if len(args) == 0 {
				return a.matchHistory(cmd.Context(), n, f)
			}
			return a.match(cmd.Context(), n, args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.policy, "policy", "", "this policy only: its `NAME`, or a FILE with policies that need not be applied")
	cmd.Flags().StringArrayVar(&f.scopes, "scope", nil, "as if the FILE were pushed with this scope `S` (repeatable)")
	f.output.flag(cmd)
	return cmd
}

// chosen returns the policies that --policy names: of the store, else of a file; all without it.
func (a *app) chosen(ctx context.Context, n *node.Node, named string) ([]policy.Policy, error) {
	all, err := n.Policies(ctx)
	if err != nil || named == "" {
		return all, err
	}
	if i := slices.IndexFunc(all, func(p policy.Policy) bool { return p.Name == named }); i >= 0 {
		return all[i : i+1], nil
	}
	if _, err := os.Stat(named); errors.Is(err, fs.ErrNotExist) {
		return nil, unreadable(fmt.Errorf("there is no policy %s, and no such file", named))
	}
	return a.policies(named)
}

// matchRow is a line of policy match -o json.
type matchRow struct {
	Source   string         `json:"source,omitempty"` // what was matched, where it is a file
	Key      lodge.Key      `json:"key,omitzero"`
	Signer   lodge.Signer   `json:"signer,omitempty"`
	Subjects []lodge.Digest `json:"subjects,omitempty"`
	Policy   string         `json:"policy"`
	Revision lodge.Digest   `json:"revision"`
	Priority string         `json:"priority"`
	Scopes   []string       `json:"scopes"` // that matched, the first ones
	Count    int            `json:"count"`  // of all that matched
}

func row(m policy.Match) matchRow {
	return matchRow{Policy: m.Policy.Name, Revision: m.Policy.Revision(), Priority: string(m.Policy.Priority), Scopes: m.Scopes, Count: m.Count}
}

func (a *app) match(ctx context.Context, n *node.Node, what string, f matchFlags) error {
	policies, err := a.chosen(ctx, n, f.policy)
	if err != nil {
		return err
	}
	x := policy.NewIndex(policies)
	show := func(e policy.Event, fill func(*matchRow)) error {
		matches := x.Match(e)
		for _, m := range matches {
			r := row(m)
			fill(&r)
			if f.output.json() {
				err = a.printJSON(r)
			} else {
				err = a.print("%s: %s\n", r.Policy, some(r.Scopes, r.Count))
			}
			if err != nil {
				return err
			}
		}
		if len(matches) == 0 && !f.output.json() {
			return a.print("none of %d policies matches\n", len(policies))
		}
		return nil
	}
	key, err := a.matchedKey(ctx, n, what)
	if err != nil {
		return err
	}
	if key.IsZero() {
		e, err := a.fileEvent(what, f.scopes)
		if err != nil {
			return err
		}
		return show(e, func(r *matchRow) { r.Source = what })
	}
	if len(f.scopes) > 0 {
		return misused("--scope goes with a FILE")
	}
	deliveries, err := n.Deliveries(ctx, key, 0, maxHistory)
	if err != nil {
		return err
	}
	var signers []lodge.Signer
	for _, d := range deliveries {
		if d.Key != key || slices.Contains(signers, d.Signer) {
			continue
		}
		signers = append(signers, d.Signer)
		e, err := n.MatchEvent(ctx, key, d.Signer)
		if err != nil {
			return err
		}
		if err := show(e, func(r *matchRow) { r.Key, r.Signer = key, d.Signer }); err != nil {
			return err
		}
	}
	if len(signers) == 0 {
		return fmt.Errorf("envelope %s: %w", key, lodge.ErrNotFound)
	}
	return nil
}

func parseSequence(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n > 0
}

// matchedKey returns the key that somebody named, or that of the envelope which the event
// with a sequence is about; zero where it is a file.
func (a *app) matchedKey(ctx context.Context, n *node.Node, what string) (lodge.Key, error) {
	if _, err := os.Stat(what); err == nil || what == "-" {
		return lodge.Key{}, nil
	}
	if key, err := lodge.ParseDigest(what); err == nil {
		return key, nil
	}
	sequence, isNumber := parseSequence(what)
	if !isNumber {
		return lodge.Key{}, nil // a file that is not there
	}
	var key lodge.Key
	found := errors.New("found")
	_, err := n.Events(ctx, node.EventQuery{}, sequence-1, func(e lodge.Event) error {
		if e.Sequence == sequence {
			key, _ = lodge.ParseDigest(e.Subject)
		}
		return found
	})
	if err != nil && !errors.Is(err, found) {
		return key, err
	}
	if key.IsZero() {
		return key, fmt.Errorf("an event %d about an envelope: %w", sequence, lodge.ErrNotFound)
	}
	return key, nil
}

// fileEvent is what policies match a file on.
func (a *app) fileEvent(path string, given []string) (e policy.Event, err error) {
	scopes, err := node.Scopes(given)
	if err != nil {
		return e, misused("--scope: %v", err)
	}
	h, err := a.hints(path)
	if err != nil {
		return e, unreadable(fmt.Errorf("%s: %w", path, err))
	}
	return policy.Event{Scopes: lodge.Hints{Scopes: h.Scopes}.Scope(scopes, len(scopes) > 0), Verdict: h.Policies}, nil
}

// matchHistory says which envelopes would have triggered policies.
func (a *app) matchHistory(ctx context.Context, n *node.Node, f matchFlags) error {
	policies, err := a.chosen(ctx, n, f.policy)
	if err != nil {
		return err
	}
	for _, p := range policies {
		touched := 0
		err := n.Touched(ctx, p, func(t node.Touched) error {
			touched++
			if f.output.json() {
				r := row(t.Match)
				r.Key, r.Signer, r.Subjects = t.Key, t.Signer, t.Subjects
				return a.printJSON(r)
			}
			for _, subject := range t.Subjects[:min(len(t.Subjects), 1)] {
				return a.print("%s: %s about %s: %s\n", p.Name, t.Key, subject, some(t.Match.Scopes, t.Match.Count))
			}
			return a.print("%s: %s: %s\n", p.Name, t.Key, some(t.Match.Scopes, t.Match.Count))
		})
		if err != nil {
			return err
		}
		if !f.output.json() {
			if err := a.print("%s: %d envelopes so far\n", p.Name, touched); err != nil {
				return err
			}
		}
	}
	return nil
}
