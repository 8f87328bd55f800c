package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/hint"
)

// maxDocument bounds a file that hints are taken out of, in bytes: a payload of 32 MiB in
// base64, with what is around it.
const maxDocument = 48 << 20

func newHints(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "hints FILE…",
		Short: "Print what an attestation says is to be looked at again",
		Long: `Print the hints of an envelope, a bundle, or a bare statement or document (OpenVEX, CSAF,
CycloneDX, SPDX, SLSA provenance, Trivy, Grype, SARIF, …): vulnerabilities, VEX claims,
products, components, digests, repositories, and the scopes by which policies find it.
No signature is verified.

With -o json it is the hint document, in its canonical form (RFC 8785): the same payload gives
the same bytes everywhere. Lists of more than 256 values are cut there; counts has the true
numbers. What can't be read whole has the scope all:*, which every policy matches, and says
why under issues.`,
		Example: `  lodge hints vex.dsse.json
  lodge hints sbom.cdx.json -o json | jq .components`,
		Args: takes(1, -1, "a FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			bad := 0
			for _, path := range args {
				h, err := a.hints(path)
				if err != nil {
					bad++
					complain(a.stderr, path+": "+err.Error())
					continue
				}
				if output.json() {
					err = a.print("%s\n", h.Document())
				} else {
					err = a.print("%s", hintsText(path, h))
				}
				if err != nil {
					return err
				}
			}
			if bad > 0 {
				return exitError(exitUsage)
			}
			return nil
		},
	}
	output.flag(cmd)
	return cmd
}

func (a *app) hints(path string) (*hint.Hints, error) {
	raw, err := a.readInput(path, maxDocument)
	if err != nil {
		return nil, err
	}
	if !isEnvelope(raw) {
		return hint.Extract("", raw), nil
	}
	b, err := bundle.Parse(raw)
	if err != nil {
		return nil, err
	}
	return hint.Extract(b.Envelope.PayloadType, b.Envelope.Payload), nil
}

// isEnvelope tells an envelope or a bundle from a bare document.
func isEnvelope(raw []byte) bool {
	var members struct {
		PayloadType  json.RawMessage `json:"payloadType"`
		DSSEEnvelope json.RawMessage `json:"dsseEnvelope"`
	}
	return json.Unmarshal(raw, &members) == nil && (members.PayloadType != nil || members.DSSEEnvelope != nil)
}

// hintsText is a block for people.
func hintsText(path string, h *hint.Hints) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", clean(path), h.Kind)
	if h.PredicateType != "" {
		fmt.Fprintf(&b, ", %s", clean(h.PredicateType))
	}
	b.WriteString("\n")
	list := func(name string, values []string) {
		for i, v := range values {
			if i == hintsShown {
				fmt.Fprintf(&b, "  %-14s… %d more (-o json)\n", "", len(values)-i)
				break
			}
			fmt.Fprintf(&b, "  %-14s%s\n", name, clean(v))
			name = ""
		}
	}
	var claims []string
	for _, c := range h.Claims {
		claims = append(claims, strings.TrimSpace(strings.Join([]string{c.Vuln, c.Product, c.Status, c.Justification}, " ")))
	}
	list("subject", h.Subjects)
	list("vulnerability", h.Vulns)
	list("claim", claims)
	list("product", h.Products)
	list("component", h.Components)
	list("repository", h.Repos)
	list("scope", h.Scopes)
	list("issue", h.Issues)
	return b.String()
}

// hintsShown is how many values of a list are shown to people.
const hintsShown = 20
