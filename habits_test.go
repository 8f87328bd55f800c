package lodge_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/lodgehq/lodge"

// floors is the table of docs/architecture.md: a package imports only from lower floors,
// and packages on the same floor do not know each other.
var floors = map[string]int{
	"":     0,
	"dsse": 1, "bundle": 1, "hint": 1, "lease": 1, "policy": 1, "tlog": 1,
	"rekor": 2, "oci": 2, "verify": 2, "store": 2,
	"deliver": 3, "event": 3, "evidence": 3, "trigger": 3, "watch": 3,
	"node":      4,
	"web":       5,
	"cmd/lodge": 6,
}

// sameFloor lists the imports inside floor 1: dsse comes first, policy last.
var sameFloor = map[string][]string{"bundle": {"dsse"}, "hint": {"dsse"}, "policy": {"dsse", "hint"}}

// helpers are for tests, on no floor.
var helpers = []string{"bench", "bench/log", "logtest", "storetest"}

// packages parses every package of the module, without its tests.
func packages(t *testing.T) map[string][]*ast.File {
	t.Helper()
	found := map[string][]*ast.File{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return fs.SkipDir // another module
			}
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), ".")
		found[dir] = append(found[dir], file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPackagesSayTheirDuty(t *testing.T) {
	for dir, files := range packages(t) {
		says := slices.ContainsFunc(files, func(f *ast.File) bool { return strings.Contains(f.Doc.Text(), "may import") })
		if !says {
			t.Errorf("package %q does not say what it may import", dir)
		}
	}
}

func TestImportsGoDown(t *testing.T) {
	for dir, files := range packages(t) {
		floor, known := floors[dir]
		if !known {
			if !slices.Contains(helpers, dir) {
				t.Errorf("package %q is on no floor", dir)
			}
			continue
		}
		for _, file := range files {
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				other, ours := strings.CutPrefix(path, module)
				if !ours {
					if dir == "" && strings.Contains(strings.Split(path, "/")[0], ".") {
						t.Errorf("the root package imports %s", path)
					}
					continue
				}
				other = strings.TrimPrefix(other, "/")
				below, known := floors[other]
				if !known || below > floor || below == floor && !slices.Contains(sameFloor[dir], other) {
					t.Errorf("%s (floor %d) imports %s (floor %d)", dir, floor, other, below)
				}
			}
		}
	}
}

// TestPromisesNameTests makes sure that each promise of docs/architecture.md names a test, and that
// each test that is named there exists.
func TestPromisesNameTests(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w+)\(`).FindAllSubmatch(source, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Example)\\w+)`")
	for _, m := range named.FindAllSubmatch(text, -1) {
		if !exist[string(m[1])] {
			t.Errorf("docs/architecture.md names %s, which does not exist", m[1])
		}
	}
	_, promises, _ := strings.Cut(string(text), "\n## Promises\n")
	promises, _, _ = strings.Cut(promises, "\n\nFaster than a promise")
	list := regexp.MustCompile(`(?m)^\d+\. `).Split(promises, -1)[1:]
	if len(list) == 0 {
		t.Error("docs/architecture.md has no list of promises")
	}
	for i, promise := range list {
		if !named.MatchString(promise) {
			t.Errorf("promise %d of docs/architecture.md names no test", i+1)
		}
	}
}
