package hint_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/hint"
)

// samples are real documents that stand beside the repository, with what they should yield.
func samples(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "..", "shared", "samples")
	if _, err := os.Stat(filepath.Join(dir, "samples.json")); err != nil {
		t.Skip("no samples beside the repository")
	}
	return dir
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(path, err)
	}
}

// A signed is what a file of the samples holds: an envelope, a bundle or npm's answer.
type signed struct {
	PayloadType  string  `json:"payloadType"`
	Payload      string  `json:"payload"`
	DSSE         *signed `json:"dsseEnvelope"`
	Attestations []struct {
		Bundle signed `json:"bundle"`
	} `json:"attestations"`
}

// payload is one that a file of the samples holds.
type payload struct {
	mediaType string
	bytes     []byte
}

func (s *signed) payloads(t *testing.T) (all []payload) {
	t.Helper()
	switch {
	case s.DSSE != nil:
		return s.DSSE.payloads(t)
	case s.PayloadType != "":
		raw, err := base64.StdEncoding.DecodeString(s.Payload)
		if err != nil {
			if raw, err = base64.URLEncoding.DecodeString(s.Payload); err != nil {
				t.Fatal(err)
			}
		}
		return []payload{{s.PayloadType, raw}}
	}
	for i := range s.Attestations {
		all = append(all, s.Attestations[i].Bundle.payloads(t)...)
	}
	return all
}

// identifiers are those that a test compares.
type identifiers struct {
	Vulnerabilities, PURLs, Digests []string
}

func (i *identifiers) add(h *hint.Hints) {
	i.Vulnerabilities = append(i.Vulnerabilities, h.Vulns...)
	for _, p := range h.Products {
		if strings.HasPrefix(p, "pkg:") {
			i.PURLs = append(i.PURLs, p)
		}
	}
	for _, d := range h.Digests {
		if strings.HasPrefix(d, "sha256:") {
			i.Digests = append(i.Digests, d)
		}
	}
}

func TestSamples(t *testing.T) {
	dir := samples(t)
	canonical := map[string]string{}
	readJSON(t, filepath.Join(dir, "purls-canonical.json"), &canonical)
	var index struct {
		Samples []struct {
			ID, File, Kind, Envelope string
			Expected, UpperBound     identifiers
			Also                     struct {
				OtherDigests []string
				VEX          [][3]string // vulnerability, status, justification
			}
		}
	}
	readJSON(t, filepath.Join(dir, "samples.json"), &index)
	if len(index.Samples) < 70 {
		t.Fatalf("%d samples", len(index.Samples))
	}
	for _, s := range index.Samples {
		t.Run(s.ID, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, s.File))
			if err != nil {
				t.Fatal(err)
			}
			payloads := []payload{{"", raw}}
			if s.Envelope == "sigstore-bundle" || s.Envelope == "dsse-envelope" {
				var envelope signed
				if err := json.Unmarshal(raw, &envelope); err != nil {
					t.Fatal(err)
				}
				payloads = envelope.payloads(t)
			}
			if len(payloads) == 0 {
				t.Fatal("no payload")
			}
			var got identifiers
			var digests []string
			var claims []hint.Claim
			for _, p := range payloads {
				h := hint.Extract(p.mediaType, p.bytes)
				got.add(h)
				digests = append(digests, h.Digests...)
				claims = append(claims, h.Claims...)
				t.Logf("%s %s: %d vulns, %d claims, %d products, %d components, %d digests, %d scopes, issues %v",
					s.Kind, h.Kind, len(h.Vulns), len(h.Claims), len(h.Products), len(h.Components), len(h.Digests), len(h.Scopes), h.Issues)
			}
			same := func(s string) string { return s }
			canon := func(s string) string {
				if c, ok := canonical[s]; ok {
					return c
				}
				return s
			}
			within(t, "vulnerability", s.Expected.Vulnerabilities, got.Vulnerabilities, s.UpperBound.Vulnerabilities, same)
			within(t, "purl", s.Expected.PURLs, got.PURLs, s.UpperBound.PURLs, canon)
			within(t, "digest", s.Expected.Digests, got.Digests, s.UpperBound.Digests, same)
			for _, d := range s.Also.OtherDigests {
				if !slices.Contains(digests, d) {
					t.Errorf("digest %s is missing", d)
				}
			}
			for _, v := range s.Also.VEX {
				if !slices.ContainsFunc(claims, func(c hint.Claim) bool { return c.Vuln == v[0] && (v[2] == "" || c.Justification == v[2]) }) {
					t.Errorf("claim %q is missing", v)
				}
			}
		})
	}
}

// within checks expected ⊆ got ⊆ upper.
func within(t *testing.T, what string, expected, got, upper []string, norm func(string) string) {
	t.Helper()
	for _, e := range expected {
		if !slices.Contains(got, norm(e)) {
			t.Errorf("%s %s is missing", what, e)
		}
	}
	bound := map[string]bool{}
	for _, u := range upper {
		bound[norm(u)] = true
	}
	for _, g := range got {
		if !bound[g] {
			t.Errorf("%s %s is beyond", what, g)
		}
	}
}

// Each purl that is not canonical is put into the canonical form, which stays as it is.
func TestSamplePurls(t *testing.T) {
	canonical := map[string]string{}
	readJSON(t, filepath.Join(samples(t), "purls-canonical.json"), &canonical)
	for from, to := range canonical {
		for _, purl := range []string{from, to} {
			doc, err := json.Marshal(map[string]string{"note": purl})
			if err != nil {
				t.Fatal(err)
			}
			doc = bytes.ReplaceAll(doc, []byte(`"note"`), []byte(`"bomFormat":"CycloneDX","components":[{"name":"x","purl"`))
			doc = append(doc[:len(doc)-1], "}]}"...)
			if h := hint.Extract("", doc); !slices.Contains(h.Products, to) {
				t.Errorf("%s: got %v, want %s", purl, h.Products, to)
			}
		}
	}
}
