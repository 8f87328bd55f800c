package watch_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lodgehq/lodge"
	"github.com/lodgehq/lodge/logtest"
	"github.com/lodgehq/lodge/rekor"
	"github.com/lodgehq/lodge/tlog"
	"github.com/lodgehq/lodge/watch"
)

func TestFollows(t *testing.T) {
	onBoth(t, func(w *world) {
		w.follow()
		w.await("an empty log", func() bool { return w.shard().Head.Size == 0 })
		for _, n := range []int{1, 2, 300, 1} {
			w.add(n)
			w.awaitRead(w.log.Size())
		}
		s := w.shard()
		if s.VerifiedThrough() != w.log.Size()-1 || s.Lag() != 0 || s.Unsearched != w.log.Size() || s.Quarantined != 0 || s.Speed <= 0 {
			w.Errorf("%+v", s)
		}
		w.wantCalm()
	})
}

// TestNoFalseAlarm does what looks odd and is in order.
func TestNoFalseAlarm(t *testing.T) {
	path := map[rekor.Version]string{rekor.Version1: "GET /api/v1/log", rekor.Version2: "GET /api/v2/checkpoint"}
	for name, odd := range map[string]func(w *world){
		"an empty log": func(w *world) { w.awaitLooks(5) },
		"partial tiles": func(w *world) {
			w.log.HidePartial(true)
			for range 5 {
				w.add(77)
				w.awaitRead(w.log.Size())
			}
		},
		"a restart": func(w *world) {
			w.add(10)
			w.awaitRead(10)
			w.log.Inject(logtest.Fault{Path: "GET", Count: 30, Refuse: true})
			w.await("the restart", func() bool { a := w.shard().Alarm; return a != nil && a.Code == "unreachable" })
			w.add(3)
			w.awaitRead(13)
		},
		"an older checkpoint from a cache": func(w *world) {
			w.add(10)
			w.awaitRead(10)
			old := w.log.Fork(4)
			w.log.Inject(logtest.Fault{Path: path[w.version], Skip: 3, Tamper: func([]byte) []byte {
				if w.version == rekor.Version1 {
					return []byte(`{"signedTreeHead":"` + strings.ReplaceAll(old.Checkpoint(), "\n", `\n`) + `"}`)
				}
				return []byte(old.Checkpoint())
			}})
			w.awaitLooks(10)
		},
		"a mirror that is behind": func(w *world) { w.add(10); w.awaitRead(15); w.awaitLooks(5) },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(w *world) {
				if strings.Contains(name, "mirror") {
					w.add(5)
					w.mirrors = []watch.View{w.view(w.log.Fork(3))}
				}
				w.follow()
				odd(w)
				w.wantCalm()
				if a := w.shard().Alarm; a != nil {
					w.Errorf("alarm: %+v", a)
				}
			})
		})
	}
}

// TestRejects serves what is no checkpoint of the log: each is alarmed once and none holds it.
func TestRejects(t *testing.T) {
	other, err := logtest.NewV2("log.test")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := logtest.NewV2("elsewhere.test")
	if err != nil {
		t.Fatal(err)
	}
	for code, served := range map[string]func([]byte) []byte{
		"unsigned":     func(b []byte) []byte { text, _, _ := strings.Cut(string(b), "— "); return []byte(text) },
		"wrong-key":    func([]byte) []byte { return []byte(other.Checkpoint()) },
		"wrong-origin": func([]byte) []byte { return []byte(elsewhere.Checkpoint()) },
		"malformed":    func([]byte) []byte { return []byte("<html>\n\n— log.test AAAA\n") },
	} {
		t.Run(code, func(t *testing.T) {
			w := newWorld(t, rekor.Version2)
			w.add(3)
			w.follow()
			w.awaitRead(3)
			w.log.Inject(logtest.Fault{Path: "checkpoint", Count: -1, Tamper: served})
			w.await("the alarm", func() bool { a := w.shard().Alarm; return a != nil && a.Code == code })
			w.awaitLooks(10)
			if n := w.count("CheckpointRejected"); n != 1 || w.held() != "" {
				w.Errorf("%d events, held: %q", n, w.held())
			}
			w.log.Heal()
			w.add(1)
			w.awaitRead(4)
			w.await("the end of the alarm", func() bool { return w.shard().Alarm == nil })
		})
	}
}

// TestRollback rejects a smaller tree that is no other, and holds the log once that persists.
func TestRollback(t *testing.T) {
	onBoth(t, func(w *world) {
		w.waits = time.Hour
		w.add(4)
		stop := w.follow()
		w.awaitRead(4)
		w.add(6)
		w.awaitRead(10)
		whole := w.log.Fork(10)
		w.log.RollBack(7)
		w.await("the alarm", func() bool { return w.count("CheckpointRejected") == 1 })
		w.awaitLooks(5)
		if w.held() != "" {
			w.Error("it is held at once")
		}
		stop()
		w.waits = time.Millisecond
		w.follow() // what is being waited for is known to the next process
		w.await("hold", func() bool { return w.held() == lodge.CodeRolledBack })
		if w.count("CheckpointRejected") != 1 || w.count("CheckpointDiverged") != 0 {
			w.Errorf("events %v", w.events())
		}
		w.log.Replace(whole)
		w.await("the end of the alarm", func() bool { return w.shard().Alarm == nil })
		if w.held() != lodge.CodeRolledBack {
			w.Error("it was resumed without an operator")
		}
		w.ok(w.store.ResumeLog(w.Context(), w.target, time.Now()))
		w.add(1)
		w.awaitRead(11)
		if w.held() != "" {
			w.Error("it is held again")
		}
	})
}

