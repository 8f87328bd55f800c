package scenario

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	_ "crypto/sha512" // for crypto.SHA384 and SHA512
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// payloadType is that of in-toto statements.
const payloadType = "application/vnd.in-toto+json"

// predicateType is that of the statements here.
const predicateType = "https://openvex.dev/ns/v0.2.0"

// sha256Opts are what most keys sign with.
var sha256Opts crypto.SignerOpts = crypto.SHA256

func newSigner(t *testing.T) servers.KeyPair {
	t.Helper()
	return servers.ECDSA(t, elliptic.P256())
}

// statement returns the nth statement about the site's image: with its members in the order
// in which a person would write them, which is not that of their names.
func (s *Site) statement(n int) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1",`+
		`"subject":[{"name":"app","digest":{"sha256":"%s"}}],"predicateType":"%s","predicate":{`+
		`"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/vex/%s/%d","author":"A",`+
		`"timestamp":"2026-01-15T09:00:00Z","version":1,"statements":[{"vulnerability":{"name":"CVE-2024-%04d"},`+
		`"products":[{"@id":"pkg:oci/app"}],"status":"fixed"}]}}`, s.Image[len("sha256:"):], predicateType, s.about, n, n)
}

// reformatted returns a statement with other white space and its members in another order.
func (s *Site) reformatted(statement []byte) []byte {
	s.t.Helper()
	var v map[string]any
	if err := json.Unmarshal(statement, &v); err != nil {
		s.t.Fatal(err)
	}
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil || bytes.Equal(b, statement) {
		s.t.Fatalf("the statement in another form is %s, %v", b, err)
	}
	return b
}

// pae is what a DSSE signature is over (DSSE v1.0 protocol, "Signature Definition").
func pae(payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// envelope signs a payload by other means than lodge's: with ECDSA each signature is another.
func (s *Site) envelope(payload []byte, key crypto.Signer, opts crypto.SignerOpts) []byte {
	s.t.Helper()
	return s.encode(map[string]any{
		"payloadType": payloadType,
		"payload":     payload,
		"signatures":  []any{map[string]any{"keyid": "any", "sig": s.signature(payload, key, opts)}},
	})
}

func (s *Site) signature(payload []byte, key crypto.Signer, opts crypto.SignerOpts) []byte {
	s.t.Helper()
	message := pae(payload)
	if hash := opts.HashFunc(); hash != 0 {
		h := hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return sig
}

// signed writes an envelope by the site's signer; each call gives another signature.
func (s *Site) signed(payload []byte) string {
	s.t.Helper()
	return s.write("envelope.json", s.envelope(payload, s.Signer.Signer, sha256Opts))
}

// contentHash is what an entry says of the content, as algorithm:hex.
type contentHash string

// hashOf computes what an entry has to say of a payload: v2 hashes what was signed by the
// key's own hash, v1 the payload by SHA-256.
func (s *Site) hashOf(payload []byte, opts crypto.SignerOpts) contentHash {
	if s.Log.Version() == 1 {
		return contentHash(fmt.Sprintf("sha256:%x", sha256.Sum256(payload)))
	}
	h := opts.HashFunc().New()
	h.Write(pae(payload))
	names := map[crypto.Hash]string{crypto.SHA256: "SHA2_256", crypto.SHA384: "SHA2_384", crypto.SHA512: "SHA2_512"}
	return contentHash(fmt.Sprintf("%s:%x", names[opts.HashFunc()], h.Sum(nil)))
}

// content reads what an entry says of its content: a hashedrekord 0.0.2 of a v2 log or a
// dsse 0.0.1 of a v1 log.
func (s *Site) content(body []byte) contentHash {
	s.t.Helper()
	var entry struct {
		Kind, APIVersion string
		Spec             struct {
			PayloadHash      struct{ Algorithm, Value string }
			HashedRekordV002 struct {
				Data struct {
					Algorithm string
					Digest    []byte
				}
			}
		}
	}
	if err := json.Unmarshal(body, &entry); err != nil {
		s.t.Fatalf("the log has an entry that is no JSON: %v: %s", err, body)
	}
	switch entry.Kind + " " + entry.APIVersion {
	case "hashedrekord 0.0.2":
		data := entry.Spec.HashedRekordV002.Data
		return contentHash(data.Algorithm + ":" + hex.EncodeToString(data.Digest))
	case "dsse 0.0.1":
		return contentHash(entry.Spec.PayloadHash.Algorithm + ":" + entry.Spec.PayloadHash.Value)
	}
	s.t.Fatalf("the log has an entry of another kind: %s", body)
	return ""
}

// A Kind is a kind of key and what it signs with.
type Kind struct {
	Name string
	Key  func(t *testing.T) servers.KeyPair
	Opts crypto.SignerOpts
}

func curve(c elliptic.Curve) func(t *testing.T) servers.KeyPair {
	return func(t *testing.T) servers.KeyPair { return servers.ECDSA(t, c) }
}

func rsaBits(bits int) func(t *testing.T) servers.KeyPair {
	return func(t *testing.T) servers.KeyPair { return servers.RSA(t, bits) }
}

func edwards(t *testing.T) servers.KeyPair { return servers.Ed25519(t) }

// kinds returns the kinds of key that the log takes, and one that it does not.
func (s *Site) kinds() (taken []Kind, refused Kind) {
	pure := Kind{"Ed25519", edwards, &ed25519.Options{}}
	prehashed := Kind{"Ed25519ph", edwards, &ed25519.Options{Hash: crypto.SHA512}}
	taken = []Kind{
		{"ECDSA P-256", curve(elliptic.P256()), crypto.SHA256},
		{"RSA 2048", rsaBits(2048), crypto.SHA256},
	}
	if s.Log.Version() == 1 {
		return append(taken, pure), prehashed
	}
	return append(taken,
		Kind{"ECDSA P-384", curve(elliptic.P384()), crypto.SHA384},
		Kind{"ECDSA P-521", curve(elliptic.P521()), crypto.SHA512},
		Kind{"RSA 3072", rsaBits(3072), crypto.SHA256},
		Kind{"RSA 4096", rsaBits(4096), crypto.SHA256},
		prehashed), pure
}
