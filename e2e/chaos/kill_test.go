package chaos_test

import (
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// TestKill9 kills lodge again and again while it accepts and delivers envelopes about 50
// images, as daemon, as push, or both beside each other.
func TestKill9(t *testing.T) {
	const images = 50
	n, atLeast, dice := *envelopesFlag, *killsFlag, dice(t)
	p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), servers.StartRegistry(t, servers.Login{}))
	p.logConcurrency = 64   // so that a kill leaves some of them behind, not a thousand
	p.imageConcurrency = 64 // most of the time of each is waiting for other writers of its list
	p.pushImages(images)
	batch := p.batch(n)
	start := time.Now()

	push, serve := p.push(batch, "--wait", "1h"), (*servers.Process)(nil)
	kills, last := 0, 0
	for kills < atLeast {
		// Some time, or some progress: so the kills are spread over the whole way.
		over, progress := time.After(time.Duration(100+dice.IntN(8000))*time.Millisecond), last+dice.IntN(n/5)
		p.until(time.Minute, "the next kill", func() bool {
			select {
			case <-over:
				return true
			case <-push.Ended():
				t.Fatalf("all was delivered after %d kills: exit status %d\n%s", kills, push.Code(), end(push.Log()))
			default:
			}
			return p.stands().verified() > progress
		})
		if serve == nil {
			serve = p.serve()
			continue
		}
		stands := p.stands()
		switch dice.IntN(3) {
		case 0:
			push.Kill()
			push.Start()
		case 1:
			serve.Kill()
			serve.Start()
		case 2: // at the same moment
			push.Kill()
			serve.Kill()
			push.Start()
			serve.Start()
			kills++
		}
		kills++
		t.Logf("%6.1fs: killed %d times; %v", time.Since(start).Seconds(), kills, stands)
		last = stands.verified()
	}
	p.wantCode(push, 0, 10*time.Minute)
	serve.Stop()
	took := time.Since(start)
	t.Logf("%d envelopes, killed %d times, the last time with %d of %d deliveries done; %s in all, %.0f/s",
		n, kills, last, 2*n, took.Round(time.Millisecond), float64(n)/took.Seconds())
	if last >= 2*n {
		t.Errorf("nothing was left to be done at the last kill")
	}
	p.wantOnce()
	p.wantSize(n)
}
