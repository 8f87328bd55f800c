package deliver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/deliver"
	"github.com/lodgehq/lodge/lease"
	"github.com/lodgehq/lodge/oci"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
)

// process is one lodge at a site. Everything it does beyond itself goes through steps:
// calls to its store and requests. At each of them it can die, be suspended, or have its
// request fail; then it is the tests' way to be kill -9, SIGSTOP and a bad network.
type process struct {
	*deliver.Engine
	site  *site
	name  string
	store *shelf
	plan  func(step, about string) mishap // nil: nothing goes wrong
	stop  context.CancelFunc
	done  chan struct{} // closed when Run has returned

	mu     sync.Mutex
	gone   chan struct{} // closed when it dies
	dead   bool
	wakes  time.Time // it is suspended until then
	leased time.Time // when it last asked for the lease on the referrers index
}

// mishap is what goes wrong at one step. The zero value is nothing.
type mishap struct {
	Die     bool          // the process dies at this step
	Suspend time.Duration // the process is suspended at this step, for so long
	After   bool          // both happen after the step took effect, not before

	Lost bool // what is asked for never arrives, and an error is the answer
	Lose bool // it takes effect, and an error is the answer

	// Of a request only.
	Refuse bool          // the connection is refused
	Late   time.Duration // it arrives that much after its answer, or after the client gave up
	Stall  bool          // no answer comes until the client gives up
	Status int           // this is the answer
	Cut    bool          // half of the answer comes
	Drag   time.Duration // the answer takes that long
	Stale  bool          // a cache answers with an older checkpoint
	Slow   time.Duration // every step takes some time, so that no two happen at once
}

// harmless tells whether nothing goes wrong.
func (m mishap) harmless() bool { return m == mishap{Slow: m.Slow} }

var errLost = fmt.Errorf("the connection broke: %w", io.ErrUnexpectedEOF)

// kill ends the process at once: nothing that it still tries takes effect.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.dead = true
		close(p.gone)
		p.stop()
	}
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// suspend keeps every step of the process from beginning or ending for d.
func (p *process) suspend(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.wakes) {
		p.wakes = until
	}
}

// sleptSince tells whether the process lives and was suspended at t or later.
func (p *process) sleptSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead && t.Before(p.wakes)
}

// slept tells whether the process was suspended since it asked for the lease on the
// referrers index.
func (p *process) slept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leased.Before(p.wakes)
}

// awake returns once the process is not suspended, with errDead where it is dead.
func (p *process) awake() error {
	for {
		p.mu.Lock()
		dead, left := p.dead, time.Until(p.wakes)
		p.mu.Unlock()
		if dead {
			return errDead
		}
		if left <= 0 {
			return nil
		}
		p.sleep(left)
	}
}

// sleep returns after d, or when the process dies.
func (p *process) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.gone:
	}
}

// before makes what befalls the process before a step.
func (p *process) before(m mishap) error {
	if !m.After {
		p.befall(m)
	}
	return p.awake()
}

// after makes what befalls it afterwards.
func (p *process) after(m mishap) error {
	if m.After {
		p.befall(m)
	}
	return p.awake()
}

func (p *process) befall(m mishap) {
	if m.Suspend > 0 {
		p.suspend(m.Suspend)
	}
	if m.Die {
		p.kill()
	}
}

// mishap says what goes wrong at a step, and notes it. What the step is about tells those
// apart that several goroutines make at once.
func (p *process) mishap(step, about string) mishap {
	var m mishap
	if p.plan != nil && !p.isDead() {
		m = p.plan(step, about)
	}
	p.site.note(p.name, step, m)
	return m
}

// call makes a step that is no request.
func (p *process) call(step, about string, do func() error) error {
	m := p.mishap(step, about)
	if err := p.before(m); err != nil {
		return err
	}
	p.sleep(m.Slow)
	if m.Lost {
		return errLost
	}
	if err := do(); err != nil {
		p.site.noteError(p.name, step, err)
		return err
	}
	if err := p.after(m); err != nil {
		return err
	}
	if m.Lose {
		return errLost
	}
	return nil
}

