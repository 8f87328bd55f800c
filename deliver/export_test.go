package deliver

import (
	"fmt"
	"time"

	"github.com/lodgehq/lodge"
)

// SetJitter makes the random part of every backoff come from f, so that a run can be
// repeated. It is called before Run.
func (e *Engine) SetJitter(f func(time.Duration) time.Duration) { e.jitter = f }

// Follows shows the verdict on a failure as one line.
func Follows(state lodge.State, err error, stopping bool) string {
	v := follows(state, err, stopping)
	return fmt.Sprintf("%s %s %s", v.next, [...]string{"at once", "later", "settled"}[v.due], [...]string{"nobody", "doubted", "refused", "held"}[v.blame])
}

// Aside wraps an error that is not the target's.
func Aside(err error) error { return aside{err} }
