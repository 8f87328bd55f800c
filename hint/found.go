package hint

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lodgehq/lodge"
)

// found gathers what the extractors find, each value normalised, in any order.
type found struct {
	subjects, vulns, products, components, digests, repos []string

	subjectPurls []string    // of subjects
	orphans      []statement // claims about the subjects
	advisories   []string    // ids for scopes alone
	policies     []string    // that a verdict names

	packages []string // purltype/name
	purls    []string // base purls with and without version, for scopes
	cpes     []string // part:vendor:product, for scopes
	builders []string
	claims   []statement
	issues   map[string]map[string]bool // the values that are bad, by code

	author, revision string
	issued           time.Time

	pieces pieces
}

// A statement is a claim and when it was made.
type statement struct {
	Claim
	at time.Time
}

// issue notes what is wrong, with the value, if any, that is: each counts once, however often
// it is there.
func (f *found) issue(code string, value ...string) {
	if f.issues == nil {
		f.issues = map[string]map[string]bool{}
	}
	if f.issues[code] == nil {
		f.issues[code] = map[string]bool{}
	}
	for _, v := range value {
		f.issues[code][v] = true
	}
}

// vuln takes a value from a field that means a vulnerability or advisory, and returns its
// normal form.
func (f *found) vuln(id string) string {
	id, ok := normalVuln(id)
	if ok {
		f.vulns = append(f.vulns, id)
	}
	return id
}

// advisory takes the id of a document about vulnerabilities: a scope, but no vulnerability.
func (f *found) advisory(id string) {
	if id, ok := normalVuln(id); ok {
		if known, n := vulnAt(id, 0); n == len(id) {
			f.vulns = append(f.vulns, known)
		} else {
			f.advisories = append(f.advisories, id)
		}
	}
}

// digest takes an algorithm and value, and returns "alg:hex", or "" where it is none.
func (f *found) digest(alg, value string) string { return f.digestOf([]byte(alg), []byte(value)) }

// digestOf is digest without copies.
func (f *found) digestOf(alg, value []byte) string {
	name, upperCase, ok := digestName(alg, value)
	if !ok {
		f.issue("bad-digest", string(alg)+":"+string(value))
		return ""
	}
	d := f.pieces.join(name, value)
	if upperCase {
		d = name + lower(d[len(name):])
	}
	f.digests = append(f.digests, d)
	return d
}

// algColonHex takes a digest in one string, such as "sha256:…".
func (f *found) algColonHex(s string) string {
	alg, value, _ := strings.Cut(s, ":")
	return f.digest(alg, value)
}

// subject takes a digest of what the document is about.
func (f *found) subject(digest string) {
	if digest != "" {
		f.subjects = append(f.subjects, digest)
		f.digests = append(f.digests, digest)
	}
}

// component takes a package's name, with its purl type where that is known.
func (f *found) component(purlType, name string) {
	if name = normalName(name); name == "" {
		return
	}
	if n := len(f.components); n == 0 || f.components[n-1] != name { // a purl mostly says it again
		f.components = append(f.components, name)
	}
	if purlType != "" {
		f.packages = append(f.packages, escape(purlType)+"/"+name)
	}
}

// purl takes a package URL and returns its canonical form, or "" where it is none.
func (f *found) purl(s string) string {
	p, ok := parsePurl(s)
	if !ok {
		f.issue("bad-purl", s)
		return ""
	}
	f.products = append(f.products, p.full)
	f.purls = append(f.purls, p.scopes...)
	f.component(p.typ, p.name)
	for _, source := range p.sources {
		f.component(p.typ, source)
	}
	for _, d := range p.digests {
		f.algColonHex(d)
	}
	for _, url := range p.repos {
		f.repo(url)
	}
	return p.full
}

// cpe takes a CPE of version 2.2 or 2.3 and returns its 2.3 form, or "" where it is none.
func (f *found) cpe(s string) string {
	full, base, ok := normalCPE(s)
	if !ok {
		f.issue("bad-cpe", s)
		return ""
	}
	f.products = append(f.products, full)
	f.cpes = append(f.cpes, base)
	return full
}