// RoundTrip implements http.RoundTripper. A request that was on its way when the process
// was suspended leaves when it wakes up, whatever its deadline was: nothing can call it back.
func (p *process) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	step := p.site.step(r)
	m := p.mishap(step, "")
	if err := p.before(m); err != nil {
		return nil, err
	}
	p.sleep(m.Slow)
	if m.Refuse {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	res := p.deliver(r, body, m)
	if err := p.after(m); err != nil {
		return nil, err
	}
	if m.Drag > 0 {
		if err := p.wait(ctx, m.Drag); err != nil {
			return nil, err
		}
	}
	switch {
	case m.Stall:
		return nil, p.wait(ctx, patience)
	case m.Status != 0:
		return &http.Response{StatusCode: m.Status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	case m.Lose, res == nil:
		return nil, errLost
	case m.Cut:
		content, _ := io.ReadAll(res.Body)
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(content[:len(content)/2]), broken{}))
	}
	return res, nil
}

// patience is how long a client waits for an answer whatever its context says, as oci's
// transport does for the header.
const patience = time.Minute

// wait waits for an answer that takes so long, and says why it does not come.
func (p *process) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(min(d, patience))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gone:
		return errDead
	case <-timer.C:
		if d < patience {
			return nil
		}
		return errLost
	}
}

// broken is the end of a connection that broke.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errLost }

// deliver brings a request to the site: now, later or never. The answer is nil where there
// is none yet.
func (p *process) deliver(r *http.Request, body []byte, m mishap) *http.Response {
	ctx := r.Context()
	deadline, limited := ctx.Deadline()
	p.site.leaves(p, r, body)
	arrive := func() *http.Response {
		if m.Stale {
			if res := p.site.stale(r); res != nil {
				return res
			}
		}
		return p.site.serve(r, body)
	}
	switch {
	case m.Lost:
		return nil
	case m.Late == 0:
		if limited {
			p.site.arrives(p, r, body, deadline)
		}
		if p.slept() {
			p.site.overwrites(p, r)
		}
		return arrive()
	}
	// The next attempt begins settle after this answer, and not before the lease is over
	// where the process did not live to hear it.
	p.site.later(func() {
		answered := time.Now()
		if m.Stall {
			_ = p.wait(ctx, patience)
			answered = time.Now()
		}
		pass(m.Late)
		p.site.arrives(p, r, body, answered)
		p.site.overwrites(p, r)
		arrive() //nolint:bodyclose // it has none
	})
	return nil
}

// shelfView is a store as one process sees it: each call is a step.
type shelfView struct {
	*shelf
	p *process
}

func (v shelfView) Claim(ctx context.Context, address string, pick lodge.Pick, n int, now, lease time.Time) (jobs []lodge.Job, err error) {
	err = v.p.call("claim", address, func() error {
		jobs, err = v.shelf.Claim(ctx, address, pick, n, now, lease)
		v.p.site.claims(v.p, jobs)
		return err
	})
	return jobs, err
}

func (v shelfView) Load(ctx context.Context, job *lodge.Job) error {
	return v.p.call("load", job.Key.String()+job.Target.Name, func() error { return v.shelf.Load(ctx, job) })
}

func (v shelfView) Advance(ctx context.Context, change lodge.Change, now time.Time) error {
	return v.p.call(fmt.Sprintf("%s %s", change.Target.Kind, change.State), change.Key.String(), func() error {
		taken := v.p.site.taken(v.p, change.ID)
		if err := v.shelf.Advance(ctx, change, now); err != nil {
			return err
		}
		v.p.site.written(v.p, change, taken)
		return nil
	})
}

func (v shelfView) Accept(ctx context.Context, sub lodge.Submission, orders []lodge.Order, now time.Time) (accepted []lodge.Accepted, err error) {
	err = v.p.call("accept", sub.Key.String(), func() error {
		accepted, err = v.shelf.Accept(ctx, sub, orders, now)
		return err
	})
	return accepted, err
}

