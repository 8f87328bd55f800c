package evidence

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
)

// Name is that of the archiver's cursor and lease: there is one for all processes on a store.
const Name = "evidence"

// Outbox is where an archiver learns what happened.
type Outbox interface {
	Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error)
	Cursor(ctx context.Context, name string) (lodge.Cursor, error)
	// Progress returns lodge.ErrStale where the cursor is not where it was read.
	Progress(ctx context.Context, p lodge.Progress) error
}

// Store is all that an archiver needs of a database.
type Store interface {
	Source
	Outbox
	lease.Store
}

const (
	leaseTime = 30 * time.Second
	pollEvery = time.Second
	maxWait   = time.Minute // after failures
	batch     = 500         // events
)

// Archiver writes the archive of each key whose deliveries are all verified into a folder.
type Archiver struct {
	Store     Store
	Directory string // made where it is missing

	failures int // in a row
}

// Path returns where the archive of a key is.
func (a *Archiver) Path(key lodge.Key) string {
	return filepath.Join(a.Directory, key.Hex()+".evidence.tar")
}

// Run writes archives until ctx ends, while it is the one archiver on the store that has the
// lease. It goes over all events that there are, from where the last one came to. An event is
// done with once the file is durable, so that none is missed; one that comes again writes the
// same bytes, so that nothing changes.
func (a *Archiver) Run(ctx context.Context) error {
	for {
		err, wait := a.own(ctx), pollEvery
		if err != nil && ctx.Err() == nil {
			a.failures++
			wait = min(pollEvery<<min(a.failures, 10), maxWait)
			slog.Error("evidence is not written; it is tried again", "after", wait, "error", err)
		} else {
			a.failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// own works while it has the lease; without an error where somebody else has it.
func (a *Archiver) own(ctx context.Context) error {
	_, err := lease.Lead(ctx, a.Store, Name, leaseTime, a.work)
	return err
}

func (a *Archiver) work(ctx context.Context, _ int64) error {
	if err := os.MkdirAll(a.Directory, 0o755); err != nil {
		return err
	}
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		more, err := a.step(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// step is done with the next events, and tells whether there may be more.
func (a *Archiver) step(ctx context.Context) (more bool, err error) {
	cursor, err := a.Store.Cursor(ctx, Name)
	if err != nil {
		return false, err
	}
	events, err := a.Store.Events(ctx, cursor.Sequence, batch)
	if err != nil || len(events) == 0 {
		return false, err
	}
	done := map[lodge.Key]bool{}
	for _, e := range events {
		key, err := lodge.ParseDigest(e.Subject)
		if err != nil || done[key] {
			continue // of a target, or written just now with this event in it
		}
		done[key] = true
		if err := a.write(ctx, key); err != nil {
			return false, err
		}
	}
	return len(events) == batch, a.Store.Progress(ctx, lodge.Progress{Name: Name, From: cursor.Sequence, To: events[len(events)-1].Sequence})
}

// write writes the archive of a key where all its deliveries are verified. What can never be
// made into an archive is told and left out.
func (a *Archiver) write(ctx context.Context, key lodge.Key) error {
	deliveries, err := deliveriesOf(ctx, a.Store, key)
	if errors.Is(err, lodge.ErrNotFound) {
		return nil // a log's id
	}
	for _, d := range deliveries {
		if d.State != lodge.Verified {
			return nil // its last step is an event too
		}
	}
	var raw []byte
	if err == nil {
		raw, err = Collect(ctx, a.Store, key)
	}
	switch {
	case errors.Is(err, ErrPending):
		return nil // a new delivery has come in between
	case errors.Is(err, errUnfit):
		slog.Warn("no evidence", "key", key, "error", err)
		return nil
	case err != nil:
		return err
	}
	return WriteFile(a.Path(key), raw)
}

// WriteFile makes raw the content of a file, durably and all at once, where it is not already.
func WriteFile(path string, raw []byte) error {
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, raw) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	tmp, err := os.CreateTemp(filepath.Dir(path), ".evidence-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(raw)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return err
	}
	return dir.Sync()
}
