package hint_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gowebpki/jcs"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/lodgehq/lodge/hint"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A fixture is a document and what it yields.
type fixture struct {
	path    string
	archive *txtar.Archive
	input   []byte
}

func fixtures(t testing.TB) (all []fixture) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, path := range files {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fixture{path, archive, archive.Files[0].Data})
	}
	return all
}

func TestGolden(t *testing.T) {
	kinds := map[hint.Kind]bool{}
	for _, f := range fixtures(t) {
		t.Run(strings.TrimSuffix(filepath.Base(f.path), ".txtar"), func(t *testing.T) {
			h := hint.Extract("", f.input)
			kinds[h.Kind] = true
			checkHints(t, h)
			got := []txtar.File{
				f.archive.Files[0],
				{Name: "hints.json", Data: indented(t, h.Document())},
				{Name: "beside", Data: fmt.Appendf(nil, "author %s\nissued %s\nrevision %s\npolicies %s\n",
					h.Author, h.Issued.Format("2006-01-02T15:04:05.999999999Z07:00"), h.Revision, h.Policies)},
			}
			if *update {
				f.archive.Files = got
				if err := os.WriteFile(f.path, txtar.Format(f.archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(f.archive.Files, got); diff != "" {
				t.Errorf("run with -update if this is right:\n%s", diff)
			}
		})
	}
	for _, kind := range []hint.Kind{
		hint.OpenVEX, hint.CSAF, hint.CycloneDX, hint.SPDX2, hint.SPDX3, hint.Syft, hint.Provenance, hint.Link, hint.Vulns, hint.Trivy,
		hint.Grype, hint.SARIF, hint.OSV, hint.Verdict, hint.Generic, hint.Unparsable,
	} {
		if !kinds[kind] {
			t.Errorf("no fixture is of kind %s", kind)
		}
	}
}

func indented(t *testing.T, doc []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", " "); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

// checkHints checks what holds of all hints.
func checkHints(t testing.TB, h *hint.Hints) {
	t.Helper()
	for name, list := range map[string][]string{
		"subjects": h.Subjects, "vulns": h.Vulns, "products": h.Products, "components": h.Components,
		"digests": h.Digests, "repos": h.Repos, "scopes": h.Scopes, "issues": h.Issues,
	} {
		for i, v := range list {
			if i > 0 && list[i-1] >= v {
				t.Errorf("%s: %q comes after %q", name, v, list[i-1])
			}
			if v == "" || len(v) > 2048+len("csaf:") || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%s: %q", name, v)
			}
		}
	}
	for _, s := range h.Scopes {
		if len(s) > hint.MaxScope {
			t.Errorf("a scope of %d bytes: %s", len(s), s)
		}
		if again, err := hint.ParseScope(s); err != nil || again != s {
			t.Errorf("scope %q becomes %q, %v", s, again, err)
		}
	}
	for _, c := range h.Claims {
		if !slices.Contains(h.Vulns, c.Vuln) && !slices.Contains(h.Scopes, "vuln:"+c.Vuln) {
			t.Errorf("claim about %q, which is not there", c.Vuln)
		}
		if !slices.Contains(h.Products, c.Product) && !slices.Contains(h.Subjects, c.Product) {
			t.Errorf("claim about %q, which is not there", c.Product)
		}
	}
	doc := h.Document()
	if canonical, err := jcs.Transform(doc); err != nil || !bytes.Equal(canonical, doc) {
		t.Errorf("not in RFC 8785 form: %v\n%.300s\n%.300s", err, doc, canonical)
	}
}
