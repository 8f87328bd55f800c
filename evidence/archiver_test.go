package evidence_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/evidence"
	"github.com/lodgehq/lodge/store"
)

// TestArchiver: the folder gets the archive of everything that is delivered, also of what was
// before there was a folder; and the same again changes nothing.
func TestArchiver(t *testing.T) {
	w := newWorld(t)
	n, closed := w.open()
	before := w.push(n, 1, 0)
	closed()

	w.config.Evidence.Directory = filepath.Join(t.TempDir(), "evidence")
	n, closed = w.open()
	keys := []lodge.Key{before, w.push(n, 2, 0), w.push(n, 3, 0, 1)}
	path := func(key lodge.Key) string {
		return filepath.Join(w.config.Evidence.Directory, key.Hex()+".evidence.tar")
	}
	for _, key := range keys {
		want := must[[]byte](t)(n.Evidence(t.Context(), key))
		await(t, func() error {
			raw, err := os.ReadFile(path(key))
			if err == nil && !bytes.Equal(raw, want) {
				err = errors.New("it is not what lodge evidence gives")
			}
			return err
		})
	}
	closed()
	stat := must[os.FileInfo](t)(os.Stat(path(before)))

	// As if the cursor had not been moved before a crash.
	s := must[*store.Store](t)(store.Open(t.Context(), w.config.Store))
	if err := errors.Join(s.ResetCursor(t.Context(), evidence.Name, 0), os.Remove(path(keys[1])), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, closed = w.open()
	await(t, func() error { _, err := os.Stat(path(keys[1])); return err })
	closed()
	if again := must[os.FileInfo](t)(os.Stat(path(before))); !os.SameFile(stat, again) {
		t.Error("a file with the same bytes was written again")
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(w.config.Evidence.Directory)); len(left) != len(keys) {
		t.Errorf("%v", left)
	}
}

// await polls until ready gives no error.
func await(t *testing.T, ready func() error) {
	t.Helper()
	limit := time.After(30 * time.Second)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-poll.C:
		case <-limit:
			t.Fatal(err)
		}
	}
}

// TestOneArchiver: of several on a store one writes, and the next goes on where it came to.
func TestOneArchiver(t *testing.T) {
	w := newWorld(t)
	n, _ := w.open()
	s := must[*store.Store](t)(store.Open(t.Context(), w.config.Store))
	defer func() { _ = s.Close() }()
	run := func(directory string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		a := evidence.Archiver{Store: s, Directory: directory}
		go func() { done <- a.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	count := func(directory string) int { return len(must[[]os.DirEntry](t)(os.ReadDir(directory))) }
	has := func(directory string, key lodge.Key) func() error {
		return func() error {
			_, err := os.Stat(filepath.Join(directory, key.Hex()+".evidence.tar"))
			return err
		}
	}
	one, two := t.TempDir(), t.TempDir()
	stop := run(one)
	await(t, has(one, w.push(n, 1, 0)))
	stopTwo := run(two)
	defer stopTwo()
	await(t, has(one, w.push(n, 2, 0)))
	if count(two) != 0 {
		t.Error("both write")
	}
	await(t, func() error { // else the next one does it once more
		last, err := s.LastSequence(t.Context())
		if cursor, failed := s.Cursor(t.Context(), evidence.Name); err == nil && failed == nil && cursor.Sequence < last {
			err = errors.New("the cursor is behind")
		}
		return err
	})
	stop()
	await(t, has(two, w.push(n, 3, 0)))
	if count(one) != 2 || count(two) != 1 {
		t.Errorf("%d and %d archives", count(one), count(two))
	}
}

// failing is a store in which the next calls fail, each in its turn.
type failing struct {
	*store.Store
	left int // calls that still succeed
}

var errDown = errors.New("the store is down")

func (f *failing) fail() error {
	f.left--
	if f.left < 0 {
		return errDown
	}
	return nil
}

func (f *failing) Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Store.Events(ctx, after, limit)
}

func (f *failing) Proof(ctx context.Context, id int64) (lodge.Proof, error) {
	if err := f.fail(); err != nil {
		return lodge.Proof{}, err
	}
	return f.Store.Proof(ctx, id)
}

func (f *failing) Progress(ctx context.Context, p lodge.Progress) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.Store.Progress(ctx, p)
}

// TestNoneMissed: wherever an archiver is cut off, the next one has it all in the end.
func TestNoneMissed(t *testing.T) {
	w := newWorld(t)
	n, closed := w.open()
	for i := range 4 {
		w.push(n, i, 0)
	}
	closed()
	s := must[*store.Store](t)(store.Open(t.Context(), w.config.Store))
	defer func() { _ = s.Close() }()
	for left := 0; ; left++ {
		directory := t.TempDir()
		if err := s.ResetCursor(t.Context(), evidence.Name, 0); err != nil {
			t.Fatal(err)
		}
		f := &failing{s, left}
		a := evidence.Archiver{Store: f, Directory: directory}
		_, err := a.Step(t.Context())
		if err != nil && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		f.left = 1000
		if _, again := a.Step(t.Context()); again != nil {
			t.Fatal(again)
		}
		if files := must[[]os.DirEntry](t)(os.ReadDir(directory)); len(files) != 4 {
			t.Errorf("cut off at call %d: %d archives", left, len(files))
		}
		if err == nil {
			return
		}
	}
}

// TestDirectoryComesBack: a folder that can't be written ends nothing; what was missed is
// written once it can.
func TestDirectoryComesBack(t *testing.T) {
	w := newWorld(t)
	blocked := filepath.Join(t.TempDir(), "evidence")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.config.Evidence.Directory = blocked
	n, _ := w.open()
	key := w.push(n, 1, 0)
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	await(t, func() error { _, err := os.Stat(filepath.Join(blocked, key.Hex()+".evidence.tar")); return err })
}
