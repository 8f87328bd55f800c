package bundle

import (
	"fmt"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// SignedBy returns the bundle as an attestation with the first signature that verifies
// under key, or lodge.ErrSignature. The signer is the key's; whether a certificate may
// speak for somebody else is judged in package verify.
func (b *Bundle) SignedBy(key *dsse.PublicKey) (*Attestation, error) {
	pae := dsse.PAE(b.Envelope.PayloadType, b.Envelope.Payload)
	for _, s := range b.Envelope.Signatures {
		algorithm, err := key.Verify(pae, s.Sig)
		if err != nil {
			continue
		}
		return &Attestation{
			Key:          dsse.Key(b.Envelope.PayloadType, b.Envelope.Payload),
			Signer:       key.Signer(),
			PayloadType:  b.Envelope.PayloadType,
			Payload:      b.Envelope.Payload,
			Signature:    s.Sig,
			Algorithm:    algorithm,
			PublicKey:    key,
			Certificates: b.Certificates,
			Timestamps:   b.Timestamps,
			Entries:      b.Entries,
			Statement:    ParseStatement(b.Envelope.PayloadType, b.Envelope.Payload),
		}, nil
	}
	return nil, fmt.Errorf("%w under the key %s", lodge.ErrSignature, key.Signer())
}
