package verify_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/verify"
)

// TestAsked asks for a signer or a file that an entry alone does not show. What was asked for and
// can't be judged is refused, and never passed over.
func TestAsked(t *testing.T) {
	w, key, stranger := newWorld(t), newKey(t), newKey(t)
	file := []byte("what was signed")
	bare, _ := signedFile(t, key, file)
	cert := w.certificate(key, time.Now().Add(-time.Minute))
	certified := []byte(strings.Replace(string(bare), fmt.Sprintf(`"publicKey":{"rawBytes":%q}`, base64.StdEncoding.EncodeToString(public(t, key).SPKI)),
		fmt.Sprintf(`"x509Certificate":{"rawBytes":%q}`, base64.StdEncoding.EncodeToString(cert)), 1))
	digest := lodge.DigestOf(file).Hex()
	verifier := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public(t, key).SPKI})
	payloadOnly := fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"dsse","spec":{"envelopeHash":{"algorithm":"sha256","value":%q},`+
		`"payloadHash":{"algorithm":"sha256","value":%q},"signatures":[{"signature":"c2ln","verifier":%q}]}}`,
		digest, digest, base64.StdEncoding.EncodeToString(verifier))

	keys := func(k *ecdsa.PrivateKey) verify.Signers { return verify.Signers{Keys: []*dsse.PublicKey{public(t, k)}} }
	somebody := []verify.Identity{{Identity: identity, Issuer: issuer}}
	for _, tt := range []struct {
		name  string
		body  []byte
		trust verify.Trust
		ok    bool
		want  string
	}{
		{"the digest of a payload, nobody asked for", payloadOnly, verify.Trust{}, false, "binding failed"},
		{"a bare key, an identity asked for", bare, verify.Trust{Signers: verify.Signers{Root: w.root, Identities: somebody}}, false, "identity failed"},
		{"a certificate, nobody asked for", certified, verify.Trust{}, true, "identity absent"},
		{"a certificate, a key asked for", certified, verify.Trust{Signers: keys(stranger)}, false, "identity failed"},
		{"a certificate, an identity asked for without a root", certified, verify.Trust{Signers: verify.Signers{Identities: somebody}}, false, "identity failed"},
		{"a certificate, its identity asked for", certified, verify.Trust{Signers: verify.Signers{Root: w.root, Identities: somebody}}, true, "identity ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := must[*logtest.Log](t)(logtest.NewV2("log.test"))
			e, _ := inLog(t, l, tt.body)
			e.Kind = ""
			tt.trust.Logs, tt.trust.Bind, tt.trust.Signed = []tlog.Key{l.Key()}, rekor.BindEntry, rekor.Signed
			check(t, verify.Entries([]lodge.Entry{e}, tt.trust), tt.ok, []string{tt.want, "inclusion ok"})
		})
	}
	t.Run("an attestation, an identity asked for without a root", func(t *testing.T) {
		b := envelope(signature(t, key))
		b.Certificates = [][]byte{cert}
		raw := must[[]byte](t)(must[*bundle.Attestation](t)(verify.Signers{}.Attest(b)).Encode())
		r := must[verify.Result](t)(verify.Bundle(raw, verify.Trust{Signers: verify.Signers{Identities: somebody}}))
		check(t, r, false, []string{"certificate absent", "identity failed"})
	})
}
