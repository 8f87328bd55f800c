package hint

import (
	"strings"
	"time"
)

func isSPDX2(s shape) bool { return strings.HasPrefix(s.text("spdxVersion"), "SPDX-") }

// spdx2 reads an SPDX 2.x document (ISO/IEC 5962, JSON).
func (x *extraction) spdx2() {
	x.top(func(name []byte) {
		switch string(name) {
		case "packages":
			x.objects(x.spdxPackage)
		case "files":
			x.objects(func(name []byte) {
				if string(name) == "checksums" {
					x.hashes("algorithm", "checksumValue", nil)
				}
			})
		case "externalDocumentRefs":
			x.objects(func(name []byte) {
				if string(name) == "checksum" {
					x.hash("algorithm", "checksumValue", nil)
				}
			})
		}
	})
}

func (x *extraction) spdxPackage(name []byte) {
	switch string(name) {
	case "name", "packageFileName":
		x.component("", x.text())
	case "checksums":
		x.hashes("algorithm", "checksumValue", nil)
	case "externalRefs":
		x.array(x.spdxReference)
	case "sourceInfo": // of Trivy
		if source, ok := strings.CutPrefix(x.text(), "built package from: "); ok {
			source, _, _ = strings.Cut(source, " ")
			x.component("", source)
		}
	}
}

// spdxReference reads an external reference (SPDX 2.3, annex F).
func (x *extraction) spdxReference() {
	var kind, locator string
	x.object(func(name []byte) {
		switch string(name) {
		case "referenceType":
			kind = x.text()
		case "referenceLocator":
			locator = x.text()
		}
	})
	x.identifier(kind, locator)
}

// identifier takes an external identifier of SPDX 2 or 3.
func (x *extraction) identifier(kind, value string) {
	if value == "" {
		return
	}
	switch lower(kind) {
	case "purl", "packageurl":
		x.purl(value)
	case "cpe22type", "cpe23type", "cpe22", "cpe23":
		x.cpe(value)
	case "cve", "securityother", "advisory":
		scanVulns(value, func(id string) { x.vulns = append(x.vulns, id) })
	case "swid":
		x.other("iri:" + escape(value))
	}
}

func isSPDX3(s shape) bool {
	return s.has("@graph") && s.mentions("@context", "spdx.org/")
}

// A graph is an SPDX 3 document in reading (SPDX 3.0, JSON-LD). Its elements refer to each
// other in any order.
type graph struct {
	*extraction
	elements map[string]*element // by spdxId, those that may be referred to
	verdicts []assessment
}

// An element is a package, file, vulnerability or relationship.
type element struct {
	id, kind, name string
	url            string
	identifiers    []string // kind and value in turn
	from           string
	to             []string
	justification  string
	at             time.Time
	products       []string
	vuln           string
}

// An assessment is a VEX relationship.
type assessment struct {
	*element
	status string
}

func (x *extraction) spdx3() {
	g := &graph{extraction: x, elements: map[string]*element{}}
	x.top(func(name []byte) {
		switch string(name) {
		case "@graph":
			x.array(g.element)
		case "@context":
			x.skip()
		}
	})
	g.assess()
}

func (g *graph) element() {
	e := &element{}
	g.object(func(name []byte) {
		switch string(name) {
		case "spdxId", "@id":
			e.id = g.text()
		case "type", "@type":
			g.texts(func(s string) { e.kind = strings.TrimPrefix(s, "https://spdx.org/rdf/3.0.1/terms/") })
		case "name":
			e.name = g.text()
		case "software_packageUrl":
			e.url = g.text()
		case "externalIdentifier":
			g.array(func() { e.identifiers = append(e.identifiers, g.externalIdentifier()...) })
		case "verifiedUsing":
			g.hashes("algorithm", "hashValue", nil)
		case "import":
			g.objects(func(name []byte) {
				if string(name) == "verifiedUsing" {
					g.hashes("algorithm", "hashValue", nil)
				}
			})
		case "from":
			e.from = g.text()
		case "to":
			g.texts(func(s string) { e.to = append(e.to, s) })
		case "security_justificationType":
			e.justification = g.text()
		case "security_publishedTime", "security_modifiedTime":
			e.at = later(e.at, parseTime(g.text()))
		}
	})
	g.take(e)
}

func (g *graph) externalIdentifier() []string {
	var kind, value string
	g.object(func(name []byte) {
		switch string(name) {
		case "externalIdentifierType":
			kind = g.text()
		case "identifier":
			value = g.text()
		}
	})
	return []string{kind, value}
}

// take files an element under its type.
func (g *graph) take(e *element) {
	before := len(g.products)
	if e.url != "" {
		g.purl(e.url)
	}
	for i := 0; i < len(e.identifiers); i += 2 {
		g.identifier(e.identifiers[i], e.identifiers[i+1])
	}
	e.products = append([]string(nil), g.products[before:]...)
	switch _, status, vex := strings.Cut(e.kind, "security_Vex"); {
	case vex:
		g.verdicts = append(g.verdicts, assessment{e, spdxStatuses[strings.TrimSuffix(status, "VulnAssessmentRelationship")]})
		return
	case strings.HasSuffix(e.kind, "security_Vulnerability"):
		for i := 0; i < len(e.identifiers); i += 2 {
			if lower(e.identifiers[i]) != "cve" {
				continue
			}
			if id := g.vuln(e.identifiers[i+1]); id != "" && (e.vuln == "" || id < e.vuln) {
				e.vuln = id
			}
		}
		if e.vuln == "" {
			e.vuln = g.vuln(e.name)
		}
	case strings.HasSuffix(e.kind, "oftware_Package"), strings.HasSuffix(e.kind, "oftware/Package"):
		g.component("", e.name)
	}
	if e.id != "" && (len(e.products) > 0 || e.vuln != "") {
		g.elements[e.id] = e
	}
}

var spdxStatuses = map[string]string{
	"Affected": "affected", "NotAffected": "not_affected", "Fixed": "fixed", "UnderInvestigation": "under_investigation",
}

// assess resolves the VEX relationships: from a vulnerability to products.
func (g *graph) assess() {
	for _, a := range g.verdicts {
		from := g.elements[a.from]
		if from == nil {
			continue
		}
		for _, to := range a.to {
			products := []string{"iri:" + escape(to)}
			if e := g.elements[to]; e != nil && len(e.products) > 0 {
				products = e.products
			} else {
				products[0] = g.other(products[0])
			}
			if !g.room(len(products)) {
				return
			}
			for _, p := range products {
				g.claim(from.vuln, p, a.status, a.justification, a.at)
			}
		}
	}
}
