package trigger_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/store"
	"github.com/lodgehq/lodge/trigger"
)

// What tells the test's own binary to be an engine, on which store, that stops at which point.
const (
	childStore = "LODGE_TEST_TRIGGER_STORE"
	childStops = "LODGE_TEST_TRIGGER_STOPS"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childStore); path != "" {
		if err := child(path, os.Getenv(childStops) == "after"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const shortLease = 200 * time.Millisecond

func child(path string, after bool) error {
	s, err := store.Open(context.Background(), path)
	if err != nil {
		return err
	}
	d := stopping{database{s}, after}
	return trigger.New(trigger.Config{Outbox: d, Leases: d, Lease: shortLease}).Run(context.Background())
}

// stopping says that it is about to write what was matched, or has, and stops there.
type stopping struct {
	database
	after bool
}

func (d stopping) Under(name string, term int64) trigger.Ledger {
	return stopping{database{d.Store.Under(name, term)}, d.after}
}

func (d stopping) React(ctx context.Context, p lodge.Progress, reactions []lodge.Reaction) error {
	requests := 0
	for _, r := range reactions {
		requests += len(r.Requests)
	}
	if requests == 0 {
		return d.Store.React(ctx, p, reactions)
	}
	var err error
	if d.after {
		err = d.Store.React(ctx, p, reactions)
	}
	fmt.Println("matched", requests, err)
	select {}
}

// TestKill kills the process of an engine between match and commit, and right after the
// commit: no request is lost or doubled, and no claim.
func TestKill(t *testing.T) {
	for _, stops := range []string{"before", "after"} {
		t.Run(stops, func(t *testing.T) {
			w := newWorld(t)
			w.apply("app: component:app", "all: all:*")
			first := w.lodge(vex(1, "2026-01-01T00:00:00Z", "CVE-2024-1111 pkg:npm/app not_affected component_not_present"), "s")
			w.react()
			second := w.lodge(vex(2, "2026-01-02T00:00:00Z", "CVE-2024-1111 pkg:npm/app affected"), "s")

			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childStore+"="+w.path, childStops+"="+stops)
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			w.ok(err)
			w.ok(cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || line != "matched 2 <nil>\n" {
				t.Errorf("the child says %q, %v", line, err)
			}
			w.ok(cmd.Process.Kill())
			_ = cmd.Wait() // killed

			want := 4
			deadline := time.Now().Add(30 * time.Second)
			for time.Now().Before(deadline) {
				w.react()
				last, err := w.store.LastSequence(t.Context())
				w.ok(err)
				c, err := w.store.Cursor(t.Context(), trigger.Name)
				w.ok(err)
				if c.Sequence == last {
					break
				}
				<-time.After(shortLease / 4) // the dead one's lease
			}
			if got := w.requests(); len(got) != want || got[0].Key != first || got[3].Key != second {
				t.Errorf("%d requests, want %d: %+v", len(got), want, got)
			}
			moves, err := w.store.ClaimMoves(t.Context(), second, "s", 10)
			w.ok(err)
			if len(moves) != 1 || moves[0].Move != lodge.Tightened {
				t.Errorf("moves %+v", moves)
			}
		})
	}
}
