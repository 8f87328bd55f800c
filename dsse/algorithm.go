package dsse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	_ "crypto/sha256" // registers SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
)

// Algorithm is a kind of key with the way it signs, by its name in the enumeration
// PublicKeyDetails of Sigstore's protobuf-specs (sigstore_common.proto).
type Algorithm string

// The algorithms that are verified.
const (
	ECDSAP256SHA256 Algorithm = "PKIX_ECDSA_P256_SHA_256"
	ECDSAP384SHA384 Algorithm = "PKIX_ECDSA_P384_SHA_384"
	ECDSAP521SHA512 Algorithm = "PKIX_ECDSA_P521_SHA_512"
	ECDSAP384SHA256 Algorithm = "PKIX_ECDSA_P384_SHA_256" // an older way
	ECDSAP521SHA256 Algorithm = "PKIX_ECDSA_P521_SHA_256" // an older way
	Ed25519         Algorithm = "PKIX_ED25519"            // over the message itself
	Ed25519ph       Algorithm = "PKIX_ED25519_PH"         // over its SHA-512 digest
	RSA2048PKCS1    Algorithm = "PKIX_RSA_PKCS1V15_2048_SHA256"
	RSA3072PKCS1    Algorithm = "PKIX_RSA_PKCS1V15_3072_SHA256"
	RSA4096PKCS1    Algorithm = "PKIX_RSA_PKCS1V15_4096_SHA256"
	RSA2048PSS      Algorithm = "PKIX_RSA_PSS_2048_SHA256"
	RSA3072PSS      Algorithm = "PKIX_RSA_PSS_3072_SHA256"
	RSA4096PSS      Algorithm = "PKIX_RSA_PSS_4096_SHA256"
)

// Hash returns the hash that a signature by a is made over, or 0 where it is made over
// the message itself (pure Ed25519) or a is unknown.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case ECDSAP384SHA384:
		return crypto.SHA384
	case ECDSAP521SHA512, Ed25519ph:
		return crypto.SHA512
	case ECDSAP256SHA256, ECDSAP384SHA256, ECDSAP521SHA256,
		RSA2048PKCS1, RSA3072PKCS1, RSA4096PKCS1, RSA2048PSS, RSA3072PSS, RSA4096PSS:
		return crypto.SHA256
	default:
		return 0
	}
}

// digest returns what is signed in place of message.
func (a Algorithm) digest(message []byte) []byte {
	hash := a.Hash()
	if hash == 0 {
		return message
	}
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

// algorithms returns what a signature by key can have been made with, the usual way first.
func algorithms(key crypto.PublicKey) ([]Algorithm, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve.Params().Name {
		case "P-256":
			return []Algorithm{ECDSAP256SHA256}, nil
		case "P-384":
			return []Algorithm{ECDSAP384SHA384, ECDSAP384SHA256}, nil
		case "P-521":
			return []Algorithm{ECDSAP521SHA512, ECDSAP521SHA256}, nil
		}
		return nil, fmt.Errorf("ECDSA on the curve %s is not taken (P-256, P-384 or P-521 is)", key.Curve.Params().Name)
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 2048:
			return []Algorithm{RSA2048PKCS1, RSA2048PSS}, nil
		case 3072:
			return []Algorithm{RSA3072PKCS1, RSA3072PSS}, nil
		case 4096:
			return []Algorithm{RSA4096PKCS1, RSA4096PSS}, nil
		}
		return nil, fmt.Errorf("RSA of %d bits is not taken (2048, 3072 or 4096 is)", key.N.BitLen())
	case ed25519.PublicKey:
		return []Algorithm{Ed25519, Ed25519ph}, nil
	}
	return nil, fmt.Errorf("a key of type %T is not taken (ECDSA, RSA or Ed25519 is)", key)
}

// verify tells whether sig is a signature by key, in the way of a, over what digest returned.
func (a Algorithm) verify(key crypto.PublicKey, digest, sig []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case *rsa.PublicKey:
		switch a {
		case RSA2048PSS, RSA3072PSS, RSA4096PSS:
			// The salt's length is read from the signature: the way of securesystemslib
			// takes the hash's, others the longest one that fits.
			return rsa.VerifyPSS(key, a.Hash(), digest, sig, nil) == nil
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(key, digest, sig, &ed25519.Options{Hash: a.Hash()}) == nil
	}
	return false
}
