package hint

import "strings"

// generic reads one value of any kind: what looks like an identifier in its strings, and
// digests in objects such as {"sha256": "…"} and {"alg": "SHA-256", "content": "…"}.
func (x *extraction) generic() { x.anything("") }

// anything reads one value, of the member called name.
func (x *extraction) anything(name string) {
	switch x.peek() {
	case '{':
		var alg, value string
		x.members(func(raw []byte) {
			if x.peek() != '"' {
				x.anything("")
				return
			}
			name := string(raw)
			s := x.text()
			x.pattern(name, s)
			switch name {
			case "alg", "algorithm":
				alg = s
			case "content", "value", "checksumValue", "hashValue":
				value = s
			}
		}, nil)
		if d, ok := normalDigest(alg, value); ok {
			x.digests = append(x.digests, d)
		}
	case '[':
		x.elements(func() { x.anything("") })
	case '"':
		x.pattern(name, x.text())
	default:
		x.skip()
	}
}

// pattern takes the identifiers in a text, that of the member called name.
func (x *extraction) pattern(name, text string) {
	scanVulns(text, func(id string) { x.vulns = append(x.vulns, id) })
	x.digestsIn(text)
	if hasPrefixFold(text, "pkg:") && !strings.ContainsAny(text, " \t\r\n") && x.ifPurl(text) {
		return
	}
	scanPurls(text, func(s string) { x.ifPurl(s) })
	if hasPrefixFold(text, "cpe:2.3:") || hasPrefixFold(text, "cpe:/") {
		x.cpe(text)
	}
	if len(text) >= 32 {
		if d, ok := normalDigest(name, text); ok {
			x.digests = append(x.digests, d)
		}
	}
	if len(text) > len("git+") && (text[:4] == "git+" || isRepo(text)) {
		x.repo(text)
	}
}

// ifPurl takes a text where it is a purl.
func (x *extraction) ifPurl(text string) bool {
	_, ok := parsePurl(text)
	if ok {
		x.purl(text)
	}
	return ok
}
