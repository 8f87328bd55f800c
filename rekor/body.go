package rekor

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/lodgehq/lodge"
)

// maxBody bounds an entry's canonical body. It holds digests, signatures and keys, no payload.
const maxBody = 1 << 20

// The bodies of entries. Their members stand in the order of RFC 8785 and hold nothing but
// ASCII, so encoding/json writes their canonical form: see marshal.
type (
	record[S any] struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       S      `json:"spec"`
	}

	hashedRekordV002 struct {
		Entry struct {
			Data      hashOutput  `json:"data"`
			Signature signatureV2 `json:"signature"`
		} `json:"hashedRekordV002"`
	}
	dsseV002 struct {
		Entry struct {
			PayloadHash hashOutput    `json:"payloadHash"`
			Signatures  []signatureV2 `json:"signatures"`
		} `json:"dsseV002"`
	}
	hashOutput struct {
		Algorithm string `json:"algorithm"`
		Digest    []byte `json:"digest"`
	}
	signatureV2 struct {
		Content  []byte     `json:"content"`
		Verifier verifierV2 `json:"verifier"`
	}
	verifierV2 struct {
		KeyDetails  string    `json:"keyDetails"`
		PublicKey   *rawBytes `json:"publicKey,omitempty"`
		Certificate *rawBytes `json:"x509Certificate,omitempty"`
	}
	rawBytes struct {
		RawBytes []byte `json:"rawBytes"`
	}

	hashedRekordV001 struct {
		Data struct {
			Hash hashValue `json:"hash"`
		} `json:"data"`
		Signature struct {
			Content   []byte `json:"content"`
			PublicKey struct {
				Content []byte `json:"content"` // PEM
			} `json:"publicKey"`
		} `json:"signature"`
	}
	dsseV001 struct {
		EnvelopeHash hashValue         `json:"envelopeHash"` // over the envelope as it was submitted
		PayloadHash  hashValue         `json:"payloadHash"`
		Signatures   []dsseSignatureV1 `json:"signatures"`
	}
	dsseSignatureV1 struct {
		Signature []byte `json:"signature"`
		Verifier  []byte `json:"verifier"` // PEM
	}
	intotoV002 struct {
		Content struct {
			Envelope struct {
				PayloadType string              `json:"payloadType"`
				Signatures  []intotoSignatureV1 `json:"signatures"`
			} `json:"envelope"`
			Hash        *hashValue `json:"hash,omitempty"`
			PayloadHash hashValue  `json:"payloadHash"`
		} `json:"content"`
	}
	intotoSignatureV1 struct {
		KeyID     string `json:"keyid,omitempty"`
		PublicKey []byte `json:"publicKey"` // PEM
		Sig       []byte `json:"sig"`       // base64 once more
	}
	hashValue struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"value"` // hex
	}
)

// marshal returns the RFC 8785 form of one of the structures of this file.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// unmarshal reads a canonical body into v and refuses what v does not tell in full: another
// member, another spelling, a member twice. Two readers then cannot see two things in it.
func unmarshal(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("entry body: %w: %w", lodge.ErrMalformed, err)
	}
	again, err := marshal(v)
	if err != nil || !bytes.Equal(again, body) {
		return fmt.Errorf("entry body: %w: not in canonical form, or with members that its kind does not have", lodge.ErrMalformed)
	}
	return nil
}

// kindOf returns what a body says that it is.
func kindOf(body []byte) (kind, version string, err error) {
	var r record[json.RawMessage]
	if len(body) > maxBody {
		return "", "", fmt.Errorf("entry body of %d bytes: %w", len(body), lodge.ErrLimit)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return "", "", fmt.Errorf("entry body: %w: %w", lodge.ErrMalformed, err)
	}
	return r.Kind, r.APIVersion, nil
}

// claim is what an entry says, whatever its kind: somebody signed something with a digest.
type claim struct {
	overPAE bool // digest is of what was signed (of an envelope the PAE), else of the payload
	hash    crypto.Hash
	digest  []byte
	marks   []mark
}

// mark is one signature with what verifies it.
type mark struct {
	signature   []byte
	verifier    []byte // DER
	certificate bool   // verifier is a certificate, else a SubjectPublicKeyInfo
}

// parseBody reads the body of one of the kinds that can hold a DSSE envelope's signature.
func parseBody(body []byte) (claim, error) {
	kind, version, err := kindOf(body)
	if err != nil {
		return claim{}, err
	}
	switch kind + "@" + version {
	case "hashedrekord@0.0.2":
		return parseHashedRekordV002(body)
	case "dsse@0.0.2":
		return parseDSSEV002(body)
	case "hashedrekord@0.0.1":
		return parseHashedRekordV001(body)
	case "dsse@0.0.1":
		return parseDSSEV001(body)
	case "intoto@0.0.2":
		return parseIntotoV002(body)
	}
	return claim{}, fmt.Errorf("entry of the kind %.40q, version %.20q: not one that is read", kind, version)
}

func parseHashedRekordV002(body []byte) (claim, error) {
	var r record[hashedRekordV002]
	if err := unmarshal(body, &r); err != nil {
		return claim{}, err
	}
	return claimV2(true, r.Spec.Entry.Data, r.Spec.Entry.Signature)
}

func parseDSSEV002(body []byte) (claim, error) {
	var r record[dsseV002]
	if err := unmarshal(body, &r); err != nil {
		return claim{}, err
	}
	return claimV2(false, r.Spec.Entry.PayloadHash, r.Spec.Entry.Signatures...)
}

func claimV2(overPAE bool, digest hashOutput, signatures ...signatureV2) (claim, error) {
	c := claim{overPAE: overPAE, hash: protoHashes[digest.Algorithm], digest: digest.Digest}
	for _, s := range signatures {
		m := mark{signature: s.Content}
		switch v := s.Verifier; {
		case v.PublicKey != nil && v.Certificate == nil:
			m.verifier = v.PublicKey.RawBytes
		case v.Certificate != nil && v.PublicKey == nil:
			m.verifier, m.certificate = v.Certificate.RawBytes, true
		default:
			return claim{}, fmt.Errorf("entry body: %w: a signature without one verifier", lodge.ErrMalformed)
		}
		c.marks = append(c.marks, m)
	}
	return c, c.check()
}

func parseHashedRekordV001(body []byte) (claim, error) {
	var r record[hashedRekordV001]
	if err := unmarshal(body, &r); err != nil {
		return claim{}, err
	}
	return claimV1(true, r.Spec.Data.Hash, dsseSignatureV1{
		Signature: r.Spec.Signature.Content,
		Verifier:  r.Spec.Signature.PublicKey.Content,
	})
}

func parseDSSEV001(body []byte) (claim, error) {
	var r record[dsseV001]
	if err := unmarshal(body, &r); err != nil {
		return claim{}, err
	}
	return claimV1(false, r.Spec.PayloadHash, r.Spec.Signatures...)
}

func parseIntotoV002(body []byte) (claim, error) {
	var r record[intotoV002]
	if err := unmarshal(body, &r); err != nil {
		return claim{}, err
	}
	var signatures []dsseSignatureV1
	for _, s := range r.Spec.Content.Envelope.Signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil {
			return claim{}, fmt.Errorf("entry body: %w: %w", lodge.ErrMalformed, err)
		}
		signatures = append(signatures, dsseSignatureV1{Signature: sig, Verifier: s.PublicKey})
	}
	return claimV1(false, r.Spec.Content.PayloadHash, signatures...)
}

func claimV1(overPAE bool, digest hashValue, signatures ...dsseSignatureV1) (claim, error) {
	c := claim{overPAE: overPAE, hash: rekorHashes[digest.Algorithm]}
	var err error
	if c.digest, err = hex.DecodeString(digest.Value); err != nil {
		return claim{}, fmt.Errorf("entry body: %w: %w", lodge.ErrMalformed, err)
	}
	for _, s := range signatures {
		block, _ := pem.Decode(s.Verifier) // of a chain, the signer's own comes first
		if block == nil {
			return claim{}, fmt.Errorf("entry body: %w: a verifier that is no PEM", lodge.ErrMalformed)
		}
		c.marks = append(c.marks, mark{s.Signature, block.Bytes, block.Type == "CERTIFICATE"})
	}
	return c, c.check()
}

func (c claim) check() error {
	if c.hash == 0 || len(c.digest) != c.hash.Size() {
		return fmt.Errorf("entry body: %w: a digest of unknown algorithm or wrong length", lodge.ErrMalformed)
	}
	if len(c.marks) == 0 {
		return fmt.Errorf("entry body: %w: %w", lodge.ErrMalformed, errors.New("no signature"))
	}
	return nil
}

var (
	// protoHashes are the names of protobuf-specs' HashAlgorithm.
	protoHashes = map[string]crypto.Hash{"SHA2_256": crypto.SHA256, "SHA2_384": crypto.SHA384, "SHA2_512": crypto.SHA512}
	// rekorHashes are the names in Rekor v1's schemas.
	rekorHashes = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
)