// TestRollbackWithNonsense: a smaller tree is one, whatever is served for proofs.
func TestRollbackWithNonsense(t *testing.T) {
	onBoth(t, func(w *world) {
		w.add(4)
		w.follow()
		w.awaitRead(4)
		w.add(6)
		w.awaitRead(10)
		w.log.Inject(logtest.Fault{Path: "/log/proof", Count: -1, Tamper: func([]byte) []byte {
			return []byte(`{"hashes":["` + strings.Repeat("ab", 32) + `"]}`)
		}})
		w.log.Inject(logtest.Fault{Path: "/tile/", Count: -1, Tamper: func(b []byte) []byte { b[0] ^= 1; return b }})
		w.log.RollBack(7)
		w.await("hold", func() bool { return w.held() == lodge.CodeRolledBack })
		if w.count("CheckpointDiverged") != 0 || w.count("CheckpointRejected") != 1 {
			w.Errorf("events %v", w.events())
		}
	})
}

// TestTreeVanishes: a v1 log that goes on under another tree's name, with the same key, has not
// got rid of the one that it had. It is resumed for good.
func TestTreeVanishes(t *testing.T) {
	w := newWorld(t, rekor.Version1)
	anyTree, err := tlog.NewV1Key("", w.log.Key().Public())
	w.ok(err)
	reader, err := rekor.NewV1Reader(rekor.Options{URL: logtest.URL, HTTP: w.log.Client(), Keys: []tlog.Key{anyTree}})
	w.ok(err)
	w.sources = []watch.Source{{Log: reader}}
	w.add(5)
	w.follow()
	w.awaitRead(5)
	w.awaitLooks(5)
	w.wantCalm()
	w.log.Inject(logtest.Fault{Path: "GET /api/v1/log", Count: -1, Tamper: func(b []byte) []byte {
		var said struct{ InactiveShards []json.RawMessage }
		if err := json.Unmarshal(b, &said); err != nil || len(said.InactiveShards) == 0 {
			return b // entries
		}
		return said.InactiveShards[0]
	}})
	w.await("hold", func() bool { return w.held() == lodge.CodeRolledBack })
	if a := w.shard().Alarm; a == nil || !strings.Contains(a.Message, "shows nothing of the tree") {
		w.Errorf("alarm %+v", a)
	}
	w.ok(w.store.ResumeLog(w.Context(), w.target, time.Now()))
	w.awaitLooks(50)
	if w.held() != "" {
		w.Error("it is held again")
	}
}

// TestForks replaces the log by another tree with the same key, of every size.
func TestForks(t *testing.T) {
	for name, c := range map[string]struct{ common, size int64 }{
		"larger": {9, 15}, "the same size": {9, 10}, "smaller": {2, 8}, "nothing in common": {0, 12}, "after a full tile": {300, 700},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(w *world) {
				w.add(5)
				w.follow()
				w.awaitRead(5)
				w.add(int(max(5, c.common-4)))
				w.awaitRead(max(10, c.common+1))
				fork := w.log.Fork(c.common)
				for i := fork.Size(); i < c.size; i++ {
					fork.Append([]byte{byte(i), byte(i >> 8)})
				}
				w.log.Replace(fork)
				w.wantDiverged()
				fork.Append([]byte("more"))
				w.log.Replace(fork)
				w.awaitLooks(5)
				w.wantDiverged() // once
			})
		})
	}
}

// TestResume goes on under the other tree once an operator says so, and not before: also in
// another process.
func TestResume(t *testing.T) {
	onBoth(t, func(w *world) {
		w.add(10)
		stop := w.follow()
		w.awaitRead(10)
		fork := w.log.Fork(6)
		for range 8 {
			fork.Append([]byte("another"))
		}
		w.log.Replace(fork)
		w.wantDiverged()
		w.ok(w.store.Resume(w.Context(), w.target, time.Now()))
		w.await("hold", func() bool { return w.held() == lodge.CodeDiverged }) // that was not what resumes it
		stop()
		w.follow()
		w.awaitLooks(5)
		if w.held() != lodge.CodeDiverged || w.shard().Head.Size != 10 {
			w.Errorf("held %q, %+v", w.held(), w.shard())
		}
		w.ok(w.store.ResumeLog(w.Context(), w.target, time.Now()))
		w.awaitRead(14)
		w.add(1)
		w.awaitRead(15)
		if w.held() != "" || w.count("CheckpointDiverged") != 1 {
			w.Errorf("held %q, events %v", w.held(), w.events())
		}
	})
}

