package hint_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/hint"
)

// TestInParts: a large SBOM yields the same whether its components are read in two parts or
// in one. They are read in one where the first of them begins unlike the others.
func TestInParts(t *testing.T) {
	const unlike = `{"type":"library"},`
	large := string(sbom(1500))
	half := strings.LastIndex(large[:len(large)*4/5], `"name": "lib-`)
	for name, document := range map[string]string{
		"plain":         large,
		"no space":      strings.NewReplacer("\n", "", " ", "").Replace(large),
		"bad member":    large[:half] + `"name": 7, "hashes": [], ` + strings.Replace(large[half:], `"hashes"`, `"x"`, 1),
		"two names":     large[:half] + `"name": "x", ` + large[half:],
		"no JSON":       large[:half] + `x` + large[half:],
		"cut":           large[:half],
		"more follows":  large + `{}`,
		"bad purl":      strings.ReplaceAll(large, "pkg:npm/%40scope/lib-9", "pkg:"),
		"one name":      strings.ReplaceAll(large, `"name": "lib-`, `"name": "lib", "x": "`),
		"claims":        strings.TrimSuffix(large, "}") + `,"vulnerabilities":[` + repeat(1500, `{"id":"CVE-2024-%05[1]d","analysis":{"state":"affected"},"affects":[{"ref":"pkg:npm/%%40scope/lib-%[1]d@1.2.%[1]d?package-id=%016[1]x"}]}`) + `]}`,
		"nested":        `{"bomFormat":"CycloneDX","components":[` + repeat(3, `{"name":"a%[1]d","components":[`+strings.ReplaceAll(repeat(25_000, `{"name":"b%[1]d"}`), "%", "%%")+`]}`) + `]}`,
		"too many keys": `{"bomFormat":"CycloneDX","components":[` + repeat(250_001, `{"name":"n%[1]d"}`) + `]}`,
		"just so many":  `{"bomFormat":"CycloneDX","components":[` + repeat(249_999, `{"name":"n%[1]d"}`) + `,{"name":"n249998"},{"name":"x"}]}`,
		"tokens":        `{"bomFormat":"CycloneDX","components":[` + repeat(5001, `{"x":[`+strings.Repeat("1,", 1000)+`1]}`) + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if len(document) < 1<<20 {
				t.Fatalf("%d bytes are read in one part", len(document))
			}
			one := hint.Extract("", []byte(strings.Replace(document, `"components":[`, `"components":[`+unlike, 1)))
			two := hint.Extract("", []byte(document))
			one.Payload, two.Payload = lodge.Digest{}, lodge.Digest{}
			if diff := cmp.Diff(one, two); diff != "" {
				t.Errorf("-one +two parts: %.1000s", diff)
			}
		})
	}
}
