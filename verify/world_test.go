package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/verify"
)

const (
	payloadType = "application/vnd.in-toto+json"
	payload     = `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://example.com/v1"}`
	identity    = "a@example.com"
	issuer      = "https://accounts.example.com"
)

// world is a Sigstore instance: an authority for certificates and one for timestamps.
type world struct {
	t       *testing.T
	sigs    *ca.VirtualSigstore // the timestamp authority
	issuing *x509.Certificate
	key     crypto.Signer // of issuing
	root    *verify.Root
}

// material is what the instance publishes; without CT logs, for its certificates are in none.
type material struct {
	*ca.VirtualSigstore
	authority root.CertificateAuthority
	ctlogs    map[string]*root.TransparencyLog
}

func (m material) CTLogs() map[string]*root.TransparencyLog { return m.ctlogs }

func (m material) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return []root.CertificateAuthority{m.authority}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, sigs: must[*ca.VirtualSigstore](t)(ca.NewVirtualSigstore())}
	w.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, w.key.Public(), w.key))
	w.issuing = must[*x509.Certificate](t)(x509.ParseCertificate(der))
	w.root = verify.NewRoot(material{VirtualSigstore: w.sigs, authority: &root.FulcioCertificateAuthority{Root: w.issuing}})
	return w
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// certificate returns one for the identity that is valid for ten minutes from then on.
func (w *world) certificate(key crypto.Signer, from time.Time) []byte {
	w.t.Helper()
	return must[*x509.Certificate](w.t)(ca.GenerateLeafCert(identity, issuer, from, key, w.issuing, w.key)).Raw
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func public(t *testing.T, key crypto.Signer) *dsse.PublicKey {
	t.Helper()
	return must[*dsse.PublicKey](t)(dsse.NewPublicKey(key.Public()))
}

func signature(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	digest := sha256.Sum256(dsse.PAE(payloadType, []byte(payload)))
	return must[[]byte](t)(key.Sign(rand.Reader, digest[:], crypto.SHA256))
}

// envelope returns a bundle with these signatures.
func envelope(signatures ...[]byte) *bundle.Bundle {
	env := &dsse.Envelope{PayloadType: payloadType, Payload: []byte(payload)}
	for _, s := range signatures {
		env.Signatures = append(env.Signatures, dsse.Signature{Sig: s})
	}
	return &bundle.Bundle{Envelope: env}
}

// loggedAt is a log that had the entry at a time; the zero value never did.
type loggedAt struct{ time.Time }

func (l loggedAt) Vouch(*bundle.Attestation) (*lodge.Entry, error) {
	if l.IsZero() {
		return nil, lodge.ErrNotFound
	}
	return &lodge.Entry{SET: []byte("verified"), Receipt: lodge.LogReceipt{IntegratedTime: l.Unix()}}, nil
}

// contains binds an entry where it holds the signature, which is part of what rekor asks.
func contains(e lodge.Entry, att *bundle.Attestation) error {
	once := base64.StdEncoding.EncodeToString(att.Signature)
	twice := base64.StdEncoding.EncodeToString([]byte(once)) // intoto 0.0.2
	if !bytes.Contains(e.Body, []byte(once)) && !bytes.Contains(e.Body, []byte(twice)) {
		return errors.New("signature differs")
	}
	return nil
}

// body returns the body of an entry that contains binds.
func body(t testing.TB, att *bundle.Attestation) []byte {
	t.Helper()
	return must[[]byte](t)(json.Marshal(map[string]any{"kind": "test", "signature": att.Signature}))
}
