package verify_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/verify"
)

const certified lodge.Signer = identity + " via " + issuer

func TestAttestByKey(t *testing.T) {
	a, b, stranger := newKey(t), newKey(t), newKey(t)
	keys := []*dsse.PublicKey{public(t, a), public(t, b)}
	byA, byB, again := signature(t, a), signature(t, b), signature(t, a)
	least := byA
	if bytes.Compare(again, byA) < 0 {
		least = again
	}
	for _, tt := range []struct {
		name       string
		signatures [][]byte
		keys       []*dsse.PublicKey
		want       []byte // nil: refused
		signer     *dsse.PublicKey
	}{
		{"one of one", [][]byte{byA}, keys[:1], byA, keys[0]},
		{"the second key", [][]byte{byB}, keys, byB, keys[1]},
		{"a stranger's beside it", [][]byte{signature(t, stranger), byB}, keys, byB, keys[1]},
		{"both: the first key", [][]byte{byB, byA}, keys, byA, keys[0]},
		{"twice the same key: the same in any order", [][]byte{byA, again}, keys, least, keys[0]},
		{"twice the same key, the other order", [][]byte{again, byA}, keys, least, keys[0]},
		{"wrong key", [][]byte{byA}, keys[1:], nil, nil},
		{"no key", [][]byte{byA}, nil, nil, nil},
		{"no signature at all", [][]byte{[]byte("none")}, keys, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			att, err := verify.Signers{Keys: tt.keys}.Attest(envelope(tt.signatures...))
			if tt.want == nil {
				refused(t, err, "give --key")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(att.Signature, tt.want) || att.Signer != tt.signer.Signer() || att.PublicKey != tt.signer {
				t.Errorf("signer %s, signature %x; want %s, %x", att.Signer, att.Signature, tt.signer.Signer(), tt.want)
			}
			if att.Key != dsse.Key(payloadType, []byte(payload)) || att.Statement.PredicateType != "https://example.com/v1" || len(att.Certificates) > 0 {
				t.Errorf("attestation %+v", att)
			}
		})
	}
}

