package main

import (
	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge/evidence"
)

func newEvidence(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "evidence KEY -o FILE",
		Short: "Write everything that proves what became of an envelope into one file",
		Long: `Write an archive of the envelopes with the idempotency KEY: each as it was accepted, its
bundles, receipts, the checkpoints that they rely on, the events, and a manifest of SHA-256
digests. The same content gives the same bytes. Anybody can verify it offline, with lodge
verify or with tar, sha256sum and openssl.

It is an error while a delivery is on its way. lodge serve writes the archives by itself with
evidence: {directory: …} in the configuration.`,
		Example: `  lodge evidence $(lodge key vex.dsse.json | cut -d' ' -f1) -o vex.evidence.tar
  lodge verify vex.evidence.tar --key key.pub --log-key rekor.pub`,
		Args: takes(1, 1, "the KEY of an envelope (lodge key FILE prints it)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return misused("--output is missing: the FILE to write, or - for standard output")
			}
			key, err := parseDigest(args[0])
			if err != nil {
				return err
			}
			n, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = n.Close() }()
			raw, err := n.Evidence(cmd.Context(), key)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err = a.stdout.Write(raw)
				return err
			}
			return unreadable(evidence.WriteFile(out, raw))
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`FILE` to write; - is standard output")
	return cmd
}
