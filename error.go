package lodge

import (
	"errors"
	"fmt"
	"time"
)

// Sentinels to branch on.
var (
	ErrNotFound  = errors.New("not found")
	ErrPruned    = errors.New("pruned on retention")
	ErrStale     = errors.New("somebody else has gone on with it") // a compare-and-swap or a lease did not hold: read again before going on
	ErrNoTarget  = errors.New("no target: name a log with --log URL or a registry with --oci REPOSITORY, or configure `deliver:` in lodge.yaml")
	ErrSignature = errors.New("no signature verifies")
	ErrLimit     = errors.New("over the limit")
	ErrMalformed = errors.New("malformed")
)

// Class says what follows from an answer (docs/architecture.md, "The way of a delivery").
type Class string

// The classes of failure.
const (
	ClassRetry       Class = "retry"       // certainly not applied: try again later
	ClassUnknown     Class = "unknown"     // may have been applied: ask before sending again
	ClassReroute     Class = "reroute"     // a frozen shard: the next one of the same log
	ClassHeld        Class = "held"        // the target takes nothing until an operator mends it
	ClassPermanent   Class = "permanent"   // will never succeed as it is
	ClassCertificate Class = "certificate" // permanent: could not be verified once logged
	ClassDependency  Class = "dependency"  // permanent: a required delivery failed
)

// Final tells whether c ends a delivery.
func (c Class) Final() bool {
	return c == ClassPermanent || c == ClassCertificate || c == ClassDependency
}

// Mendable tells whether a target that is held for the reason with this code may be tried
// again by itself: an operator mends it outside of lodge (address, key, credentials). What
// only an operator can judge stays held until one resumes it.
func Mendable(code string) bool {
	return code != CodeLies && code != CodeDiverged && code != CodeRolledBack
}

// Error is a failed attempt with all its facts. Code is stable and short, for programs;
// Message holds the words for people, the server's own where there are any.
type Error struct {
	Class      Class         `json:"class"`
	Code       string        `json:"code"`
	Message    string        `json:"message"`
	RetryAfter time.Duration `json:"-"` // as the target asked; 0 where it did not
	Err        error         `json:"-"` // the cause, for errors.Is
}

// Errorf returns an Error; a %w operand becomes its cause.
func Errorf(class Class, code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: class, Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Classify returns err as an *Error. An error that nobody classified proves nothing
// about what the target did, so its class is unknown.
func Classify(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Message == err.Error() {
			return e
		}
		wrapped := *e
		wrapped.Message = err.Error()
		return &wrapped
	}
	return &Error{Class: ClassUnknown, Code: "unclassified", Message: err.Error(), Err: err}
}
