package store_test

import (
	osexec "os/exec"
	"path/filepath"
	"testing"

	"github.com/lodgehq/lodge/store"
)

// TestReadOnlyFileSystem opens a store while its file system takes no writes. It can be
// read, and as soon as it can be written it is.
func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	mount := func(options string) {
		t.Helper()
		if out, err := osexec.Command("mount", "-t", "tmpfs", "-o", options, "lodge-test", dir).CombinedOutput(); err != nil {
			t.Skipf("needs the right to mount: %v: %s", err, out)
		}
	}
	mount("size=16m")
	t.Cleanup(func() {
		if out, err := osexec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	path := filepath.Join(dir, "lodge.db")
	before, err := store.Open(t.Context(), path)
	if err == nil {
		err = before.Register(t.Context(), target)
	}
	if err == nil {
		err = accept(t, before, "before", 10)
	}
	if err == nil {
		err = before.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	mount("remount,ro") // where something still had a file open it would be refused
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for range 2 {
		holds(t, s, 1)
		if err := accept(t, s, "before", 10); err != nil {
			t.Errorf("what is there already, again: %v", err)
		}
		saysWhy(t, accept(t, s, "meanwhile", 10), path, "readonly")
	}
	mount("remount,rw")
	if err := accept(t, s, "after", 10); err != nil {
		t.Error(err)
	}
	holds(t, s, 2)
}
