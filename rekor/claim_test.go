package rekor_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/rekor"
)

const (
	bareBody = `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},` +
		`"signature":{"content":"c2ln","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"a2V5"}}}}}}`
	certBody = `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},` +
		`"signature":{"content":"c2ln","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","x509Certificate":{"rawBytes":"Y2VydA=="}}}}}}`
	v1Body = `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}},` +
		`"signature":{"content":"c2ln","publicKey":{"content":"LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KYTJWNQotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K"}}}}`
)

func TestReadBody(t *testing.T) {
	digest := make([]byte, 32)
	for i := range digest {
		digest[i] = byte(i)
	}
	want := rekor.Claim{OverPAE: true, Hash: crypto.SHA256, Digest: digest, Verifiers: []rekor.Verifier{{DER: []byte("key")}}}
	for name, body := range map[string]string{"v2": bareBody, "v1": v1Body} {
		if c, err := rekor.ReadBody([]byte(body)); err != nil || !cmp.Equal(c, want) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	want.Verifiers = []rekor.Verifier{{DER: []byte("cert"), Certificate: true}}
	if c, err := rekor.ReadBody([]byte(certBody)); err != nil || !cmp.Equal(c, want) {
		t.Errorf("certificate: %+v, %v", c, err)
	}
	for body, want := range map[string]error{
		"":   lodge.ErrMalformed,
		"[]": lodge.ErrMalformed,
		`{"apiVersion":"0.0.1","kind":"rpm","spec":{}}`:          rekor.ErrKind,
		`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`: lodge.ErrMalformed,
		strings.Replace(bareBody, "AAEC", "AAE=", 1):             lodge.ErrMalformed,
		strings.Replace(bareBody, "SHA2_256", "SHA3_256", 1):     lodge.ErrMalformed,
		strings.Replace(bareBody, `"c2ln"`, `"c2lo\n"`, 1):       lodge.ErrMalformed,
		strings.Replace(bareBody, `"c2ln"`, `"c2lnc2l="`, 1):     lodge.ErrMalformed, // trailing bits
		bareBody + " ": lodge.ErrMalformed,
		strings.Replace(bareBody, `,"kind"`, `, "kind"`, 1):               lodge.ErrMalformed,
		strings.Replace(bareBody, `"kind"`, `"kind":"dsse","kind"`, 1):    lodge.ErrMalformed,
		strings.Repeat(" ", 2<<20):                                        lodge.ErrLimit,
		strings.Replace(bareBody, `PKIX_ECDSA_P256_SHA_256`, `\u0041`, 1): lodge.ErrMalformed,
	} {
		if c, err := rekor.ReadBody([]byte(body)); !errors.Is(err, want) {
			t.Errorf("%.100s: %+v, %v, want %v", body, c, err, want)
		}
	}
}

// FuzzReadBody makes sure that the fast way of reading entries sees what the careful one does.
func FuzzReadBody(f *testing.F) {
	for _, body := range []string{bareBody, certBody, v1Body, strings.Replace(bareBody, `"c2ln"`, `"c2ln\n"`, 1), strings.Replace(bareBody, "PKIX", "<", 1)} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fast, ok := rekor.ReadFast(body)
		slow, err := rekor.ReadSlow(body)
		if ok && (err != nil || !cmp.Equal(fast, slow)) {
			t.Errorf("%q: %+v; %+v, %v", body, fast, slow, err)
		}
	})
}
