package hint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lodgehq/lodge"
)

// All is the scope of what may be about anything: it touches every policy.
const All = "all:*"

// MaxScope is the size of a scope in bytes; a longer value is hashed, as kind:~sha256:<hex>.
const MaxScope = 512

// kinds are the kinds of scope.
var kinds = []string{"all", "artifact", "builder", "component", "cpe", "cve", "predicate", "product", "purl", "repo", "vuln"}

// scope makes a scope of a normalised value.
func scope(kind, value string) string {
	value = upperEscapes(escape(value))
	return kind + ":" + bounded(value, MaxScope-len(kind)-1)
}

// ParseScope reads a scope that somebody typed, and returns its canonical form:
//
//	artifact:sha256:<hex>               what a document is about
//	component:openssl                   a package's name; component:deb/openssl of one type of purl
//	cve:CVE-2024-3094                   other ids: vuln:GHSA-…
//	purl:pkg:npm/lodash[@4.17.20]       without qualifiers and subpath
//	cpe:a:openssl:openssl               any CPE is cut to part, vendor and product
//	product:iri:…, product:csaf:…       other product keys
//	repo:github.com/org/name            a source repository
//	builder:…, predicate:…              who built it; the predicate type
//	cve:*                               a whole kind
//	all:*                               everything
//
// What is not in A-Za-z0-9._~-/:@+*% is percent-encoded. A trailing * is kept, for
// selectors. Errors wrap lodge.ErrMalformed.
func ParseScope(s string) (string, error) {
	kind, value, ok := strings.Cut(trim(s), ":")
	if !ok || value == "" || !slices.Contains(kinds, kind) {
		return "", fmt.Errorf("%w scope %.100q: write KIND:VALUE, such as component:openssl or cve:CVE-2024-3094; kinds are %s",
			lodge.ErrMalformed, s, strings.Join(kinds, ", "))
	}
	if value == "*" { // of a whole kind
		return kind + ":*", nil
	}
	if strings.HasPrefix(value, "~sha256:") { // hashed already
		if d, ok := normalDigest("sha256", value[len("~sha256:"):]); ok {
			return kind + ":~" + d, nil
		}
	}
	wrong := func(want string) (string, error) {
		return "", fmt.Errorf("%w scope %.100q: write %s", lodge.ErrMalformed, s, want)
	}
	stem, wild := strings.CutSuffix(value, "*")
	switch kind {
	case "all":
		if value != "*" {
			return wrong(All)
		}
		return All, nil
	case "artifact":
		alg, hex, _ := strings.Cut(value, ":")
		if value, ok = normalDigest(alg, hex); !ok {
			return wrong("artifact:sha256: and 64 hex digits")
		}
	case "cve", "vuln":
		if value, ok = normalVuln(value); !ok {
			return wrong("an id, not a URL")
		}
		if kind == "cve" && vulnKind(value) != "cve" {
			return wrong("cve:CVE-YYYY-NNNN, or vuln: and another kind of id")
		}
		kind = vulnKind(value)
	case "component":
		value = normalName(value)
	case "purl":
		if !wild {
			p, ok := parsePurl(value)
			if !ok {
				return wrong("purl:pkg:TYPE/NAME, such as purl:pkg:npm/lodash")
			}
			value = p.specific()
		} else if value = lower(value[:min(4, len(value))]) + value[min(4, len(value)):]; !strings.HasPrefix(value, "pkg:") {
			return wrong("purl:pkg:TYPE/NAME, such as purl:pkg:npm/lodash")
		}
	case "cpe":
		if value, ok = cpeScope(value); !ok {
			return wrong("cpe:PART:VENDOR:PRODUCT, such as cpe:a:openssl:openssl")
		}
	case "repo":
		if value, ok = normalRepo(stem); !ok {
			return wrong("repo:HOST/PATH, such as repo:github.com/org/name")
		}
		if wild {
			value += stem[len(strings.TrimRight(stem, "/")):] + "*"
		}
	}
	parsed := scope(kind, value)
	if wild && strings.HasPrefix(parsed, kind+":~sha256:") { // nothing begins with a hash
		return wrong(fmt.Sprintf("a shorter one: with a * at its end it has at most %d bytes", MaxScope))
	}
	return parsed, nil
}

// specific is the base form with its version, where it has one.
func (p *purl) specific() string {
	if len(p.scopes) > 1 && strings.HasPrefix(p.scopes[1], p.scopes[0]+"@") {
		return p.scopes[1]
	}
	return p.scopes[0]
}

// cpeScope takes "a:vendor:product" or a whole CPE without its "cpe:".
func cpeScope(value string) (string, bool) {
	if strings.HasPrefix(value, "2.3:") || strings.HasPrefix(value, "/") {
		_, base, ok := normalCPE("cpe:" + value)
		return base, ok
	}
	parts := strings.SplitN(lower(value), ":", 4)
	if len(parts) < 3 || len(parts[0]) != 1 || !strings.Contains("aoh*-", parts[0]) || parts[1] == "" || parts[2] == "" {
		return "", false
	}
	return parts[0] + ":" + basePart(parts[1]) + ":" + basePart(parts[2]), true
}

// Lookup returns the scopes by which to look for what somebody typed: a CVE or another
// vulnerability id, a purl, a CPE, a digest, a repository's URL, a scope, or else the name of
// a component.
func Lookup(s string) []string {
	s = trim(s)
	if known, n := vulnAt(s, 0); n > 0 && n == len(s) {
		return []string{scope(vulnKind(known), known)}
	}
	switch {
	case s == "":
		return nil
	case hasPrefixFold(s, "pkg:"):
		if p, ok := parsePurl(s); ok {
			return []string{scope("purl", p.specific())}
		}
	case hasPrefixFold(s, "cpe:2.3:") || hasPrefixFold(s, "cpe:/"):
		if _, base, ok := normalCPE(s); ok {
			return []string{scope("cpe", base)}
		}
	case strings.Contains(s, "://"):
		if isRepo(s) || strings.HasPrefix(s, "git+") {
			if r, ok := normalRepo(s); ok {
				return []string{scope("repo", r)}
			}
		}
		return []string{scope("builder", s), scope("predicate", s), scope("product", "iri:"+s)}
	}
	if alg, hex, ok := strings.Cut(s, ":"); ok {
		if d, ok := normalDigest(alg, hex); ok {
			return []string{scope("artifact", d)}
		}
		if parsed, err := ParseScope(s); err == nil {
			return []string{parsed}
		}
	}
	if d, ok := normalDigest("sha256", s); ok {
		return []string{scope("artifact", d)}
	}
	scopes := []string{scope("component", normalName(s))}
	if id, ok := normalVuln(s); ok { // SUSE-SU-2026:2096-1 and the like
		scopes = append(scopes, scope("vuln", id))
	}
	return scopes
}
