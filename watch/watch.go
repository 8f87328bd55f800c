// Package watch follows transparency logs: it proves that each checkpoint extends the last one
// that was relied on, catches a log that shows two trees and keeps the proof, reads every
// new entry and finds in them what is ours and what a watch list names.
//
// One process follows a log at a time, by a lease in the store; what it has found out is in the
// store before anything follows from it, so that the next one goes on where it ended.
//
// Floor 3: it may import the root package and floors 1 and 2. It declares what it needs of a
// store and of a log; package node joins them.
package watch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/lease"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// View is a place where a log is read: its own address, or a mirror. What it returns is
// verified, and says nothing about which of two views is right.
type View interface {
	// Heads fetches the newest checkpoint of each of the log's shards, the one that takes
	// entries first; with again, past every cache. The error is a *rekor.HeadError where what
	// is served as a checkpoint is not the log's.
	Heads(ctx context.Context, again bool) ([]tlog.Checkpoint, error)
	// Extends proves that the tree of newer begins with that of older, or returns an error that
	// wraps *tlog.ForkError.
	Extends(ctx context.Context, older, newer tlog.Checkpoint) error
	// Include proves the leaf at index under newer, or under one that the log has signed since.
	Include(ctx context.Context, newer tlog.Checkpoint, index int64) (rekor.Inclusion, error)
	// URL says where it is, for people.
	URL() string
}

// Log is a log whose entries are read.
type Log interface {
	View
	// Open verifies a checkpoint that came from elsewhere.
	Open(note string) (tlog.Checkpoint, error)
	// Read reads leaves in order, each with its entry, or the reason why it can't be had. work
	// is called with each span before that is yielded, concurrently.
	Read(ctx context.Context, head tlog.Checkpoint, from, to int64, work func([]tlog.Leaf)) iter.Seq2[[]tlog.Leaf, error]
}

// ShardStore says what is known of the shards of a log.
type ShardStore interface {
	Shards(ctx context.Context, address string) ([]lodge.Shard, error)
}

// HeadStore keeps the checkpoints that were relied on.
type HeadStore interface {
	OpenShard(ctx context.Context, shard lodge.Shard) (lodge.Shard, error)
	KeepHead(ctx context.Context, shard lodge.Shard, head lodge.TreeHead, anew bool, now time.Time) error
	KeptHead(ctx context.Context, shard, size int64) (lodge.TreeHead, error)
	Looked(ctx context.Context, shard int64, closed bool) error
}

// AlarmStore keeps what is wrong with a log, and holds targets.
type AlarmStore interface {
	Raise(ctx context.Context, shard int64, code, words string, event *lodge.Event) (since time.Time, err error)
	Diverged(ctx context.Context, shard lodge.Shard, target lodge.Target, d lodge.Divergence, words string, now time.Time) error
	// HoldFor holds the target, unless the shard has no such alarm by now.
	HoldFor(ctx context.Context, shard int64, target lodge.Target, code, words string, now time.Time) error
}

// EntryStore keeps how far a log was read.
type EntryStore interface {
	AddProgress(ctx context.Context, shard lodge.Shard, p lodge.Reading, now time.Time) error
	Mend(ctx context.Context, shard lodge.Shard, p lodge.Reading, now time.Time) error
	Quarantine(ctx context.Context, shard, after int64, limit int) ([]lodge.Quarantined, error)
	// Rechecked says that all receipts and the quarantine were gone over.
	Rechecked(ctx context.Context, shard int64) error
}

// OwnStore keeps which leaves and digests are ours.
type OwnStore interface {
	AddOwn(ctx context.Context, shard lodge.Shard, before, to int64, own []lodge.Own, now time.Time) error
	OwnAfter(ctx context.Context, shard, after int64, limit int) (own []lodge.Own, last int64, err error)
	FindOwn(ctx context.Context, shard int64, hash lodge.Digest) ([]lodge.Own, error)
}

// Deliveries says what was delivered to a log, and what may have been.
type Deliveries interface {
	Published(ctx context.Context, address string, after int64, limit int) ([]lodge.Delivery, error)
	Pending(ctx context.Context, address string) ([]lodge.Pending, error)
	Expedite(ctx context.Context, p lodge.Pending) error
}

