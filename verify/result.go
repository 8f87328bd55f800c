package verify

import (
	"crypto"
	"fmt"
	"strings"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/tlog"
)

// Trust is what a bundle is judged by.
type Trust struct {
	Signers  Signers            // its Root's logs are trusted too
	Logs     []tlog.Key         // logs by key and origin
	LogKeys  []crypto.PublicKey // logs by key alone, whatever their origin
	Artifact []byte             // the file that has to be what was signed, or a statement's subject; nil: any

	// Bind tells whether a log entry is about an attestation: its content, its signature, its
	// key. Without it nothing binds, and no entry is accepted.
	Bind func(e lodge.Entry, att *bundle.Attestation) error

	// Signed returns what an entry alone says was signed, and by which key where it is not by
	// a certificate. The error wraps lodge.ErrNotFound where the entry does not hold enough.
	Signed func(e lodge.Entry) (*bundle.Bundle, *dsse.PublicKey, error)
}

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	OK     Outcome = "ok"
	Failed Outcome = "failed"
	Absent Outcome = "absent" // there is nothing to check, or nothing to check it by
)

// Name names a check.
type Name string

// The checks. Those from binding on are made for each entry.
const (
	CheckSignature   Name = "signature"   // over the envelope, under a key that counts
	CheckArtifact    Name = "artifact"    // the file that is at hand is what was signed
	CheckTimestamp   Name = "timestamp"   // RFC 3161, over the signature
	CheckCertificate Name = "certificate" // chain, time, transparency
	CheckIdentity    Name = "identity"    // who signed is who was asked for
	CheckBinding     Name = "binding"     // the entry is of this envelope and signature
	CheckCheckpoint  Name = "checkpoint"  // signed by the log, and of the proof's tree
	CheckInclusion   Name = "inclusion"   // the entry is in that tree
	CheckSET         Name = "SET"         // v1: the log promised the entry, with its time
)

// Grade says how well it is known that a log has something.
type Grade string

// The grades, from the worst.
const (
	Unlogged Grade = "not logged"
	Promised Grade = "logged, inclusion not proven" // by a signed entry timestamp alone
	Proven   Grade = "inclusion proven"
)

// Check is one check.
type Check struct {
	Name    Name    `json:"name"`
	Entry   *int    `json:"entry,omitempty"` // place of the log entry in the bundle
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// Result is what came of the checks.
type Result struct {
	Kind    string       `json:"kind"` // of what was judged: "bundle", "envelope", "entry"; others have more
	Key     lodge.Key    `json:"key,omitzero"`
	Signer  lodge.Signer `json:"signer,omitempty"`
	Checks  []Check      `json:"checks"`
	Entries int          `json:"entries"`          // how many log entries hold
	Logged  Grade        `json:"logged,omitempty"` // of the best of them
	OK      bool         `json:"ok"`
}

// Add records a check.
func (r *Result) Add(name Name, entry *int, outcome Outcome, format string, args ...any) {
	reason := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	r.Checks = append(r.Checks, Check{Name: name, Entry: entry, Outcome: outcome, Reason: reason})
}

// Failed returns the first check that failed, nil where none did.
func (r *Result) Failed() *Check {
	for i := range r.Checks {
		if r.Checks[i].Outcome == Failed {
			return &r.Checks[i]
		}
	}
	return nil
}

// holds records that an entry holds, to that grade.
func (r *Result) holds(g Grade) {
	r.Entries++
	if r.Logged != Proven {
		r.Logged = g
	}
}

// Bundle judges a Sigstore bundle or a bare envelope offline. It is OK when the signature
// counts, no check failed, and a log that is trusted has it; without any trusted log, an
// envelope without entries may do. An entry of an unknown log proves nothing and harms
// nothing.
//
// The error is for what can't be read at all; it wraps lodge.ErrMalformed or lodge.ErrLimit.
func Bundle(raw []byte, trust Trust) (Result, error) {
	b, err := bundle.ParseSigned(raw)
	if err != nil {
		return Result{}, err
	}
	kind := "bundle"
	if b.MediaType == "" {
		kind = "envelope"
	}
	j := judge{Trust: trust, result: Result{Kind: kind, Logged: Unlogged}}
	j.bundle(b)
	return j.result, nil
}

// Entries judges log entries that come alone, as a log answers with them. It is OK when no
// check failed and a log that is trusted has each of them. What they are about is known no
// further than they say it: see the reasons of the checks that are absent.
func Entries(entries []lodge.Entry, trust Trust) Result {
	all := Result{Kind: "entry", OK: len(entries) > 0, Logged: Unlogged}
	for i, e := range entries {
		j := judge{Trust: trust, only: &i, result: Result{Logged: Unlogged}}
		j.alone(e)
		all.Checks = append(all.Checks, j.result.Checks...)
		all.OK = all.OK && j.result.OK
		all.Entries += j.result.Entries
		if all.Signer = j.result.Signer; len(entries) > 1 {
			all.Signer = "" // of several nobody in particular
		}
		if i == 0 || Worse(j.result.Logged, all.Logged) {
			all.Logged = j.result.Logged
		}
	}
	return all
}

// Worse tells whether less is known by a than by b.
func Worse(a, b Grade) bool { return a == Unlogged || a == Promised && b == Proven }
