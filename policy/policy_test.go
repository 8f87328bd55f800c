package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/policy"
)

const example = `# All that ships OpenSSL.
name: openssl
description: |
  Looks at images again.
selector:
  - component:OpenSSL
  - repo:https://github.com/openssl/*
aliases:
  component:openssl: [component:libssl3, "component:libcrypto3"]
knownAs: [https://policies.example/openssl]
reason: OpenSSL is on the watch list
priority: high
---
# nothing
---
name: everything
selector: ["all:*"]
`

func TestParse(t *testing.T) {
	got, err := policy.Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Policy{{
		Name: "openssl", Description: "Looks at images again.\n",
		Selector: []string{"component:openssl", "repo:github.com/openssl/*"},
		Aliases:  map[string][]string{"component:openssl": {"component:libcrypto3", "component:libssl3"}},
		KnownAs:  []string{"https://policies.example/openssl"},
		Reason:   "OpenSSL is on the watch list", Priority: policy.High,
	}, {Name: "everything", Selector: []string{"all:*"}, Priority: policy.Normal}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for want, file := range map[string]string{
		"there is no policy in it":                      "# nothing\n---\n",
		`unknown field "selectors"`:                     "name: a\nselectors: [all:*]",
		"has no name":                                   "selector: [\"all:*\"]",
		`write selector: ["all:*"] to match everything`: "name: a\nselector: []",
		"policy a: malformed: the selector is empty":    "name: a",
		"leave the other scopes out":                    "name: a\nselector: [\"all:*\", component:x]",
		"want lower-case letters":                       "name: A b\nselector: [component:x]",
		"kinds are":                                     "name: a\nselector: [openssl]",
		"right behind a / : or @":                       "name: a\nselector: [component:lib*]",
		"write cve:CVE":                                 "name: a\nselector: [cve:2024]",
		"is not in the selector":                        "name: a\nselector: [component:x]\naliases:\n  component:y: [component:z]",
		"all:* is no alias":                             "name: a\nselector: [component:x]\naliases:\n  component:x: [\"all:*\"]",
		"want normal or high":                           "name: a\nselector: [component:x]\npriority: urgent",
		"mapping was used where sequence is expected":   "name: a\nselector: {component: x}",
		"there are two policies":                        "name: a\nselector: [component:x]\n---\nname: a\nselector: [component:y]",
		"document that begins at line 4":                "name: a\nselector: [component:x]\n\n---\nname: b",
		"anchors, aliases, merges and tags":             "name: a\nselector: &x [component:x]",
		"already defined":                               "name: a\nname: b\nselector: [component:x]",
		"control characters":                            "name: a\nselector: [component:x]\nreason: \"a\\0b\"",
		"501 scopes (at most 500)":                      "name: a\nselector:\n" + strings.Repeat("- component:x\n", 501),
		"5000 bytes (at most 4096)":                     "name: a\nselector: [component:x]\nreason: " + strings.Repeat("x", 5000),
		"(at most 65536)":                               "name: a\n" + strings.Repeat("# long\n", 10_000),
		"(at most 1048576)":                             strings.Repeat("# long\n---\n", 100_000),
		"write lists with one item a line":              "name: a\nselector: [" + strings.Repeat("a,", 3000),
		"is indented by 300":                            "a:\n" + strings.Repeat(" ", 300) + "b: c",
		"knownAs: malformed":                            "name: a\nselector: [component:x]\nknownAs: [\"\"]",
		"begin each policy with a line of ---":          "name: a\nselector: [component:x]\n...\nname: b\nselector: [component:x]",
	} {
		_, err := policy.Parse([]byte(file))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: %v, want one line with %q", file, err, want)
			continue
		}
		if !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
			t.Errorf("%.60q: %v is neither malformed nor over a limit", file, err)
		}
	}
}

