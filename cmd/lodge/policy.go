package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/node"
	"github.com/lodgehq/lodge/policy"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Say what is to be looked at again, and ask what that would be",
		Long: `Policies are kept in the store. Each envelope whose inclusion is verified is matched with all of
them by its scopes (lodge hints shows them), and for each that matches there is an event
ReanalysisRequested. docs/policies.md says how they are written.`,
	}
	cmd.AddCommand(newPolicyApply(a), newPolicyList(a), newPolicyDelete(a), newPolicyMatch(a))
	return cmd
}

// policyStore opens the local store, which is made where it is missing, without any target.
func (a *app) policyStore(ctx context.Context) (*node.Node, error) {
	c, err := a.config()
	if err != nil {
		return nil, err
	}
	n, err := node.Open(ctx, node.Config{Store: c.Store})
	return n, unreadable(err)
}

// policies reads a file of policies.
func (a *app) policies(path string) ([]policy.Policy, error) {
	raw, err := a.readInput(path, policy.MaxFile)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%s: %w", path, err))
	}
	policies, err := policy.Parse(raw)
	if err != nil {
		return nil, unreadable(fmt.Errorf("%s: %w", path, err))
	}
	return policies, nil
}

// policyRow is a line of policy apply and list -o json.
type policyRow struct {
	policy.Policy
	Revision lodge.Digest `json:"revision"`
	Applied  node.Applied `json:"applied,omitempty"` // created, updated or unchanged
}

func newPolicyApply(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "apply FILE…",
		Short: "Make policies be as in a file",
		Long: `Make policies be as in YAML files, one policy a document; - is standard input. Applying the same
again changes nothing. Where one document is wrong, none is applied. A policy counts for what
is lodged from then on; lodge policy match --policy says what there was before.`,
		Example: `  lodge policy apply openssl.yaml
  lodge policy apply - < policies.yaml`,
		Args: takes(1, -1, "a FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []policy.Policy
			for _, path := range args {
				policies, err := a.policies(path)
				if err != nil {
					return err
				}
				all = append(all, policies...)
			}
			return a.policyApply(cmd.Context(), all, output)
		},
	}
	output.flag(cmd)
	return cmd
}

func (a *app) policyApply(ctx context.Context, policies []policy.Policy, output format) error {
	n, err := a.policyStore(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	for _, p := range policies {
		applied, err := n.ApplyPolicy(ctx, p)
		if err != nil {
			return err
		}
		row := policyRow{p, p.Revision(), applied}
		if output.json() {
			err = a.printJSON(row)
		} else {
			err = a.print("%s: %s, revision %s\n", p.Name, applied, row.Revision)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newPolicyList(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the policies",
		Long:  `Show the policies, by name; with -o json whole, one a line.`,
		Args:  takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.policyStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			policies, err := n.Policies(cmd.Context())
			if err != nil {
				return err
			}
			var b strings.Builder
			w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tPRIORITY\tREVISION\tSELECTOR")
			for _, p := range policies {
				if output.json() {
					if err := a.printJSON(policyRow{Policy: p, Revision: p.Revision()}); err != nil {
						return err
					}
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\n", p.Name, p.Priority, p.Revision().Hex(), some(p.Selector, len(p.Selector)))
			}
			_ = w.Flush() // into memory
			if output.json() {
				return nil
			}
			return a.print("%s", b.String())
		},
	}
	output.flag(cmd)
	return cmd
}

// some shows the first few of a list of scopes, of which there are count.
func some(scopes []string, count int) string {
	const shown = 5
	text := clean(strings.Join(scopes[:min(len(scopes), shown)], " "))
	if count > shown {
		text += fmt.Sprintf(" … %d more", count-shown)
	}
	return text
}

func newPolicyDelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME…",
		Short: "Delete policies",
		Long:  `Delete policies. What was requested for them stays in the event history.`,
		Args:  takes(1, -1, "a NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.policyStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			var errs []error
			for _, name := range args {
				err := n.DeletePolicy(cmd.Context(), name)
				if err == nil {
					err = a.print("%s: deleted\n", clean(name))
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
}
