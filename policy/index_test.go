package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge/policy"
)

// index makes an index over selectors, each a list of scopes with spaces between them; its
// policies are p0, p1, …
func index(t testing.TB, selectors ...string) *policy.Index {
	t.Helper()
	var policies []policy.Policy
	for i, selector := range selectors {
		policies = append(policies, normal(t, policy.Policy{Name: fmt.Sprint("p", i), Selector: strings.Fields(selector)}))
	}
	return policy.NewIndex(policies)
}

func normal(t testing.TB, p policy.Policy) policy.Policy {
	t.Helper()
	p, err := p.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMatch holds the semantics of selectors, one by one.
func TestMatch(t *testing.T) {
	hashed := "~sha256:" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name, selector, scopes string
		want                   string // the scopes that matched; "-" where it is not triggered
	}{
		{"the same token", "component:openssl", "component:openssl component:zlib", "component:openssl"},
		{"no substring", "component:openssl", "component:openssl-libs component:pyopenssl component:openss", "-"},
		{"or inside a kind", "component:a component:b", "component:b", "component:b"},
		{"and between kinds", "component:a repo:github.com/o/n", "component:a repo:github.com/o/n", "component:a repo:github.com/o/n"},
		{"one kind is missing", "component:a repo:github.com/o/n", "component:a repo:github.com/o/m", "-"},
		{"or and and", "component:a component:b cve:CVE-2024-1111", "component:b component:c cve:CVE-2024-1111", "component:b cve:CVE-2024-1111"},
		{"spelled otherwise", "component:OpenSSL cve:cve-2024-1111", "component:openssl cve:CVE-2024-1111", "component:openssl cve:CVE-2024-1111"},
		{"without a type", "component:openssl", "component:deb/openssl component:rpm/openssl", "component:deb/openssl component:rpm/openssl"},
		{"with a type", "component:deb/openssl", "component:rpm/openssl component:openssl", "-"},
		{"behind a slash", "repo:github.com/org/*", "repo:github.com/org/a repo:github.com/org/b/c", "repo:github.com/org/a repo:github.com/org/b/c"},
		{"not behind it", "repo:github.com/org/*", "repo:github.com/organisation/a repo:github.com/org", "-"},
		{"behind an at", "purl:pkg:npm/lodash@*", "purl:pkg:npm/lodash purl:pkg:npm/lodash@4.17.20", "purl:pkg:npm/lodash@4.17.20"},
		{"in a namespace", "purl:pkg:npm/@angular/*", "purl:pkg:npm/%40angular/core purl:pkg:npm/%40angularx/core", "purl:pkg:npm/%40angular/core"},
		{"a whole kind", "cve:*", "cve:CVE-2024-1111 component:a", "cve:CVE-2024-1111"},
		{"another kind", "cve:*", "component:a", "-"},
		{"the event is about all", "component:a repo:github.com/o/n", "all:* component:a", "all:* component:a"},
		{"the selector is about all", "all:*", "component:a", "all:*"},
		{"about nothing", "all:*", "", "all:*"},
		{"nothing about it", "component:a", "", "-"},
		{"a value that is hashed", "repo:github.com/o/*", "repo:" + hashed, "repo:" + hashed},
		{"a value of another kind that is hashed", "repo:github.com/o/*", "purl:" + hashed, "-"},
		{"a whole kind", "repo:*", "repo:" + hashed, "repo:" + hashed},
		{"twice", "component:a", "component:a component:a", "component:a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := "-"
			for _, m := range index(t, tt.selector).Match(policy.Event{Scopes: strings.Fields(tt.scopes)}) {
				got = strings.Join(m.Scopes, " ")
				for _, scope := range m.Scopes {
					if !m.Policy.Selects(scope) {
						t.Errorf("%s matched, and it does not select that", scope)
					}
				}
				if m.Count != len(m.Scopes) {
					t.Errorf("it counts %d scopes of %q", m.Count, m.Scopes)
				}
			}
			if got != tt.want {
				t.Errorf("%q on %q: got %q, want %q", tt.selector, tt.scopes, got, tt.want)
			}
		})
	}
}

