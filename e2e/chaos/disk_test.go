package chaos_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// smallDisk mounts a file system with so many MiB, of which resize changes what it has.
func smallDisk(t *testing.T, size int) (dir string, remount func(options string)) {
	t.Helper()
	dir = t.TempDir()
	mount := func(options string) error {
		out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "lodge-chaos", dir).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mount -o %s: %w: %s", options, err, out)
		}
		return nil
	}
	if err := mount(fmt.Sprintf("size=%dm", size)); err != nil || runtime.GOOS != "linux" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true allows no skip: a disk that can be filled needs the right to mount: %v", err)
		}
		t.Skipf("a disk that can be filled needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir, func(options string) {
		t.Helper()
		if err := mount("remount," + options); err != nil {
			t.Fatal(err)
		}
	}
}

// brokenDisk has no room for a SQLite store, or lets nothing be written to it.
func brokenDisk(t *testing.T) {
	t.Run("full while accepting", fullWhileAccepting)
	t.Run("full while delivering", fullWhileDelivering)
	t.Run("read-only", readOnlyDisk)
}

// newPlaceAt returns a place with a log of its own whose store is in that folder.
func newPlaceAt(t *testing.T, dir string) *place {
	t.Helper()
	p := newPlace(t, servers.StartRekorV2(t, servers.RekorV2Config{Forgetful: true}), nil)
	p.store = "sqlite:" + filepath.Join(dir, "lodge.db")
	return p
}

// fullWhileAccepting has the disk full before all is accepted.
func fullWhileAccepting(t *testing.T) {
	t.Parallel()
	dir, remount := smallDisk(t, 8)
	p := newPlaceAt(t, dir)
	batch := p.batch(5000)
	push := p.push(batch, "--wait", "0")
	select {
	case <-push.Ended():
	case <-time.After(2 * time.Minute):
		t.Fatal("a push to a full disk does not end")
	}
	if code := push.Code(); code != 1 {
		t.Errorf("exit status %d, want 1: %s", code, end(push.Log()))
	}
	wantWords(t, push, "full")
	said, _ := printed(push)
	accepted := p.stands().all()
	t.Logf("the disk was full after %d of 5000; lodge said so of %d", accepted, said["queued"])
	if accepted < said["queued"] || said["queued"] == 0 || accepted == 5000 {
		t.Errorf("%d are accepted by lodge's word, the store has %d", said["queued"], accepted)
	}
	remount("size=256m")
	p.wantCode(p.push(batch, "--wait", "3m"), 0, 3*time.Minute)
	p.wantOnce()
	p.wantSize(5000)
}

// fullWhileDelivering has the disk full in the middle of delivering.
func fullWhileDelivering(t *testing.T) {
	t.Parallel()
	const n = 2000
	dir, remount := smallDisk(t, 128)
	p := newPlaceAt(t, dir)
	p.logConcurrency = 16
	p.wantCode(p.push(p.batch(n), "--wait", "0"), 3, time.Minute)
	serve := p.serve()
	p.until(time.Minute, "a part of the batch", func() bool { return p.stands().verified() >= n/8 })
	ballast := filepath.Join(dir, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 200<<20), 0o600) // until there is no room
	p.until(time.Minute, "lodge says that the disk is full", func() bool { return strings.Contains(serve.Log(), "full") })
	after(3 * time.Second)
	if s := p.stands(); s.verified() == n {
		t.Error("the disk was full too late")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	remount("size=256m")
	p.until(4*time.Minute, "all is delivered", func() bool { return p.stands().verified() == n })
	serve.Stop()
	const stopped = "nothing is delivered until the store works again"
	if strings.Contains(serve.Log(), stopped) { // a claim is small: there may always have been room for one
		wantWords(t, serve, stopped, "full")
		wantWords(t, serve, "INFO", "the store works again")
	}
	p.wantOnce()
	p.wantSize(n)
}

// readOnlyDisk has lodge started while nothing can be written. It goes on by itself when
// that is over.
func readOnlyDisk(t *testing.T) {
	t.Parallel()
	dir, remount := smallDisk(t, 64)
	p := newPlaceAt(t, dir)
	p.wantCode(p.push(p.batch(50), "--wait", "0"), 3, time.Minute)
	remount("ro")
	serve, push := p.serve(), p.push(p.batch(50), "--wait", "1m")
	p.wantCode(push, 1, time.Minute)
	wantWords(t, push, "not accepted: ", "readonly")
	if lines := strings.Count(push.Log(), "not accepted"); lines > 3 {
		t.Errorf("%d lines say that nothing can be accepted:\n%s", lines, end(push.Log()))
	}
	p.until(time.Minute, "the daemon says that it can't write", func() bool { return strings.Contains(serve.Log(), "readonly") })
	wantWords(t, serve, "nothing is delivered until the store works again", "readonly")
	remount("rw")
	p.until(time.Minute, "the daemon delivers what was accepted", func() bool { return p.stands().verified() == 50 })
	wantWords(t, serve, "INFO", "the store works again")
	p.wantCode(p.push(p.write("all.jsonl", p.lines()), "--wait", "1m"), 0, time.Minute)
	serve.Stop()
	p.wantOnce()
	p.wantSize(100)
}

// lines are all envelopes made so far, one a line.
func (p *place) lines() []byte { return append(bytes.Join(p.envelopes, []byte("\n")), '\n') }

// wantWords fails the test unless lodge said all the words in one line.
func wantWords(t *testing.T, lodge *servers.Process, words ...string) {
	t.Helper()
	for line := range strings.Lines(lodge.Log()) {
		found := 0
		for _, w := range words {
			if strings.Contains(line, w) {
				found++
			}
		}
		if found == len(words) {
			return
		}
	}
	t.Errorf("lodge did not say %q:\n%s", words, end(lodge.Log()))
}
