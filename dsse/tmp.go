package dsse

import (
	"encoding/json"
	"fmt"

	"github.com/lodgehq/lodge"
)

// Parse reads an envelope.
func Parse(raw []byte) (*Envelope, error) {
	var e struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct {
			KeyID string
			Sig   []byte
		}
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, fmt.Errorf("%w envelope: %w", lodge.ErrMalformed, err)
	}
	env := &Envelope{PayloadType: e.PayloadType, Payload: e.Payload}
	for _, s := range e.Signatures {
		env.Signatures = append(env.Signatures, Signature(s))
	}
	return env, nil
}

// Canonical returns the canonical form of a payload.
func Canonical(payloadType string, payload []byte) []byte { return payload }
