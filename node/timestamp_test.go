package node_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/node"
)

// authority answers queries for timestamps (RFC 3161 section 3.4), as answer says.
type authority struct {
	*httptest.Server
	asked atomic.Int64
}

func newAuthority(t *testing.T, answer func(w http.ResponseWriter, query *timestamp.Request)) *authority {
	t.Helper()
	a := &authority{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		raw, _ := io.ReadAll(r.Body)
		query, err := timestamp.ParseRequest(raw)
		if err != nil || r.Header.Get("Content-Type") != "application/timestamp-query" {
			http.Error(w, "no query", http.StatusBadRequest)
			return
		}
		answer(w, query)
	}))
	t.Cleanup(a.Close)
	return a
}

// TestTimestampRefused: what is no timestamp over the signature is not taken. An envelope under a
// bare key is accepted without, once.
func TestTimestampRefused(t *testing.T) {
	s := newSite(t)
	sigstore, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	// VirtualSigstore stamps a signature, not a digest: of what is asked for here it is over
	// something else, and has another nonce.
	wrong := newAuthority(t, func(w http.ResponseWriter, _ *timestamp.Request) {
		ts, err := sigstore.TimestampResponse([]byte("something else"))
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(ts)
	})
	broken := newAuthority(t, func(w http.ResponseWriter, _ *timestamp.Request) { http.Error(w, "no", http.StatusInternalServerError) })
	large := newAuthority(t, func(w http.ResponseWriter, _ *timestamp.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	s.config.TSA = []string{wrong.URL, broken.URL, large.URL}
	s.config.Deliver = []string{"rekor"}
	n := s.open()

	raw := s.envelope()
	for range 2 {
		accepted, err := s.push(n, node.Submission{Envelope: raw})
		if err != nil || accepted[0].State != lodge.Verified {
			t.Fatalf("%+v, %v", accepted, err)
		}
		got, err := n.Bundle(t.Context(), accepted[0].Key, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := bundle.Parse(got); err != nil || len(b.Timestamps) != 0 {
			t.Errorf("%v, %v", b, err)
		}
	}
	for _, a := range []*authority{wrong, broken, large} {
		if asked := a.asked.Load(); asked != 1 {
			t.Errorf("it was asked %d times: a duplicate is answered from the cache", asked)
		}
	}
}

// TestTimestampNonce: an old answer over the right signature is not an answer.
func TestTimestampNonce(t *testing.T) {
	s := newSite(t)
	raw := s.envelope()
	b, err := bundle.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	sigstore, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	replayed, err := sigstore.TimestampResponse(b.Envelope.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, func(w http.ResponseWriter, query *timestamp.Request) {
		if query.HashAlgorithm != crypto.SHA256 || query.Nonce == nil || bytes.Equal(query.HashedMessage, nil) {
			t.Errorf("query %+v", query)
		}
		_, _ = w.Write(replayed)
	})
	s.config.TSA = []string{a.URL}
	s.config.Deliver = []string{"rekor"}
	n := s.open()
	accepted, err := s.push(n, node.Submission{Envelope: raw})
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Bundle(t.Context(), accepted[0].Key, "", "")
	if err != nil || strings.Contains(string(got), "rfc3161") {
		t.Errorf("an old answer was taken: %s, %v", got, err)
	}
}

func TestTSAConfig(t *testing.T) {
	for _, url := range []string{"timestamp.example", "ftp://timestamp.example", "http://"} {
		if _, err := node.Open(t.Context(), node.Config{Store: "sqlite:" + t.TempDir() + "/lodge.db", TSA: []string{url}}); err == nil || !strings.Contains(err.Error(), "tsa: ") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// sigstoreWorld is a certificate authority and one for timestamps, which answers queries.
type sigstoreWorld struct {
	*authority
	root   string // trusted_root.json
	bundle []byte // under a certificate that is valid now
}

func newSigstoreWorld(t *testing.T) *sigstoreWorld {
	t.Helper()
	top, topKey, err := ca.GenerateRootCa()
	fulcio, fulcioKey, err1 := ca.GenerateFulcioIntermediate(top, topKey)
	tsaIssuer, tsaIssuerKey, err2 := ca.GenerateTSAIntermediate(top, topKey)
	tsaKey, err3 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	signer, err4 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	tsa, err := ca.GenerateTSALeafCert(time.Now().Add(-time.Minute), tsaKey, tsaIssuer, tsaIssuerKey)
	cert, err1 := ca.GenerateLeafCert("a@example.com", "https://accounts.example.com", time.Now().Add(-time.Minute), signer, fulcio, fulcioKey)
	trusted, err2 := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{&root.FulcioCertificateAuthority{
		Root: top, Intermediates: []*x509.Certificate{fulcio}, ValidityPeriodStart: top.NotBefore, ValidityPeriodEnd: top.NotAfter, URI: "https://fulcio.test",
	}}, nil, []root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{
		Root: top, Intermediates: []*x509.Certificate{tsaIssuer}, Leaf: tsa, ValidityPeriodStart: top.NotBefore, ValidityPeriodEnd: top.NotAfter, URI: "https://tsa.test",
	}}, nil)
	if err := errors.Join(err, err1, err2); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(trusted)
	if err != nil {
		t.Fatal(err)
	}
	w := &sigstoreWorld{root: filepath.Join(t.TempDir(), "trusted_root.json")}
	if err := os.WriteFile(w.root, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(dsse.PAE("application/json", []byte("{}")))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	w.bundle = fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"certificate":{"rawBytes":%q}},"dsseEnvelope":{"payloadType":"application/json","payload":"e30=","signatures":[{"sig":%q}]}}`,
		bundle.MediaType, b64(cert.Raw), b64(sig))
	w.authority = newAuthority(t, func(rw http.ResponseWriter, query *timestamp.Request) {
		answer := timestamp.Timestamp{HashAlgorithm: query.HashAlgorithm, HashedMessage: query.HashedMessage, Nonce: query.Nonce,
			Time: time.Now(), Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: query.Certificates}
		ts, err := answer.CreateResponseWithOpts(tsa, tsaKey, crypto.SHA256)
		if err != nil {
			t.Error(err)
		}
		_, _ = rw.Write(ts)
	})
	return w
}

// TestTimestampTaken: an envelope under a certificate goes to a v2 log with a timestamp of its
// acceptance, which is in its bundle; without one it is not accepted.
func TestTimestampTaken(t *testing.T) {
	w := newSigstoreWorld(t)
	s := newSite(t)
	s.config.TrustedRoot, s.config.Deliver = w.root, []string{"rekor"}
	push := func(n *node.Node) ([]lodge.Accepted, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return n.Push(ctx, node.Submission{Envelope: w.bundle})
	}
	down := newAuthority(t, func(rw http.ResponseWriter, _ *timestamp.Request) {
		http.Error(rw, "down", http.StatusServiceUnavailable)
	})
	s.config.TSA = []string{down.URL}
	_, err := push(s.open())
	if failure := lodge.Classify(err); err == nil || failure.Class != lodge.ClassRetry || failure.Code != "timestamp" {
		t.Fatalf("error %v", err)
	}

	s.config.TSA = []string{down.URL, w.URL} // one is enough
	n := s.open()
	for i := range 2 {
		accepted, err := push(n)
		if err != nil || accepted[0].State != lodge.Verified || accepted[0].Signer != "a@example.com via https://accounts.example.com" || accepted[0].Duplicate() != (i > 0) {
			t.Fatalf("%+v, %v", accepted, err)
		}
		raw, err := n.Bundle(t.Context(), accepted[0].Key, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := bundle.Parse(raw); err != nil || len(b.Timestamps) != 1 || len(b.Entries) != 1 {
			t.Errorf("%v, %s", err, raw)
		}
	}
	if asked := w.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}
