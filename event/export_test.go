package event

import "time"

// Guard is what a webhook's connections to a name go through.
var Guard = guard

// WithTimeout has a sink wait that long for an acknowledgement.
func (n *NATS) WithTimeout(d time.Duration) *NATS {
	n.timeout = d
	return n
}