// product takes any product key: a purl, a CPE, or another identifier, which becomes an IRI.
func (f *found) product(s string) string {
	if s = trim(s); s == "" {
		return ""
	}
	switch {
	case s == "":
		return ""
	case hasPrefixFold(s, "pkg:"):
		if p := f.purl(s); p != "" {
			return p
		}
	case hasPrefixFold(s, "cpe:"):
		if c := f.cpe(s); c != "" {
			return c
		}
	}
	return f.other("iri:" + escape(s))
}

// other takes a product key that is neither purl nor CPE.
func (f *found) other(key string) string {
	key = bounded(key, maxValue)
	f.products = append(f.products, key)
	return key
}

func (f *found) repo(url string) {
	if r, ok := normalRepo(url); ok {
		f.repos = append(f.repos, r)
	}
}

func (f *found) builder(id string) {
	if id != "" {
		f.builders = append(f.builders, escape(id))
	}
}

// reference takes a URI that may say where something is and what it is: a purl, a source
// repository with its commit, an image with its digest.
func (f *found) reference(uri string) {
	switch {
	case hasPrefixFold(uri, "pkg:"):
		f.purl(uri)
		return
	case hasPrefixFold(uri, "git+") || isRepo(uri):
		f.repo(uri)
		if _, ref, ok := cutLast(uri, "@"); ok {
			if d, ok := normalDigest("gitCommit", ref); ok {
				f.digests = append(f.digests, d)
			}
		}
	}
	f.digestsIn(uri)
}

// digestsIn takes all "sha256:<hex>" in a text.
func (f *found) digestsIn(text string) {
	scanDigests(text, func(d string) { f.digests = append(f.digests, d) })
}

// claim takes a VEX statement with the document's own word for the status. Without a
// product it is about the subjects; without a time it is as old as the document.
func (f *found) claim(vuln, product, status, justification string, at time.Time) {
	status = statuses[status]
	if vuln == "" || status == "" {
		return
	}
	s := statement{Claim{Vuln: vuln, Product: product, Status: status, Justification: bounded(escape(justification), maxValue)}, at}
	if product == "" {
		f.orphans = append(f.orphans, s)
	} else {
		f.claims = append(f.claims, s)
	}
}

// statuses are the words of OpenVEX, CSAF, CycloneDX and SPDX in those of OpenVEX.
var statuses = map[string]string{
	"affected": "affected", "known_affected": "affected", "first_affected": "affected", "last_affected": "affected", "exploitable": "affected",
	"not_affected": "not_affected", "known_not_affected": "not_affected", "false_positive": "not_affected",
	"fixed": "fixed", "first_fixed": "fixed", "resolved": "fixed", "resolved_with_pedigree": "fixed",
	"under_investigation": "under_investigation", "in_triage": "under_investigation", "unknown": "under_investigation",
}

// room tells whether there is room for so many more claims: what refers to many from many
// would multiply.
func (x *extraction) room(n int) bool {
	if x.spend(n); len(x.claims)+n > maxKeys {
		x.fail(lodge.ErrLimit)
	}
	return x.err == nil
}

// adopt makes claims without a product claims about each subject: its purl, or else its
// digest (OpenVEX, ATTESTING.md).
func (x *extraction) adopt() {
	if len(x.orphans) == 0 {
		return
	}
	products := ordered(x.subjectPurls)
	if len(products) == 0 {
		x.subjects = ordered(x.subjects)
		products = x.subjects
	}
	for _, s := range x.orphans {
		if !x.room(len(products)) {
			return
		}
		for _, p := range products {
			s.Product = p
			x.claims = append(x.claims, s)
		}
	}
}

// newest returns, of each vulnerability and product, the claims of the newest statement.
// Statements of the same time all count: their order says nothing.
func (f *found) newest() []Claim {
	latest := make(map[[2]string]time.Time, len(f.claims))
	for i := range f.claims {
		s := &f.claims[i]
		if s.at.IsZero() {
			s.at = f.issued
		}
		key := [2]string{s.Vuln, s.Product}
		if at, ok := latest[key]; !ok || s.at.After(at) {
			latest[key] = s.at
		}
	}
	claims := make([]Claim, 0, len(f.claims))
	for _, s := range f.claims {
		if latest[[2]string{s.Vuln, s.Product}].Equal(s.at) {
			claims = append(claims, s.Claim)
		}
	}
	slices.SortFunc(claims, compareClaims)
	claims = slices.Compact(claims)
	for i, c := range claims {
		claims[i].At = latest[[2]string{c.Vuln, c.Product}].UTC()
	}
	return claims
}

