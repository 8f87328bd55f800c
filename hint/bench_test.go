package hint_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"github.com/lodgehq/lodge/hint"
)

// sbom makes a CycloneDX SBOM of so many components, of two kilobytes each, like those of
// Syft: always the same.
func sbom(components int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[`)
	for i := range components {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `
    {
      "bom-ref": "pkg:npm/%%40scope/lib-%[1]d@1.2.%[1]d?package-id=%016[1]x",
      "type": "library",
      "group": "@scope",
      "name": "lib-%[1]d",
      "version": "1.2.%[1]d",
      "description": "Does a thing or two, and another one that is described here at some length",
      "licenses": [{"license": {"id": "MIT"}}],
      "cpe": "cpe:2.3:a:lib-%[1]d:lib-%[1]d:1.2.%[1]d:*:*:*:*:*:*:*",
      "purl": "pkg:npm/%%40scope/lib-%[1]d@1.2.%[1]d",
      "externalReferences": [{"type": "vcs", "url": "git+https://github.com/scope/lib-%[1]d.git"}],
      "hashes": [`, i)
		for j := range 5 {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `
        {
          "alg": "SHA-256",
          "content": "%x"
        }`, sha256.Sum256(fmt.Appendf(nil, "%d.%d", i, j)))
		}
		b.WriteString(`],
      "properties": [`)
		for j := range 6 {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `
        {
          "name": "syft:location:%d:path",
          "value": "/usr/lib/node_modules/lib-%d/package.json"
        }`, j, i)
		}
		b.WriteString("]\n    }")
	}
	b.WriteString("]}")
	return b.Bytes()
}

// tenMB is an SBOM of 10 MB.
var tenMB = sbom(5056)

func BenchmarkExtract(b *testing.B) {
	b.SetBytes(int64(len(tenMB)))
	b.ReportAllocs()
	for b.Loop() {
		if h := hint.Extract("", tenMB); len(h.Products) != 2*5056 {
			b.Fatal(len(h.Products))
		}
	}
}

// What one would do without this package: encoding/json into any, and a walk.
func BenchmarkAny(b *testing.B) {
	b.SetBytes(int64(len(tenMB)))
	b.ReportAllocs()
	for b.Loop() {
		var v any
		if err := json.Unmarshal(tenMB, &v); err != nil {
			b.Fatal(err)
		}
		if found := walk(v, nil); len(found) < 2*5056 {
			b.Fatal(len(found))
		}
	}
}

// walk collects the values of some members, as they are.
func walk(v any, found []string) []string {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			if s, ok := x.(string); ok && (name == "name" || name == "purl" || name == "cpe" || name == "content") {
				found = append(found, s)
			}
			found = walk(x, found)
		}
	case []any:
		for _, x := range v {
			found = walk(x, found)
		}
	}
	return found
}

// TestAllocates holds the memory of a large SBOM.
func TestAllocates(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hint.Extract("", tenMB)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes allocated for an SBOM of %d", n, len(tenMB))
	}
}
