package dsse

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/lodgehq/lodge"
)

// PrivateKey signs: the same message always gives the same signature.
type PrivateKey struct {
	signer    crypto.Signer
	public    *PublicKey
	algorithm Algorithm
}

// ParsePrivateKey reads the PEM of an unencrypted private key: PKCS #8 ("PRIVATE KEY"),
// SEC 1 ("EC PRIVATE KEY") or PKCS #1 ("RSA PRIVATE KEY"). It signs by the key's usual
// algorithm: ECDSA with the curve's own hash, RSA PKCS #1 v1.5 with SHA-256, pure Ed25519;
// see Use for another.
func ParsePrivateKey(pemBytes []byte) (*PrivateKey, error) {
	key, err := decodePrivateKey(pemBytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T is not taken (ECDSA, RSA or Ed25519 is)", key)
	}
	public, err := NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	usual, err := algorithms(public.Key)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{signer: signer, public: public, algorithm: usual[0]}, nil
}

func decodePrivateKey(data []byte) (key any, err error) {
	if len(data) > maxKey {
		return nil, fmt.Errorf("%w: a private key of %d bytes (at most %d)", lodge.ErrLimit, len(data), maxKey)
	}
	block, rest := pem.Decode(data)
	for block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes it in front
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, fmt.Errorf("%w private key: no PEM block", lodge.ErrMalformed)
	}
	switch block.Type {
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		return nil, fmt.Errorf("%w private key: it is encrypted in cosign's own way; give it unencrypted (PKCS #8)", lodge.ErrMalformed)
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fmt.Errorf("%w private key: it is encrypted; decrypt it first (openssl pkey -in KEY -out PLAIN)", lodge.ErrMalformed)
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("PEM block of type %q (want \"PRIVATE KEY\")", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w private key: %w", lodge.ErrMalformed, err)
	}
	return key, nil
}

// Use returns the same key signing by algorithm, which must be one of the key's kind and
// deterministic (PSS is not). Rekor v2 takes of an Ed25519 key only Ed25519ph.
func (k *PrivateKey) Use(algorithm Algorithm) (*PrivateKey, error) {
	able, err := algorithms(k.public.Key)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(able, algorithm) || strings.Contains(string(algorithm), "_PSS_") {
		return nil, fmt.Errorf("a key for %s cannot sign by %s", k.algorithm, algorithm)
	}
	return &PrivateKey{signer: k.signer, public: k.public, algorithm: algorithm}, nil
}

// Algorithm returns the algorithm that k signs by.
func (k *PrivateKey) Algorithm() Algorithm { return k.algorithm }

// Public returns the public half.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// Sign returns the signature over message. It takes no randomness: ECDSA draws its nonce
// from key and message (RFC 6979; what crypto/ecdsa does for a nil source), RSA
// PKCS #1 v1.5 and Ed25519 (RFC 8032) need none.
func (k *PrivateKey) Sign(message []byte) ([]byte, error) {
	sig, err := k.signer.Sign(nil, k.algorithm.digest(message), k.algorithm.Hash())
	if err != nil {
		return nil, fmt.Errorf("signing by %s: %w", k.algorithm, err)
	}
	return sig, nil
}