// Envelopes are those that were accepted, and the events that say so.
type Envelopes interface {
	Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error)
	LastSequence(ctx context.Context) (int64, error)
	Envelope(ctx context.Context, key lodge.Key, signer lodge.Signer) (lodge.Submission, error)
	EnvelopesAfter(ctx context.Context, after int64, limit int) (subs []lodge.Submission, last int64, err error)
}

// Store is all that a follower writes and reads under its lease.
type Store interface {
	ShardStore
	HeadStore
	AlarmStore
	EntryStore
	OwnStore
	Deliveries
	Envelopes
}

// Source is a log, or one of the shards of a Rekor v2 log, with other places that show it.
type Source struct {
	Log
	Mirrors []View
}

// Config is what a follower is made of.
type Config struct {
	Target  lodge.Target
	Sources []Source // of a v2 log its shards, oldest first
	Leases  lease.Store
	Under   func(name string, term int64) Store // the store for who has the lease
	List    List
	Every   time.Duration // between two looks; default 10s
	Recheck time.Duration // between two checks of all receipts and of what is in quarantine; default 1h
	// FromNow has a log that was never met read from its end at the first look on, not from its
	// first entry on.
	FromNow bool
	// Patience is how long something that may pass is put up with before the target is held
	// or the log counts as stale; default ten looks.
	Patience time.Duration
}

// leaseTime is how long a log is not followed after its follower was killed, at most.
const leaseTime = 15 * time.Second

// Follower follows one log with all its shards.
type Follower struct {
	config Config
	lease  string

	// Of who has the lease:
	shards  map[string]*shard // by log id and origin
	skipped map[*Source]int   // looks since the last one, while it is closed
	skips   bool              // entries that are there at this look are not read
	whole   bool              // all receipts and the quarantine are gone over, whenever they were last
}

// New returns a follower. It starts nothing.
func New(c Config) (*Follower, error) {
	if len(c.Sources) == 0 {
		return nil, errors.New("there is nothing to follow")
	}
	for d, to := range map[*time.Duration]time.Duration{&c.Every: 10 * time.Second, &c.Recheck: time.Hour} {
		if *d == 0 {
			*d = to
		}
	}
	if c.Patience == 0 {
		c.Patience = 10 * c.Every
	}
	return &Follower{config: c, lease: "follow " + c.Target.Address}, nil
}

// Run follows the log until ctx ends, whenever no other process does.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		_, err := lease.Lead(ctx, f.config.Leases, f.lease, leaseTime, f.follow)
		if err != nil && !errors.Is(err, lodge.ErrStale) && ctx.Err() == nil {
			slog.Error("a log is not followed until the store works again", "log", f.config.Target.Name, "error", err)
		}
		pause(ctx, min(f.config.Every, leaseTime/3))
	}
	return nil
}

// follow follows the log while the lease of that term lasts.
func (f *Follower) follow(ctx context.Context, term int64) error {
	f.begin(false)
	store := f.config.Under(f.lease, term)
	for ctx.Err() == nil {
		err := f.look(ctx, store)
		if errors.Is(err, lodge.ErrStale) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			slog.Error("following a log", "log", f.config.Target.Name, "error", err)
		}
		pause(ctx, f.config.Every)
	}
	return nil
}

// begin forgets what an earlier owner of the lease knew.
func (f *Follower) begin(whole bool) {
	f.shards, f.skipped, f.whole = map[string]*shard{}, map[*Source]int{}, whole
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Check looks at the log once, at all receipts, and at what is in quarantine. It returns
// lodge.ErrStale where another process follows the log just now.
func (f *Follower) Check(ctx context.Context) error {
	led, err := lease.Lead(ctx, f.config.Leases, f.lease, leaseTime, func(ctx context.Context, term int64) error {
		f.begin(true)
		return f.look(ctx, f.config.Under(f.lease, term))
	})
	if err == nil && !led {
		err = fmt.Errorf("log %s: another process follows it: %w", f.config.Target.Name, lodge.ErrStale)
	}
	return err
}
