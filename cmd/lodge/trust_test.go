package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// TestKeyBesideRoot: who asks for a key gets nobody else whom an authority of the root vouches for.
func TestKeyBesideRoot(t *testing.T) {
	var a app
	dir := t.TempDir()
	root, key := filepath.Join(dir, "root.json"), filepath.Join(dir, "key.pub")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{root: []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`), key: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust, err := a.trust(verifyFlags{trustedRoot: root, keys: []string{key}})
	if err != nil || trust.Signers.Identities == nil || len(trust.Signers.Identities) > 0 {
		t.Errorf("with a key: %v, identities %v", err, trust.Signers.Identities)
	}
	trust, err = a.trust(verifyFlags{trustedRoot: root})
	if err != nil || trust.Signers.Identities != nil {
		t.Errorf("with a root alone: %v, identities %v", err, trust.Signers.Identities)
	}
}
