package scenario

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge/e2e/servers"
)

// files is a v2 log's folder, to be damaged.
func (s *Site) files(dir string) *shows {
	s.t.Helper()
	v := s.shows(s.Log)
	h := http.StripPrefix("/api/v2", http.FileServer(http.Dir(dir)))
	v.now.Store(&h)
	return v
}

func (s *Site) alter(path string, change func([]byte) []byte) {
	s.t.Helper()
	b := must(os.ReadFile(path))(s.t)
	if err := os.Chmod(path, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// entryAt returns where the bytes of entry i of a bundle are.
func entryAt(bundle []byte, i int) (from, to int) {
	for ; ; i-- { // C2SP tlog-tiles, "Log entries"
		size := int(bundle[from])<<8 | int(bundle[from+1])
		if i == 0 {
			return from + 2, from + 2 + size
		}
		from += 2 + size
	}
}

// flip changes a bit of entry i of a bundle.
func flip(i int) func([]byte) []byte {
	return func(b []byte) []byte {
		_, to := entryAt(b, i)
		b[to-40] ^= 1
		return b
	}
}

// NoEntrySkipped follows a log of 10,000 entries, three of which can't be read, and is killed
// five times: every entry is read once, and the three are named.
func NoEntrySkipped(t *testing.T, s *Site) {
	const n = 10_000
	bad := []int{1234, 5678, 9000}
	log, ok := s.Log.(*servers.RekorV2)
	if !ok {
		t.Fatal("a v2 log is wanted")
	}
	by := s.machine()
	for i := 0; i < n; i += n / 4 { // so that each ends in time on a busy machine
		if _, r := by.run(nil, s.batchOf(i, i+n/4), "--key", s.Signer.Public, "--wait", "4m"); r.Code != 0 {
			t.Fatalf("adding entries: exit status %d\n%s", r.Code, r.Stderr)
		}
	}
	for _, i := range bad {
		s.alter(filepath.Join(log.Dir, fmt.Sprintf("tile/entries/%03d", i/256)), flip(i%256))
	}
	s.Front = s.files(log.Dir).Proxy
	s.Front.On(servers.Requests("GET", "tile/entries"), -1, servers.Delay(100*time.Millisecond)) // so that it can be killed in between
	m := s.machine()
	m.config.Follow, m.config.Watch = []string{theLog}, &watchList{Every: "100ms", Keys: []string{s.Signer.Public}}
	for i := range 5 {
		seen := s.Front.Count(servers.Requests("GET", "tile/entries"))
		follower := m.Start("log", "follow", m.conf())
		err := servers.Await(t.Context(), time.Minute, func(context.Context) error {
			if now := s.Front.Count(servers.Requests("GET", "tile/entries")); now < seen+3*(i+1) {
				return fmt.Errorf("%d bundles read", now-seen)
			}
			return nil
		})
		follower.Kill()
		if err != nil {
			t.Fatal(err)
		}
	}
	follower := m.Start("log", "follow", m.conf())
	l := m.await("all read", func(l logStatus) bool { return len(l.Shards) > 0 && l.Shards[0].Next == n })
	follower.Stop()
	if sh := l.Shards[0]; sh.Quarantined != int64(len(bad)) || sh.VerifiedThrough != int64(bad[0]-1) || sh.Unsearched != 0 {
		t.Errorf("%+v", l)
	}
	seen := map[int64]int{}
	for _, e := range m.events("--type", "EntryObserved") {
		seen[e.Data.LogIndex]++
	}
	for i := range int64(n) {
		if want := 1; seen[i] != want && !slices.Contains(bad, int(i)) || seen[i] > want {
			t.Errorf("entry %d was observed %d times", i, seen[i])
		}
	}
	_, r := m.checks(1)
	for _, i := range bad {
		s.wantOneLine(r.Stderr, fmt.Sprintf("entry %d: its bytes are not those that the tree has", i))
	}
	if strings.Count(r.Stderr, "\n") != len(bad) {
		t.Errorf("%s", r.Stderr)
	}
}

// AlteredEntryCaught damages the files of a log in every way: what is not the tree's is named
// by its index and never counted as verified.
func AlteredEntryCaught(t *testing.T, s *Site) {
	const n = 600
	log, ok := s.Log.(*servers.RekorV2)
	if !ok {
		t.Fatal("a v2 log is wanted")
	}
	s.others(s.Log, n)
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	overwritten := func(b []byte) []byte { // 49 of 50 that follow each other
		first, end := entryAt(b, 10)
		entry := slices.Clone(b[first-2 : end])
		from, _ := entryAt(b, 11)
		to, _ := entryAt(b, 60)
		return slices.Concat(b[:from-2], slices.Repeat(entry, 49), b[to-2:])
	}
	for name, c := range map[string]struct {
		file   string
		change func([]byte) []byte // nil: removed
		index  int64               // of the first that is wrong
		count  int64               // 0: nothing behind can be read, and the alarm names the file
	}{
		"an entry's bytes":    {"tile/entries/001", flip(44), 300, 1},
		"entries overwritten": {"tile/entries/000", overwritten, 11, 49},
		"entries cut":         {"tile/entries/001", cut, 0, 0},
		"entries missing":     {"tile/entries/001", nil, 256, 256},
		"a hash changed":      {"tile/0/001", func(b []byte) []byte { b[99] ^= 1; return b }, 256, 256},
		"hashes cut":          {"tile/0/001", cut, 256, 256},
		"hashes missing":      {"tile/0/000", nil, 0, 256},
		"a hash above":        {"tile/1/000.p/2", func(b []byte) []byte { b[5] ^= 1; return b }, 0, 0},
		"hashes above gone":   {"tile/1/000.p/2", nil, 0, 0},
		"the end changed":     {"tile/0/002.p/88", func(b []byte) []byte { b[5] ^= 1; return b }, 0, 0},
		"the end missing":     {"tile/0/002.p/88", nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(log.Dir)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, c.file)
			if c.change == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				s.alter(path, c.change)
			}
			s.Front = s.files(dir).Proxy
			m := s.machine()
			l, r := m.checks(1)
			if len(l.Shards) != 1 {
				t.Fatalf("%+v\n%s", l, r.Stderr)
			}
			sh := l.Shards[0]
			switch {
			case name == "entries cut": // wherever that is
				if sh.Quarantined < 100 || sh.VerifiedThrough < 256 || sh.VerifiedThrough > 500 || sh.Next != n {
					t.Errorf("%+v", l)
				}
				s.wantOneLine(r.Stderr, fmt.Sprintf("entries %d to 511: ", sh.VerifiedThrough+1), "cut")
			case c.count == 0:
				if l.alarm() != "unreadable" || sh.VerifiedThrough != -1 || !strings.Contains(sh.Alarm.Message, strings.SplitN(c.file, ".", 2)[0]) {
					t.Errorf("%+v", sh.Alarm)
				}
			default:
				if sh.Quarantined != c.count || sh.VerifiedThrough != c.index-1 || sh.Next != n {
					t.Errorf("%+v", l)
				}
				named := fmt.Sprintf("entries %d to %d: ", c.index, c.index+c.count-1)
				if c.count == 1 {
					named = fmt.Sprintf("entry %d: ", c.index)
				}
				if !strings.Contains(r.Stderr, named) {
					t.Errorf("%s", r.Stderr)
				}
			}
		})
	}
}
