package deliver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/lodgehq/lodge"
)

// A lane's breaker decides how many attempts may begin: all that there is room for, one at
// a time while the target takes nothing, none for a while after each failure, and now and
// then one of a held target.

const (
	shortestBackoff = 500 * time.Millisecond
	longestBackoff  = time.Minute
	firstProbe      = time.Minute // until a held target is tried again
	lastProbe       = 15 * time.Minute
	idleProbe       = 10 * time.Second // and while nothing waits for it
	maxDoubts       = 5                // answers in a row that prove nothing, before the breaker opens
)

// limit says how many attempts may be under way at a time.
func (l *lane) limit() int {
	if l.Concurrency > 0 {
		return l.Concurrency
	}
	for _, client := range []any{l.Log, l.Repository} {
		if limiter, ok := client.(Limiter); ok {
			return limiter.Limit()
		}
	}
	if l.Log != nil {
		return 1024
	}
	return 16
}

// room says how many deliveries may be claimed now, and how long to wait at most before
// asking again.
func (l *lane) room(now time.Time) (n int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pause := l.rests.Sub(now); pause > 0 {
		return 0, min(pause, pollEvery)
	}
	if l.failures > 0 {
		return max(0, 1-l.busy), pollEvery
	}
	if l.Rate > 0 {
		if tokens := int(l.limiter.TokensAt(now)); tokens < l.limit()-l.busy {
			return tokens, min(time.Duration(float64(time.Second)/l.Rate), pollEvery)
		}
	}
	return l.limit() - l.busy, pollEvery
}

// asks tells whether the next attempt is rather to ask for what may have arrived than to
// send what was never sent: a target whose answers get lost may have applied much, and the
// first that is found closes the breaker. Every other time it is not so, for what can never
// be found must not keep the rest waiting.
func (l *lane) asks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures%2 == 1
}

// tryHeld takes one delivery of a held target now and then, more seldom each time: what
// held it may have been mended (credentials that came back), and then it is resumed.
func (l *lane) tryHeld(ctx context.Context, now time.Time) ([]lodge.Job, error) {
	l.mu.Lock()
	early := now.Before(l.probe)
	l.mu.Unlock()
	if early {
		return nil, nil
	}
	code, _, err := l.engine.config.Store.Held(ctx, l.Address)
	l.mu.Lock()
	switch {
	case code == "":
		l.probe, l.patience = now, 0
	case l.patience == 0: // it was held just now
		l.patience = firstProbe
		l.probe = now.Add(l.patience)
		code = ""
	default:
		l.patience = min(2*l.patience, lastProbe)
		l.probe = now.Add(l.patience)
	}
	l.mu.Unlock()
	if err != nil || code == "" || !lodge.Mendable(code) {
		return nil, err
	}
	jobs, err := l.lease(ctx, lodge.PickHeld, 1, now)
	if len(jobs) == 0 && err == nil { // nobody was asked: the next one to come need not wait for that
		l.mu.Lock()
		l.probe, l.patience = now.Add(idleProbe), max(l.patience/2, firstProbe)
		l.mu.Unlock()
	}
	return jobs, err
}

// answered closes the breaker again: the target has what it was to have. That it can be
// read says nothing about whether it takes requests.
func (l *lane) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doubts = 0
	if l.failures > 0 {
		l.failures, l.rests = 0, time.Time{}
		l.nudge()
	}
}

// doubted counts an answer that proves nothing. One alone may be bad luck, several in a
// row mean that the target is not well.
func (l *lane) doubted(failure *lodge.Error, now time.Time) {
	l.mu.Lock()
	l.doubts++
	unwell := l.doubts >= maxDoubts || failure.RetryAfter > 0
	l.mu.Unlock()
	if unwell {
		l.refused(failure, now)
	}
}

// refused counts a request that the target did not take, and opens the breaker for a while.
func (l *lane) refused(failure *lodge.Error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.rests) {
		return // one of many that were under way together counts
	}
	l.failures++
	l.rests = now.Add(l.pauseAfter(failure, l.failures))
}

// maxPatience is how many times as long as a target has asked for it is left alone at most.
const maxPatience = 10

// pauseAfter is how long to wait after so many failures: longer each time. A target that says
// how long is asked no sooner, and not much later: it has said when it takes requests.
func (l *lane) pauseAfter(failure *lodge.Error, failures int) time.Duration {
	d := l.backoff(failures)
	if asked := failure.RetryAfter; asked > 0 {
		d = max(asked, min(d, maxPatience*asked))
	}
	return d
}

// backoff doubles with each failure up to a cap, with a jitter of a half.
func (l *lane) backoff(failures int) time.Duration {
	d := shortestBackoff << min(failures-1, 20)
	d = min(d, longestBackoff)
	return d/2 + l.engine.jitter(d/2)
}

// upTo returns a random duration from 0 to d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) } //nolint:gosec // a jitter is no secret

// settle returns the settle time: what was configured, or three times what the slowest
// answer took.
func (l *lane) settle() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.Settle, 3*l.slowest)
}

// took notes how long the target took for an answer.
func (l *lane) took(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, d)
}
