package deliver

import (
	"errors"

	"github.com/lodgehq/lodge"
)

// verdict is what follows from an attempt that failed.
type verdict struct {
	next        lodge.State
	due         due
	blame       blame
	interrupted bool // lodge is stopping: the last error stays what it was
}

// due says when the next attempt may begin.
type due int

const (
	atOnce  due = iota
	later       // after a backoff, and what the target asked for
	settled     // after the settle time: the request may still be applied
)

// blame says what a failure has shown of the target, and so for its other deliveries.
type blame int

const (
	nobody  blame = iota // the failure is not the target's
	doubted              // its answer proves nothing
	refused              // it does not take requests now
	held                 // an operator has to mend something
)

// aside is an error that is not the target's: of the store, of another target, of time.
type aside struct{ error }

func (a aside) Unwrap() error { return a.error }

// follows says what follows from err in a state; stopping tells that lodge interrupted the
// attempt itself. It is the one place where that is decided.
func follows(state lodge.State, err error, stopping bool) verdict {
	failure := lodge.Classify(err)
	v := verdict{next: afterFailure(state, failure.Class), due: later}
	switch {
	case v.next == lodge.Failed:
		return verdict{next: lodge.Failed}
	case v.next == lodge.Unknown && state == lodge.Sending:
		v.due = settled
	case stopping:
		v.due, v.interrupted = atOnce, true
	case failure.Class == lodge.ClassReroute:
		v.due = atOnce
	}
	if other := (aside{}); stopping || errors.As(err, &other) {
		return v
	}
	switch failure.Class {
	case lodge.ClassHeld:
		v.blame = held
	case lodge.ClassRetry:
		v.blame = refused
	case lodge.ClassUnknown:
		v.blame = doubted
	}
	return v
}

func afterFailure(state lodge.State, class lodge.Class) lodge.State {
	switch {
	case class.Final() && (state == lodge.Queued || state == lodge.Sending):
		return lodge.Failed
	case state != lodge.Sending:
		return state // a search that failed proves nothing: search again
	case class == lodge.ClassRetry, class == lodge.ClassReroute:
		return lodge.Queued
	default: // unknown; held too, for asking first costs nothing
		return lodge.Unknown
	}
}
