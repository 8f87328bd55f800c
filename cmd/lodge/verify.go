package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/evidence"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// verifyFlags say what a bundle is verified with.
type verifyFlags struct {
	trustedRoot string
	logKeys     []string
	logOrigin   string
	keys        []string
	identity    string
	issuer      string
	artifact    string
	output      format
}

func newVerify(a *app) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a bundle or a log's answer offline",
		Long: `Verify a file without any network, and print each check by its name. FILE (- is standard
input) is a Sigstore bundle (v0.1 to v0.3), an envelope, an entry as a Rekor log (v1 or v2)
answers with it, an archive of evidence, or a proof that a log diverged. The checks are signature, artifact, timestamp, certificate, identity, and
for each log entry binding, checkpoint, inclusion and SET. A check that is "absent" had
nothing to check, or nothing to check it by, and says which.

It verifies with --key (who signed) and --log-key (the log), or with a trusted root. With a
trusted root and no --key anybody counts for whom one of its authorities vouches: ask for
somebody with --identity and --issuer, or look at the signer that is printed.

What a log has only promised (a signed entry timestamp, Rekor v1) is "logged, inclusion not
proven". What is not understood never passes.

Exit status: 0 everything holds, 1 something does not, 2 wrong usage or unreadable input.`,
		Example: `  lodge verify vex.sigstore.json --key key.pub --log-key rekor.pub
  lodge verify release.sigstore.json --trusted-root trusted_root.json -o json`,
		Args: takes(1, 1, "the FILE to verify"),
		RunE: func(_ *cobra.Command, args []string) error {
			if f.trustedRoot == "" && len(f.keys) == 0 && len(f.logKeys) == 0 {
				return misused("nothing is given to verify it with: give --key and --log-key, or --trusted-root")
			}
			trust, err := a.trust(f)
			if err != nil {
				return err
			}
			raw, err := a.readInput(args[0], max(bundle.MaxSize, evidence.MaxSize))
			if err != nil {
				return unreadable(fmt.Errorf("%s: %w", args[0], err))
			}
			result, err := judge(raw, trust)
			if err != nil {
				return unreadable(fmt.Errorf("%s: %w", args[0], err))
			}
			return a.verdict(args[0], result, f)
		},
	}
	cmd.Flags().StringArrayVar(&f.keys, "key", nil, "`PEM` file of a signer's public key; repeatable")
	cmd.Flags().StringArrayVar(&f.logKeys, "log-key", nil, "`PEM` file of a log's public key; repeatable")
	cmd.Flags().StringVar(&f.logOrigin, "log-origin", "", "`NAME` of that log, the first line of its checkpoints (default: any)")
	cmd.Flags().StringVar(&f.trustedRoot, "trusted-root", "", "Sigstore trusted_root.json `FILE`")
	cmd.Flags().StringVar(&f.identity, "identity", "", "`NAME` that the signer's certificate has to be for: mail address or URI")
	cmd.Flags().StringVar(&f.issuer, "issuer", "", "`URL` of the provider that vouched for --identity")
	cmd.Flags().StringVar(&f.artifact, "artifact", "", "`FILE` that has to be what was signed, or a subject of the statement")
	f.output.flag(cmd)
	return cmd
}

