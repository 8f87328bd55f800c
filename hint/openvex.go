package hint

import (
	"strings"
	"time"
)

func isOpenVEX(s shape) bool {
	return s.has("statements") && (s.mentions("@context", "openvex") || s.has("author") || s.text("@context") == "text/vex")
}

// openvex reads an OpenVEX document of any version (OpenVEX specification 0.0.1 to 0.2.0).
func (x *extraction) openvex() {
	x.top(func(name []byte) {
		switch string(name) {
		case "author":
			x.author = x.text()
		case "timestamp", "last_updated":
			x.issued = later(x.issued, parseTime(x.text()))
		case "version":
			x.revision = x.scalar()
		case "statements":
			x.array(x.vexStatement)
		}
	})
}

func (x *extraction) vexStatement() {
	var claim Claim
	var at time.Time
	var products []string
	x.object(func(name []byte) {
		switch string(name) {
		case "vulnerability":
			claim.Vuln = x.vexVulnerability()
		case "products":
			x.list(func() { products = append(products, x.vexProduct()...) })
		case "subcomponents":
			x.list(func() { x.vexProduct() })
		case "status":
			claim.Status = x.text()
		case "justification":
			claim.Justification = x.text()
		case "timestamp", "last_updated":
			at = later(at, parseTime(x.text()))
		}
	})
	if claim.Vuln == "" || statuses[claim.Status] == "" {
		x.issue("no-claim", claim.Vuln+" "+claim.Status)
	}
	for _, p := range products {
		x.claim(claim.Vuln, p, claim.Status, claim.Justification, at)
	}
	if len(products) == 0 {
		x.claim(claim.Vuln, "", claim.Status, claim.Justification, at)
	}
}

// list reads an array, or one value alone.
func (x *extraction) list(element func()) {
	if x.peek() == '[' {
		x.array(element)
		return
	}
	element()
}

// vexVulnerability reads a name, or since 0.2 {name, @id, aliases}.
func (x *extraction) vexVulnerability() string {
	if x.peek() == '"' {
		return x.vuln(x.text())
	}
	var main, id string
	x.object(func(name []byte) {
		switch string(name) {
		case "name":
			main = x.vuln(x.text())
		case "@id":
			id = x.text()
		case "aliases":
			x.texts(func(s string) { x.vuln(s) })
		}
	})
	if main == "" { // the @id is an IRI that may end in the name
		scanVulns(id, func(known string) {
			main = known
			x.vulns = append(x.vulns, known)
		})
	}
	return main
}

// vexProduct reads a product: its key, or since 0.2 {@id, identifiers, hashes, subcomponents}.
// It returns the keys that claims are about: purls, or else CPEs, or else the @id.
func (x *extraction) vexProduct() []string {
	if x.peek() == '"' {
		return nonempty(x.product(x.text()))
	}
	var id string
	var purls, cpes []string
	x.object(func(name []byte) {
		switch string(name) {
		case "@id":
			id = x.product(x.text())
		case "identifiers":
			x.object(func(name []byte) {
				switch string(name) {
				case "purl":
					purls = append(purls, nonempty(x.product(x.text()))...)
				case "cpe22", "cpe23":
					cpes = append(cpes, nonempty(x.product(x.text()))...)
				}
			})
		case "hashes":
			x.digestSet(x.subject)
		case "subcomponents":
			x.list(func() { x.vexProduct() })
		}
	})
	if strings.HasPrefix(id, "pkg:") {
		purls = append(purls, id)
	}
	switch {
	case len(purls) > 0:
		return purls
	case len(cpes) > 0:
		return cpes
	}
	return nonempty(id)
}

func nonempty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
