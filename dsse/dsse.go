package dsse

import (
	"crypto/sha256"
	"strconv"

	"github.com/lodgehq/lodge"
)

// The limits. They are part of the key's definition: a payload
// beyond them is its own canonical form.
const (
	MaxPayload    = 32 << 20 // bytes of a decoded payload
	MaxDepth      = 64       // nested JSON objects and arrays; the outermost is the first
	MaxSignatures = 16       // of one envelope
	MaxEnvelope   = 48 << 20 // bytes of an encoded envelope: MaxPayload in base64 and an eighth more
)

// Envelope is a DSSE envelope, decoded.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature // at least one
}

// Signature is one signature of an envelope, over the PAE of its payload.
type Signature struct {
	KeyID string // a hint that nothing vouches for; may be empty
	Sig   []byte
}

// PAE returns the pre-authentication encoding: the bytes that are signed (DSSE v1,
// protocol.md, "Signature definition").
func PAE(payloadType string, payload []byte) []byte {
	header := paeHeader(payloadType, len(payload))
	return append(append(make([]byte, 0, len(header)+len(payload)), header...), payload...)
}

// paeHeader returns what stands before the payload in its PAE. Lengths count bytes.
func paeHeader(payloadType string, size int) []byte {
	header := make([]byte, 0, len(payloadType)+48)
	header = append(header, "DSSEv1 "...)
	header = strconv.AppendInt(header, int64(len(payloadType)), 10)
	header = append(append(append(header, ' '), payloadType...), ' ')
	header = strconv.AppendInt(header, int64(size), 10)
	return append(header, ' ')
}

// Key returns the idempotency key of a payload: the SHA-256 digest of the PAE over its
// canonical form. It is defined for any bytes.
func Key(payloadType string, payload []byte) (key lodge.Key) {
	canonical := Canonical(payloadType, payload)
	h := sha256.New()
	h.Write(paeHeader(payloadType, len(canonical)))
	h.Write(canonical)
	h.Sum(key[:0])
	return key
}