// merge takes what was found after it, elsewhere in the same document.
func (f *found) merge(after *found) {
	if n := len(f.components); n > 0 && len(after.components) > 0 && f.components[n-1] == after.components[0] {
		after.components = after.components[1:] // as component does
	}
	for _, l := range [...]struct{ to, from *[]string }{
		{&f.subjects, &after.subjects}, {&f.vulns, &after.vulns}, {&f.products, &after.products}, {&f.components, &after.components},
		{&f.digests, &after.digests}, {&f.repos, &after.repos}, {&f.subjectPurls, &after.subjectPurls}, {&f.advisories, &after.advisories},
		{&f.policies, &after.policies}, {&f.packages, &after.packages}, {&f.purls, &after.purls}, {&f.cpes, &after.cpes}, {&f.builders, &after.builders},
	} {
		*l.to = slices.Concat(*l.to, *l.from)
	}
	f.orphans, f.claims = append(f.orphans, after.orphans...), append(f.claims, after.claims...)
	for code, values := range after.issues {
		f.issue(code)
		for v := range values {
			f.issue(code, v)
		}
	}
}

// hints puts everything in order. It may be called once.
func (f *found) hints(predicateType string, kind Kind, all bool) *Hints {
	var products, digests []string
	done := make(chan struct{})
	go func() { // beside the rest, as these are the long ones
		products, digests = ordered(f.products), ordered(f.digests)
		close(done)
	}()
	h := &Hints{
		PredicateType: bounded(escape(predicateType), maxValue),
		Kind:          kind,
		Subjects:      ordered(f.subjects),
		Vulns:         ordered(f.vulns),
		Claims:        f.newest(),
		Components:    ordered(f.components),
		Repos:         ordered(f.repos),
		Author:        f.author,
		Issued:        f.issued,
		Revision:      f.revision,
		Policies:      ordered(f.policies),
	}
	for code, values := range f.issues {
		if len(values) > 0 {
			code += ":" + strconv.Itoa(len(values))
		}
		h.Issues = append(h.Issues, code)
	}
	slices.Sort(h.Issues)
	f.packages, f.purls, f.cpes = ordered(append(f.packages, h.Components...)), ordered(f.purls), ordered(f.cpes)
	<-done
	h.Products, h.Digests = products, digests
	h.Scopes = f.scopes(h, all || f.unread())
	return h
}

// scopes returns the scopes of what was found, made in ascending order but for exceptions.
func (f *found) scopes(h *Hints, all bool) []string {
	var l scopeList
	l.grow(f.packages, f.purls, f.cpes, h.Subjects, h.Vulns, h.Repos)
	if all {
		l.add("all", "*")
	}
	l.add("artifact", h.Subjects...)
	l.add("builder", ordered(f.builders)...)
	l.add("component", f.packages...)
	l.add("cpe", f.cpes...)
	for _, v := range h.Vulns {
		l.add(vulnKind(v), v)
	}
	l.add("vuln", f.advisories...)
	if h.PredicateType != "" {
		l.add("predicate", h.PredicateType)
	}
	for _, p := range h.Products {
		if !strings.HasPrefix(p, "pkg:") && !strings.HasPrefix(p, "cpe:") {
			l.add("product", p)
		}
	}
	l.add("purl", f.purls...)
	l.add("repo", h.Repos...)
	return l.scopes()
}

// unread tells whether something could not be read that may have been a scope: a package's
// name where another type stood, a package URL or a CPE that is none. A digest that is none
// is never one of those that something is found by.
func (f *found) unread() bool {
	for _, code := range [...]string{"wrong-type", "bad-purl", "bad-cpe"} {
		if _, ok := f.issues[code]; ok {
			return true
		}
	}
	return false
}

// size is how many values there are.
func (f *found) size() int {
	return len(f.subjects) + len(f.vulns) + len(f.products) + len(f.components) + len(f.digests) + len(f.repos) + len(f.claims)
}
