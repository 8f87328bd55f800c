package servers_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/lodgehq/lodge/e2e/servers"
)

// hello is the smallest program that the module proxy has.
var hello = servers.Program{
	Name: "hello", Package: "golang.org/x/example/hello", Version: "v0.0.0-20250915201037-7f05d217867b",
}

// emptyCache gives the test a user's cache directory of its own, and go its usual ones.
func emptyCache(t *testing.T) {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(name, strings.TrimSpace(string(value)))
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}

func TestInstallBuildsOnce(t *testing.T) {
	emptyCache(t)
	t.Setenv("GOFLAGS", "-mod=mod") // -mod is refused by go install package@version
	var built atomic.Int64
	progress := func(format string, args ...any) {
		if strings.HasPrefix(fmt.Sprintf(format, args...), "built") {
			built.Add(1)
		}
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			path, err := hello.Install(t.Context(), progress)
			if err != nil {
				t.Error(err)
				return
			}
			if out, err := exec.CommandContext(t.Context(), path).Output(); err != nil || string(out) != "Hello, world!\n" {
				t.Errorf("%s says %q, %v", path, out, err)
			}
		})
	}
	group.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

func TestInstallFails(t *testing.T) {
	emptyCache(t)
	quiet := func(string, ...any) {}
	broken := hello
	broken.Package += "/nothing"
	_, err := broken.Install(t.Context(), quiet)
	if err == nil || !strings.Contains(err.Error(), "nothing@") {
		t.Errorf("a package that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hello.Install(ctx, quiet); err == nil {
		t.Error("installs in a context that has ended")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "lodge", "e2e", "*", ".build-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}
