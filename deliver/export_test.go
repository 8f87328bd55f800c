package deliver

import "time"

// SetJitter makes the random part of every backoff come from f, so that a run can be
// repeated. It is called before Run.
func (e *Engine) SetJitter(f func(time.Duration) time.Duration) { e.jitter = f }
