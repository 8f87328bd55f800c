package bundle_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

var update = flag.Bool("update", false, "write the golden files anew")

// attestation is b's first signature as if it had verified.
func attestation(b *bundle.Bundle) *bundle.Attestation {
	return &bundle.Attestation{
		PayloadType:  b.Envelope.PayloadType,
		Payload:      b.Envelope.Payload,
		Signature:    b.Envelope.Signatures[0].Sig,
		PublicKey:    &dsse.PublicKey{SPKI: []byte("a key")},
		Certificates: b.Certificates,
		Timestamps:   b.Timestamps,
		Entries:      b.Entries,
	}
}

// signed returns an attestation and an entry that are what they claim, but for the log's
// part: the proof is of a tree with one leaf.
func signed(t *testing.T) (*bundle.Attestation, lodge.Entry) {
	t.Helper()
	scalar := sha256.Sum256([]byte("a key for tests"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	public, err := dsse.NewPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	att := &bundle.Attestation{
		PayloadType: "application/vnd.in-toto+json",
		Payload:     []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"https://example.com/<&>/v1"}`),
		PublicKey:   public,
		Timestamps:  [][]byte{[]byte("a timestamp")},
	}
	digest := sha256.Sum256(att.PAE())
	// Without a source of randomness it is deterministic (RFC 6979), so that the golden file is.
	if att.Signature, err = key.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	body := fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},`+
		`"signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"%s"}}}}}}`,
		b64(digest[:]), b64(att.Signature), b64(public.SPKI))
	leaf := lodge.DigestOf(append([]byte{0}, body...))
	return att, lodge.Entry{
		Kind: "hashedrekord", Version: "0.0.2", Body: body,
		Receipt: lodge.LogReceipt{
			Origin: "log.test", LogID: strings.Repeat("ab", 32), LeafHash: leaf,
			InclusionProof: &lodge.InclusionProof{TreeSize: 1, RootHash: leaf, Hashes: []lodge.Digest{},
				Checkpoint: "log.test\n1\n" + b64(leaf[:]) + "\n\n— log.test q6urqw==\n"},
		},
	}
}

// TestEncodeGolden holds the bytes fast: their digest is what a registry stores them under.
func TestEncodeGolden(t *testing.T) {
	att, entry := signed(t)
	got, err := att.Encode(entry)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "bundle.json")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEncodeShape checks what cosign 3 asks of a bundle: one signature, no keyid, the hint.
func TestEncodeShape(t *testing.T) {
	att, entry := signed(t)
	raw, err := att.Encode(entry)
	if err != nil {
		t.Fatal(err)
	}
	var top struct {
		MediaType    string
		DSSEEnvelope struct{ Signatures []map[string]string }
		Material     struct {
			PublicKey struct{ Hint string }
		} `json:"verificationMaterial"`
	}
	if err := json.Unmarshal(raw, &top); err != nil {
		t.Fatal(err)
	}
	spki := sha256.Sum256(att.PublicKey.SPKI)
	if top.MediaType != bundle.MediaType || top.Material.PublicKey.Hint != base64.StdEncoding.EncodeToString(spki[:]) {
		t.Errorf("media type %q, hint %q", top.MediaType, top.Material.PublicKey.Hint)
	}
	want := []map[string]string{{"sig": base64.StdEncoding.EncodeToString(att.Signature)}}
	if diff := cmp.Diff(want, top.DSSEEnvelope.Signatures); diff != "" {
		t.Errorf("signatures (-want +got):\n%s", diff)
	}
}

// TestEncodeOracle has sigstore-go load what Encode writes.
func TestEncodeOracle(t *testing.T) {
	att, entry := signed(t)
	withCertificate := *att
	withCertificate.Certificates = [][]byte{readCertificate(t), []byte("an intermediate, which v0.3 leaves out")}
	for name, a := range map[string]*bundle.Attestation{"key": att, "certificate": &withCertificate} {
		t.Run(name, func(t *testing.T) {
			raw, err := a.Encode(entry)
			if err != nil {
				t.Fatal(err)
			}
			var oracle sgbundle.Bundle
			if err := oracle.UnmarshalJSON(raw); err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			if !oracle.MinVersion("v0.3") || !oracle.HasInclusionProof() {
				t.Error("not a bundle v0.3 with an inclusion proof")
			}
			content, err := oracle.SignatureContent()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(content.Signature(), att.Signature) {
				t.Error("another signature")
			}
			stamps, err := oracle.Timestamps()
			if err != nil || len(stamps) != 1 || !bytes.Equal(stamps[0], att.Timestamps[0]) {
				t.Errorf("timestamps %q, %v", stamps, err)
			}
			material, err := oracle.VerificationContent()
			if err != nil {
				t.Fatal(err)
			}
			if cert := material.Certificate(); (cert != nil) != (name == "certificate") {
				t.Errorf("certificate %v", cert)
			}
		})
	}
}

func readCertificate(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "certificate.der"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestRoundTrip: what Encode writes is what Parse reads, for any attestation.
func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	blob := func(n int) []byte {
		b := make([]byte, 1+rnd.IntN(n))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for range 200 {
		att := &bundle.Attestation{
			PayloadType: "application/x-" + fmt.Sprint(rnd.Uint64()) + "-\u2028<&>é",
			Payload:     blob(300),
			Signature:   blob(100),
			PublicKey:   &dsse.PublicKey{SPKI: blob(90)},
		}
		want := &bundle.Bundle{
			MediaType: bundle.MediaType,
			Envelope: &dsse.Envelope{PayloadType: att.PayloadType, Payload: att.Payload,
				Signatures: []dsse.Signature{{Sig: att.Signature}}},
		}
		if rnd.IntN(2) == 0 {
			att.Certificates = [][]byte{blob(500), blob(500)}
			want.Certificates = att.Certificates[:1]
		}
		for range rnd.IntN(3) {
			att.Timestamps = append(att.Timestamps, blob(50))
		}
		want.Timestamps = att.Timestamps
		for range rnd.IntN(3) {
			want.Entries = append(want.Entries, randomEntry(rnd, blob))
		}
		raw, err := att.Encode(want.Entries...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := bundle.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func randomEntry(rnd *rand.Rand, blob func(int) []byte) lodge.Entry {
	body := blob(400)
	e := lodge.Entry{
		Kind: "dsse", Version: "0.0.1", Body: body,
		Receipt: lodge.LogReceipt{
			Origin: "rekor.test - 7", LogID: lodge.DigestOf(body).Hex(), LogIndex: rnd.Int64(),
			LeafHash:       lodge.DigestOf(append([]byte{0}, body...)),
			IntegratedTime: rnd.Int64N(2),
			InclusionProof: &lodge.InclusionProof{LogIndex: rnd.Int64(), TreeSize: rnd.Int64(),
				RootHash: lodge.DigestOf(blob(9)), Checkpoint: "rekor.test - 7\n" + fmt.Sprint(rnd.Uint64())},
		},
	}
	for range rnd.IntN(5) {
		e.Receipt.InclusionProof.Hashes = append(e.Receipt.InclusionProof.Hashes, lodge.DigestOf(blob(9)))
	}
	if rnd.IntN(2) == 0 {
		e.SET = blob(70)
	}
	return e
}

func TestEncodeRefuses(t *testing.T) {
	att, entry := signed(t)
	promised := entry
	promised.Receipt.InclusionProof = nil
	_, err := att.Encode(promised)
	checkError(t, err, lodge.ErrMalformed, "no inclusion proof")

	nameless := entry
	nameless.Receipt.LogID = "not hex"
	_, err = att.Encode(nameless)
	checkError(t, err, lodge.ErrMalformed, "log id")

	keyless := *att
	keyless.PublicKey = nil
	_, err = keyless.Encode(entry)
	checkError(t, err, lodge.ErrMalformed, "neither certificate nor public key")
}

func TestParseStatement(t *testing.T) {
	const a, b = "aa00000000000000000000000000000000000000000000000000000000000000", "bb00000000000000000000000000000000000000000000000000000000000000"
	da, db := mustDigest(t, a), mustDigest(t, b)
	inToto := "application/vnd.in-toto+json"
	statement := func(subject string) string {
		return `{"_type":"https://in-toto.io/Statement/v1","predicateType":"p","subject":` + subject + `}`
	}
	for _, tt := range []struct {
		name, payloadType, payload string
		want                       bundle.Statement
	}{
		{"v0.1", inToto, `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"p"}`, bundle.Statement{PredicateType: "p"}},
		{"sorted, each once", inToto, statement(`[{"digest":{"sha256":"` + b + `"}},{"digest":{"sha256":"` + a + `"}},{"digest":{"sha256":"` + strings.ToUpper(b) + `"}}]`),
			bundle.Statement{PredicateType: "p", Subjects: []lodge.Digest{da, db}}},
		{"odd subjects", inToto, statement(`[{"name":"none"},{"digest":{"sha256":"abc"}},{"digest":{"gitCommit":"` + a + `"}},7,{"digest":{"sha256":7}},{"digest":{"sha256":"` + a + `"}}]`),
			bundle.Statement{PredicateType: "p", Subjects: []lodge.Digest{da}}},
		{"no list", inToto, statement(`{}`), bundle.Statement{PredicateType: "p"}},
		{"statement's type as payload type", "https://in-toto.io/Statement/v1", statement(`[]`), bundle.Statement{PredicateType: "p"}},
		{"plain JSON", "application/json; charset=utf-8", statement(`[]`), bundle.Statement{PredicateType: "p"}},
		{"text", "text/plain", statement(`[]`), bundle.Statement{}},
		{"a link", inToto, `{"_type":"link","predicateType":"p"}`, bundle.Statement{}},
		{"no type", inToto, `{"predicateType":"p"}`, bundle.Statement{PredicateType: "p"}},
		{"some JSON", "application/json", `{"subject":[]}`, bundle.Statement{}},
		{"no JSON", inToto, `<xml/>`, bundle.Statement{}},
		{"members in another case", inToto, `{"_TYPE":"https://in-toto.io/Statement/v1","PredicateType":"p"}`, bundle.Statement{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := bundle.ParseStatement(tt.payloadType, []byte(tt.payload))
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func mustDigest(t *testing.T, hex string) lodge.Digest {
	t.Helper()
	d, err := lodge.ParseDigest("sha256:" + hex)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
