package bundle

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// SignedBy returns the bundle as an attestation by a signature that verifies under key, or
// lodge.ErrSignature. Of several the choice does not depend on their order. The signer is
// the key, and there is no certificate in it: whom a certificate stands for is judged in
// package verify.
func (b *Bundle) SignedBy(key *dsse.PublicKey) (*Attestation, error) {
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