func (a *app) trust(f verifyFlags) (verify.Trust, error) {
	t := verify.Trust{Bind: rekor.BindEntry, Signed: rekor.Signed}
	switch {
	case f.logOrigin != "" && len(f.logKeys) == 0:
		return t, misused("--log-origin is about the log of --log-key, which is missing")
	case f.logOrigin != "" && len(f.logKeys) > 1:
		return t, misused("--log-origin is about one log, and here are %d of --log-key", len(f.logKeys))
	case (f.identity == "") != (f.issuer == ""):
		return t, misused("--identity and --issuer belong together: one means nothing without the other")
	case f.identity != "" && f.trustedRoot == "":
		return t, misused("--identity is about a certificate, which only a --trusted-root can judge")
	case f.identity != "":
		t.Signers.Identities = []verify.Identity{{Identity: f.identity, Issuer: f.issuer}}
	}
	if err := a.readArtifact(f.artifact, &t); err != nil {
		return t, err
	}
	for _, path := range f.keys {
		key, err := a.publicKey("--key", path)
		if err != nil {
			return t, err
		}
		if key != nil {
			t.Signers.Keys = append(t.Signers.Keys, key)
		}
	}
	if len(t.Signers.Keys) > 0 && f.identity == "" {
		t.Signers.Identities = []verify.Identity{} // the keys, and no certificate that the root vouches for besides
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
	return t, a.trustLogs(f, &t)
}

func (a *app) trustLogs(f verifyFlags, t *verify.Trust) error {
	for _, path := range f.logKeys {
		raw, err := a.readSmall("--log-key", path)
		if err != nil {
			return err
		}
		public, err := tlog.ParsePublicKey(raw)
		if err != nil {
			return unreadable(fmt.Errorf("--log-key %s: %w", path, err))
		}
		if f.logOrigin == "" {
			t.LogKeys = append(t.LogKeys, public)
			continue
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
	}
	return nil
}

// maxArtifact bounds the file of --artifact, in bytes.
const maxArtifact = 1 << 30

func (a *app) readArtifact(path string, t *verify.Trust) (err error) {
	if path == "" {
		return nil
	}
	if t.Artifact, err = a.readInput(path, maxArtifact); err != nil {
		return unreadable(fmt.Errorf("--artifact %s: %w", path, err))
	}
	if t.Artifact == nil {
		t.Artifact = []byte{}
	}
	return nil
}

// shape tells what a JSON file is by the members that it has.
type shape struct {
	MediaType    json.RawMessage `json:"mediaType"`
	Material     json.RawMessage `json:"verificationMaterial"`
	DSSEEnvelope json.RawMessage `json:"dsseEnvelope"`
	Payload      json.RawMessage `json:"payload"`
	PayloadType  json.RawMessage `json:"payloadType"`
	Type         string          `json:"_type"`
}

// judge finds out what a file is, and judges it.
func judge(raw []byte, trust verify.Trust) (verify.Result, error) {
	if evidence.IsArchive(raw) {
		return evidence.Verify(raw, trust)
	}
	var divergence struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(raw, &divergence) == nil && divergence.MediaType == tlog.DivergenceType {
		return verify.Divergence(raw, trust)
	}
	var s shape
	object := json.Unmarshal(raw, &s) == nil
	if object && s.Type != "" {
		return verify.Result{}, fmt.Errorf("%w: a bare statement, which nobody signed (want a bundle, an envelope or a log's answer)", lodge.ErrMalformed)
	}
	if object && s.MediaType == nil && s.Material == nil && s.DSSEEnvelope == nil && s.Payload == nil && s.PayloadType == nil ||
		bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		entries, err := rekor.ParseAnswer(raw)
		if err != nil {
			return verify.Result{}, err
		}
		return verify.Entries(entries, trust), nil
	}
	return verify.Bundle(raw, trust)
}

// verdict prints what came of the checks. Where something does not hold it is the error.
func (a *app) verdict(source string, result verify.Result, f verifyFlags) error {
	err := a.printResult(result, f.output)
	if err != nil || result.OK {
		return err
	}
	if c := result.Failed(); c != nil {
		return fmt.Errorf("%s does not verify: %s: %s", source, c.Name, c.Reason)
	}
	return fmt.Errorf("%s does not verify: no log that is trusted has it: %s", source, missing(result, f))
}

// missing says what to give so that a log has it.
func missing(result verify.Result, f verifyFlags) string {
	bare := func(c verify.Check) bool { return c.Name == verify.CheckInclusion && c.Entry == nil }
	switch {
	case slices.ContainsFunc(result.Checks, bare):
		return "it comes without a log entry (lodge bundle prints what a log has)"
	case len(f.logKeys) == 0 && f.trustedRoot == "":
		return "give --log-key or --trusted-root"
	}
	return "its log entries are of other logs than those given"
}

func (a *app) printResult(result verify.Result, output format) error {
	if output.json() {
		return a.printJSON(result)
	}
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
	who := ""
	if !result.Key.IsZero() {
		who += fmt.Sprintf("key %s, ", result.Key)
	}
	if result.Signer != "" {
		who += fmt.Sprintf("signer %s, ", clean(string(result.Signer)))
	}
	if result.Kind == "divergence" {
		return a.print("verified: the log diverged\n")
	}
	return a.print("verified: %slog entries %d, %s\n", who, result.Entries, result.Logged)
}
