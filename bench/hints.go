package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/lodgehq/lodge/hint"
)

// hintMemory is what the hints of an SBOM of 10 MB may allocate.
const hintMemory = 16 << 20

// hints measures the hints of a CycloneDX SBOM of 10 MB against encoding/json into any: with
// a walk alone, and with what it takes to come to the same lists.
func (b *bench) hints(rounds int) error {
	sbom := newSBOM(5056)
	measures := []struct {
		name string
		run  func() error
	}{
		{"hints", func() error { return foundAny(len(hint.Extract("", sbom).Digests)) }},
		{"json any, walk", func() error {
			g, err := decode(sbom)
			return errors.Join(err, foundAny(len(g.digests)))
		}},
		{"json any, same lists", func() error {
			g, err := decode(sbom)
			g.lists(sbom)
			return errors.Join(err, foundAny(len(g.digests)))
		}},
	}
	for range rounds {
		for _, m := range measures {
			if err := b.take(m.name, func() (float64, error) { return throughput(sbom, b.span, m.run) }); err != nil {
				return err
			}
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hint.Extract("", sbom)
	runtime.ReadMemStats(&after)
	b.rates["hint memory"] = []float64{float64(after.TotalAlloc - before.TotalAlloc)}
	return nil
}

func foundAny(digests int) error {
	if digests == 0 {
		return errors.New("no digests")
	}
	return nil
}

// throughput is in megabytes a second.
func throughput(payload []byte, span time.Duration, run func() error) (float64, error) {
	begin, n := time.Now(), 0
	for time.Since(begin) < span {
		if err := run(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n*len(payload)) / 1e6 / time.Since(begin).Seconds(), nil
}

// newSBOM makes an SBOM of so many components, of two kilobytes each: always the same.
func newSBOM(components int) []byte {
	var b strings.Builder
	b.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[`)
	for i := range components {
		if i > 0 {
			b.WriteByte(',')
		}
		hashes, properties := make([]string, 5), make([]string, 6)
		for j := range hashes {
			hashes[j] = fmt.Sprintf("\n        {\n          \"alg\": \"SHA-256\",\n          \"content\": \"%x\"\n        }", sha256.Sum256(fmt.Appendf(nil, "%d.%d", i, j)))
		}
		for j := range properties {
			properties[j] = fmt.Sprintf("\n        {\n          \"name\": \"syft:location:%d:path\",\n          \"value\": \"/usr/lib/node_modules/lib-%d/package.json\"\n        }", j, i)
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
      "hashes": [%[2]s],
      "properties": [%[3]s]
    }`, i, strings.Join(hashes, ","), strings.Join(properties, ","))
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// gathered is what a walk over a tree of any finds.
type gathered struct{ products, components, digests, scopes []string }

func decode(sbom []byte) (g gathered, err error) {
	var tree any
	if err := json.Unmarshal(sbom, &tree); err != nil {
		return g, err
	}
	g.walk(tree)
	return g, nil
}

func (g *gathered) walk(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			s, ok := x.(string)
			switch {
			case !ok:
				g.walk(x)
			case name == "purl" || name == "cpe":
				g.products = append(g.products, s)
			case name == "name":
				g.components = append(g.components, s)
			case name == "content":
				g.digests = append(g.digests, s)
			}
		}
	case []any:
		for _, x := range v {
			g.walk(x)
		}
	}
}

// lists does what else the hints are: normal forms, order, scopes and the payload's digest.
func (g *gathered) lists(sbom []byte) {
	for i, d := range g.digests {
		if _, err := hex.DecodeString(d); err == nil {
			g.digests[i] = "sha256:" + strings.ToLower(d)
		}
	}
	for i, p := range g.products {
		g.scopes = append(g.scopes, "cpe:"+p)
		if u, err := packageurl.FromString(p); err == nil {
			g.products[i] = u.ToString()
			version := u.Version
			u.Version, u.Qualifiers, u.Subpath = "", nil, ""
			base := u.ToString()
			g.scopes = append(g.scopes[:len(g.scopes)-1], "purl:"+base, "purl:"+base+"@"+version, "component:"+u.Type+"/"+u.Name)
		}
	}
	for i, c := range g.components {
		g.components[i] = strings.ToLower(c)
		g.scopes = append(g.scopes, "component:"+g.components[i])
	}
	for _, list := range []*[]string{&g.products, &g.components, &g.digests, &g.scopes} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	sum := sha256.Sum256(sbom)
	g.scopes = append(g.scopes, hex.EncodeToString(sum[:]))
}
