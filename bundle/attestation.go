package bundle

import (
	"encoding/base64"
	"fmt"

	"github.com/gowebpki/jcs"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/dsse"
)

// Attestation is an envelope of which one signature was verified; the others are gone.
// It is what logs and repositories take.
type Attestation struct {
	Key          lodge.Key
	Signer       lodge.Signer
	PayloadType  string
	Payload      []byte
	Signature    []byte         // over PAE, raw
	Algorithm    dsse.Algorithm // by which Signature verified
	PublicKey    *dsse.PublicKey
	Certificates [][]byte      // DER, leaf first; empty where a key signed
	Timestamps   [][]byte      // DER, RFC 3161, over Signature
	Entries      []lodge.Entry // came along, not verified
	Statement    Statement
	Message      *Message // set where a file was signed and no envelope
}

// PAE returns the bytes that the signature is over (DSSE v1, pre-authentication encoding).
func (a *Attestation) PAE() []byte { return dsse.PAE(a.PayloadType, a.Payload) }

// Encode returns the attestation as a Sigstore bundle v0.3 with the entries given. The same
// attestation and entries give the same bytes in every build (RFC 8785), so that the digest
// of what will be pushed is known before.
//
// The bundle has one signature without keyid, and the leaf certificate alone or a hint at
// the key. An entry without inclusion proof or checkpoint is refused: v0.3 demands both.
func (a *Attestation) Encode(entries ...lodge.Entry) ([]byte, error) {
	material, err := a.material()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		p, err := entryToProto(e)
		if err != nil {
			return nil, err
		}
		material.TlogEntries = append(material.TlogEntries, p)
	}
	loose, err := protojson.Marshal(&protobundle.Bundle{
		MediaType:            MediaType,
		VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload:     a.Payload,
			PayloadType: a.PayloadType,
			Signatures:  []*protodsse.Signature{{Sig: a.Signature}},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the bundle: %w", err)
	}
	stable, err := jcs.Transform(loose)
	if err != nil {
		return nil, fmt.Errorf("encoding the bundle: %w", err)
	}
	return stable, nil
}

func (a *Attestation) material() (*protobundle.VerificationMaterial, error) {
	m := &protobundle.VerificationMaterial{}
	switch {
	case len(a.Certificates) > 0:
		m.Content = &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: a.Certificates[0]},
		}
	case a.PublicKey != nil:
		m.Content = &protobundle.VerificationMaterial_PublicKey{
			PublicKey: &protocommon.PublicKeyIdentifier{Hint: Hint(a.PublicKey)},
		}
	default:
		return nil, malformed("the attestation has neither certificate nor public key")
	}
	if len(a.Timestamps) > 0 {
		data := &protobundle.TimestampVerificationData{}
		for _, t := range a.Timestamps {
			data.Rfc3161Timestamps = append(data.Rfc3161Timestamps, &protocommon.RFC3161SignedTimestamp{SignedTimestamp: t})
		}
		m.TimestampVerificationData = data
	}
	return m, nil
}

// Hint returns the hint that cosign writes for a key and sigstore-go looks keys up by:
// base64 of the SHA-256 digest of its SubjectPublicKeyInfo.
func Hint(k *dsse.PublicKey) string {
	d := lodge.DigestOf(k.SPKI)
	return base64.StdEncoding.EncodeToString(d[:])
}
