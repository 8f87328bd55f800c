package hint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lodgehq/lodge/hint"
)

// many makes a document of a kind with n of everything that can be many.
var many = map[string]func(n int) string{
	"cyclonedx": func(n int) string {
		return `{"bomFormat":"CycloneDX","components":[` + repeat(n, `{"bom-ref":"r%[1]d","name":"a%[1]d","purl":"pkg:npm/a%[1]d@1?x=y"}`) +
			`],"vulnerabilities":[` + repeat(n, `{"id":"CVE-2024-%05[1]d","analysis":{"state":"affected"},"affects":[{"ref":"r%[1]d"}]}`) + `]}`
	},
	"spdx2": func(n int) string {
		return `{"spdxVersion":"SPDX-2.3","packages":[` + repeat(n, `{"name":"p%[1]d","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/p%[1]d@1?upstream=s%[1]d"}]}`) + `]}`
	},
	"spdx3": func(n int) string {
		return `{"@context":"https://spdx.org/x","@graph":[` + repeat(n, `{"type":"software_Package","spdxId":"p%[1]d","software_packageUrl":"pkg:npm/a%[1]d"}`) + "," +
			repeat(n, `{"type":"security_VexFixedVulnAssessmentRelationship","from":"v","to":["p%[1]d"]}`) + `,{"type":"security_Vulnerability","spdxId":"v","name":"CVE-2024-0001"}]}`
	},
	"openvex": func(n int) string {
		return `{"@context":"https://openvex.dev/ns","statements":[` + repeat(n, `{"vulnerability":{"name":"CVE-2024-%05[1]d"},"products":["pkg:npm/a%[1]d"],"status":"fixed"}`) + `]}`
	},
	"csaf": func(n int) string {
		return `{"document":{"csaf_version":"2.0"},"product_tree":{"full_product_names":[` + repeat(n, `{"product_id":"P%[1]d"}`) + `],"product_groups":[{"group_id":"G","product_ids":[` +
			repeat(n, `"P%[1]d"`) + `]}]},"vulnerabilities":[{"cve":"CVE-2024-0001","flags":[{"label":"x","group_ids":["G"]}],"product_status":{"fixed":[` + repeat(n, `"P%[1]d"`) + `]}}]}`
	},
	"slsa": func(n int) string {
		return `{"builder":{"id":"x"},"buildType":"y","materials":[` + repeat(n, `{"uri":"git+https://github.com/o/r%[1]d@main","digest":{"sha1":"%040[1]x"}}`) + `]}`
	},
	"trivy": func(n int) string {
		return `{"SchemaVersion":2,"Results":[{"Vulnerabilities":[` + repeat(n, `{"VulnerabilityID":"CVE-2024-%05[1]d","PkgName":"p%[1]d"}`) + `]}]}`
	},
	"sarif": func(n int) string {
		return `{"runs":[{"results":[` + repeat(n, `{"ruleId":"CVE-2024-%05[1]d-p%[1]d"}`) + `]}]}`
	},
	"generic text": func(n int) string {
		return `{"x":"` + repeat(n, `CVE-2024-%05[1]d pkg:npm/a%[1]d sha256:%064[1]x `) + `"}`
	},
	"hyphens": func(n int) string { return `{"x":"` + strings.Repeat("SNYK-A-A-A-", n*8) + `"}` },
	"escapes": func(n int) string {
		return `{"bomFormat":"CycloneDX","components":[{"name":"` + strings.Repeat("%2c", n*32) + `"}]}`
	},
	"names": func(n int) string { return `{` + repeat(n*4, `"n%[1]d":1`) + `}` },
	"nested text": func(n int) string {
		return `{"Data":` + quoted(`{"Data":`+quoted(`{"x":"`+strings.Repeat("a-", n*32)+`"}`)+`}`) + `}`
	},
	"nested": func(n int) string {
		return strings.Repeat(`{"Data":`, 20) + `"` + strings.Repeat("a-", n*8) + `"` + strings.Repeat(`}`, 20)
	},
	"wrong types": func(n int) string { return `{"bomFormat":"CycloneDX","components":[` + repeat(n*4, `%[1]d`) + `]}` },
	"bad digests": func(n int) string {
		return `{"spdxVersion":"SPDX-2.3","files":[{"checksums":[` + repeat(n, `{"algorithm":"x%[1]d","checksumValue":"y"}`) + `]}]}`
	},
	"equal prefix": func(n int) string {
		return `{"bomFormat":"CycloneDX","components":[` + repeat(n, `{"name":"`+strings.Repeat("x", 300)+`%[1]d"}`) + `]}`
	},
}

func quoted(s string) string {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(q)
}

func repeat(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 && !strings.HasSuffix(format, " ") {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestLinear makes each kind of document eight times as large, and checks that no more is
// allocated per byte.
func TestLinear(t *testing.T) {
	for name, document := range many {
		t.Run(name, func(t *testing.T) {
			const small = 500
			one, eight := []byte(document(small)), []byte(document(8*small))
			if h := hint.Extract("", eight); h.Kind == hint.Unparsable {
				t.Fatalf("unparsable: %v", h.Issues)
			}
			a, b := allocated(one), allocated(eight)
			if ratio := float64(b) / float64(a) / float64(len(eight)) * float64(len(one)); b > 1<<20 && ratio > 2.5 {
				t.Errorf("%d bytes allocated for %d, %d for %d", a, len(one), b, len(eight))
			}
		})
	}
}

func allocated(payload []byte) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hint.Extract("", payload)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// BenchmarkDoubling shows that the time per byte stays the same.
func BenchmarkDoubling(b *testing.B) {
	for name, document := range many {
		for _, n := range []int{1000, 2000, 4000, 8000} {
			payload := []byte(document(n))
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(name, " ", "-"), n), func(b *testing.B) {
				b.SetBytes(int64(len(payload)))
				for b.Loop() {
					hint.Extract("", payload)
				}
			})
		}
	}
}

