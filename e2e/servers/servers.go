// Package servers builds and runs the real servers that lodge delivers to, for the
// end-to-end tests and the demo: Rekor v2 (rekor-tiles), Rekor v1 (rekor-server with
// Trillian), the CNCF distribution registry, and an in-process registry with the
// Referrers API; besides them cosign as the peer, lodge itself, and a proxy that breaks
// connections on demand.
//
// Every server comes from the module proxy by `go install package@version` into a cache
// in the user's cache directory, each in its own module graph, so that the graph of this
// module changes nothing in them. They listen on loopback, write to temporary folders and
// end with the test: by Cleanup, and on Linux also when the test process dies.
//
// It runs on Linux and macOS. It may import anything but the packages of lodge, so that
// its reading of a log or a registry is independent of the code under test.
package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// TB is what this package needs of a test. *testing.T and *testing.B satisfy it; the demo
// brings its own. Fatalf and Skipf must not return.
type TB interface {
	Helper()
	Name() string
	Context() context.Context
	TempDir() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Main runs the tests of a package and then removes what outlived the single tests. Call
// it from TestMain: os.Exit(servers.Main(m)).
func Main(m interface{ Run() int }) int {
	defer removeLodge()
	return m.Run()
}

// skip skips a test for want of something on this machine. With CI=true that is a
// failure: nothing may go untested there unnoticed.
func skip(t TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true allows no skip: "+format, args...)
	}
	t.Skipf(format, args...)
}

// must ends the test on an error, saying what was being done.
func must(t TB, err error, doing string, args ...any) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", fmt.Sprintf(doing, args...), err)
	}
}

// Await calls ready until it returns nil, every few milliseconds, for at most limit. It
// returns the last error of ready when the time is over.
func Await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, errGone) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

// environ is this process's environment without the named variables, and with the
// settings NAME=value added.
func environ(without []string, settings ...string) []string {
	var env []string
	for _, s := range os.Environ() {
		name, _, _ := strings.Cut(s, "=")
		drop := false
		for _, w := range without {
			drop = drop || name == w || strings.HasSuffix(w, "*") && strings.HasPrefix(name, strings.TrimSuffix(w, "*"))
		}
		if !drop {
			env = append(env, s)
		}
	}
	return append(env, settings...)
}
