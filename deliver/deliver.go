// Package deliver accepts envelopes and drives each delivery to a receipt, exactly once.
//
// Every attempt begins with a search of the target, so recovery after a crash, a lost
// reply or a lost lease is the normal path: what is there is adopted, what is absent is
// written down with the very bytes (Sending) and only then sent. An answer that does not
// prove "not applied" leads to Unknown, and the target is asked again after the settle
// time before anything is sent again (docs/architecture.md, "The way of a delivery").
//
// The package may import the root package and floors 1 and 2. It declares what it needs
// of a store, a log and a repository; package node joins them.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/bundle"
	"github.com/lodgehq/lodge/dsse"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/rekor"
)

// Queue is where an engine takes its work from. Claim and Advance are durable when they return.
type Queue interface {
	// Claim leases up to n due deliveries to a target; each claim raises the attempt.
	Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) ([]lodge.Job, error)
	// Load completes a claimed job.
	Load(ctx context.Context, job *lodge.Job) error
	// Advance applies a transition, or returns lodge.ErrStale where the claim was taken away.
	Advance(ctx context.Context, change lodge.Change, now time.Time) error
	// NextDue says when the next delivery to a target is due; ok is false where none waits, and
	// where the target is held.
	NextDue(ctx context.Context, address string) (due time.Time, ok bool, err error)
}

// Inbox takes envelopes in. What it returns without an error is durable.
type Inbox interface {
	// Accept makes the deliveries that do not exist, with their events, in one transaction.
	Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) ([]lodge.Accepted, error)
}

// Ledger tells how deliveries stand.
type Ledger interface {
	// Delivery returns a delivery as it stands.
	Delivery(ctx context.Context, id int64) (lodge.Delivery, error)
	// Requires returns the deliveries that must be verified before this one starts.
	Requires(ctx context.Context, id int64) ([]lodge.Delivery, error)
	// Published returns the verified deliveries to a target, behind an id.
	Published(ctx context.Context, address string, after int64, limit int) ([]lodge.Delivery, error)
}

// Outbox hands out events in the order of commits: whoever has seen a sequence has seen all below it.
type Outbox interface {
	// Events returns the events behind a sequence, in order.
	Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error)
	// LastSequence returns the sequence of the newest event.
	LastSequence(ctx context.Context) (int64, error)
}

// Holder keeps which targets take nothing for now.
type Holder interface {
	// ResumeMended resumes a target that is held for something that mends outside of lodge.
	ResumeMended(ctx context.Context, target lodge.Target, now time.Time) error
	// Hold keeps the first reason, unless that one may mend by itself and the new one may not.
	Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error
	// Held returns why a target is held; code is "" where it is not.
	Held(ctx context.Context, address string) (code, words string, err error)
}

// Store is all that an engine needs of a database.
type Store interface {
	Queue
	Inbox
	Ledger
	Outbox
	Holder
}

