//go:build unix

package hint_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/lodgehq/lodge/hint"
)

// TestLinearTime makes each kind of document 16 times as large. It counts processor time,
// so that what else runs counts little, and leaves room for four times as much as linear.
func TestLinearTime(t *testing.T) {
	for name, document := range many {
		const small = 500
		a, b := cpuTime(t, []byte(document(small))), cpuTime(t, []byte(document(16*small)))
		if b > 50*time.Millisecond && b > 64*max(a, 100*time.Microsecond) {
			t.Errorf("%s: %v for one, %v for sixteen", name, a, b)
		}
	}
}

// cpuTime is the least of three.
func cpuTime(t *testing.T, payload []byte) time.Duration {
	t.Helper()
	least := time.Hour
	for range 3 {
		var before, after syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
			t.Fatal(err)
		}
		hint.Extract("", payload)
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
			t.Fatal(err)
		}
		used := time.Duration(after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano())
		least = min(least, used)
	}
	return least
}
