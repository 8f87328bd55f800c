package bundle_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
)

func TestParseMediaTypes(t *testing.T) {
	for _, tt := range []struct {
		mediaType string
		known     bool
	}{
		{"application/vnd.dev.sigstore.bundle+json;version=0.1", true},
		{"application/vnd.dev.sigstore.bundle+json;version=0.2", true},
		{"application/vnd.dev.sigstore.bundle+json;version=0.3", true},
		{"application/vnd.dev.sigstore.bundle.v0.1+json", true},
		{"application/vnd.dev.sigstore.bundle.v0.2+json", true},
		{"application/vnd.dev.sigstore.bundle.v0.3+json", true},
		{"application/vnd.dev.sigstore.bundle.v0.4+json", false},
		{"application/vnd.dev.sigstore.bundle+json;version=1.0", false},
		{"application/json", false},
		{"", false},
	} {
		raw := fmt.Sprintf(`{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"h"}},`+
			`"dsseEnvelope":{"payload":"e30=","payloadType":"text/plain","signatures":[{"sig":"AQ==","keyid":"h"}]}}`, tt.mediaType)
		b, err := bundle.Parse([]byte(raw))
		if !tt.known {
			checkError(t, err, lodge.ErrMalformed, "unknown version")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.mediaType, err)
			continue
		}
		want := &bundle.Bundle{
			MediaType: tt.mediaType,
			Envelope: &dsse.Envelope{
				PayloadType: "text/plain", Payload: []byte("{}"),
				Signatures: []dsse.Signature{{KeyID: "h", Sig: []byte{1}}},
			},
		}
		if diff := cmp.Diff(want, b); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.mediaType, diff)
		}
	}
}

// head begins a bundle whose last member is still open for the test to fill.
const head = `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",`

const envelope = `"dsseEnvelope":{"payload":"e30=","payloadType":"text/plain","signatures":[{"sig":"AQ=="}]}`

