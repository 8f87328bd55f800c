package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// Transient503NoDuplicate breaks the first submission in every way, before the log has
// applied it and after.
func Transient503NoDuplicate(t *testing.T, s *Site) {
	broken := servers.Answer(http.StatusServiceUnavailable, "try again later")
	for n, c := range []struct {
		name string
		act  servers.Action
		sent int
	}{
		{"503 before", broken, 2},
		{"503 after", servers.Applied(broken), 1},
		{"cut before", servers.Cut(), 2},
		{"cut after", servers.Applied(servers.Cut()), 1},
		{"500 after", servers.Applied(servers.Answer(http.StatusInternalServerError, "oops")), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := s.beside(t)
			statement := s.statement(n)
			rule := s.Front.On(s.submissions(), 1, c.act)
			m := s.machine()
			file := s.signed(statement)
			d := m.push(file)[0]
			if rule.Hits() != 1 || d.Duplicate {
				t.Errorf("%d faults, %+v", rule.Hits(), d)
			}
			if sent := s.sent(); sent != c.sent {
				t.Errorf("sent %d times, want %d", sent, c.sent)
			}
			s.wantExisting(m.push(file), []delivery{d})
			s.wantReceipt(d, s.hashOf(statement, sha256Opts))
			s.wantEntry(statement)
		})
	}
}

// Batch pushes n envelopes and each of them once more, all in one run: half of the repeats
// are the same bytes, the others are formatted and signed anew.
func Batch(t *testing.T, s *Site, n int) {
	var lines bytes.Buffer
	for i := range n {
		statement := s.statement(i)
		envelope := s.envelope(statement, s.Signer.Signer, sha256Opts)
		repeat := envelope
		if i%2 == 1 {
			repeat = s.envelope(s.reformatted(statement), s.Signer.Signer, sha256Opts)
		}
		for _, line := range [][]byte{envelope, repeat} {
			lines.Write(line)
			lines.WriteByte('\n')
		}
	}
	m := s.machine()
	start := time.Now()
	found, r := m.run(&lines, "-", "--key", s.Signer.Public, "--wait", "3m")
	t.Logf("%d envelopes in %s", 2*n, time.Since(start).Round(time.Millisecond))
	if r.Code != 0 || len(found) != 2*n {
		t.Fatalf("exit status %d, %d lines\n%s", r.Code, len(found), r.Stderr)
	}
	indexes, repeats := map[string]int64{}, 0
	for _, d := range found {
		if d.State != "verified" || d.Receipt.Log == nil {
			t.Fatalf("%+v", d)
		}
		if index, known := indexes[d.Key]; known && index != d.Receipt.Log.LogIndex {
			t.Errorf("%s is at %d and at %d", d.Key, index, d.Receipt.Log.LogIndex)
		}
		indexes[d.Key] = d.Receipt.Log.LogIndex
		if d.Duplicate {
			repeats++
		}
	}
	distinct := map[int64]bool{}
	for _, index := range indexes {
		distinct[index] = true
	}
	if len(indexes) != n || len(distinct) != n || repeats != n {
		t.Errorf("%d keys at %d indexes, %d duplicates; want %d of each", len(indexes), len(distinct), repeats, n)
	}
	s.wantSize(int64(n))
}

// Interrupt ends lodge in the middle of a batch: as Ctrl-C does, and as a crash does. By then
// the log has taken some, has taken others without lodge knowing, and has not seen the rest.
func Interrupt(t *testing.T, start func(t *testing.T) *Site) {
	const all, known, lost = 300, 100, 40
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		exit   int
	}{
		{"SIGINT", syscall.SIGINT, 3},
		{"SIGKILL", syscall.SIGKILL, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			m := s.machine()
			file := s.batch(all)
			s.Front.On(s.submissions(), known, func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) })
			s.Front.On(s.submissions(), lost, servers.Applied(servers.Delay(time.Hour)))
			s.Front.On(s.submissions(), -1, servers.Delay(time.Hour))

			r := m.interrupted(c.signal, func() error {
				if taken, answered := s.Log.Size(), s.answered(); taken < known+lost || answered < known {
					return fmt.Errorf("%d entries, %d answers", taken, answered)
				}
				return nil
			}, file, "--key", s.Signer.Public)
			if r.Code != c.exit {
				t.Errorf("exit status %d, want %d\n%s", r.Code, c.exit, r.Stderr)
			}
			if c.exit == 3 {
				s.wantOneLine(r.Stderr, "interrupted: finishing what is under way")
				s.wantOneLine(r.Stderr, fmt.Sprintf("of %d not delivered yet, and safe in", all))
			}
			s.wantSize(known + lost)
			s.Front.Clear()

			found, r := m.run(nil, file, "--key", s.Signer.Public, "--wait", "3m")
			if r.Code != 0 || len(found) != all {
				t.Fatalf("the next run: exit status %d, %d lines\n%s", r.Code, len(found), r.Stderr)
			}
			s.wantSize(all)
			indexes := map[int64]bool{}
			for _, d := range found {
				indexes[d.Receipt.Log.LogIndex] = true
			}
			if len(indexes) != all {
				t.Errorf("%d indexes, want %d", len(indexes), all)
			}
		})
	}
}

// answered counts the submissions that the log has answered.
func (s *Site) answered() int {
	n := 0
	for _, e := range s.Front.Exchanges(s.submissions()) {
		if e.Status == http.StatusCreated {
			n++
		}
	}
	return n
}

// batch writes n envelopes, one a line.
func (s *Site) batch(n int) string { return s.batchOf(0, n) }

// batchOf writes the envelopes of the statements [from,to), one a line.
func (s *Site) batchOf(from, to int) string {
	var lines bytes.Buffer
	for i := from; i < to; i++ {
		lines.Write(s.envelope(s.statement(i), s.Signer.Signer, sha256Opts))
		lines.WriteByte('\n')
	}
	return s.write("batch.jsonl", lines.Bytes())
}

// interrupted pushes and sends a signal once ready returns nil.
func (m *machine) interrupted(signal os.Signal, ready func() error, args ...string) servers.Result {
	t := m.site.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := m.Command(ctx, append(m.flags(), args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := servers.Await(ctx, 2*time.Minute, func(context.Context) error { return ready() })
	if waited == nil {
		waited = cmd.Process.Signal(signal)
	}
	if waited != nil {
		cancel()
	}
	err := cmd.Wait()
	if waited = errors.Join(waited, ctx.Err()); waited != nil {
		t.Fatalf("waiting for the right moment: %v; lodge ended by %v\n%s", waited, err, stderr.String())
	}
	return servers.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}
