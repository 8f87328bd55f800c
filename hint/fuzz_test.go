package hint_test

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"

	"github.com/lodgehq/lodge/hint"
)

func FuzzCycloneDX(f *testing.F)  { fuzzExtract(f, "cyclonedx") }
func FuzzSPDX2(f *testing.F)      { fuzzExtract(f, "spdx-2") }
func FuzzSPDX3(f *testing.F)      { fuzzExtract(f, "spdx-3") }
func FuzzOpenVEX(f *testing.F)    { fuzzExtract(f, "openvex") }
func FuzzCSAF(f *testing.F)       { fuzzExtract(f, "csaf") }
func FuzzProvenance(f *testing.F) { fuzzExtract(f, "slsa", "chainloop", "release", "scai", "npm") }
func FuzzLink(f *testing.F)       { fuzzExtract(f, "link") }
func FuzzWitness(f *testing.F)    { fuzzExtract(f, "witness") }
func FuzzVulns(f *testing.F)      { fuzzExtract(f, "vulns", "cosign") }
func FuzzTrivy(f *testing.F)      { fuzzExtract(f, "trivy") }
func FuzzGrype(f *testing.F)      { fuzzExtract(f, "grype", "syft") }
func FuzzSARIF(f *testing.F)      { fuzzExtract(f, "sarif") }
func FuzzOSV(f *testing.F)        { fuzzExtract(f, "osv") }
func FuzzVerdict(f *testing.F)    { fuzzExtract(f, "vsa", "svr", "conforma", "ampel", "stella") }
func FuzzGeneric(f *testing.F) {
	fuzzExtract(f, "generic", "predicate", "two", "type", "unknown", "wrong", "unicode", "dup", "not")
}

// fuzzExtract starts from the fixtures of these names. Whatever the payload is: the hints are
// in order, JSON is what jsontext takes for JSON, and the same document written in another way
// gives the same.
func fuzzExtract(f *testing.F, names ...string) {
	f.Helper()
	seeds := 0
	for _, fixture := range fixtures(f) {
		for _, name := range names {
			if strings.HasPrefix(filepath.Base(fixture.path), name) {
				f.Add(fixture.input, uint64(0))
				seeds++
			}
		}
	}
	if seeds < len(names) {
		f.Fatalf("%d fixtures for %q", seeds, names)
	}
	f.Fuzz(func(t *testing.T, payload []byte, seed uint64) {
		h := hint.Extract("", payload)
		checkHints(t, h)
		checkJSON(t, h, payload)
		tree := parse(payload)
		if tree == nil || h.Kind == hint.Unparsable || len(payload) > 1<<16 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		var b bytes.Buffer
		tree.write(&b, rng)
		if b.Len() > 1<<20 {
			return
		}
		if other := hint.Extract("", b.Bytes()); other.ContentDigest() != h.ContentDigest() {
			t.Errorf("other hints: %s\n%s", cmp.Diff(indented(t, h.Document()), indented(t, other.Document())), b.Bytes())
		}
	})
}

// checkJSON compares with jsontext what is JSON.
func checkJSON(t *testing.T, h *hint.Hints, payload []byte) {
	t.Helper()
	valid := jsontext.Value(payload).IsValid()
	if h.Kind != hint.Unparsable {
		if !valid {
			t.Errorf("jsontext does not take this for JSON")
		}
		return
	}
	want := "not-json"
	switch {
	case h.Issues[0] == "limit":
		return
	case valid:
		t.Errorf("jsontext takes this for JSON, but got %v", h.Issues)
		return
	case jsontext.Value(payload).IsValid(jsontext.AllowDuplicateNames(true)):
		want = "dup-key"
	}
	// Where both are wrong, it depends on which comes first.
	if h.Issues[0] != want && want != "not-json" {
		t.Errorf("got %v, want %s", h.Issues, want)
	}
}

// FuzzPurl compares with packageurl-go, which is not asked about purls that are plain.
func FuzzPurl(f *testing.F) {
	for _, s := range []string{
		"pkg:npm/%40scope/a@1.0", "pkg:golang/example.com/a/b@v1.2.3", "pkg:maven/org.a/B@1", "pkg:cargo/a", "pkg:gem/A_b@1", "pkg:nuget/X.Y@1.2",
		"pkg:npm/a//b@1", "pkg:npm//a", "pkg:golang/A", "pkg:npm/a@1@2", "pkg:npm/a/..", "pkg:npm/a@", "pkg:maven/a/b/c/../d", "pkg:npm/./a@1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' || strings.ContainsRune("\"\\", r) }) || len(s) > 500 {
			return
		}
		h := hint.Extract("", []byte(`{"bomFormat":"CycloneDX","components":[{"purl":"`+s+`"}]}`))
		u, err := packageurl.FromString(s)
		if err != nil {
			if len(h.Products) > 0 {
				t.Errorf("got %v, packageurl says %v", h.Products, err)
			}
			return
		}
		want := u.ToString()
		if len(h.Products) != 1 || h.Products[0] != want {
			t.Fatalf("got %v, want %s", h.Products, want)
		}
		base := packageurl.PackageURL{Type: u.Type, Namespace: u.Namespace, Name: u.Name}
		if u.Type == "alpine" {
			base.Type, base.Namespace = "apk", "alpine"
		}
		for _, version := range []string{"", u.Version} {
			base.Version = version
			if scope, err := hint.ParseScope("purl:" + base.ToString()); err != nil || !strings.Contains("\n"+strings.Join(h.Scopes, "\n")+"\n", "\n"+scope+"\n") {
				t.Errorf("no scope %s (%v): %q", scope, err, h.Scopes)
			}
		}
	})
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"component:openssl", "cve:cve-2024-1234", "purl:pkg:npm/%40a/*", "cpe:/a:b:c", "repo:git@github.com:a/b.git", "artifact:sha256:00", "vuln:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hint.Lookup(s)
		scope, err := hint.ParseScope(s)
		if err != nil {
			return
		}
		if again, err := hint.ParseScope(scope); err != nil || again != scope || len(scope) > hint.MaxScope {
			t.Errorf("%q becomes %q, then %q, %v", s, scope, again, err)
		}
	})
}
