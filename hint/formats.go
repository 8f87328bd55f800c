package hint

// formats are the kinds of documents, those whose shape tells them most surely first.
var formats []format

func init() { // the readers refer to formats themselves
	formats = []format{
		{CycloneDX, []string{"cyclonedx.org/", "application/vnd.cyclonedx+json"}, isCycloneDX, (*extraction).cyclonedx},
		{SPDX3, []string{"spdx.dev/Document/v3"}, isSPDX3, (*extraction).spdx3},
		{SPDX2, []string{"spdx.dev/", "application/spdx+json"}, isSPDX2, (*extraction).spdx2},
		{OpenVEX, []string{"openvex.dev/", "text/vex"}, isOpenVEX, (*extraction).openvex},
		{CSAF, nil, isCSAF, (*extraction).csaf},
		{Trivy, []string{"trivy.dev/", "trivy.aquasec.com/"}, isTrivy, (*extraction).trivy},
		{Grype, []string{"anchore.com/grype"}, isGrype, (*extraction).grype},
		{Syft, []string{"syft.dev/"}, isSyft, (*extraction).syft},
		{SARIF, []string{"application/sarif+json"}, isSARIF, (*extraction).sarif},
		{Vulns, []string{"in-toto.io/attestation/vulns/", "cosign.sigstore.dev/attestation/vuln/"}, isVulns, (*extraction).vulnerabilityScan},
		{OSV, []string{"ossf.github.io/osv-schema/"}, isOSV, (*extraction).osv},
		{Link, []string{"in-toto.io/Link/", "in-toto.io/attestation/link/"}, isLink, (*extraction).link},
		{Provenance, []string{"witness.testifysec.com/attestation-collection/", "witness.dev/attestation-collection/"}, isCollection, (*extraction).collection},
		{Provenance, []string{"slsa.dev/provenance/", "chainloop.dev/attestation/"}, isProvenance, (*extraction).provenance},
		{Provenance, references, nil, (*extraction).generic},
		{Verdict, verdicts, nil, (*extraction).verdict},
		{Generic, others, nil, (*extraction).generic},
	}
}

// references are predicates that do little more than refer to other artifacts: their purls,
// digests and repositories need no reader of their own.
var references = []string{
	"github.com/slsa-framework/slsa-source-poc/source-provenance/", "slsa.dev/source_provenance/",
	"github.com/npm/attestation/tree/main/specs/publish/", "docs.pypi.org/attestations/publish/", "schemas.conda.org/attestations-publish-",
	"in-toto.io/attestation/release/", "in-toto.io/attestation/scai/", "in-toto.io/attestation/test-result/",
	"in-toto.io/attestation/runtime-trace/", "in-toto.io/attestation/reference/", "sigstore.dev/cosign/sign/",
}

// verdicts are the predicates of policy engines.
var verdicts = []string{
	"slsa.dev/verification_summary/", "in-toto.io/attestation/svr/", "conforma.dev/verification_summary/", "carabiner.dev/ampel/",
	"stellaops.dev/predicates/policy-", "stella.ops/predicates/policy-", "verdict.stella/", "schemas.stella-ops.org/attestations/policy-",
}

// others are known to say what they say in no certain place.
var others = []string{
	"cosign.sigstore.dev/attestation/v1", "in-toto.io/attestation/certify/", "in-toto.io/attestation/eol/", "in-toto.io/attestation/clearlydefined/",
	"stellaops.dev/", "stella.ops/", "schemas.stella-ops.org/", "cdx-vex.stella/",
}
