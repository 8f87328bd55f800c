package event

import (
	"sync"
	"time"

	"github.com/lodgehq/lodge"
)

// task is an event that is to be posted.
type task struct {
	lodge.Undelivered
	fresh bool        // it is tried for the first time
	event lodge.Event // of a fresh one; else it is read when its turn comes

	done   bool         // it was taken
	failed *lodge.Error // it was not
}

// fail says when the task is tried again.
func (t *task) fail(now time.Time) {
	if t.Attempts == 0 {
		t.Since = now
	}
	t.Attempts++
	t.Error = t.failed.Message
	t.Due = now.Add(max(backoff(t.Attempts, firstRetry, 4, longestRetry), min(t.failed.RetryAfter, longestRest)))
}

// lane is what is to be posted of one subject, in order.
type lane struct {
	tasks []*task
	due   bool // the first may be posted
}

// round is what is to be posted, in the order of the first of each lane.
type round struct {
	lanes     []*lane
	bySubject map[string]*lane
}

func (r *round) lane(subject string, due bool) *lane {
	if r.bySubject == nil {
		r.bySubject = map[string]*lane{}
	}
	l := r.bySubject[subject]
	if l == nil {
		l = &lane{due: due}
		r.bySubject[subject] = l
		r.lanes = append(r.lanes, l)
	}
	return l
}

func (r *round) wait(waiting []lodge.Undelivered, now time.Time) {
	for _, u := range waiting {
		l := r.lane(u.Subject, !u.Due.After(now))
		l.tasks = append(l.tasks, &task{Undelivered: u})
	}
}

func (r *round) add(events []lodge.Event) {
	for _, e := range events {
		l := r.lane(e.Subject, true)
		l.tasks = append(l.tasks, &task{Undelivered: lodge.Undelivered{Sequence: e.Sequence, Subject: e.Subject}, fresh: true, event: e})
	}
}

// due tells whether anything is.
func (r *round) due() bool {
	for _, l := range r.lanes {
		if l.due {
			return true
		}
	}
	return false
}

// health is what the posts so far say of the poster. What is not guarded is read between
// rounds only.
type health struct {
	mu     sync.Mutex
	streak int           // guarded by mu; failures since the last success
	left   int           // guarded by mu; failures until this round ends
	rest   time.Duration // guarded by mu; that the poster asked for
	held   error         // guarded by mu; the poster wants nothing any more
}

// down tells whether the poster takes nothing.
func (h *health) down() bool { return h.streak >= downAfter }

// begin begins a round and tells whether the poster was down before it.
func (h *health) begin() (down bool) {
	h.left, h.rest, h.held = max(1, downAfter-h.streak), 0, nil
	return h.down()
}

// stop tells whether nothing is to be posted any more in this round.
func (h *health) stop() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left <= 0 || h.rest > 0 || h.held != nil
}

// note takes the outcome of a post; nil is success.
func (h *health) note(err *lodge.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.streak, h.left = 0, downAfter
		return
	}
	h.streak++
	h.left--
	h.rest = max(h.rest, min(err.RetryAfter, longestRest))
	if err.Class == lodge.ClassHeld {
		h.held = err
	}
}

// pause is the time before the next round: none while all is well.
func (h *health) pause() time.Duration {
	if !h.down() {
		return h.rest
	}
	return max(h.rest, backoff(h.streak-downAfter+1, firstPause, 2, longestPause))
}
