package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/lodgehq/lodge/policy"
)

const (
	matchScopes    = 77_000 // of a large SBOM
	matchTriggered = 100    // policies, however many there are
)

// matching measures what it costs to find the policies that a large SBOM triggers, of a few
// and of many of which it triggers the same.
func (b *bench) matching(rounds int) error {
	event := policy.Event{Scopes: newScopes(matchScopes)}
	few, many := newPolicies(1_000), newPolicies(100_000)
	for range rounds {
		for _, m := range []struct {
			name string
			of   *policy.Index
		}{{"matches, 1,000 policies", few}, {"matches, 100,000 policies", many}} {
			if err := b.take(m.name, func() (float64, error) {
				begin, n := time.Now(), 0
				for ; time.Since(begin) < b.span; n++ {
					if got := len(m.of.Match(event)); got != matchTriggered {
						return 0, fmt.Errorf("%d matches, want %d", got, matchTriggered)
					}
				}
				return float64(n) / time.Since(begin).Seconds(), nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// newScopes returns components by name and by type, and base purls.
func newScopes(n int) []string {
	var scopes []string
	for i := 0; len(scopes) < n; i++ {
		scopes = append(scopes, fmt.Sprintf("component:package-%d", i), fmt.Sprintf("component:npm/package-%d", i), fmt.Sprintf("purl:pkg:npm/package-%d", i))
	}
	scopes = scopes[:n]
	slices.Sort(scopes)
	return scopes
}

// newPolicies makes so many policies, the first of which an SBOM triggers.
func newPolicies(n int) *policy.Index {
	policies := make([]policy.Policy, n)
	for i := range policies {
		selector := []string{fmt.Sprintf("component:other-%d", i), fmt.Sprintf("cve:CVE-2024-%05d", 10000+i)}
		switch {
		case i < matchTriggered:
			selector = []string{fmt.Sprintf("component:package-%d", i*100)}
		case i%4 == 0:
			selector = []string{fmt.Sprintf("repo:github.com/org-%d/*", i), "component:package-1"}
		case i%4 == 1:
			selector = []string{fmt.Sprintf("purl:pkg:npm/%%40scope-%d/*", i)}
		}
		policies[i] = policy.Policy{Name: fmt.Sprintf("p%06d", i), Selector: selector}
	}
	return policy.NewIndex(policies)
}
