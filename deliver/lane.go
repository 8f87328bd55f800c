package deliver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lodgehq/lodge"
)

const drainTime = 3 * time.Second // what is under way may take this long after the end was asked for

// lane works off the deliveries to one target, several at a time. All attempts share
// its breaker: while the target does not answer, one delivery at a time asks it.
type lane struct {
	Target
	engine *Engine
	wake   chan struct{} // holds a token while there may be something to claim

	mu       sync.Mutex
	busy     int           // attempts under way
	failures int           // in a row, of requests that the target did not take
	doubts   int           // in a row, of answers that prove nothing
	rests    time.Time     // no claim before this time: the breaker is open
	slowest  time.Duration // answer so far
	limiter  *rate.Limiter // of claims
	probe    time.Time     // when a held target is tried again
	patience time.Duration // between two such tries; it doubles
	storeErr string        // what the store answers instead of a claim; "" while it works
}

func newLane(e *Engine, t Target) *lane {
	l := &lane{Target: t, engine: e, wake: make(chan struct{}, 1), limiter: rate.NewLimiter(rate.Inf, 1)}
	if t.Rate > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(t.Rate), max(1, int(t.Rate)))
	}
	return l
}

func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var attempts sync.WaitGroup
	for ctx.Err() == nil {
		// A claim is not cut short by ctx: what it leased has to be known.
		jobs, wait, err := l.claim(context.WithoutCancel(ctx), time.Now())
		l.storeAnswers(err)
		for _, job := range jobs {
			attempts.Go(func() {
				defer l.end()
				l.attempt(working, job)
			})
		}
		if len(jobs) == 0 {
			l.pause(ctx, wait)
		}
	}
	deadline := time.AfterFunc(drainTime, stop)
	defer deadline.Stop()
	attempts.Wait()
	return nil
}

// claim leases what is due and has room. Where that is nothing it says how long to wait
// before asking again; it asks with reads alone.
func (l *lane) claim(ctx context.Context, now time.Time) (jobs []lodge.Job, wait time.Duration, err error) {
	n, wait := l.room(now)
	if n <= 0 {
		return nil, wait, nil
	}
	due, ok, err := l.engine.config.Store.NextDue(ctx, l.Address)
	if err != nil {
		return nil, wait, err
	}
	if !ok {
		jobs, err = l.tryHeld(ctx, now)
		return jobs, wait, err
	}
	if due.After(now) {
		return nil, min(wait, due.Sub(now)), nil
	}
	if l.asks() {
		jobs, err = l.lease(ctx, lodge.PickDoubtful, n, now)
	}
	if len(jobs) == 0 && err == nil {
		jobs, err = l.lease(ctx, lodge.PickDue, n, now)
	}
	return jobs, wait, err
}

func (l *lane) lease(ctx context.Context, pick lodge.Pick, n int, now time.Time) ([]lodge.Job, error) {
	jobs, err := l.engine.config.Store.Claim(ctx, l.Address, pick, n, now, now.Add(l.engine.config.Lease))
	l.began(len(jobs), now)
	return jobs, err
}

func (l *lane) began(n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy += n
	l.limiter.AllowN(now, n)
}

// pause returns when there may be something to claim, after longest at the latest.
func (l *lane) pause(ctx context.Context, longest time.Duration) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-l.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *lane) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	l.nudge()
}

// storeAnswers says, once, that the store does not, and once that it does again. Until
// then the lane waits: what is accepted is in the store, so nothing is lost.
func (l *lane) storeAnswers(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil && l.storeErr == "":
		slog.Error("nothing is delivered until the store works again", "target", l.Name, "error", err)
	case err == nil && l.storeErr != "":
		slog.Info("the store works again", "target", l.Name)
	}
	l.storeErr = ""
	if err != nil {
		l.storeErr = err.Error()
	}
}

// attempt works on one claimed delivery until it is verified, failed or has to wait.
func (l *lane) attempt(ctx context.Context, job lodge.Job) {
	a := l.newAttempt(ctx, job)
	weight := min(int64(job.Size)*4+4096, l.engine.config.Memory) // raw, decoded, encoded, sent
	waiting, cancel := context.WithDeadline(ctx, job.Lease)
	defer cancel()
	if err := l.engine.memory.Acquire(waiting, weight); err != nil {
		a.fail(aside{lodge.Errorf(lodge.ClassRetry, "memory-full", "others of this process hold all the memory that attempts may have: %w", err)})
		return
	}
	defer l.engine.memory.Release(weight)
	if err := a.run(); err != nil {
		a.fail(err)
	}
}

// hold makes the target take nothing until an operator has mended it.
func (l *lane) hold(failure *lodge.Error, now time.Time) {
	slog.Warn("target held", "target", l.Name, "code", failure.Code, "reason", failure.Message)
	if err := l.engine.config.Store.Hold(context.Background(), l.Target.Target, failure.Code, failure.Message, now); err != nil {
		slog.Error("target could not be held", "target", l.Name, "error", err)
	}
	l.engine.watch.notify(holds)
}

func (e *Engine) nudgeAll() {
	for _, l := range e.lanes {
		l.nudge()
	}
}
