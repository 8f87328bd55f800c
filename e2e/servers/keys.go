package servers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
)

// A KeyPair is a private key and its public key, each as an unencrypted PEM file
// (PKCS #8, SubjectPublicKeyInfo).
type KeyPair struct {
	Private, Public string // paths
	Signer          crypto.Signer
}

// ECDSA returns a new key on a curve.
func ECDSA(t TB, curve elliptic.Curve) KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(t, err, "making an ECDSA key")
	return keyFiles(t, key)
}

// Ed25519 returns a new Ed25519 key.
func Ed25519(t TB) KeyPair {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err, "making an Ed25519 key")
	return keyFiles(t, key)
}

// RSA returns a new RSA key of so many bits.
func RSA(t TB, bits int) KeyPair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	must(t, err, "making an RSA key")
	return keyFiles(t, key)
}

// keyFiles writes a key to a new temporary folder.
func keyFiles(t TB, key crypto.Signer) KeyPair {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err, "encoding a private key")
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err, "encoding a public key")
	dir := t.TempDir()
	pair := KeyPair{filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub"), key}
	writePEM(t, pair.Private, "PRIVATE KEY", private)
	writePEM(t, pair.Public, "PUBLIC KEY", public)
	return pair
}

func writePEM(t TB, name, block string, der []byte) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der})
	must(t, os.WriteFile(name, b, 0o600), "writing %s", name)
}
