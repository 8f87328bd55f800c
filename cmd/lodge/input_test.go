package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	main "github.com/lodgehq/lodge/cmd/lodge"
)

func TestRead(t *testing.T) {
	const one, two = `{"a":1}`, `{"b":2}`
	pretty := "\n{\n  \"a\": 1\n}\n\n"
	for _, tt := range []struct {
		name, file, content string
		want                []main.Item // Source behind the file's name
	}{
		{"one", "x.json", one, []main.Item{{Raw: one}}},
		{"one and a line's end", "x.json", one + "\n", []main.Item{{Raw: one + "\n"}}},
		{"one over several lines, byte for byte", "x.json", pretty, []main.Item{{Raw: pretty}}},
		{"no JSON", "x.json", "hello\nworld\n", []main.Item{{Raw: "hello\nworld\n"}}},
		{"lines", "x.json", one + "\n\n  " + two + "\r\n", []main.Item{{Source: ":1", Raw: one}, {Source: ":3", Raw: two}}},
		{"lines, the first one broken", "x.json", "{\"a\n" + two, []main.Item{{Source: ":1", Raw: `{"a`}, {Source: ":2", Raw: two}}},
		{"lines, the second one broken", "x.json", one + "\n{\"b", []main.Item{{Source: ":1", Raw: one}, {Source: ":2", Raw: `{"b`}}},
		{"one line by its name", "x.jsonl", one, []main.Item{{Source: ":1", Raw: one}}},
		{"lines by their name", "x.jsonl", "a\nb\n", []main.Item{{Source: ":1", Raw: "a"}, {Source: ":2", Raw: "b"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.file)
			write(t, path, tt.content)
			for i := range tt.want {
				tt.want[i].Source = path + tt.want[i].Source
			}
			got, _ := main.Read(nil, path)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadLimits: what is too large is passed over in lines, and is an error as a document.
func TestReadLimits(t *testing.T) {
	large := strings.Repeat("x", bundle.MaxSize+1)
	path := filepath.Join(t.TempDir(), "x.jsonl")
	write(t, path, "{}\n"+large+"\n{}\n")
	got, _ := main.Read(nil, path)
	if len(got) != 3 || got[0].Err != nil || !errors.Is(got[1].Err, lodge.ErrLimit) || got[1].Raw != "" || got[2].Raw != "{}" {
		t.Errorf("lines: %d items", len(got))
	}
	for _, content := range []string{large, "{\n" + large, "{\n\n\n" + strings.Repeat("x\n", bundle.MaxSize/2)} {
		path := filepath.Join(t.TempDir(), "x.json")
		write(t, path, content)
		got, _ := main.Read(nil, path)
		if len(got) != 1 || !errors.Is(got[0].Err, lodge.ErrLimit) {
			t.Errorf("document: %d items, %v", len(got), got[0].Err)
		}
	}
}

// TestReadFolder: a folder's files come in order, and what is left out is said.
func TestReadFolder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.json", "a.jsonl", "c.sigstore", "d.sigstore.json", "e.intoto.jsonl", "sub/f.json", "README.md", "sub/g.txt"} {
		write(t, filepath.Join(dir, name), "{}")
	}
	if err := os.Symlink(filepath.Join(dir, "b.json"), filepath.Join(dir, "link.json")); err != nil {
		t.Skip(err)
	}
	got, notes := main.Read(nil, dir)
	var names []string
	for _, i := range got {
		name, _ := filepath.Rel(dir, i.Source)
		names = append(names, filepath.ToSlash(name))
	}
	want := []string{"a.jsonl:1", "b.json", "c.sigstore", "d.sigstore.json", "e.intoto.jsonl:1", "sub/f.json"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "3 skipped") || !strings.Contains(notes[0], "README.md first") {
		t.Errorf("notes: %q", notes)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