// TestResumeOfSilentLog: a log that serves no proof just when it is resumed keeps the tree that is
// known of it.
func TestResumeOfSilentLog(t *testing.T) {
	onBoth(t, func(w *world) {
		w.add(300)
		stop := w.follow()
		w.awaitRead(300)
		whole := w.log.Fork(300)
		w.log.RollBack(200)
		w.await("hold", func() bool { return w.held() == lodge.CodeRolledBack })
		stop()
		w.log.Replace(whole)
		w.add(100)
		w.ok(w.store.ResumeLog(w.Context(), w.target, time.Now()))
		for _, path := range []string{"/tile/", "/log/proof"} {
			w.log.Inject(logtest.Fault{Path: path, Count: -1, Status: 503})
		}
		w.follow()
		w.await("the alarm", func() bool { a := w.shard().Alarm; return a != nil && a.Code == "unreachable" })
		if s := w.shard(); s.Next != 300 || s.Head.Size != 300 || s.Anchor.After(s.Since) {
			w.Errorf("%+v", s)
		}
		w.log.Heal()
		w.awaitRead(400)
	})
}

// TestDivergedWhileAway: a log that answers nothing, or nonsense, for a while after it has diverged
// is still one that has.
func TestDivergedWhileAway(t *testing.T) {
	for code, fault := range map[string]logtest.Fault{
		"unreachable": {Path: "GET", Count: -1, Refuse: true},
		"nonsense":    {Path: "GET", Count: -1, Tamper: func([]byte) []byte { return []byte("<html>") }},
	} {
		t.Run(code, func(t *testing.T) {
			onBoth(t, func(w *world) {
				w.add(10)
				w.follow()
				w.awaitRead(10)
				honest, fork := w.log.Fork(10), w.log.Fork(6)
				for range 8 {
					fork.Append([]byte("another"))
				}
				w.log.Replace(fork)
				w.wantDiverged()
				w.log.Inject(fault)
				w.awaitLooks(5)
				w.log.Replace(honest)
				w.log.Heal()
				w.awaitLooks(5)
				if a := w.shard().Alarm; a == nil || a.Code != lodge.CodeDiverged {
					w.Errorf("alarm %+v", a)
				}
				w.ok(w.store.Resume(w.Context(), w.target, time.Now()))
				w.await("hold", func() bool { return w.held() == lodge.CodeDiverged }) // that was not what resumes it
			})
		})
	}
}

// TestMirror shows two trees at two places at the same time, whichever of them is ahead.
func TestMirror(t *testing.T) {
	for name, sizes := range map[string][2]int{"ahead": {3, 9}, "behind": {9, 3}, "as large": {5, 5}} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(w *world) {
				w.add(4)
				mirror := w.log.Fork(4)
				w.mirrors = []watch.View{w.view(mirror)}
				w.follow()
				w.awaitRead(4)
				for range sizes[1] {
					mirror.Append([]byte("there"))
				}
				w.awaitLooks(3) // up to here both can be true
				w.add(sizes[0])
				if d := w.wantDiverged(); d.View == "" {
					w.Errorf("%+v", d)
				}
			})
		})
	}
}

// TestOneOwner follows one log from three processes: one looks, and another goes on when
// that one ends.
func TestOneOwner(t *testing.T) {
	w := newWorld(t, rekor.Version2)
	w.add(3)
	first := w.follow()
	w.awaitRead(3)
	w.follow()
	w.follow()
	w.add(2)
	w.awaitRead(5)
	first()
	w.add(2)
	w.awaitRead(7)
	w.wantCalm()
	if n := w.count("CheckpointUpdated"); n > 7 {
		w.Errorf("%d events", n)
	}
	if err := w.follower(w.store).Check(w.Context()); err == nil {
		w.Error("a check beside a process that follows the log")
	}
}

// TestV1Shards keeps the checkpoint of a shard that a v1 log had before, and does not read it.
func TestV1Shards(t *testing.T) {
	w := newWorld(t, rekor.Version1)
	anyTree, err := tlog.NewV1Key("", w.log.Key().Public())
	w.ok(err)
	reader, err := rekor.NewV1Reader(rekor.Options{URL: logtest.URL, HTTP: w.log.Client(), Keys: []tlog.Key{anyTree}})
	w.ok(err)
	s := w.open()
	f, err := watch.New(watch.Config{
		Target: w.target, Sources: []watch.Source{{Log: reader}}, Leases: s,
		Under: func(name string, term int64) watch.Store { return s.Under(name, term) },
	})
	w.ok(err)
	w.add(25)
	for range 2 {
		w.ok(f.Check(t.Context()))
		shards, err := s.Shards(t.Context(), w.target.Address)
		w.ok(err)
		if len(shards) != 2 {
			t.Fatalf("%+v", shards)
		}
		active, before := shards[0], shards[1]
		if active.Next != w.log.Size() || active.Closed || before.Next != 0 || !before.Closed || before.Head.Size != 1000 {
			t.Errorf("%+v\n%+v", active, before)
		}
		w.add(5)
	}
	w.wantCalm()
}
