package dsse

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/lodgehq/lodge"
)

// maxKey bounds a key file; a certificate chain in front of a key's owner fits.
const maxKey = 256 << 10

// PublicKey is a public key that signatures are verified with.
type PublicKey struct {
	SPKI []byte           // DER-encoded SubjectPublicKeyInfo; the same bytes for the same key
	Key  crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
}

// NewPublicKey returns key where it is of a kind that is taken: ECDSA on P-256, P-384
// or P-521, RSA of 2048, 3072 or 4096 bits, Ed25519.
func NewPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	if _, err := algorithms(key); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w public key: %w", lodge.ErrMalformed, err)
	}
	return &PublicKey{SPKI: spki, Key: key}, nil
}

// ParsePublicKey reads the one public key in a file: PEM of a SubjectPublicKeyInfo ("PUBLIC
// KEY"), of PKCS #1 ("RSA PUBLIC KEY"), or of a certificate, whose key it is (of a chain,
// the first one's); or the DER of a SubjectPublicKeyInfo. Errors wrap lodge.ErrMalformed or
// lodge.ErrLimit, but for a kind of key that is not taken.
func ParsePublicKey(pemBytes []byte) (*PublicKey, error) {
	keys, err := ParsePublicKeys(pemBytes)
	if err != nil {
		return nil, err
	}
	if len(keys) > 1 {
		return nil, fmt.Errorf("%w public key: there are %d in one file", lodge.ErrMalformed, len(keys))
	}
	return keys[0], nil
}

// ParsePublicKeys reads a file of one or more public keys, each as for ParsePublicKey.
func ParsePublicKeys(pemBytes []byte) (keys []*PublicKey, err error) {
	if len(pemBytes) > maxKey {
		return nil, fmt.Errorf("%w: a public key of %d bytes (at most %d)", lodge.ErrLimit, len(pemBytes), maxKey)
	}
	block, rest := pem.Decode(pemBytes)
	if block == nil {
		if !bytes.HasPrefix(pemBytes, []byte{0x30}) { // a DER SEQUENCE
			return nil, fmt.Errorf("%w public key: neither PEM nor DER", lodge.ErrMalformed)
		}
		block, rest = &pem.Block{Type: "PUBLIC KEY", Bytes: pemBytes}, nil
	}
	blocks, chain := 0, false
	for ; block != nil; block, rest = pem.Decode(rest) {
		blocks++
		if block.Type == "CERTIFICATE" {
			if chain {
				continue
			}
			chain = true
		}
		key, err := decodePublicKey(block)
		if err != nil {
			return nil, err
		}
		public, err := NewPublicKey(key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, public)
	}
	// pem.Decode passes over what it cannot read.
	if begun := bytes.Count(pemBytes, []byte("-----BEGIN ")); begun > blocks {
		return nil, fmt.Errorf("%w public key: a broken PEM block", lodge.ErrMalformed)
	}
	return keys, nil
}

func decodePublicKey(block *pem.Block) (key crypto.PublicKey, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		err = fmt.Errorf("PEM block of type %q", block.Type)
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			err = errors.New("this is a private key")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w public key: %w", lodge.ErrMalformed, err)
	}
	return key, nil
}

// Verify returns the algorithm by which sig is a signature over message (an envelope's
// PAE), or an error that wraps lodge.ErrSignature. It tells pure Ed25519 from Ed25519ph,
// PKCS #1 v1.5 from PSS, and the curve's own hash from SHA-256: logs differ in which of
// these they take.
func (k *PublicKey) Verify(message, sig []byte) (Algorithm, error) {
	candidates, err := algorithms(k.Key)
	if err != nil {
		return "", err
	}
	for _, a := range candidates {
		if a.verify(k.Key, a.digest(message), sig) {
			return a, nil
		}
	}
	return "", fmt.Errorf("%w under the key %s", lodge.ErrSignature, k.Signer())
}

// VerifyDigest is Verify for a message of which only the digest by hash is at hand. A
// signature that is made over the message itself (pure Ed25519) can't be verified so.
func (k *PublicKey) VerifyDigest(hash crypto.Hash, digest, sig []byte) (Algorithm, error) {
	candidates, err := algorithms(k.Key)
	if err != nil {
		return "", err
	}
	for _, a := range candidates {
		if a.Hash() == hash && len(digest) == hash.Size() && a.verify(k.Key, digest, sig) {
			return a, nil
		}
	}
	return "", fmt.Errorf("%w under the key %s", lodge.ErrSignature, k.Signer())
}

// Signer returns the name of the key's owner: the fingerprint of SPKI.
func (k *PublicKey) Signer() lodge.Signer { return lodge.KeySigner(k.SPKI) }
