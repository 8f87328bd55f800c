package hint_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/hint"
)

func TestUnreadable(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	statement := func(predicate string) string {
		return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"` + digest +
			`"}}],"predicateType":"https://example.com/x","predicate":` + predicate + `}`
	}
	for _, tt := range []struct {
		name, payload, issue string
		subjects             int
	}{
		{"empty", ``, "not-json", 0},
		{"text", `hello`, "not-json", 0},
		{"cut", statement(`{"a":`), "not-json", 0},
		{"two documents", `{} {}`, "not-json", 0},
		{"no UTF-8", "{\"a\":\"\xff\"}", "not-json", 0},
		{"two members of one name", statement(`{"a":1,"a":2}`), "dup-key", 1},
		{"the same name, escaped", statement(`{"a":1,"\u0061":2}`), "dup-key", 1},
		{"too deep", statement(strings.Repeat(`[`, 64) + strings.Repeat(`]`, 64)), "limit", 1},
		{"too large", `"` + strings.Repeat("a", 32<<20) + `"`, "limit", 0},
		{"too many tokens", statement("[" + strings.Repeat("1,", 5_000_000) + "1]"), "limit", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := hint.Extract("", []byte(tt.payload))
			if h.Kind != hint.Unparsable || !h.All() || !slices.Equal(h.Issues, []string{tt.issue}) || len(h.Subjects) != tt.subjects {
				t.Errorf("got %s, all %v, issues %v, subjects %v", h.Kind, h.All(), h.Issues, h.Subjects)
			}
			if tt.subjects > 0 && !slices.Contains(h.Scopes, "artifact:sha256:"+digest) {
				t.Errorf("no scope for the subject: %v", h.Scopes)
			}
		})
	}
	if h := hint.Extract("", []byte(statement(`{}`))); h.All() || h.Kind != hint.Generic {
		t.Errorf("a readable one: got %s, all %v", h.Kind, h.All())
	}
}