func (v shelfView) Hold(ctx context.Context, target lodge.Target, code, words string, now time.Time) error {
	return v.p.call("hold", target.Name, func() error { return v.shelf.Hold(ctx, target, code, words, now) })
}

func (v shelfView) ResumeMended(ctx context.Context, target lodge.Target, now time.Time) error {
	return v.p.call("resume", target.Name, func() error { return v.shelf.ResumeMended(ctx, target, now) })
}

func (v shelfView) AddLeaves(ctx context.Context, logID string, at int64, hashes []lodge.Digest) error {
	return v.p.call("add leaves", "", func() error { return v.shelf.AddLeaves(ctx, logID, at, hashes) })
}

func (v shelfView) Acquire(ctx context.Context, name, holder string, d time.Duration) (term int64, err error) {
	err = v.p.call("acquire", "", func() error {
		v.p.mu.Lock()
		v.p.leased = time.Now()
		v.p.mu.Unlock()
		term, err = v.shelf.Acquire(ctx, name, holder, d)
		return err
	})
	return term, err
}

func (v shelfView) Renew(ctx context.Context, name string, term int64, d time.Duration) error {
	return v.p.call("renew", "", func() error { return v.shelf.Renew(ctx, name, term, d) })
}

func (v shelfView) Release(ctx context.Context, name string, term int64) error {
	return v.p.call("release", "", func() error { return v.shelf.Release(ctx, name, term) })
}

func (v shelfView) SkipLeaves(ctx context.Context, logID string, at, to int64) error {
	return v.p.call("skip leaves", "", func() error { return v.shelf.SkipLeaves(ctx, logID, at, to) })
}

// The reads are no steps of their own, but a dead process reads nothing.

func (v shelfView) NextDue(ctx context.Context, address string) (time.Time, bool, error) {
	if err := v.p.awake(); err != nil {
		return time.Time{}, false, err
	}
	return v.shelf.NextDue(ctx, address)
}

func (v shelfView) Events(ctx context.Context, after int64, limit int) ([]lodge.Event, error) {
	if err := v.p.awake(); err != nil {
		return nil, err
	}
	return v.shelf.Events(ctx, after, limit)
}

func (v shelfView) LeafRange(ctx context.Context, logID string) (from, size int64, err error) {
	if err := v.p.awake(); err != nil {
		return 0, 0, err
	}
	return v.shelf.LeafRange(ctx, logID)
}

// relist is how often what is listed is looked at again.
const relist = 40 * time.Second

// start opens a lodge at the site, with a store. Jitter comes from the random source.
func (s *site) start(t testing.TB, name string, store *shelf, random *rand.Rand, plan func(step, about string) mishap) *process {
	t.Helper()
	p := &process{site: s, name: name, store: store, plan: plan, gone: make(chan struct{}), done: make(chan struct{})}
	view := shelfView{store, p}
	var err error
	p.Engine, err = deliver.New(deliver.Config{
		Store: view, Attest: attest, Lease: s.lease,
		Targets: []deliver.Target{
			{Target: s.log, Log: planner{s.logClient(t, p, view)}, Settle: s.settle},
			{Target: s.images, Repository: s.imageClient(t, p, view), Settle: s.settle, Relist: relist},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	p.SetJitter(func(d time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(random.Int64N(int64(d) + 1))
	})
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.done)
		_ = p.Run(ctx) // it never fails
	}()
	return p
}

func (s *site) logClient(t testing.TB, p *process, leaves rekor.Leaves) client {
	t.Helper()
	var shards []*rekor.V2
	for i, shard := range s.shards {
		o := rekor.Options{URL: s.shardURL(i), HTTP: &http.Client{Transport: p}, Keys: []tlog.Key{shard.Key()}, Leaves: leaves}
		if s.version == 1 {
			c, err := rekor.NewV1(o)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c, err := rekor.NewV2(o)
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, c)
	}
	if len(shards) == 1 {
		return shards[0]
	}
	c, err := rekor.NewShards(shards...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *site) imageClient(t testing.TB, p *process, leases lease.Store) *oci.Repository {
	t.Helper()
	repo, err := oci.New(repository, oci.Options{Transport: p, Leases: leases})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}
