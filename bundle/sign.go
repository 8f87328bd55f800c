package bundle

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// SignedBy returns the bundle as an attestation by a signature that verifies under key, or
// lodge.ErrSignature. Of several the choice does not depend on their order. The signer is
// the key, and there is no certificate in it: whom a certificate stands for is judged in
// package verify.
//
// Of a bundle that signs a file there is nothing to choose, and no Key.
func (b *Bundle) SignedBy(key *dsse.PublicKey) (*Attestation, error) {
	if m := b.Message; m != nil {
		algorithm, err := key.VerifyDigest(m.Hash, m.Digest, m.Signature)
		return &Attestation{Signer: key.Signer(), Signature: m.Signature, Algorithm: algorithm, PublicKey: key,
			Timestamps: b.Timestamps, Entries: b.Entries, Message: m}, err
	}
	pae := dsse.PAE(b.Envelope.PayloadType, b.Envelope.Payload)
	signatures := slices.Clone(b.Envelope.Signatures)
	slices.SortFunc(signatures, func(a, b dsse.Signature) int { return bytes.Compare(a.Sig, b.Sig) })
	for _, s := range signatures {
		algorithm, err := key.Verify(pae, s.Sig)
		if err != nil {
			continue
		}
		return &Attestation{
			Key:         dsse.Key(b.Envelope.PayloadType, b.Envelope.Payload),
			Signer:      key.Signer(),
			PayloadType: b.Envelope.PayloadType,
			Payload:     b.Envelope.Payload,
			Signature:   s.Sig,
			Algorithm:   algorithm,
			PublicKey:   key,
			Timestamps:  b.Timestamps,
			Entries:     b.Entries,
			Statement:   ParseStatement(b.Envelope.PayloadType, b.Envelope.Payload),
		}, nil
	}
	return nil, fmt.Errorf("%w under the key %s", lodge.ErrSignature, key.Signer())
}

// SignedByCertificate is SignedBy with the key of the bundle's own certificate, which the
// attestation then carries with those that came along. Who vouches for it is not asked.
func (b *Bundle) SignedByCertificate() (*Attestation, error) {
	if len(b.Certificates) == 0 {
		return nil, errors.New("the bundle carries no certificate")
	}
	cert, err := x509.ParseCertificate(b.Certificates[0])
	if err != nil {
		return nil, fmt.Errorf("its certificate can't be read (%w)", err)
	}
	key, err := dsse.NewPublicKey(cert.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("its certificate is for a key that is not supported (%w)", err)
	}
	att, err := b.SignedBy(key)
	if err != nil {
		return nil, errors.New("nor does its own certificate verify it")
	}
	att.Certificates = b.Certificates
	return att, nil
}

// Reopen returns the attestation of a submission that was accepted. Its signer was judged
// then; here only the signature is found again that counted.
func Reopen(sub lodge.Submission) (*Attestation, error) {
	b, err := Parse(sub.Raw)
	if err != nil {
		return nil, err
	}
	att, err := b.signedBy(sub.SPKI)
	if err != nil {
		return nil, err
	}
	att.Signer = sub.Signer
	att.Timestamps = slices.Concat(att.Timestamps, sub.Timestamps)
	return att, nil
}

// Assemble returns what to publish of a submission that logs have: the attestation and its
// entries, of one signature. That is the submission's own where a log has it, else the one
// that the first of the logs has.
func Assemble(sub lodge.Submission, proofs []lodge.Proof) (*Attestation, []lodge.Entry, error) {
	var entries []lodge.Entry
	for _, p := range proofs {
		if p.Bundle == nil {
			entries = append(entries, p.Entry)
		}
	}
	if len(entries) == 0 && len(proofs) > 0 {
		sub.Raw, entries = proofs[0].Bundle, []lodge.Entry{proofs[0].Entry}
		sub.Timestamps = nil // those are over the other signature
	}
	att, err := Reopen(sub)
	return att, entries, err
}

func (b *Bundle) signedBy(spki []byte) (*Attestation, error) {
	if spki == nil {
		return b.SignedByCertificate()
	}
	key, err := dsse.ParsePublicKey(spki)
	if err != nil {
		return nil, err
	}
	return b.SignedBy(key)
}