func TestMatchAliases(t *testing.T) {
	x := policy.NewIndex([]policy.Policy{normal(t, policy.Policy{
		Name: "openssl", Selector: []string{"component:openssl", "repo:github.com/o/n"},
		Aliases: map[string][]string{"component:openssl": {"component:LibSSL3", "purl:pkg:generic/openssl"}},
	})})
	for scopes, want := range map[string]int{
		"component:libssl3 repo:github.com/o/n":                          1,
		"component:deb/libssl3 repo:github.com/o/n":                      1,
		"purl:pkg:generic/openssl repo:github.com/o/n":                   1, // it counts for the component
		"component:libssl3 component:openssl purl:pkg:generic/openssl":   0,
		"component:libssl repo:github.com/o/n":                           0,
		"component:libssl3 purl:pkg:generic/openssl repo:github.com/o/m": 0,
	} {
		if got := x.Match(policy.Event{Scopes: strings.Fields(scopes)}); len(got) != want {
			t.Errorf("%s: %d matches, want %d", scopes, len(got), want)
		}
	}
}

func TestSelects(t *testing.T) {
	p := normal(t, policy.Policy{Name: "p", Selector: []string{"component:a", "repo:github.com/o/*"},
		Aliases: map[string][]string{"component:a": {"cve:CVE-2024-1111"}}})
	for scope, want := range map[string]bool{"component:a": true, "component:deb/a": true, "repo:github.com/o/n": true, "cve:CVE-2024-1111": true,
		"all:*": true, "component:b": false, "repo:github.com/p/n": false} {
		if got := p.Selects(scope); got != want {
			t.Errorf("%s: %v", scope, got)
		}
	}
}

// TestLoopGuard makes sure that a verdict never triggers the policy that it comes from.
func TestLoopGuard(t *testing.T) {
	own := normal(t, policy.Policy{Name: "own", Selector: []string{"component:a"}, KnownAs: []string{"https://policies.example/own", "sha256:" + strings.Repeat("ab", 32)}})
	other := normal(t, policy.Policy{Name: "other", Selector: []string{"all:*"}})
	x := policy.NewIndex([]policy.Policy{own, other})
	for _, scopes := range [][]string{{"component:a"}, {"all:*"}} {
		for _, name := range append([]string{"own", own.Revision().String()}, own.KnownAs...) {
			got := x.Match(policy.Event{Scopes: scopes, Verdict: []string{"https://elsewhere.example", name}})
			if len(got) != 1 || got[0].Policy.Name != "other" {
				t.Errorf("a verdict of %s about %s: %+v", name, scopes, got)
			}
		}
		if got := x.Match(policy.Event{Scopes: scopes, Verdict: []string{"https://policies.example/own/2"}}); len(got) != 2 {
			t.Errorf("a verdict of another policy: %+v", got)
		}
	}
}

func TestMatchCaps(t *testing.T) {
	var scopes []string
	for i := range 1000 {
		scopes = append(scopes, fmt.Sprintf("component:%04d", 999-i))
	}
	got := index(t, "component:*").Match(policy.Event{Scopes: scopes})
	if len(got) != 1 || got[0].Count != 1000 || len(got[0].Scopes) != policy.MaxMatched || got[0].Scopes[0] != "component:0000" {
		t.Errorf("%d matches, %+v", len(got), got)
	}
}

// naive is Match as its definition reads.
func naive(policies []policy.Policy, e policy.Event) (triggered map[string][]string) {
	triggered = map[string][]string{}
	matches := func(pattern, scope string) bool {
		if start, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(scope, start) {
			return true
		}
		if name, ok := strings.CutPrefix(scope, "component:"); ok && strings.Contains(name, "/") {
			if _, name, _ := strings.Cut(name, "/"); pattern == "component:"+name {
				return true
			}
		}
		return pattern == scope
	}
	for _, p := range policies {
		kinds, all, hit := map[string]bool{}, slices.Contains(e.Scopes, "all:*"), map[string]bool{}
		if all || slices.Contains(p.Selector, "all:*") {
			hit["all:*"] = true
		}
		for _, selected := range p.Selector {
			kind, _, _ := strings.Cut(selected, ":")
			kinds[kind] = kinds[kind] || selected == "all:*"
			for _, pattern := range append([]string{selected}, p.Aliases[selected]...) {
				for _, scope := range e.Scopes {
					if selected != "all:*" && matches(pattern, scope) {
						kinds[kind], hit[scope] = true, true
					}
				}
			}
		}
		met := !slices.Contains(slices.Collect(func(yield func(bool) bool) {
			for _, ok := range kinds {
				if !yield(ok) {
					return
				}
			}
		}), false)
		named := slices.ContainsFunc(append([]string{p.Name, p.Revision().String()}, p.KnownAs...), func(name string) bool {
			return slices.Contains(e.Verdict, name)
		})
		if (met || all) && !named {
			for scope := range hit {
				triggered[p.Name] = append(triggered[p.Name], scope)
			}
			slices.Sort(triggered[p.Name])
		}
	}
	return triggered
}

