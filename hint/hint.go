package hint

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
)

// Version names this extractor in every hint document. It changes whenever the same
// payload may give other hints than before.
const Version = "1"

// The limits of a payload beyond dsse's. What is beyond them is unparsable.
const (
	maxTokens = 5_000_000 // JSON tokens of a payload
	maxKeys   = 250_000   // values of all lists together, without scopes
)

// Kind says what a payload was read as. It follows the shape of the document more than
// its predicate type, which many get wrong.
type Kind string

// The kinds.
const (
	OpenVEX    Kind = "openvex"
	CSAF       Kind = "csaf"
	CycloneDX  Kind = "cyclonedx"
	SPDX2      Kind = "spdx2"
	SPDX3      Kind = "spdx3"
	Syft       Kind = "syft"
	Provenance Kind = "provenance" // SLSA, witness, release, publish, SCAI, test results: artifacts that refer to others
	Link       Kind = "link"
	Vulns      Kind = "vulns" // in-toto vulns and cosign vuln
	Trivy      Kind = "trivy"
	Grype      Kind = "grype"
	SARIF      Kind = "sarif"
	OSV        Kind = "osv"
	Verdict    Kind = "verdict" // of a policy engine: must not trigger the policy that it comes from
	Generic    Kind = "generic" // unknown: what looks like an identifier
	Unparsable Kind = "unparsable"
)

// Claim is one VEX statement. Where a document makes several about one vulnerability and
// product, only the newest of them counts.
type Claim struct {
	Vuln          string // as in Hints.Vulns
	Product       string // as in Hints.Products
	Status        string // affected, not_affected, fixed or under_investigation
	Justification string // the document's own label, such as code_not_reachable; may be empty

	At time.Time // when it was made, else the document's; zero where neither says. Not part of the hint document.
}

// Reason returns the justification in OpenVEX's words where it has such a word.
func (c Claim) Reason() string {
	switch c.Justification {
	case "componentNotPresent":
		return "component_not_present"
	case "code_not_present", "vulnerableCodeNotPresent":
		return "vulnerable_code_not_present"
	case "code_not_reachable", "vulnerableCodeNotInExecutePath":
		return "vulnerable_code_not_in_execute_path"
	case "vulnerableCodeCannotBeControlledByAdversary":
		return "vulnerable_code_cannot_be_controlled_by_adversary"
	case "inlineMitigationsAlreadyExist", "protected_by_compiler", "protected_at_runtime", "protected_at_perimeter", "protected_by_mitigating_control":
		return "inline_mitigations_already_exist"
	}
	return c.Justification
}

func compareClaims(a, b Claim) int {
	for _, pair := range [...][2]string{{a.Vuln, b.Vuln}, {a.Product, b.Product}, {a.Status, b.Status}, {a.Justification, b.Justification}} {
		if c := strings.Compare(pair[0], pair[1]); c != 0 {
			return c
		}
	}
	return 0
}

// Hints are what a payload is about. Its lists are whole, in ascending order of bytes,
// without repetition, and in ASCII; Document cuts them. A value of more than 2,048 bytes
// is there as ~sha256:<hex>.
type Hints struct {
	Payload       lodge.Digest // SHA-256 of the payload
	PredicateType string       // of the statement; empty for a bare document
	Kind          Kind

	Subjects   []string // digests of what the document is about, as "sha256:<hex>"
	Vulns      []string // vulnerability and advisory ids, aliases too
	Claims     []Claim
	Products   []string // canonical purls, CPEs 2.3, "csaf:<namespace>:<tracking id>#<product id>", "iri:…"
	Components []string // package names in lower case, source packages too
	Digests    []string // all that are mentioned, subjects and dependencies too
	Repos      []string // "host/path" of source repositories
	Scopes     []string // by which policies find it (see ParseScope)
	Issues     []string // what could not be read, as "code" or "code:<number of different values>"

	// What a VEX document says of itself, for transitions. Not part of the hint document.
	Author   string    // who issues it
	Issued   time.Time // when it was last changed; zero where it does not say
	Revision string    // its own version

	// Policies are the URIs and digests of those that a verdict names, which it must not
	// trigger. Not part of the hint document.
	Policies []string
}

// All tells whether the hints touch every policy, because something could not be read.
func (h *Hints) All() bool {
	_, found := slices.BinarySearch(h.Scopes, All)
	return found
}

// Extract reads a payload: an in-toto statement, or a bare statement or predicate document
// whose type is then found out. payloadType is that of the envelope, empty where there is
// none. It never fails: what it cannot read is in Issues, and widens Scopes to all:*.
func Extract(payloadType string, payload []byte) *Hints {
	digest := make(chan lodge.Digest, 1)
	if len(payload) < 1<<20 {
		digest <- sha256.Sum256(payload)
	} else { // as long as reading it: both at a time
		go func() { digest <- sha256.Sum256(payload) }()
	}
	h := extract(payloadType, payload)
	h.Payload = <-digest
	return h
}