func TestParseScope(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for _, tt := range []struct{ in, want string }{
		{"all:*", "all:*"},
		{"artifact:SHA256:" + strings.ToUpper(digest), "artifact:sha256:" + digest},
		{"component:OpenSSL", "component:openssl"},
		{"component:deb/openssl", "component:deb/openssl"},
		{"component:my lib", "component:my%20lib"},
		{"component:a,b", "component:a%2Cb"},
		{"component:a%2cb", "component:a%2Cb"},
		{"component:*", "component:*"},
		{"cve:*", "cve:*"},
		{"cve:cve-2024-3094", "cve:CVE-2024-3094"},
		{"vuln:CVE-2024-3094", "cve:CVE-2024-3094"},
		{"vuln:ghsa-AAAA-bbbb-cccc", "vuln:GHSA-aaaa-bbbb-cccc"},
		{"vuln:SUSE-SU-2026:2096-1", "vuln:SUSE-SU-2026:2096-1"},
		{"purl:pkg:npm/lodash@4.17.20?x=y#z", "purl:pkg:npm/lodash@4.17.20"},
		{"purl:pkg:alpine/openssl", "purl:pkg:apk/alpine/openssl"},
		{"purl:pkg:npm/%40angular/*", "purl:pkg:npm/%40angular/*"},
		{"cpe:2.3:a:OpenSSL:openssl:1.1.1:*:*:*:*:*:*:*", "cpe:a:openssl:openssl"},
		{"cpe:/a:openssl:openssl:1.1.1", "cpe:a:openssl:openssl"},
		{"cpe:a:openssl:openssl", "cpe:a:openssl:openssl"},
		{"cpe:2.3:a:open\\+ssl:c\\:d\\*:1:*:*:*:*:*:*:*", "cpe:a:open%2Bssl:c%3Ad%2A"},
		{"cpe:a:open+ssl:*", "cpe:a:open%2Bssl:*"},
		{"cpe:2.3:a:Café Z:x\\ y:1:*:*:*:*:*:*:*", "cpe:a:caf%C3%A9%20z:x%20y"},
		{"cpe:/a:caf%C3%A9%20%5A:x%20y", "cpe:a:caf%C3%A9%20z:x%20y"},
		{"cpe:2.3:a:caf%C3%A9%20z:x%20y:1:*:*:*:*:*:*:*", "cpe:a:caf%C3%A9%20z:x%20y"}, // as hints show it
		{"cpe:/a:100%25ab:x", "cpe:a:100%25ab:x"},
		{"cpe:2.3:a:100\\%ab:x:*:*:*:*:*:*:*:*", "cpe:a:100%25ab:x"},
		{"cpe:2.3:a::x:1", "cpe:a:*:x"},
		{"cpe:a:café z:x y", "cpe:a:caf%C3%A9%20z:x%20y"},
		{"repo:https://GitHub.com/Org/Name.git", "repo:github.com/Org/Name"},
		{"repo:github.com/org/*", "repo:github.com/org/*"},
		{"predicate:https://slsa.dev/provenance/v1", "predicate:https://slsa.dev/provenance/v1"},
		{"builder:https://b.example/x?draft", "builder:https://b.example/x%3Fdraft"},
		{"component:" + strings.Repeat("a", 600), "component:~sha256:"},
	} {
		got, err := hint.ParseScope(tt.in)
		if err != nil || got != tt.want && (!strings.HasSuffix(tt.want, "~sha256:") || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: got %q, %v, want %q", tt.in, got, err, tt.want)
		}
		if again, err := hint.ParseScope(got); err != nil || again != got {
			t.Errorf("%s: its own form %q becomes %q, %v", tt.in, got, again, err)
		}
	}
	for _, in := range []string{"component:" + strings.Repeat("a", hint.MaxScope) + "*", "", "openssl", "component:", "all:x", "thing:x", "cve:2024-3094", "cve:GHSA-aaaa-bbbb-cccc",
		"artifact:sha256:abc", "purl:npm/x", "repo:x", "cpe:x:y:z", "vuln:https://x.example/"} {
		if got, err := hint.ParseScope(in); err == nil {
			t.Errorf("%s: got %q, want an error", in, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: not one line: %v", in, err)
		}
	}
}

func TestLookup(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for in, want := range map[string][]string{
		"cve-2024-3094":                {"cve:CVE-2024-3094"},
		"GHSA-AAAA-bbbb-cccc":          {"vuln:GHSA-aaaa-bbbb-cccc"},
		"pkg:npm/lodash@4?x=y":         {"purl:pkg:npm/lodash@4"},
		"pkg:alpine/openssl":           {"purl:pkg:apk/alpine/openssl"},
		"sha256:" + digest:             {"artifact:sha256:" + digest},
		strings.ToUpper(digest):        {"artifact:sha256:" + digest},
		"cpe:2.3:a:openssl:openssl:1":  {"cpe:a:openssl:openssl"},
		"OpenSSL":                      {"component:openssl", "vuln:OpenSSL"},
		"RHSA-2022:0011":               {"component:rhsa-2022:0011", "vuln:RHSA-2022:0011"},
		"component:openssl":            {"component:openssl"},
		"https://github.com/org/n.git": {"repo:github.com/org/n"},
		"":                             nil,
	} {
		if got := hint.Lookup(in); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

// The payload type tells what a bare document is meant to be, where its shape does not.
func TestPayloadType(t *testing.T) {
	doc := []byte(`{"specVersion":"1.4","hello":"CVE-2024-0001"}`)
	for payloadType, issue := range map[string]string{
		"":                               "unknown-kind",
		"application/vnd.in-toto+json":   "unknown-kind",
		"application/vnd.cyclonedx+json": "unknown-shape",
	} {
		if h := hint.Extract(payloadType, doc); !slices.Equal(h.Issues, []string{issue}) || !slices.Equal(h.Vulns, []string{"CVE-2024-0001"}) {
			t.Errorf("%q: issues %v, vulns %v", payloadType, h.Issues, h.Vulns)
		}
	}
}

// TestUnreadWidens: what could not be read may have been what a policy looks for.
func TestUnreadWidens(t *testing.T) {
	const vex = `{"@context":"https://openvex.dev/ns/v0.2.0","author":"a","statements":[
		{"vulnerability":{"name":"CVE-2024-1111"},"products":[{"@id":"%s"}],"status":"%s"}]}`
	const csaf = `{"document":{"csaf_version":"2.0","tracking":{"id":"x"}},"vulnerabilities":[{"cve":"CVE-2024-1111","product_status":{%s}}]}`
	for _, c := range []struct {
		document, issue string
		all             bool
	}{
		{fmt.Sprintf(vex, "pkg:deb/debian/app", "fixed"), "", false},
		{fmt.Sprintf(vex, "pkg:deb/debian/app@1%zz", "fixed"), "bad-purl:1", true},
		{fmt.Sprintf(vex, "cpe:2.3:app", "fixed"), "bad-cpe:1", true},
		{fmt.Sprintf(vex, "pkg:deb/debian/app", "Affected"), "no-claim:1", false}, // said, but no claim
		{fmt.Sprintf(csaf, `"fixed":["p"]`), "", false},
		{fmt.Sprintf(csaf, `"recommended":["p"]`), "no-claim:1", false},
		{`{"bomFormat":"CycloneDX","specVersion":"1.6","components":{"openssl":{"name":"openssl"}}}`, "wrong-type", true},
		{`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":{"openssl":"3"}}]}`, "wrong-type", true},
		{`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"x","hashes":[{"alg":"SHA-256","content":"?"}]}]}`, "bad-digest:1", false},
	} {
		h := hint.Extract("", []byte(c.document))
		if got := strings.Join(h.Issues, " "); got != c.issue || h.All() != c.all {
			t.Errorf("%s: issues %q, all %t; want %q, %t", c.document, got, h.All(), c.issue, c.all)
		}
	}
}