// TestIndexAgreesWithDefinition compares the index with the definition on random policies
// and events of few words, so that all meets all.
func TestIndexAgreesWithDefinition(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	scopes := strings.Fields(`component:a component:b component:deb/a component:deb/b component:npm/x/a cve:CVE-2024-1111 cve:CVE-2024-2222
		vuln:GHSA-aaaa-bbbb-cccc purl:pkg:npm/a purl:pkg:npm/a@1 purl:pkg:npm/%40s/a purl:pkg:npm/%40s/a@1 repo:github.com/o/n repo:github.com/o/m
		repo:github.com/p/n repo:gitlab.com/o/n builder:https://b.example/x builder:https://b.example/y`)
	patterns := append(strings.Fields(`component:* component:deb/* cve:* purl:pkg:npm/* purl:pkg:npm/a@* purl:pkg:npm/%40s/* repo:github.com/*
		repo:github.com/o/* builder:https://b.example/* component:c repo:github.com/q/*`), scopes...)
	some := func(of []string, n int) (picked []string) {
		for range n {
			picked = append(picked, of[r.IntN(len(of))])
		}
		return picked
	}
	triggered := 0
	for range 3000 {
		var policies []policy.Policy
		for i := range r.IntN(8) {
			p := policy.Policy{Name: fmt.Sprint("p", i), Selector: some(patterns, 1+r.IntN(4)), KnownAs: some([]string{"u", "v", "w"}, r.IntN(2))}
			if r.IntN(10) == 0 {
				p.Selector = []string{"all:*"}
			} else if r.IntN(3) == 0 {
				p.Aliases = map[string][]string{p.Selector[0]: some(patterns, 1+r.IntN(3))}
			}
			policies = append(policies, normal(t, p))
		}
		e := policy.Event{Scopes: some(scopes, r.IntN(5)), Verdict: some([]string{"u", "p1", "x"}, r.IntN(2))}
		if r.IntN(15) == 0 {
			e.Scopes = append(e.Scopes, "all:*")
		}
		got := map[string][]string{}
		for _, m := range policy.NewIndex(policies).Match(e) {
			got[m.Policy.Name] = m.Scopes
		}
		want := naive(policies, e)
		triggered += len(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d: %+v on %+v (-definition +index):\n%s", seed, e, policies, diff)
		}
	}
	if triggered < 1000 {
		t.Errorf("only %d policies were triggered: this compares too little", triggered)
	}
}

// sbom is what a large SBOM gives: components by name and type, and base purls.
func sbom(n int) []string {
	var scopes []string
	for i := 0; len(scopes) < n; i++ {
		scopes = append(scopes, fmt.Sprintf("component:package-%d", i), fmt.Sprintf("component:npm/package-%d", i), fmt.Sprintf("purl:pkg:npm/package-%d", i))
	}
	slices.Sort(scopes[:n])
	return scopes[:n]
}

// many makes policies, a hundred of which the SBOM triggers, however many there are.
func many(n int) *policy.Index {
	var policies []policy.Policy
	for i := range n {
		selector := []string{fmt.Sprintf("component:other-%d", i), fmt.Sprintf("cve:CVE-2024-%05d", 10000+i)}
		switch {
		case i < 60:
			selector = []string{fmt.Sprintf("component:package-%d", i*100)}
		case i < 100:
			selector = []string{fmt.Sprintf("purl:pkg:npm/package-%d", i*100), fmt.Sprintf("component:package-%d", i)}
		case i%4 == 0:
			selector = []string{fmt.Sprintf("repo:github.com/org-%d/*", i), "component:package-1"}
		case i%4 == 1:
			selector = []string{fmt.Sprintf("purl:pkg:npm/%%40scope-%d/*", i)}
		}
		policies = append(policies, policy.Policy{Name: fmt.Sprintf("p%06d", i), Selector: selector})
	}
	return policy.NewIndex(policies)
}
