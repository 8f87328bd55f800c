package hint

import (
	"strings"

	"github.com/package-url/packageurl-go"
)

// A purl is a package URL in canonical form with what it says.
type purl struct {
	full    string
	typ     string
	name    string
	sources []string // names of the source packages it was built from
	digests []string // "sha256:…" from its version and qualifiers
	repos   []string
	scopes  []string // base forms, with and without version
}

func parsePurl(s string) (p purl, ok bool) {
	if p, ok := plainPurl(s); ok {
		return p, true
	}
	u, err := packageurl.FromString(trim(s))
	if err != nil {
		return p, false
	}
	full := escapeASCII(u.ToString())
	p = purl{full: bounded(full, maxValue), typ: u.Type, name: u.Name}
	if u.Type == "docker" || u.Type == "alpine" {
		p.base(u.Type, u.Namespace, u.Name, u.Version)
	} else { // the same, without writing it anew
		versioned, _, _ := strings.Cut(full, "#")
		versioned, _, _ = strings.Cut(versioned, "?")
		base := versioned
		if u.Version != "" {
			base, _, _ = cutLast(versioned, "@")
			p.scopes = append(make([]string, 0, 2), base, versioned)
		} else {
			p.scopes = []string{base}
		}
	}
	for _, q := range u.Qualifiers {
		switch q.Key {
		case "upstream":
			for _, source := range strings.Split(q.Value, ",") {
				if source = sourceName(source); source != "" && source != u.Name {
					p.sources = append(p.sources, source)
					p.base(u.Type, u.Namespace, source, "")
				}
			}
		case "digest", "checksum":
			for _, d := range strings.Split(q.Value, ",") {
				if strings.HasPrefix(d, "sha256:") {
					p.digests = append(p.digests, d)
				}
			}
		case "vcs_url":
			p.repos = append(p.repos, q.Value)
		}
	}
	if strings.HasPrefix(u.Version, "sha256:") {
		p.digests = append(p.digests, u.Version)
	}
	return p, true
}

// base adds the base form and those of its aliases.
func (p *purl) base(typ, namespace, name, version string) {
	if typ == "alpine" { // of old Syft
		typ, namespace = "apk", "alpine"
	}
	p.addBase(typ, namespace, name, version)
	if typ == "docker" {
		p.addBase("oci", "", name, version)
	}
}

func (p *purl) addBase(typ, namespace, name, version string) {
	base := packageurl.PackageURL{Type: typ, Namespace: namespace, Name: name}
	text := base.ToString()
	p.scopes = append(p.scopes, text)
	if version != "" {
		base.Version = version
		p.scopes = append(p.scopes, base.ToString())
	}
}

// sourceName takes the version off a source package: "openssl", "openssl@3.0.2" or
// "openssl-1.1.1k-6.el8.src.rpm".
func sourceName(s string) string {
	s, _, _ = strings.Cut(trim(s), "@")
	if nvr, ok := strings.CutSuffix(s, ".src.rpm"); ok {
		name, _, _ := cutLast(nvr, "-")
		name, _, _ = cutLast(name, "-")
		return name
	}
	return s
}

// plainTypes are types of purl that plainPurl knows, and whether names are lower case.
var plainTypes = map[string]bool{"npm": false, "maven": false, "gem": false, "cargo": false, "nuget": false, "golang": true}

// isPlainPurl are the characters that no purl of a plain type escapes.
var isPlainPurl = charset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")

// plainPurl reads a purl that is canonical as it is, as most are in large SBOMs: of a type
// without rules, without escapes but npm's scope, qualifiers and subpath.
func plainPurl(s string) (p purl, ok bool) {
	rest, ok := strings.CutPrefix(s, "pkg:")
	if !ok || len(s) > maxValue {
		return p, false
	}
	typ, path, ok := strings.Cut(rest, "/")
	lowerCase, known := plainTypes[typ]
	if !ok || !known {
		return p, false
	}
	path = strings.TrimPrefix(path, "%40")
	base, name := len(s), 0 // where the base ends; where the name begins in path
	last := byte('/')
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '/' && last != '/' && base == len(s):
			name = i + 1
		case c == '@' && last != '/' && base == len(s):
			base = len(s) - len(path) + i
		case !isPlainPurl[c], lowerCase && base == len(s) && 'A' <= c && c <= 'Z':
			return p, false
		}
		last = c
	}
	if last == '/' || last == '@' {
		return p, false
	}
	p = purl{full: s, typ: typ, name: s[len(s)-len(path)+name : base], scopes: append(make([]string, 0, 2), s[:base])}
	if p.name == "." || p.name == ".." {
		return purl{}, false
	}
	if base < len(s) {
		p.scopes = append(p.scopes, s)
	}
	return p, true
}