func TestAttestByCertificate(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	key := newKey(t)
	now := time.Now()
	fresh := w.certificate(key, now.Add(-time.Minute))
	expired := w.certificate(key, now.Add(-time.Hour))
	sig := signature(t, key)
	stamped := must[[]byte](t)(w.sigs.TimestampResponse(sig))
	strange := must[[]byte](t)(other.sigs.TimestampResponse(sig))
	onOther := must[[]byte](t)(w.sigs.TimestampResponse([]byte("another signature")))

	for _, tt := range []struct {
		name        string
		certificate []byte
		timestamps  [][]byte
		signers     verify.Signers
		want        lodge.Signer
		says        string // of the error, where want is empty
	}{
		{"valid now", fresh, nil, verify.Signers{Root: w.root}, certified, ""},
		{"valid when stamped", fresh, [][]byte{stamped}, verify.Signers{Root: w.root}, certified, ""},
		{"one of the identities", fresh, nil, verify.Signers{Root: w.root,
			Identities: []verify.Identity{{"b@example.com", issuer}, {identity, issuer}}}, certified, ""},
		{"none of the identities", fresh, nil, verify.Signers{Root: w.root,
			Identities: []verify.Identity{{identity, "https://other.example.com"}}}, "", "not among the signers"},
		{"expired", expired, nil, verify.Signers{Root: w.root}, "", "as of"},
		{"expired when stamped", expired, [][]byte{stamped}, verify.Signers{Root: w.root}, "", "as of"},
		{"stamped by another authority", expired, [][]byte{strange}, verify.Signers{Root: w.root}, "", "as of"},
		{"another signature stamped", expired, [][]byte{onOther}, verify.Signers{Root: w.root}, "", "as of"},
		{"valid when logged", expired, nil, verify.Signers{Root: w.root,
			Logs: []verify.Voucher{loggedAt{}, loggedAt{now.Add(-55 * time.Minute)}}}, certified, ""},
		{"expired when logged", expired, nil, verify.Signers{Root: w.root,
			Logs: []verify.Voucher{loggedAt{now.Add(-time.Minute)}}}, "", "as of"},
		{"another root", fresh, nil, verify.Signers{Root: other.root}, "", "no authority"},
		{"no root: its key", fresh, nil, verify.Signers{}, public(t, key).Signer(), ""},
		{"no root: expired does not matter", expired, nil, verify.Signers{}, public(t, key).Signer(), ""},
		{"no root, but keys", fresh, nil, verify.Signers{Keys: []*dsse.PublicKey{public(t, newKey(t))}}, "", "--trusted-root"},
		{"not a certificate", []byte("none"), nil, verify.Signers{Root: w.root}, "", "can't be read"},
		{"of another key", w.certificate(newKey(t), now), nil, verify.Signers{Root: w.root}, "", "nor does its own certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := envelope(sig)
			b.Certificates, b.Timestamps = [][]byte{tt.certificate}, tt.timestamps
			att, err := tt.signers.Attest(b)
			if tt.want == "" {
				refused(t, err, tt.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if att.Signer != tt.want || !bytes.Equal(att.Certificates[0], tt.certificate) {
				t.Errorf("signer %s, want %s", att.Signer, tt.want)
			}
		})
	}
}

// TestAttestSquatter: a certificate that anybody made claims somebody else's identity.
func TestAttestSquatter(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), EmailAddresses: []string{identity},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}},
	}
	made := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	b := envelope(signature(t, key))
	b.Certificates = [][]byte{made}

	_, err := verify.Signers{Root: w.root}.Attest(b)
	refused(t, err, "no authority")
	att, err := verify.Signers{}.Attest(b)
	if err != nil || att.Signer != public(t, key).Signer() {
		t.Errorf("without a root: %+v, %v; want the key as signer", att, err)
	}
}

// TestAttestWantsTransparency: where the root names CT logs, a certificate that is in none of
// them does not count.
func TestAttestWantsTransparency(t *testing.T) {
	w, key := newWorld(t), newKey(t)
	authority := &root.FulcioCertificateAuthority{Root: w.issuing}
	r := verify.NewRoot(material{VirtualSigstore: w.sigs, authority: authority, ctlogs: w.sigs.CTLogs()})
	b := envelope(signature(t, key))
	b.Certificates = [][]byte{w.certificate(key, time.Now())}
	_, err := verify.Signers{Root: r}.Attest(b)
	refused(t, err, "CT log")
}

func TestAttestNeedsRootForIdentities(t *testing.T) {
	_, err := verify.Signers{Identities: []verify.Identity{{identity, issuer}}}.Attest(envelope([]byte("s")))
	if err == nil || !strings.Contains(err.Error(), "--trusted-root") {
		t.Errorf("error %v", err)
	}
}

// TestAttestKeepsWhatCame: timestamps and entries go along, the rest of the chain too.
func TestAttestKeepsWhatCame(t *testing.T) {
	key := newKey(t)
	b := envelope(signature(t, key))
	b.Timestamps, b.Entries = [][]byte{[]byte("a stamp")}, []lodge.Entry{{Kind: "dsse"}}
	att, err := verify.Signers{Keys: []*dsse.PublicKey{public(t, key)}}.Attest(b)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(att.Timestamps, b.Timestamps, bytes.Equal) || len(att.Entries) != 1 {
		t.Errorf("attestation %+v", att)
	}
	if _, err := bundle.Parse(must[[]byte](t)(att.Encode())); err != nil {
		t.Error(err)
	}
}

func refused(t *testing.T, err error, says string) {
	t.Helper()
	if !errors.Is(err, lodge.ErrSignature) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v; want one line that wraps ErrSignature and says %q", err, says)
	}
}
