package servers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"time"
)

// runLimit is the longest that a command may take.
const runLimit = 5 * time.Minute

// A Result is what a command left.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; -1 where a signal ended it
}

// Need skips a test where a program is missing, or the command that is given of it fails.
func Need(t TB, program string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		skip(t, "this test needs %s: %v", program, err)
	}
	if len(args) == 0 {
		return
	}
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		skip(t, "this test needs %s %q: %v: %s", program, args, err, out)
	}
}

// run runs a command to its end. Any exit status is a result; a command that could not be
// run, or not within runLimit, ends the test.
func run(t TB, cmd *exec.Cmd, stdin io.Reader) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("running %s: %v", cmd, err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// runContext is the context of a command that a test runs: not the test's own, which
// ends before Cleanup.
func runContext(t TB) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.Context()), runLimit)
}
