package rekor_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

const payloadType = "application/vnd.in-toto+json"

// leaves is a leaf index in memory. It implements rekor.Leaves.
type leaves struct {
	mu         sync.Mutex
	known      bool
	from, size int64
	at         map[lodge.Digest][]int64
}

func (l *leaves) LeafRange(context.Context, string) (int64, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from, l.size, nil
}

func (l *leaves) AddLeaves(_ context.Context, _ string, at int64, hashes []lodge.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		l.known, l.from, l.size, l.at = true, at, at, map[lodge.Digest][]int64{}
	}
	if at != l.size {
		return lodge.ErrStale
	}
	for i, h := range hashes {
		l.at[h] = append(l.at[h], at+int64(i))
	}
	l.size += int64(len(hashes))
	return nil
}

func (l *leaves) SkipLeaves(_ context.Context, _ string, at, to int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || at != l.size {
		return lodge.ErrStale
	}
	l.from, l.size = to, to
	return nil
}

func (l *leaves) FindLeaf(_ context.Context, _ string, hash lodge.Digest) (at []int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.at[hash]), nil
}

// newKey returns a private key that signs by the algorithm.
func newKey(t testing.TB, algorithm dsse.Algorithm) (*dsse.PrivateKey, crypto.Signer) {
	t.Helper()
	var signer crypto.Signer
	var err error
	switch algorithm {
	case dsse.ECDSAP256SHA256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case dsse.ECDSAP384SHA384, dsse.ECDSAP384SHA256:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case dsse.ECDSAP521SHA512, dsse.ECDSAP521SHA256:
		signer, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case dsse.Ed25519, dsse.Ed25519ph:
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	case dsse.RSA2048PKCS1, dsse.RSA2048PSS:
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case dsse.RSA4096PKCS1:
		signer, err = rsa.GenerateKey(rand.Reader, 4096)
	default:
		err = errors.New("no such key here")
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dsse.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	if key.Algorithm() != algorithm {
		if key, err = key.Use(algorithm); err != nil {
			t.Fatal(err)
		}
	}
	return key, signer
}

// statement is a payload that differs with n.
func statement(n int) []byte {
	subject := sha256.Sum256(fmt.Append(nil, n))
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://openvex.dev/ns","subject":[{"digest":{"sha256":"%x"}}],"predicate":{}}`, subject)
}

func attest(t testing.TB, key *dsse.PrivateKey, payload []byte) *bundle.Attestation {
	t.Helper()
	sig, err := key.Sign(dsse.PAE(payloadType, payload))
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle.Bundle{Envelope: &dsse.Envelope{PayloadType: payloadType, Payload: payload, Signatures: []dsse.Signature{{Sig: sig}}}}
	att, err := b.SignedBy(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return att
}

// attestation returns one that is signed on P-256.
func attestation(t testing.TB, n int) *bundle.Attestation {
	t.Helper()
	key, _ := newKey(t, dsse.ECDSAP256SHA256)
	return attest(t, key, statement(n))
}

// certify returns a certificate for key's owner, in DER.
func certify(t testing.TB, owner string, key crypto.PublicKey, from, to time.Time) []byte {
	t.Helper()
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: owner},
		URIs: []*url.URL{{Scheme: "https", Host: owner}}, NotBefore: from, NotAfter: to,
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key, ca)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certified returns an attestation under a certificate that is valid now, with a (made-up) timestamp.
func certified(t testing.TB, n int) *bundle.Attestation {
	t.Helper()
	key, signer := newKey(t, dsse.ECDSAP256SHA256)
	att := attest(t, key, statement(n))
	att.Certificates = [][]byte{certify(t, "signer.test", signer.Public(), time.Now().Add(-time.Minute), time.Now().Add(time.Minute))}
	att.Timestamps = [][]byte{{0x30, 0}}
	return att
}

func newV2(t testing.TB) (*logtest.Log, *rekor.V2, *leaves) {
	t.Helper()
	log, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	index := &leaves{}
	return log, clientV2(t, log, index), index
}

func clientV2(t testing.TB, log *logtest.Log, index rekor.Leaves) *rekor.V2 {
	t.Helper()
	c, err := rekor.NewV2(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}, Leaves: index})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newV1(t testing.TB) (*logtest.Log, *rekor.V1) {
	t.Helper()
	log, err := logtest.NewV1("rekor.test")
	if err != nil {
		t.Fatal(err)
	}
	c, err := rekor.NewV1(rekor.Options{URL: logtest.URL, HTTP: log.Client(), Keys: []tlog.Key{log.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	return log, c
}

// wantError checks class and code.
func wantError(t *testing.T, err error, class lodge.Class, code string) {
	t.Helper()
	var e *lodge.Error
	if !errors.As(err, &e) || e.Class != class || e.Code != code {
		t.Errorf("got error %v (%+v), want %s %s", err, e, class, code)
	}
}

// wantProven checks an entry on its own: leaf, proof and checkpoint.
func wantProven(t *testing.T, e *lodge.Entry, key tlog.Key, intent lodge.Intent) {
	t.Helper()
	if e == nil {
		t.Fatal("no entry")
	}
	r := e.Receipt
	if r.LeafHash != intent.LeafHash || tlog.LeafHash(e.Body) != intent.LeafHash || r.LogID != key.LogID() {
		t.Errorf("leaf %s, of the body %s, log %s; want %s", r.LeafHash, tlog.LeafHash(e.Body), r.LogID, intent.LeafHash)
	}
	if r.InclusionProof == nil {
		t.Fatal("no proof")
	}
	if cp, err := key.Prove(r.LeafHash, *r.InclusionProof); err != nil || cp.Origin != r.Origin {
		t.Errorf("proof of origin %q: %v", r.Origin, err)
	}
}

func body(n int) []byte { return slices.Concat([]byte("somebody else's "), fmt.Append(nil, n)) }

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