// TestPage makes sure that the policy on the page for authors is one.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	if got, err := policy.Parse([]byte(block)); err != nil || len(got) != 1 || len(got[0].Aliases) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRevision makes sure that a policy has one revision however it is written, and
// another one where anything that it says differs.
func TestRevision(t *testing.T) {
	parse := func(file string) policy.Policy {
		p, err := policy.Parse([]byte(file))
		if err != nil {
			t.Fatal(err)
		}
		return p[0]
	}
	base := parse("name: a\nselector: [component:x, component:y, cve:CVE-2024-1111]\naliases:\n  component:x: [component:z]\nreason: r")
	for _, same := range []string{
		"reason: r\naliases:\n  component:X:\n  - component:Z\n  - component:z\nselector: [cve:cve-2024-1111, component:y, component:x, component:y]\nname: a",
		"name: a\npriority: normal\nselector: [component:x, component:y, cve:CVE-2024-1111]\naliases:\n  component:x: [component:z]\n  component:y: []\nreason: r\nknownAs: []",
	} {
		if got := parse(same); got.Revision() != base.Revision() {
			t.Errorf("%q is another revision: %s, want %s", same, got.JSON(), base.JSON())
		}
	}
	for _, change := range []func(*policy.Policy){
		func(p *policy.Policy) { p.Name = "b" }, func(p *policy.Policy) { p.Description = "d" }, func(p *policy.Policy) { p.Reason = "s" },
		func(p *policy.Policy) { p.Selector = p.Selector[1:] }, func(p *policy.Policy) { p.Aliases = nil },
		func(p *policy.Policy) { p.Priority = policy.High }, func(p *policy.Policy) { p.KnownAs = []string{"u"} },
	} {
		p := base
		if change(&p); p.Revision() == base.Revision() {
			t.Errorf("%s has the revision of %s", p.JSON(), base.JSON())
		}
	}
	// printf '{"aliases":…}' | sha256sum
	const want = `{"aliases":{"component:x":["component:z"]},"name":"a","priority":"normal","reason":"r","selector":["component:x","component:y","cve:CVE-2024-1111"]}`
	if got := base.Revision(); got != lodge.DigestOf([]byte(want)) {
		t.Errorf("revision of %s, want that of %s", base.JSON(), want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("name: a\nselector: [component:x]\n---\n- |\n---\n? a: {b: [c, d]}"))
	f.Add([]byte("name: a\r\nselector:\r\n- purl:pkg:npm/@a/*\r\nreason: >\r\n  é\u2028\"\r\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		policies, err := policy.Parse(file)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || !errors.Is(err, lodge.ErrMalformed) && !errors.Is(err, lodge.ErrLimit) {
				t.Errorf("error %q", err)
			}
			return
		}
		for _, p := range policies {
			again, err := p.Normalize()
			if err != nil || again.Revision() != p.Revision() {
				t.Errorf("normalised again, %s becomes %s, %v", p.JSON(), again.JSON(), err)
			}
			canonical, err := jcs.Transform(p.JSON())
			if err != nil || string(canonical) != string(p.JSON()) {
				t.Errorf("%s is not its RFC 8785 form %s, %v", p.JSON(), canonical, err)
			}
			var read policy.Policy
			if err := json.Unmarshal(p.JSON(), &read); err != nil || read.Revision() != p.Revision() {
				t.Errorf("read again, %s is %s, %v", p.JSON(), read.JSON(), err)
			}
			if policy.NewIndex([]policy.Policy{p}).Match(policy.Event{Scopes: []string{"all:*"}})[0].Count == 0 {
				t.Errorf("%s is not triggered by everything", p.JSON())
			}
		}
	})
}

// TestMatchCostIsFlat counts the policies that an index looks at for a large SBOM, which are
// those that may match and no others, however many there are. The time is measured by bench.
func TestMatchCostIsFlat(t *testing.T) {
	event := policy.Event{Scopes: sbom(77_000)}
	for _, n := range []int{1_000, 100_000} {
		x := many(n)
		if matches, looked := len(x.Match(event)), x.Candidates(event); matches != 100 || looked != 100 {
			t.Errorf("of %d policies %d match, %d were looked at; want 100", n, matches, looked)
		}
	}
}

// TestLargestPolicy makes sure that the largest policy that is allowed can be written.
func TestLargestPolicy(t *testing.T) {
	var file strings.Builder
	file.WriteString("name: a\nselector:\n")
	for i := range policy.MaxScopes {
		fmt.Fprintf(&file, "- purl:pkg:npm/%%40some-organisation/some-package-with-a-name-%d\n", i)
	}
	got, err := policy.Parse([]byte(file.String()))
	if err != nil || len(got[0].Selector) != policy.MaxScopes || !slices.IsSorted(got[0].Selector) {
		t.Errorf("%d scopes, %v", len(got), err)
	}
}
