package chaos_test

import (
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// TestThreeReplicas submits the same envelopes to three processes on one PostgreSQL, of
// which one is killed in the middle.
func TestThreeReplicas(t *testing.T) {
	const replicas = 3
	n, dice := scaled(3000), dice(t)
	p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
	p.store, p.logConcurrency = newPostgres(t).URL, 100
	batch := p.batch(n)
	start := time.Now()
	var pushes []*servers.Process
	for range replicas {
		pushes = append(pushes, p.push(batch, "--wait", "10m"))
	}
	middle := n/4 + dice.IntN(n/2)
	p.until(5*time.Minute, "the middle of the way", func() bool { return p.log.Size() >= int64(middle) })
	stands := p.stands()
	pushes[0].Kill()
	for _, push := range pushes[1:] {
		p.wantCode(push, 0, 5*time.Minute)
		if states, _ := printed(push); states["verified"] != n {
			t.Errorf("a replica said %v, want %d verified", states, n)
		}
	}
	took := time.Since(start)
	t.Logf("%d envelopes by %d replicas in %s, %.0f/s; one killed at %v", n, replicas, took.Round(time.Millisecond), float64(n)/took.Seconds(), stands)
	p.wantOnce()
	p.wantSize(n)
}
