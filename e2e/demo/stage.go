package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/lodgehq/lodge/e2e/servers"
)

// A stage runs a play and clears up after it. It is what the servers take for a test.
type stage struct {
	ctx      context.Context
	play     func(*stage)
	temp     string
	cleanups []func()
	failed   bool
}

var _ servers.TB = (*stage)(nil)

// errOver ends a play early.
var errOver = errors.New("the play is over")

// Run runs the play and returns the exit status.
func (s *stage) Run() (status int) {
	defer func() {
		r := recover()
		for _, f := range slices.Backward(s.cleanups) {
			f()
		}
		if r != nil && r != any(errOver) {
			panic(r)
		}
		if s.failed {
			status = 1
		}
	}()
	s.play(s)
	return 0
}

func (s *stage) say(text string) { fmt.Printf("\n# %s\n", text) }

// Helper does nothing: there are no line numbers here.
func (s *stage) Helper() {}

// Name implements servers.TB.
func (s *stage) Name() string { return "demo" }

// Context ends when the user interrupts the demo.
func (s *stage) Context() context.Context { return s.ctx }

// Failed says no, always: the servers show their logs after a failure, and here they would
// bury what failed. One that does not start shows its log all the same.
func (s *stage) Failed() bool { return false }

// Cleanup has f called at the end, the last one first.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir returns a new folder that is removed at the end.
func (s *stage) TempDir() string {
	if s.temp == "" {
		temp, err := os.MkdirTemp("", "lodge-demo-")
		if err != nil {
			s.Fatalf("%v", err)
		}
		s.temp = temp
		s.Cleanup(func() { _ = os.RemoveAll(temp) })
	}
	dir, err := os.MkdirTemp(s.temp, "")
	if err != nil {
		s.Fatalf("%v", err)
	}
	return dir
}

// Logf says what goes on.
func (s *stage) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// Skipf is a failure: the demo has no part to leave out.
func (s *stage) Skipf(format string, args ...any) { s.Fatalf(format, args...) }

// Fatalf ends the demo.
func (s *stage) Fatalf(format string, args ...any) {
	s.failed = true
	fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...)
	panic(errOver)
}