// TestProducts holds what could multiply: each such document is small and would yield
// millions of claims.
func TestProducts(t *testing.T) {
	const n = 3000
	for name, document := range map[string]string{
		"CSAF products of many purls": `{"document":{"csaf_version":"2.1"},"product_tree":{"full_product_names":[{"product_id":"P","product_identification_helper":{"purls":[` + repeat(n, `"pkg:npm/a%[1]d"`) +
			`]}}]},"vulnerabilities":[` + repeat(n, `{"cve":"CVE-2024-%05[1]d","product_status":{"fixed":["P"]}}`) + `]}`,
		"CSAF products in many groups": `{"document":{"csaf_version":"2.1"},"product_tree":{"product_groups":[` + repeat(n, `{"group_id":"G%[1]d","product_ids":["P"]}`) +
			`]},"vulnerabilities":[` + repeat(n, `{"cve":"CVE-2024-%05[1]d","flags":[{"group_ids":["G0"],"label":"x"}],"product_status":{"fixed":["P"]}}`) + `]}`,
		"OpenVEX about all subjects": `{"_type":"https://in-toto.io/Statement/v1","subject":[` + repeat(n, `{"name":"pkg:npm/a%[1]d"}`) +
			`],"predicateType":"https://openvex.dev/ns","predicate":{"@context":"https://openvex.dev/ns","statements":[` + repeat(n, `{"vulnerability":{"name":"CVE-2024-%05[1]d"},"status":"fixed"}`) + `]}}`,
	} {
		h := hint.Extract("", []byte(document))
		if h.Kind != hint.Unparsable || !slices.Equal(h.Issues, []string{"limit"}) || !h.All() {
			t.Errorf("%s: got %s, %d claims, %v", name, h.Kind, len(h.Claims), h.Issues)
		}
	}
}

func TestTooManyKeys(t *testing.T) {
	h := hint.Extract("", []byte(`{"bomFormat":"CycloneDX","components":[`+repeat(250_001, `{"name":"n%[1]d"}`)+`]}`))
	if h.Kind != hint.Unparsable || !slices.Equal(h.Issues, []string{"limit"}) || !h.All() {
		t.Errorf("got %s, %v, all %v", h.Kind, h.Issues, h.All())
	}
}

// TestOverflow cuts lists: the first of them stay, the rest is told by number and digest.
func TestOverflow(t *testing.T) {
	type document struct {
		Components, Scopes []string
		Claims             [][4]string
		Counts             map[string]int
		Overflow           map[string]string
	}
	read := func(n int) (*hint.Hints, document) {
		h := hint.Extract("", []byte(many["openvex"](n)))
		checkHints(t, h)
		var d document
		if err := json.Unmarshal(h.Document(), &d); err != nil {
			t.Fatal(err)
		}
		return h, d
	}
	h, d := read(256) // components, claims: 256; scopes: 256 cve + 2 × 256 component + 256 purl
	if len(d.Overflow) > 0 || len(d.Components) != 256 || len(d.Scopes) != 1024 || slices.Contains(d.Scopes, hint.All) || h.All() {
		t.Errorf("at the limit: %d components, %d scopes, overflow %v", len(d.Components), len(d.Scopes), d.Overflow)
	}
	h, d = read(257)
	if len(d.Components) != 256 || !slices.Equal(d.Components, h.Components[:256]) || d.Counts["components"] != 257 || len(d.Claims) != 256 {
		t.Errorf("beyond: %d components of %d", len(d.Components), d.Counts["components"])
	}
	if len(d.Scopes) != 1024 || !slices.Contains(d.Scopes, hint.All) || !slices.IsSorted(d.Scopes) || h.All() || len(h.Scopes) != 4*257 {
		t.Errorf("beyond: %d scopes of %d, all %v", len(d.Scopes), len(h.Scopes), h.All())
	}
	sum := sha256.Sum256([]byte(strings.Join(h.Components, "\n")))
	if d.Overflow["components"] != "sha256:"+hex.EncodeToString(sum[:]) || d.Overflow["claims"] == "" || d.Overflow["digests"] != "" {
		t.Errorf("beyond: overflow %v", d.Overflow)
	}
	var lines [][]byte
	for _, c := range h.Claims {
		line, err := json.Marshal([]string{c.Vuln, c.Product, c.Status, c.Justification})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	sum = sha256.Sum256(bytes.Join(lines, []byte("\n")))
	if d.Overflow["claims"] != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("beyond: claims %s", d.Overflow["claims"])
	}
}

// TestStopsEarly: a document that names more than may be kept is given up there, not when
// it was read to its end.
func TestStopsEarly(t *testing.T) {
	taken := func(n int) uint64 {
		var b strings.Builder
		b.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"a"}`)
		for i := range n {
			fmt.Fprintf(&b, `,{"purl":"pkg:deb/debian/a?upstream=x`)
			for j := range 50 {
				fmt.Fprintf(&b, ",s%dx%d", i, j)
			}
			b.WriteString(`"}`)
		}
		doc := []byte(b.String() + `]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		h := hint.Extract("", doc)
		runtime.ReadMemStats(&after)
		if h.Kind != hint.Unparsable {
			t.Fatalf("%d purls: %s", n, h.Kind)
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	if some, many := taken(10_000), taken(40_000); many > some+some/4 {
		t.Errorf("%d MiB for a document, %d MiB for one that is four times as large", some>>20, many>>20)
	}
}
