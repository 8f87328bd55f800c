package main

import (
	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

func newKey(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "key FILE…",
		Short: "Print the idempotency keys of envelopes",
		Long: `Print the idempotency key of each envelope or bundle, and the file it is in; of JSON Lines
the line as well. Files, folders and - (standard input) are read as by push.

The key is the SHA-256 digest of the payload's DSSE pre-authentication encoding, with a
JSON payload in its canonical form (RFC 8785). Signatures, white space and the order of
members do not change it. No signature is verified.`,
		Example: `  lodge key statement.dsse.json
  lodge key attestations/ | sort | uniq -w 71 -D     # the same content twice`,
		RunE: func(_ *cobra.Command, args []string) error {
			args, err := a.inputs(args)
			if err != nil {
				return err
			}
			return a.keys(args)
		},
	}
}

func (a *app) keys(args []string) (err error) {
	bad := 0
	reader{
		stdin: a.stdin,
		note:  func(text string) { complain(a.stderr, text) },
		yield: func(i item) bool {
			var b *bundle.Bundle
			if i.err == nil {
				b, i.err = bundle.Parse(i.raw)
			}
			if i.err != nil {
				bad++
				complain(a.stderr, i.source+": "+i.err.Error())
				return true
			}
			err = a.print("%s  %s\n", dsse.Key(b.Envelope.PayloadType, b.Envelope.Payload), clean(i.source))
			return err == nil
		},
	}.all(args)
	if err == nil && bad > 0 {
		return exitError(exitUsage)
	}
	return err
}
