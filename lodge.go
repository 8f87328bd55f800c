// Package lodge holds the words of this module as types: keys, signers, targets,
// deliveries, receipts, events, and the errors that the other packages branch on.
//
// lodge takes signed attestations (DSSE envelopes) and lodges each one exactly once
// in transparency logs and OCI registries. A program embeds it through package node;
// the command is cmd/lodge.
//
// This package may import the standard library only. Every other package may import it.
package lodge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest is a SHA-256 digest. Its text form is "sha256:" and 64 lower-case hex digits.
type Digest [sha256.Size]byte

// Key is the idempotency key of an envelope: SHA-256 over the PAE of its payload type
// and its canonical payload, as package dsse defines it. Signatures are not in it.
type Key = Digest

// DigestOf returns the SHA-256 digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ParseDigest reads the text form. Upper-case hex digits are refused, so that a digest
// has one spelling only.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(digits) != 2*len(d) || strings.ToLower(digits) != digits {
		return Digest{}, fmt.Errorf("not a digest: %.100q (want sha256: and 64 lower-case hex digits)", s)
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("not a digest: %.100q: %w", s, err)
	}
	return d, nil
}

// String returns the text form.
func (d Digest) String() string { return "sha256:" + d.Hex() }

// Hex returns the 64 hex digits alone.
func (d Digest) Hex() string { return hex.EncodeToString(d[:]) }

// IsZero tells whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDigest(string(text))
	return err
}

// Signer says who signed, as one line of text: the fingerprint of a public key, or the
// identity and issuer of a certificate that was verified against a trust root.
type Signer string

// KeySigner returns the signer that a bare public key stands for: the digest of its
// DER-encoded SubjectPublicKeyInfo.
func KeySigner(spki []byte) Signer { return Signer(DigestOf(spki).String()) }

// CertificateSigner returns the signer that a verified certificate stands for. The
// issuer must hold no white space and neither part a control character, so that two
// different pairs never give the same text.
func CertificateSigner(identity, issuer string) (Signer, error) {
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if identity == "" || issuer == "" || strings.ContainsAny(issuer, " \t") ||
		strings.ContainsFunc(identity+issuer, control) {
		return "", fmt.Errorf("unusable certificate identity %q of issuer %q", identity, issuer)
	}
	return Signer(identity + " via " + issuer), nil
}

// TargetKind tells the two kinds of target apart.
type TargetKind string

// The kinds of target.
const (
	KindLog        TargetKind = "log"        // a transparency log, with all its shards
	KindRepository TargetKind = "repository" // an OCI repository
)

// Target is where an envelope is delivered.
type Target struct {
	Name    string     `json:"name"` // local; the address where the user gave no name
	Kind    TargetKind `json:"kind"`
	Address string     `json:"address"` // URL of the log, or oci://registry/repository; the same everywhere
}

// TargetStatus is a target with how it stands.
type TargetStatus struct {
	Target
	Held      string `json:"held,omitempty"`      // code of the reason; "" while it takes deliveries
	HeldWords string `json:"heldWords,omitempty"` // the reason for people
	Waiting   int    `json:"waiting"`             // live deliveries
	Failed    int    `json:"failed"`              // failed deliveries
}
