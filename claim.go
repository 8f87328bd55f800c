package lodge

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Claim is the last known word of an author on one vulnerability in one product (VEX).
type Claim struct {
	Vuln          string    // id of the vulnerability
	Product       string    // product key
	Author        Signer    // who signed it: what a document says of its author proves nothing
	Status        string    // affected, not_affected, fixed or under_investigation
	Justification string    // in OpenVEX's words where it has such a word
	Issued        time.Time // when the author made it
	Revision      string    // of the document, as the author counts
	About         Digest    // of the set of artifacts that the document is about
	Key           Key       // of the envelope that it is in
}

// ID tells claims apart: it is the digest of vulnerability, product and author.
func (c Claim) ID() Digest {
	return DigestOf(list([]string{c.Vuln, c.Product, string(c.Author)}))
}

// Move is what a claim changes for those who rely on its author.
type Move string

// The moves, from the most urgent one on.
const (
	Tightened Move = "tightened" // newly demands action: a product is affected, or no longer known to be safe
	Loosened  Move = "loosened"  // demands less than before
	Changed   Move = "changed"   // demands as much as before, but for another reason or about other artifacts
	Unchanged Move = "unchanged" // says what was known
	Outdated  Move = "outdated"  // made before what is known
)

// Moves are all moves, the most urgent one first.
var Moves = []Move{Tightened, Loosened, Changed, Unchanged, Outdated}

// CountMoves says how many claims made which move, for people: "1 tightened, 3 unchanged".
func CountMoves(counts map[Move]int) string {
	var words []string
	for _, move := range Moves {
		if n := counts[move]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, move))
		}
	}
	return strings.Join(words, ", ")
}

// ClaimMove is a claim with what it changed when it came.
type ClaimMove struct {
	Claim
	Move Move
	From string // the status before; "" where nothing was known
}

// Request is what ReanalysisRequested says.
type Request struct {
	Key      Key       `json:"key"`
	Policy   string    `json:"policy"`
	Revision Digest    `json:"revision"`
	Reason   string    `json:"reason,omitempty"`
	Priority string    `json:"priority"` // normal or high
	Cause    Cause     `json:"cause"`
	Scopes   []string  `json:"scopes"` // that matched, capped
	Count    int       `json:"count"`  // of all that matched
	VEX      *Movement `json:"vex,omitempty"`
}

// Cause is the event that led to another one.
type Cause struct {
	ID       string    `json:"id"` // as in its CloudEvent
	Type     EventType `json:"type"`
	Sequence int64     `json:"sequence"` // in this store
}

// Movement is what a VEX document changed: the most urgent move, how many claims made
// which, and those that made the most urgent one, capped.
type Movement struct {
	Move   Move         `json:"move"`
	Counts map[Move]int `json:"counts"`
	Claims []MovedClaim `json:"claims"`
}

// MovedClaim is a claim as events show it.
type MovedClaim struct {
	Vuln          string `json:"vuln"`
	Product       string `json:"product"`
	From          string `json:"from,omitempty"` // "" where nothing was known
	To            string `json:"to"`
	Justification string `json:"justification,omitempty"`
}

// RequestedEvent says that a policy is to look again at the envelope with r's key. The
// same policy is asked once about the same payload, however often and wherever it is
// lodged.
func RequestedEvent(r Request, at time.Time) Event {
	data, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings, numbers and digests always marshal
	}
	return Event{
		ID:   EventID(ReanalysisRequested, Member{"key", r.Key}, Member{"policy", r.Policy}, Member{"revision", r.Revision}),
		Type: ReanalysisRequested, Source: "/v1/policies/" + r.Policy, Subject: r.Key.String(), Time: at, Data: data,
	}
}

// Reaction is what follows from an event about an envelope.
type Reaction struct {
	Key      Key
	Signer   Signer
	Claims   []ClaimMove // those Outdated are recorded and do not become the last known
	Requests []Event
}

// AppliedPolicy is a policy as it was applied last, or that it was deleted.
type AppliedPolicy struct {
	Name     string
	Revision Digest
	Body     json.RawMessage // its RFC 8785 form; nil where it was deleted
	Number   int64           // of the change, growing with each
	Time     time.Time
}
