package chaos_test

import (
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// brokenServers breaks a log and a registry in the middle of a batch.
func brokenServers(t *testing.T) {
	const n = 200
	for _, c := range []struct {
		name string
		harm func(*servers.Process)
	}{
		{"killed", func(s *servers.Process) { s.Kill(); after(2 * time.Second); s.Start() }},
		{"hanging", func(s *servers.Process) { s.Pause(); after(5 * time.Second); s.Resume() }},
		{"restarted", func(s *servers.Process) { s.Restart() }},
	} {
		t.Run("log "+c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
			p.logConcurrency = 16
			push := p.push(p.batch(n), "--wait", "4m")
			for _, part := range []int64{n / 4, n / 2} {
				p.until(time.Minute, "a part of the batch", func() bool { return p.log.Size() >= part })
				c.harm(p.log.Process)
			}
			p.wantCode(push, 0, 4*time.Minute)
			p.wantOnce()
			p.wantSize(n)
		})
		t.Run("registry "+c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, nil, servers.StartRegistry(t, servers.Login{}))
			p.pushImages(5)
			push := p.push(p.batch(n), "--wait", "4m")
			for _, part := range []int{n / 4, n / 2} {
				p.until(time.Minute, "a part of the batch", func() bool { return p.stands().verified() >= part })
				c.harm(p.registry.Process)
			}
			p.wantCode(push, 0, 4*time.Minute)
			p.wantOnce()
		})
	}
}

// after returns when d is over: for faults that last a while.
func after(d time.Duration) { <-time.After(d) }

// brokenPostgres takes lodge's database away in the middle of a batch, in several ways.
func brokenPostgres(t *testing.T) {
	const n = 600
	for _, c := range []struct {
		name  string
		harm  func(*postgres)
		words string // that lodge says
	}{
		{"connections ended", func(db *postgres) { db.cut() }, ""},
		{"restarted", func(db *postgres) { db.down(); after(4 * time.Second); db.up() }, "nothing is delivered until the store works again"},
		{"read-only", func(db *postgres) { db.readOnly(); after(4 * time.Second); db.writable() }, "nothing is delivered until the store works again"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := newPostgres(t)
			p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
			p.store, p.logConcurrency = db.URL, 16
			p.wantCode(p.push(p.batch(n), "--wait", "0"), 3, time.Minute)
			serve := p.serve()
			for _, part := range []int64{n / 4, n / 2, 3 * n / 4} {
				p.until(time.Minute, "a part of the batch", func() bool { return p.log.Size() >= part })
				c.harm(db)
			}
			p.until(3*time.Minute, "all is delivered", func() bool { return p.stands().verified() == n })
			serve.Stop()
			wantWords(t, serve, c.words)
			p.wantOnce()
			p.wantSize(n)
		})
	}
	t.Run("read-only from the start", func(t *testing.T) {
		t.Parallel()
		db := newPostgres(t)
		p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
		p.store = db.URL
		p.wantCode(p.push(p.batch(20), "--wait", "1m"), 0, time.Minute)
		db.readOnly()
		push := p.push(p.batch(20), "--wait", "1m")
		<-push.Ended()
		if push.Code() == 0 {
			t.Errorf("a push to a read-only database succeeded:\n%s", push.Log())
		}
		wantWords(t, push, "read-only")
		db.writable()
		p.wantCode(p.push(p.write("all.jsonl", p.lines()), "--wait", "1m"), 0, time.Minute)
		p.wantOnce()
		p.wantSize(40)
	})
}
