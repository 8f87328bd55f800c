package main

import (
	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
)

func newBundle(a *app) *cobra.Command {
	var target, signer string
	cmd := &cobra.Command{
		Use:   "bundle KEY",
		Short: "Print the Sigstore bundle of an envelope",
		Long: `Print the Sigstore bundle v0.3 of the envelope with the idempotency KEY: its signature, its
certificate or the hint at its key, and the entries of the logs that have it, with their
proofs. Anybody can verify it offline.`,
		Example: `  lodge bundle $(lodge key vex.dsse.json | cut -d' ' -f1) > vex.sigstore.json
  lodge verify vex.sigstore.json --key key.pub --log-key rekor.pub`,
		Args: takes(1, 1, "the KEY of an envelope (lodge key FILE prints it)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := parseDigest(args[0])
			if err != nil {
				return err
			}
			n, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			raw, err := n.Bundle(cmd.Context(), key, lodge.Signer(signer), target)
			if err != nil {
				return err
			}
			return a.print("%s\n", raw)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "only the entry of this log, by `NAME` or URL")
	cmd.Flags().StringVar(&signer, "signer", "", "`SIGNER` of the envelope, where several signed it (as status shows it)")
	return cmd
}