func TestParseRefuses(t *testing.T) {
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	for _, tt := range []struct {
		name, raw string
		is        error
		says      string
	}{
		{"nothing", "", lodge.ErrMalformed, "not a JSON object"},
		{"a list", "[]", lodge.ErrMalformed, "not a JSON object"},
		{"truncated", head + `"dsseEnvelope":{`, lodge.ErrMalformed, "not a JSON object"},
		{"two documents", head + envelope + `}{}`, lodge.ErrMalformed, "not a JSON object"},
		{"neither bundle nor envelope", `{"hello":1}`, lodge.ErrMalformed, ""},
		{"a message", head + `"messageSignature":{"signature":"AQ=="}}`, lodge.ErrMalformed, "messageSignature"},
		{"no content", head + `"verificationMaterial":{}}`, lodge.ErrMalformed, "no dsseEnvelope"},
		{"no signatures", head + `"dsseEnvelope":{"payload":"e30=","payloadType":"a/b"}}`, lodge.ErrMalformed, "no signatures"},
		{"empty signature", head + `"dsseEnvelope":{"payloadType":"a/b","signatures":[{"sig":""}]}}`, lodge.ErrMalformed, "empty signature"},
		{"no payload type", head + `"dsseEnvelope":{"signatures":[{"sig":"AQ=="}]}}`, lodge.ErrMalformed, "no payloadType"},
		{"bad base64", head + `"dsseEnvelope":{"payload":"é","payloadType":"a/b","signatures":[{"sig":"AQ=="}]}}`, lodge.ErrMalformed, "not a Sigstore bundle"},
		{"twice the envelope", head + envelope + "," + envelope + "}", lodge.ErrMalformed, "not a Sigstore bundle"},
		{"short hash", head + envelope + `,"verificationMaterial":{"tlogEntries":[{"inclusionProof":{"rootHash":"AQ=="}}]}}`, lodge.ErrMalformed, "a hash of 1 bytes"},
		{"negative index", head + envelope + `,"verificationMaterial":{"tlogEntries":[{"logIndex":"-1"}]}}`, lodge.ErrMalformed, "negative index"},
		{"empty certificate", head + envelope + `,"verificationMaterial":{"certificate":{}}}`, lodge.ErrMalformed, "empty certificate"},
		{"too many signatures", head + `"dsseEnvelope":{"payloadType":"a/b","signatures":[` + many(dsse.MaxSignatures+1, `{"sig":"AQ=="}`) + `]}}`, lodge.ErrLimit, "17 signatures"},
		{"a huge signature", head + `"dsseEnvelope":{"payloadType":"a/b","signatures":[{"sig":"` + strings.Repeat("AAAA", 1<<15) + `"}]}}`, lodge.ErrLimit, "a signature of"},
		{"too many entries", head + envelope + `,"verificationMaterial":{"tlogEntries":[` + many(bundle.MaxEntries+1, `{}`) + `]}}`, lodge.ErrLimit, "33 log entries"},
		{"too many timestamps", head + envelope + `,"verificationMaterial":{"timestampVerificationData":{"rfc3161Timestamps":[` + many(bundle.MaxTimestamps+1, `{}`) + `]}}}`, lodge.ErrLimit, "33 timestamps"},
		{"too many certificates", head + envelope + `,"verificationMaterial":{"x509CertificateChain":{"certificates":[` + many(bundle.MaxCertificates+1, `{"rawBytes":"AQ=="}`) + `]}}}`, lodge.ErrLimit, "17 certificates"},
		{"too deep", head + envelope + `,"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, lodge.ErrMalformed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bundle.Parse([]byte(tt.raw))
			checkError(t, err, tt.is, tt.says)
		})
	}
}

func TestParseLimitsSize(t *testing.T) {
	payload := base64.StdEncoding.EncodeToString(make([]byte, dsse.MaxPayload+1))
	raw := head + `"dsseEnvelope":{"payload":"` + payload + `","payloadType":"a/b","signatures":[{"sig":"AQ=="}]}}`
	_, err := bundle.Parse([]byte(raw))
	checkError(t, err, lodge.ErrLimit, "payload of 33554433 bytes")

	_, err = bundle.Parse(make([]byte, bundle.MaxSize+1))
	checkError(t, err, lodge.ErrLimit, "bytes (at most")
}

func TestParseEnvelopeWithCertificate(t *testing.T) {
	const pem = `-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n`
	for _, tt := range []struct {
		signatures string
		want       [][]byte
	}{
		{`{"sig":"AQ=="}`, nil},
		{`{"sig":"AQ==","cert":"` + pem + `"}`, [][]byte{{1, 2, 3}}},
		{`{"sig":"AQ=="},{"sig":"Ag==","cert":"` + pem + `"}`, [][]byte{{1, 2, 3}}},
		{`{"sig":"AQ==","cert":"` + pem + `"},{"sig":"Ag==","cert":"` + pem + `"}`, nil},
		{`{"sig":"AQ==","cert":7}`, nil},
		{`{"sig":"AQ==","cert":"none"}`, nil},
	} {
		b, err := bundle.Parse([]byte(`{"payload":"e30=","payloadType":"a/b","signatures":[` + tt.signatures + `]}`))
		if err != nil {
			t.Errorf("%s: %v", tt.signatures, err)
			continue
		}
		if diff := cmp.Diff(tt.want, b.Certificates); diff != "" || b.MediaType != "" {
			t.Errorf("%s: media type %q, certificates (-want +got):\n%s", tt.signatures, b.MediaType, diff)
		}
	}
}

// TestParseSamples reads real bundles, where they are at hand.
func TestParseSamples(t *testing.T) {
	var index struct {
		Samples []struct {
			ID, File, Envelope, Kind string
			PredicateType            any
			Tlog                     []struct {
				Kind, LogIndex      string
				InclusionProof, SET bool
			}
		}
	}
	dir := filepath.Join("..", "..", "shared", "samples")
	raw, err := os.ReadFile(filepath.Join(dir, "samples.json"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no samples here")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, s := range index.Samples {
		if s.Envelope != "sigstore-bundle" || strings.HasPrefix(s.Kind, "npm-") {
			continue // an npm registry's answer holds several bundles
		}
		seen++
		raw, err := os.ReadFile(filepath.Join(dir, s.File))
		if err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Parse(raw)
		if err != nil {
			t.Errorf("%s: %v", s.ID, err)
			continue
		}
		if got := bundle.ParseStatement(b.Envelope.PayloadType, b.Envelope.Payload).PredicateType; got != s.PredicateType {
			t.Errorf("%s: predicate type %q, want %v", s.ID, got, s.PredicateType)
		}
		if len(b.Entries) != len(s.Tlog) {
			t.Errorf("%s: %d entries, want %d", s.ID, len(b.Entries), len(s.Tlog))
			continue
		}
		for i, e := range b.Entries {
			want := s.Tlog[i]
			if e.Kind+"@"+e.Version != want.Kind || fmt.Sprint(e.Receipt.LogIndex) != want.LogIndex ||
				(e.Receipt.InclusionProof != nil) != want.InclusionProof || (len(e.SET) > 0) != want.SET {
				t.Errorf("%s: entry %+v, want %+v", s.ID, e, want)
			}
		}
	}
	if seen == 0 {
		t.Error("no bundle among the samples")
	}
}

func checkError(t *testing.T, err, is error, says string) {
	t.Helper()
	if !errors.Is(err, is) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v; want one line that is %q and says %q", err, is, says)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + envelope + `}`))
	f.Add([]byte(`{"payload":"e30=","payloadType":"a/b","signatures":[{"sig":"AQ==","cert":"x"}]}`))
	seed, err := os.ReadFile(filepath.Join("testdata", "bundle.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := bundle.Parse(raw)
		if err != nil {
			if !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
				t.Errorf("neither malformed nor over a limit: %v", err)
			}
			return
		}
		if len(b.Envelope.Signatures) == 0 {
			t.Fatal("an envelope without signatures")
		}
		att := attestation(b)
		entries := att.Entries[:0]
		for _, e := range b.Entries {
			if e.Receipt.InclusionProof != nil && e.Receipt.InclusionProof.Checkpoint != "" && e.Receipt.LogID != "" {
				entries = append(entries, e)
			}
		}
		first, err := att.Encode(entries...)
		if err != nil {
			t.Fatalf("what was read can't be written: %v", err)
		}
		again, err := bundle.Parse(first)
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%s", err, first)
		}
		att = attestation(again)
		second, err := att.Encode(again.Entries...)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("error %v; written twice:\n%s\n%s", err, first, second)
		}
	})
}
