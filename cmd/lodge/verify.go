package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// verifyFlags say what a bundle is verified with.
type verifyFlags struct {
	trustedRoot string
	logKey      string
	logOrigin   string
	key         string
	output      format
}

func newVerify(a *app) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a bundle offline",
		Long: `Verify a Sigstore bundle (v0.1 to v0.3) or an envelope without any network, and print each
check by its name: signature, certificate, timestamp, and for each log entry binding,
checkpoint, inclusion and SET. FILE may be - for standard input.

It verifies with --key (who signed) and --log-key (the log), or with a trusted root. With a
trusted root anybody counts for whom one of its authorities vouches: look at the signer that
is printed.

Exit status: 0 everything holds, 1 something does not, 2 wrong usage or unreadable input.`,
		Example: `  lodge verify vex.sigstore.json --key key.pub --log-key rekor.pub
  lodge verify release.sigstore.json --trusted-root trusted_root.json -o json`,
		Args: takes(1, 1, "the FILE to verify"),
		RunE: func(_ *cobra.Command, args []string) error {
			if f.trustedRoot == "" && f.key == "" {
				return misused("nothing is given to verify it with: give --key and --log-key, or --trusted-root")
			}
			trust, err := a.trust(f)
			if err != nil {
				return err
			}
			raw, err := a.readInput(args[0], bundle.MaxSize)
			if err != nil {
				return unreadable(fmt.Errorf("%s: %w", args[0], err))
			}
			return a.verify(args[0], raw, trust, f.output)
		},
	}
	cmd.Flags().StringVar(&f.key, "key", "", "`PEM` file of the signer's public key")
	cmd.Flags().StringVar(&f.logKey, "log-key", "", "`PEM` file of the log's public key")
	cmd.Flags().StringVar(&f.logOrigin, "log-origin", "", "`NAME` of that log, the first line of its checkpoints (default: any)")
	cmd.Flags().StringVar(&f.trustedRoot, "trusted-root", "", "Sigstore trusted_root.json `FILE`")
	f.output.flag(cmd)
	return cmd
}

func (a *app) trust(f verifyFlags) (verify.Trust, error) {
	t := verify.Trust{Bind: rekor.Bind}
	if f.logOrigin != "" && f.logKey == "" {
		return t, misused("--log-origin is about the log of --log-key, which is missing")
	}
	key, err := a.publicKey("--key", f.key)
	if err != nil {
		return t, err
	}
	if key != nil {
		t.Signers.Keys = []*dsse.PublicKey{key}
	}
	if f.trustedRoot != "" {
		raw, err := a.readSmall("--trusted-root", f.trustedRoot)
		if err != nil {
			return t, err
		}
		if t.Signers.Root, err = verify.ParseRoot(raw); err != nil {
			return t, unreadable(fmt.Errorf("--trusted-root %s: %w", f.trustedRoot, err))
		}
	}
	return t, a.trustLog(f, &t)
}

func (a *app) trustLog(f verifyFlags, t *verify.Trust) error {
	if f.logKey == "" {
		return nil
	}
	raw, err := a.readSmall("--log-key", f.logKey)
	if err != nil {
		return err
	}
	public, err := tlog.ParsePublicKey(raw)
	if err != nil {
		return unreadable(fmt.Errorf("--log-key %s: %w", f.logKey, err))
	}
	if f.logOrigin == "" {
		t.LogKeys = append(t.LogKeys, public)
		return nil
	}
	// The two versions name their logs in forms that exclude each other.
	log, err := tlog.NewV2Key(f.logOrigin, public)
	if err != nil {
		log, err = tlog.NewV1Key(f.logOrigin, public)
	}
	if err != nil {
		return unreadable(fmt.Errorf("--log-origin: %w", err))
	}
	t.Logs = append(t.Logs, log)
	return nil
}

func (a *app) verify(source string, raw []byte, trust verify.Trust, output format) error {
	result, err := verify.Bundle(raw, trust)
	if err != nil {
		return unreadable(fmt.Errorf("%s: %w", source, err))
	}
	if output.json() {
		err = a.printJSON(result)
	} else {
		err = a.printChecks(result)
	}
	if err != nil || result.OK {
		return err
	}
	for _, c := range result.Checks {
		if c.Outcome == verify.Failed {
			return fmt.Errorf("%s does not verify: %s: %s", source, c.Name, c.Reason)
		}
	}
	return fmt.Errorf("%s does not verify: no log that is trusted has it: give --log-key or --trusted-root", source)
}

func (a *app) printChecks(result verify.Result) error {
	for _, c := range result.Checks {
		about := ""
		if c.Entry != nil {
			about = fmt.Sprintf("entry %d: ", *c.Entry)
		}
		if err := a.print("%-7s %-12s %s\n", c.Outcome, c.Name, clean(about+c.Reason)); err != nil {
			return err
		}
	}
	if !result.OK {
		return nil
	}
	return a.print("verified: key %s, signer %s, log entries %d\n", result.Key, clean(string(result.Signer)), result.Entries)
}
