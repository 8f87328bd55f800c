package event_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/event"
)

// lines checks that the files together hold the events 1 to n, each once and in order, and
// returns them.
func lines(t *testing.T, n int, paths ...string) [][]byte {
	t.Helper()
	var all []byte
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw...)
	}
	var lines [][]byte
	for line := range bytes.Lines(all) {
		if _, sequence, err := parse(line); err != nil || sequence != int64(len(lines)+1) {
			t.Fatalf("line %d: event %d, %v", len(lines)+1, sequence, err)
		}
		lines = append(lines, line)
	}
	if len(lines) != n || n > 0 && !bytes.HasSuffix(all, []byte("\n")) {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	return lines
}

func events(t *testing.T, o outbox, after int64, n int) []lodge.Event {
	t.Helper()
	events, err := o.Events(t.Context(), after, n)
	if err != nil || len(events) != n {
		t.Fatalf("%d events, %v", len(events), err)
	}
	return events
}

// TestFile runs a sink that is stopped and started while events happen.
func TestFile(t *testing.T) {
	o, path := newOutbox(t), filepath.Join(t.TempDir(), "events.jsonl")
	news := make(chan struct{}, 1)
	relay := func() *event.Relay {
		return &event.Relay{Source: event.Source{Name: "file", Store: o, News: news}, Sink: event.NewFile(path, o)}
	}
	for i := range 3 {
		stop := start(t, relay().Run)
		o.happen(t, 3, "before "+string(rune('a'+i)))
		news <- struct{}{}
		o.through(t, "file")
		stop()
		o.happen(t, 2, "after "+string(rune('a'+i)))
	}
	start(t, relay().Run)
	o.through(t, "file")
	lines(t, 15, path)
}

// TestFileDown: a sink that was down while 10,000 events happened gets them all.
func TestFileDown(t *testing.T) {
	o, folder := newOutbox(t), t.TempDir()
	o.many(t, 10_000)
	path := filepath.Join(folder, "not there yet", "events.jsonl")
	start(t, (&event.Relay{Source: event.Source{Name: "file", Store: o}, Sink: event.NewFile(path, o)}).Run)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	o.through(t, "file")
	last, err := o.LastSequence(t.Context())
	if err != nil || last < 10_000 {
		t.Fatal(last, err)
	}
	var c checker
	for _, line := range lines(t, int(last), path) {
		c.take(line)
	}
	if c.err != nil || c.repeats > 0 {
		t.Error(c.repeats, c.err)
	}
}

// TestFileIsCutBack writes events whose cursor does not move, as before a kill, with any
// length of what reached the disk of the last one.
func TestFileIsCutBack(t *testing.T) {
	o := newOutbox(t)
	o.happen(t, 3, "a", "b", "c")
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	write := func(after int64, n int) {
		t.Helper()
		f := event.NewFile(path, o)
		if err := errors.Join(f.Open(ctx, after), f.Deliver(ctx, events(t, o, after, n)), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write(0, 9)
	whole := lines(t, 9, path)
	confirmed := len(bytes.Join(whole[:4], nil))
	all := bytes.Join(whole, nil)
	for n := len(all); n >= confirmed; n -= 7 {
		if err := os.WriteFile(path, all[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		f := event.NewFile(path, o)
		if err := errors.Join(f.Open(ctx, 4), f.Close()); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		lines(t, 4, path)
	}
	write(4, 5)
	lines(t, 9, path)
}

// TestFileRotation moves the file away while the sink runs, and while it does not.
func TestFileRotation(t *testing.T) {
	o, folder := newOutbox(t), t.TempDir()
	path := filepath.Join(folder, "events.jsonl")
	relay := func() *event.Relay {
		return &event.Relay{Source: event.Source{Name: "file", Store: o}, Sink: event.NewFile(path, o)}
	}
	move := func(to string) {
		t.Helper()
		if err := os.Rename(path, filepath.Join(folder, to)); err != nil {
			t.Fatal(err)
		}
	}
	stop := start(t, relay().Run)
	o.happen(t, 3, "a")
	o.through(t, "file")
	move("1")
	o.happen(t, 3, "b")
	o.through(t, "file")
	stop()
	move("2")
	start(t, relay().Run)
	o.happen(t, 3, "c")
	o.through(t, "file")
	lines(t, 9, filepath.Join(folder, "1"), filepath.Join(folder, "2"), path)
	if _, err := os.Stat(filepath.Join(folder, "2")); err != nil {
		t.Error(err)
	}
}

// TestFileRefuses: what lodge has not written is not cut, and what is far ahead neither.
func TestFileRefuses(t *testing.T) {
	o := newOutbox(t)
	o.many(t, 600)
	path := filepath.Join(t.TempDir(), "events.jsonl")
	ahead := event.NewFile(path, o)
	if err := errors.Join(ahead.Open(t.Context(), 0), ahead.Deliver(t.Context(), events(t, o, 0, 600)), ahead.Close()); err != nil {
		t.Fatal(err)
	}
	far, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	another := newOutbox(t)
	another.happen(t, 3, "x", "y")
	others, err := json.Marshal(events(t, another, 3, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	others = append(others, '\n')
	for name, c := range map[string]struct{ content, want string }{
		"a text":           {"hello\n", "not written by lodge"},
		"a torn text":      {"hello", "not written by lodge"},
		"other JSON":       {`{"a":1}` + "\n", "not written by lodge"},
		"a long line":      {strings.Repeat("x", 1<<20) + "\n", "not written by lodge"},
		"no sequence":      {`{"specversion":"1.0","sequence":"x"}` + "\n", "not written by lodge"},
		"far ahead":        {string(far), "set back"},
		"empty lines":      {"\n\n", "not written by lodge"},
		"of another store": {string(others), "another store"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		f := event.NewFile(path, o)
		err := f.Open(t.Context(), 3)
		if closing := f.Close(); err == nil || closing != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != c.content {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
}

// TestFileSharedByMistake: two that write to one file notice it.
func TestFileSharedByMistake(t *testing.T) {
	o := newOutbox(t)
	o.happen(t, 3, "a")
	path := filepath.Join(t.TempDir(), "events.jsonl")
	f, other := event.NewFile(path, o), event.NewFile(path, o)
	ctx := context.Background()
	if err := errors.Join(f.Open(ctx, 0), other.Open(ctx, 0), f.Deliver(ctx, events(t, o, 0, 1))); err != nil {
		t.Fatal(err)
	}
	if err := other.Deliver(ctx, events(t, o, 0, 1)); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}
