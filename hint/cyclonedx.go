package hint

import (
	"bytes"
	"cmp"
	"net/url"
	"strings"
	"time"
)

// cycloneDX is the bomFormat that tells a CycloneDX document surely.
const cycloneDX = "CycloneDX"

func isCycloneDX(s shape) bool {
	return s.text("bomFormat") == cycloneDX || s.has("specVersion") && (s.has("components") || s.has("vulnerabilities"))
}

// A bom is a CycloneDX document in reading (ECMA-424; versions 1.2 to 1.7, JSON).
type bom struct {
	*extraction
	refs    []ref
	affects []affect
}

// A ref is a component's bom-ref, which is local to the document, and its product keys.
type ref struct {
	name      []byte
	purl, cpe string
}

// An affect is what a vulnerability's analysis says, about one product.
type affect struct {
	claim Claim // Product is the bom-ref or a BOM-Link
	at    time.Time
}

func (x *extraction) cyclonedx() {
	b := &bom{extraction: x}
	x.top(func(name []byte) {
		switch string(name) {
		case "metadata":
			b.metadata()
		case "components":
			b.components()
		case "services":
			b.services()
		case "vulnerabilities":
			x.array(b.vulnerability)
		case "version":
			x.revision = x.scalar()
		case "bomFormat", "specVersion":
			x.skip()
		}
	})
	b.resolve()
}

func (b *bom) metadata() {
	b.object(func(name []byte) {
		switch string(name) {
		case "component":
			b.component(true)
		case "timestamp":
			b.issued = parseTime(b.text())
		case "supplier", "manufacture", "manufacturer":
			b.object(func(name []byte) {
				if string(name) == "name" {
					if name := b.text(); b.author == "" || name < b.author {
						b.author = name
					}
				}
			})
		}
	})
}

// components reads the components of the document, those of a large one in two parts.
func (b *bom) components() {
	ahead := b.readAhead()
	b.array(func() {
		if ahead == nil || b.pos != ahead.start || !b.take(ahead) {
			b.component(false)
		}
	})
	ahead.stop()
}

// component reads one component and those in it; main is what the document is about.
func (b *bom) component(main bool) {
	var r ref
	var each func(string)
	if main {
		each = b.subject
	}
	b.object(func(name []byte) {
		switch string(name) {
		case "bom-ref":
			r.name = b.bytes()
		case "name":
			b.extraction.component("", b.text())
		case "version":
			if main {
				b.image(b.text())
			}
		case "purl":
			r.purl = b.cyclonePurl(b.text(), main)
		case "cpe":
			r.cpe = b.product(b.text())
		case "swid":
			b.swid()
		case "hashes":
			b.hashes("alg", "content", each)
		case "externalReferences":
			b.externalReferences(main)
		case "pedigree":
			b.pedigree()
		case "properties":
			b.properties(each)
		case "components":
			b.array(func() { b.component(false) })
		}
	})
	if len(r.name) > 0 {
		b.refs = append(b.refs, r)
	}
}

// cyclonePurl takes a component's purl; the digests in that of the main one are its own.
func (b *bom) cyclonePurl(s string, main bool) string {
	if s == "" {
		return ""
	}
	before := len(b.digests)
	p := b.purl(s)
	if main {
		b.subjects = append(b.subjects, b.digests[before:]...)
	}
	return p
}

// image takes the digest that the version of a container image is.
func (b *bom) image(version string) {
	if d, ok := strings.CutPrefix(version, "sha256:"); ok {
		b.subject(b.digest("sha256", d))
	}
}

// properties reads what Syft and Trivy say in properties: the source package, and the digests
// of layers and, of what the document is about, of the image. There are many properties that
// say neither.
func (b *bom) properties(each func(digest string)) {
	if b.peek() != '[' {
		b.array(func() {})
		return
	}
	if raw := b.raw(); telling(raw) {
		b.within(raw, func() { b.array(func() { b.property(each) }) })
	}
}

// telling tells whether there is "sha256:", "syft:metadata:" or "SrcName" in raw, one of which
// is in all properties that are read, or a backslash, which may hide any of them. Colons are
// less frequent than the letters that these begin with.
func telling(raw []byte) bool {
	if bytes.IndexByte(raw, '\\') >= 0 || bytes.Contains(raw, []byte("SrcName")) {
		return true
	}
	for {
		before, after, ok := bytes.Cut(raw, colon)
		if !ok {
			return false
		}
		if bytes.HasSuffix(before, []byte("sha256")) || bytes.HasSuffix(before, []byte("syft")) && bytes.HasPrefix(after, []byte("metadata:")) {
			return true
		}
		raw = after
	}
}

var colon = []byte{':'}

