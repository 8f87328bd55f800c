package chaos_test

import (
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// TestOutage has the log down while lodge accepts, with a daemon beside it that can deliver
// nothing: accepting does not notice, and when the log is back everything arrives.
func TestOutage(t *testing.T) {
	const parts = 4
	n := scaled(10_000)
	p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
	batches := make([]string, parts)
	for i := range batches {
		batches[i] = p.batch(n / parts)
	}
	p.log.Kill()
	serve := p.serve()
	took := make([]time.Duration, parts)
	for i, batch := range batches {
		start := time.Now()
		p.wantCode(p.push(batch, "--wait", "0"), 3, 2*time.Minute)
		took[i] = time.Since(start)
	}
	t.Logf("accepted %d at a time in %v, with the log down", n/parts, took)
	if first, second := took[0]+took[1], took[2]+took[3]; second > 3*first {
		t.Errorf("the second half took %s to accept, the first %s", second, first)
	}
	if s := p.stands(); s.all() != n || s.verified() != 0 {
		t.Errorf("with the log down: %v", s)
	}

	p.log.Start()
	start := time.Now()
	p.until(5*time.Minute, "all is delivered", func() bool { return p.stands().verified() == n })
	back := time.Since(start)
	t.Logf("all verified %s after the log was back, %.0f/s", back.Round(time.Millisecond), float64(n)/back.Seconds())
	serve.Stop()
	p.wantOnce()
	p.wantSize(n)
}
