package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

// Signers says whose signatures count.
//
// With Keys alone, those of these keys. With Root, also those under a certificate that the
// root vouches for, of the Identities unless those are nil. With neither, any signature under
// the certificate that the bundle carries; the signer is then the key in it and not the
// identity, for anybody can write a certificate that claims to be somebody.
type Signers struct {
	Keys       []*dsse.PublicKey
	Identities []Identity // whose certificates count; nil: everybody's that Root vouches for
	Root       *Root

	// Logs say when a bundle was logged, where nothing else says when it was signed.
	Logs []Voucher
}

// asked tells whether somebody in particular has to have signed.
func (s Signers) asked() bool { return len(s.Keys) > 0 || s.Identities != nil }

// Identity is who a certificate is for, as both are written in it.
type Identity struct {
	Identity string // mail address or URI
	Issuer   string // URL of the OpenID Connect provider that vouched for it
}

// Voucher finds the entry of one log among those that came with an attestation, and verifies
// it without the network: what is in it, its signed entry timestamp, and its proof where it
// has one. Where there is none the error wraps lodge.ErrNotFound.
type Voucher interface {
	Vouch(att *bundle.Attestation) (*lodge.Entry, error)
}

// Attest picks the signature of the bundle that counts, and says who signed. Of several that
// count it is the one under the first of the Keys, else the one under the certificate, so
// that the order of the signatures does not matter. The error wraps lodge.ErrSignature and
// says what was tried and what to do.
func (s Signers) Attest(b *bundle.Bundle) (*bundle.Attestation, error) {
	if len(s.Identities) > 0 && s.Root == nil {
		return nil, errors.New("identities are named as signers, and there is no trusted root to judge certificates by: give --trusted-root")
	}
	att, err := s.pick(b)
	if err != nil || len(att.Certificates) == 0 || s.Root == nil {
		return att, err
	}
	at, known := s.times(att)
	if att.Signer, err = s.signer(att, at); err == nil {
		return att, nil
	}
	if !known {
		err = fmt.Errorf("%w; nothing verified in the bundle says when it was signed: it needs an RFC 3161 timestamp, or an entry of a configured log", err)
	}
	return nil, fmt.Errorf("%w: %w", lodge.ErrSignature, err)
}

// pick returns the attestation by the signature that counts. A certificate is not judged
// yet, and its signer is its key.
func (s Signers) pick(b *bundle.Bundle) (*bundle.Attestation, error) {
	for _, key := range s.Keys {
		if att, err := b.SignedBy(key); err == nil {
			return att, nil
		}
	}
	if len(b.Certificates) > 0 && s.Root == nil && len(s.Keys) > 0 {
		return nil, s.nobody(b, "its certificate can't be judged without --trusted-root")
	}
	att, err := b.SignedByCertificate()
	if err != nil {
		return nil, s.nobody(b, err.Error())
	}
	return att, nil
}

// nobody is the error for an envelope of which no signature counts.
func (s Signers) nobody(b *bundle.Bundle, why string) error {
	tried := "1 signature"
	if b.Envelope != nil && len(b.Envelope.Signatures) > 1 {
		tried = fmt.Sprintf("%d signatures", len(b.Envelope.Signatures))
	}
	switch n := len(s.Keys); n {
	case 0:
		tried += ", no key given"
	case 1:
		tried += fmt.Sprintf(", not by the key %s", s.Keys[0].Signer())
	default:
		tried += fmt.Sprintf(", not by any of %d keys", n)
	}
	return fmt.Errorf("%w: %s; %s: give --key with the public key of its signer", lodge.ErrSignature, tried, why)
}

// times says when att was signed: the times that timestamp authorities vouch for; else those
// that logs do; else nothing is known, and it is signed now.
func (s Signers) times(att *bundle.Attestation) (at []time.Time, known bool) {
	for _, ts := range att.Timestamps {
		if t, err := s.Root.Time(ts, att.Signature); err == nil {
			at = append(at, t)
		}
	}
	if len(at) > 0 {
		return at, true
	}
	for _, l := range s.Logs {
		e, err := l.Vouch(att)
		// A log's time means nothing without its promise (sigstore_rekor.proto, integrated_time).
		if err == nil && len(e.SET) > 0 && e.Receipt.IntegratedTime > 0 {
			at = append(at, time.Unix(e.Receipt.IntegratedTime, 0))
		}
	}
	if len(at) > 0 {
		return at, true
	}
	return []time.Time{time.Now()}, false
}

// certified judges a certificate: it is enough that it was valid at one of the times, for then
// the signature was there.
func (s Signers) certified(cert *x509.Certificate, at []time.Time) (id Identity, err error) {
	for _, t := range at {
		if id, err = s.Root.identity(cert, t); err == nil {
			return id, nil
		}
	}
	return id, err
}

// signer judges the certificate of att: valid at one of the times, for one of the identities.
func (s Signers) signer(att *bundle.Attestation, at []time.Time) (lodge.Signer, error) {
	cert, err := leaf(att.Certificates)
	if err != nil {
		return "", err
	}
	id, err := s.certified(cert, at)
	if err != nil {
		return "", err
	}
	if s.Identities != nil && !slices.Contains(s.Identities, id) {
		return "", fmt.Errorf("it is signed by %q of %q, who is not among the signers", id.Identity, id.Issuer)
	}
	return lodge.CertificateSigner(id.Identity, id.Issuer)
}