// Log is a transparency log. Every entry that it returns is verified; errors are
// *lodge.Error where something is known about them.
type Log interface {
	// Has tells whether a shard with that id is one of the log's.
	Has(logID string) bool
	// Plan says what is sent, or would have been, and refuses what such a log never takes.
	Plan(ctx context.Context, att *bundle.Attestation) (lodge.Intent, error)
	// Admit refuses what could not be verified if it were logged now.
	Admit(ctx context.Context, att *bundle.Attestation) error
	// Adopt returns the entry of att.Entries that is this log's, or lodge.ErrNotFound.
	Adopt(ctx context.Context, att *bundle.Attestation) (*lodge.Entry, error)
	// Find looks for what was planned, from a checkpoint fetched after the call.
	Find(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (rekor.Found, error)
	// Send submits it. An entry without inclusion proof is a promise.
	Send(ctx context.Context, att *bundle.Attestation, intent lodge.Intent) (*lodge.Entry, error)
}

// Repository is an OCI repository that bundles are attached in.
type Repository interface {
	// Plan says what will be sent: the bundle with these entries, and its manifest's digest.
	Plan(ctx context.Context, att *bundle.Attestation, subject lodge.Digest, entries ...lodge.Entry) (lodge.Intent, error)
	// Candidates yields what key tag and annotated referrers lead to, not verified.
	Candidates(ctx context.Context, key lodge.Key, signer lodge.Signer, subject lodge.Digest) iter.Seq2[oci.Candidate, error]
	// Send attaches what was planned and returns once it is listed for its subject.
	Send(ctx context.Context, key lodge.Key, signer lodge.Signer, subject lodge.Digest, intent lodge.Intent) (lodge.OCIReceipt, error)
	// Adopt returns once a manifest that is there already is tagged and listed for its subject.
	Adopt(ctx context.Context, key lodge.Key, signer lodge.Signer, subject, manifest lodge.Digest) (lodge.OCIReceipt, error)
	// Relist lists those manifests again that others have dropped from the subject's list.
	Relist(ctx context.Context, subject lodge.Digest, manifests []lodge.Digest) (lost []lodge.Digest, err error)
}

// Limiter is the optional power of a target to say how many requests it stands at a time,
// which may be known only after the first.
type Limiter interface{ Limit() int }

// Attest verifies a bundle and returns it as signed by the key given, or by a
// certificate whose chain holds.
type Attest func(b *bundle.Bundle, key *dsse.PublicKey) (*bundle.Attestation, error)

// Target is a target with the client that reaches it: Log or Repository is set.
type Target struct {
	lodge.Target
	Log         Log
	Repository  Repository
	Concurrency int           // attempts at a time; default what a Limiter says, 1024 for another log, 16 for another repository
	Rate        float64       // attempts a second at most; 0 is no limit
	Deadline    time.Duration // after it was queued, or what it requires was verified; 0 is for ever
	// Settle is how long after a lost answer the target may still apply the request; the
	// default is 15s for a log and 2s for a repository. A target that has been seen to take
	// a third of it for one answer gets more.
	Settle time.Duration
	Relist time.Duration // how often what a repository lists is looked at again; default 10m
}

// Config is what an engine is made of.
type Config struct {
	Store   Store
	Attest  Attest
	Targets []Target
	Open    func(address string) (Repository, error) // one that is not delivered to here, but asked what it has
	Cache   Cache
	Lease   time.Duration // of a claim; every request ends before it; default 30s
	Memory  int64         // bytes that the attempts under way may hold; default 256 MiB
}

// Cache bounds the receipt cache.
type Cache struct {
	TTL     time.Duration // default 24h
	Entries int           // default 100,000
}

// Engine accepts envelopes and delivers them. Its methods are safe for concurrent use.
type Engine struct {
	config   Config
	lanes    map[string]*lane // by target address; fixed
	receipts *lru.Cache[receiptKey, receipt]
	memory   *semaphore.Weighted
	watch    watchers
	jitter   func(time.Duration) time.Duration // a random time from 0 to the one given

	mu     sync.Mutex
	opened map[string]Repository // guarded by mu; by address: those that are only asked
}

// New returns an engine. It starts nothing.
func New(c Config) (*Engine, error) {
	setDefault(&c.Lease, 30*time.Second)
	if c.Open == nil {
		c.Open = func(string) (Repository, error) { return nil, errors.New("it is not known to this process") }
	}
	setDefault(&c.Memory, 256<<20)
	setDefault(&c.Cache.TTL, 24*time.Hour)
	setDefault(&c.Cache.Entries, 100_000)
	receipts, err := lru.New[receiptKey, receipt](c.Cache.Entries)
	if err != nil {
		return nil, fmt.Errorf("receipt cache: %w", err)
	}
	e := &Engine{config: c, lanes: map[string]*lane{}, receipts: receipts, memory: semaphore.NewWeighted(c.Memory), jitter: upTo, opened: map[string]Repository{}}
	for _, t := range c.Targets {
		if (t.Log == nil) == (t.Repository == nil) {
			return nil, fmt.Errorf("target %s: want a log or a repository", t.Name)
		}
		if t.Log != nil {
			setDefault(&t.Settle, 15*time.Second)
		} else {
			setDefault(&t.Settle, 2*time.Second)
			setDefault(&t.Relist, 10*time.Minute)
		}
		e.lanes[t.Address] = newLane(e, t)
	}
	return e, nil
}

func setDefault[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

// Run delivers until ctx ends. Then it claims nothing more, gives what is under way a
// moment to finish, and hands the rest back to the queue.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range e.lanes {
		g.Go(func() error { return l.run(ctx) })
		if l.Repository != nil {
			g.Go(func() error { return l.relist(ctx) })
		}
	}
	g.Go(func() error { return e.follow(ctx) })
	return g.Wait()
}