func (b *bom) property(each func(digest string)) {
	var source bool
	var value []byte
	b.object(func(name []byte) {
		switch string(name) {
		case "name":
			source = isSource(b.bytes())
		case "value":
			value = b.bytes()
		}
	})
	switch {
	case source:
		b.extraction.component("", sourceName(string(value)))
	case !bytes.Contains(value, []byte("sha256:")):
	case each != nil:
		scanDigests(string(value), each)
	default:
		b.digestsIn(string(value))
	}
}

// isSource tells whether a property holds the source package.
func isSource(property []byte) bool {
	switch string(property) {
	case "aquasecurity:trivy:SrcName", "syft:metadata:originPackage", "syft:metadata:source", "syft:metadata:sourceRpm":
		return true
	}
	return false
}

func (b *bom) swid() {
	b.object(func(name []byte) {
		if string(name) == "tagId" {
			if id := b.text(); id != "" {
				b.other("iri:swid:" + escape(id))
			}
		}
	})
}

func (b *bom) externalReferences(main bool) {
	b.array(func() {
		var kind, link []byte
		b.object(func(name []byte) {
			switch string(name) {
			case "type":
				kind = b.bytes()
			case "url":
				link = b.bytes()
			case "hashes":
				b.hashes("alg", "content", nil)
			}
		})
		if main && string(kind) == "vcs" {
			b.repo(string(link))
		}
	})
}

func (b *bom) pedigree() {
	b.object(func(name []byte) {
		switch string(name) {
		case "ancestors", "descendants", "variants":
			b.array(func() { b.component(false) })
		}
	})
}

func (b *bom) services() {
	b.objects(func(name []byte) {
		switch string(name) {
		case "name":
			b.extraction.component("", b.text())
		case "services":
			b.services()
		}
	})
}

func (b *bom) vulnerability() {
	var claim Claim
	var at, updated time.Time
	var refs []string
	b.object(func(name []byte) {
		switch string(name) {
		case "id":
			claim.Vuln = b.vuln(b.text())
		case "references":
			b.objects(func(name []byte) {
				if string(name) == "id" {
					b.vuln(b.text())
				}
			})
		case "analysis":
			at = b.analysis(&claim)
		case "updated":
			updated = parseTime(b.text())
		case "affects":
			b.objects(func(name []byte) {
				if string(name) == "ref" {
					refs = append(refs, b.text())
				}
			})
		}
	})
	if at.IsZero() {
		at = updated
	}
	for _, ref := range refs {
		claim.Product = ref
		b.affects = append(b.affects, affect{claim, at})
	}
	if len(refs) == 0 {
		b.claim(claim.Vuln, "", claim.Status, claim.Justification, at)
	}
}

func (b *bom) analysis(claim *Claim) (at time.Time) {
	b.object(func(name []byte) {
		switch string(name) {
		case "state":
			claim.Status = b.text()
		case "justification":
			claim.Justification = b.text()
		case "firstIssued", "lastUpdated":
			at = later(at, parseTime(b.text()))
		}
	})
	return at
}

// resolve turns the bom-refs that vulnerabilities affect into product keys.
func (b *bom) resolve() {
	if len(b.affects) == 0 {
		return
	}
	byName := make(map[string]string, len(b.refs))
	for _, r := range b.refs {
		if key := cmp.Or(r.purl, r.cpe); key != "" {
			byName[string(r.name)] = key
		}
	}
	for _, a := range b.affects {
		key := byName[a.claim.Product]
		if key == "" {
			key = b.byRef(a.claim.Product)
		}
		b.claim(a.claim.Vuln, key, a.claim.Status, a.claim.Justification, a.at)
	}
}

// byRef returns the product key of a bom-ref whose component is not in this document, or
// has no key: of a BOM-Link (urn:cdx:…#ref) what comes after the "#". A ref is often a purl
// with a qualifier package-id, which is no part of the product.
func (b *bom) byRef(name string) string {
	if _, fragment, ok := strings.Cut(name, "#"); ok && strings.HasPrefix(name, "urn:cdx:") {
		if decoded, err := url.PathUnescape(fragment); err == nil && strings.HasPrefix(decoded, "pkg:") {
			name = decoded
		}
	}
	if p, ok := parsePurl(withoutPackageID(name)); ok {
		return b.purl(p.full)
	}
	return b.other("iri:" + escape(name))
}

func withoutPackageID(s string) string {
	base, query, ok := strings.Cut(s, "?")
	if !ok {
		return s
	}
	query, fragment, _ := strings.Cut(query, "#")
	var kept []string
	for _, q := range strings.Split(query, "&") {
		if !strings.HasPrefix(q, "package-id=") {
			kept = append(kept, q)
		}
	}
	if len(kept) > 0 {
		base += "?" + strings.Join(kept, "&")
	}
	if fragment != "" {
		base += "#" + fragment
	}
	return base
}
