package scenario

import (
	"crypto/ecdsa"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
)

// Whom the authority's certificates are for.
const (
	identity = "release@example.com"
	issuer   = "https://accounts.example.com"
)

// authority issues certificates as Fulcio does, and timestamps (RFC 3161).
type authority struct {
	t            *testing.T
	root, issuer *x509.Certificate
	key          *ecdsa.PrivateKey   // of issuer
	timestamps   *ca.VirtualSigstore // of which only the timestamp authority is used
	others       []root.TimestampingAuthority
	logs         map[string]*root.TransparencyLog
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var key *ecdsa.PrivateKey
	var errs [3]error
	a.root, key, errs[0] = ca.GenerateRootCa()
	a.issuer, a.key, errs[1] = ca.GenerateFulcioIntermediate(a.root, key)
	a.timestamps, errs[2] = ca.NewVirtualSigstore()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// trustedRoot writes the trusted root that says all of this, and returns its path.
func (a *authority) trustedRoot(s *Site) string {
	s.t.Helper()
	fulcio := &root.FulcioCertificateAuthority{
		Root: a.root, Intermediates: []*x509.Certificate{a.issuer},
		ValidityPeriodStart: a.root.NotBefore, ValidityPeriodEnd: a.root.NotAfter, URI: "https://fulcio.test",
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{fulcio}, nil,
		slices.Concat(a.timestamps.TimestampingAuthorities(), a.others), a.logs)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.write("trusted_root.json", s.encode(r))
}

// bundle writes a Sigstore bundle under a certificate that is valid for ten minutes from
// then on, with a timestamp of now where one is wanted.
func (a *authority) bundle(s *Site, payload []byte, from time.Time, timestamp bool) string {
	s.t.Helper()
	cert, err := ca.GenerateLeafCert(identity, issuer, from, s.Signer.Signer, a.issuer, a.key)
	if err != nil {
		s.t.Fatal(err)
	}
	sig := s.signature(payload, s.Signer.Signer, sha256Opts)
	material := map[string]any{"certificate": map[string]any{"rawBytes": cert.Raw}}
	if timestamp {
		response, err := a.timestamps.TimestampResponse(sig)
		if err != nil {
			s.t.Fatal(err)
		}
		material["timestampVerificationData"] = map[string]any{
			"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": response}},
		}
	}
	return s.write("bundle.sigstore.json", s.encode(map[string]any{
		"mediaType":            "application/vnd.dev.sigstore.bundle.v0.3+json",
		"verificationMaterial": material,
		"dsseEnvelope": map[string]any{
			"payloadType": payloadType,
			"payload":     payload,
			"signatures":  []any{map[string]any{"sig": sig}},
		},
	}))
}
